"""The tables of a study as text for a paper: LaTeX (booktabs), CSV of the numbers, or Markdown."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from algoprogress.analysis.formatting import cell_text
from algoprogress.analysis.tables import TITLES, StudyTables, as_text

# what pdflatex lacks in text
SYMBOLS = {
    "<": r"$<$",
    ">": r"$>$",
    "∞": r"$\infty$",
    "–": "--",
    "−": r"$-$",
    "×": r"$\times$",
    "…": r"\ldots{}",
    "→": r"$\to$",
}


def latex(table: pd.DataFrame, caption: str, label: str) -> str:
    """A table float with booktabs' rules, numbers aligned right; whatever is in a cell is text.

    Example:
        >>> print(latex(pd.DataFrame({"arm_a": ["50 %"], "n": [2]}), "Runs", "runs"))
        \\begin{table}
        \\centering
        \\caption{Runs}
        \\label{tab:runs}
        \\begin{tabular}{lr}
        \\toprule
        arm\\_a & n \\\\
        \\midrule
        50 \\% & 2 \\\\
        \\bottomrule
        \\end{tabular}
        \\end{table}
        <BLANKLINE>
    """
    numeric = [pd.api.types.is_numeric_dtype(t) and not pd.api.types.is_bool_dtype(t) for t in table.dtypes]
    shown = pd.DataFrame({str(c).replace("_", " ") if " " in str(c) else str(c): table[c].map(_plain) for c in table})
    style = shown.style.format(escape="latex").format_index(escape="latex", axis=1).hide(axis="index")
    text = style.to_latex(
        hrules=True,
        column_format="".join("r" if n else "l" for n in numeric),
        caption=caption,
        label=f"tab:{label}",
        position_float="centering",
    )
    for symbol, command in SYMBOLS.items():
        text = text.replace(symbol, command)
    return text


def as_latex(tables: StudyTables) -> str:
    """Every table that has rows, and the warnings as comments above them."""
    doubts = "".join(f"% {w}\n" for w in tables.warnings)
    parts = [latex(t, TITLES[name], f"{tables.study['name']}-{name}") for name, t in tables.shown().items() if len(t)]
    return doubts + "\n".join(parts)


def as_csv(tables: StudyTables) -> str:
    """The numbers of every table that has rows, each below a line with its name; `--out` writes a file each."""
    return "\n".join(f"# {name}\n{t.to_csv(index=False)}" for name, t in tables.items() if len(t))


def write_latex(tables: StudyTables, out_dir: str | Path) -> list[Path]:
    """Each table that has rows as NAME.tex, to be read by \\input."""
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for name, table in tables.shown().items():
        if len(table):
            files.append(out / f"{name}.tex")
            files[-1].write_text(latex(table, TITLES[name], f"{tables.study['name']}-{name}"), encoding="utf-8")
    return files


def _plain(value: object) -> str:
    return cell_text(value).replace("\\|", "|")


AS_TEXT: dict[str, Callable[[StudyTables], str]] = {"markdown": as_text, "latex": as_latex, "csv": as_csv}
