"""Numbers and tables as text: a gain with its interval, compute in FLOP, a DataFrame in Markdown."""

import numpy as np
import pandas as pd


def gain_text(ceg: float, low: float = np.nan, high: float = np.nan, censored: str = "") -> str:
    """A gain with its interval: "1.62 [1.3, 2.0]"; "> 1.43" when only a bound is known.

    Example:
        >>> gain_text(1.62, 1.31, 2.04), gain_text(1.43, 1.43, float("inf"), ">"), gain_text(float("nan"))
        ('1.62 [1.3, 2.0]', '> 1.43', '–')
    """
    if not np.isfinite(ceg):
        return "–"
    if censored:
        return f"{censored} {number(ceg, 3)}"
    return number(ceg, 3) + interval_text(low, high)


def interval_text(low: float, high: float, digits: int = 2) -> str:
    """' [low, high]', or nothing when there is no interval."""
    if np.isnan(low) or np.isnan(high):
        return ""
    top = "∞" if np.isinf(high) else number(high, digits)
    return f" [{number(low, digits)}, {top}]"


def number(value: float, digits: int = 3) -> str:
    """A number to some significant digits, in plain notation between 0.001 and 10,000, trailing zeros kept."""
    if value is None or np.isnan(value):
        return "–"
    if value == 0:
        return "0"
    if np.isinf(value):
        return "∞" if value > 0 else "-∞"
    exponent = int(f"{value:.{digits - 1}e}".split("e")[1])  # of the rounded number: 9.996 is 10.0
    if -4 < exponent < 4:
        return f"{round(value, digits - 1 - exponent):,.{max(digits - 1 - exponent, 0)}f}"
    return f"{value:.{digits - 1}e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")


def flop_text(compute: float) -> str:
    """Compute to three digits, without idle zeros: 3e11, 1.25e12.

    Example:
        >>> flop_text(3e11), flop_text(1.25e12)
        ('3e11', '1.25e12')
    """
    if compute is None or not np.isfinite(compute):
        return "–"
    mantissa, exponent = f"{compute:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def markdown(table: pd.DataFrame) -> str:
    """A DataFrame as a Markdown table, columns padded so that it reads as plain text too."""
    cells = [[cell_text(c) for c in table.columns]]
    cells += [[cell_text(v) for v in row] for row in table.itertuples(index=False)]
    numeric = [pd.api.types.is_numeric_dtype(t) for t in table.dtypes]
    widths = [max(3, *(len(row[k]) for row in cells)) for k in range(len(table.columns))]

    def line(row: list[str]) -> str:
        padded = (t.rjust(w) if r else t.ljust(w) for t, w, r in zip(row, widths, numeric, strict=True))
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (w + 1) + (":" if r else "-") for w, r in zip(widths, numeric, strict=True)) + "|"
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])]) + "\n"


def cell_text(value: object) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)) or value is pd.NA:
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else ""
    if isinstance(value, float | np.floating):
        return number(float(value), 4)
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value).replace("|", "\\|").replace("\n", " ")
