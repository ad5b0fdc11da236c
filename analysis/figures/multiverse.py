"""One question under every defensible protocol: a specification curve (Simonsohn, Simmons and Nelson 2020)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from algoprogress.analysis.figures.style import FAINT, GRID, INK, finish, view
from algoprogress.analysis.palette import COLOURS

DOT = COLOURS[0]
FEW, MANY = (1.0, 2.0, 5.0), (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0)  # ticks in a decade


def multiverse_plot(
    table: pd.DataFrame,
    ax: Axes,
    choices: Sequence[str],
    estimate: str = "ceg",
    reference: float | None = 1.0,
    log: bool = True,
    label: str = "compute-equivalent gain",
) -> Axes:
    """Estimates in rising order with their intervals; beneath, which choice of each protocol column made each.

    Args:
        table: [estimate, estimate_low, estimate_high, *choices], one row a protocol; rows without an estimate are left
            out and counted. Where there is a column `default`, the rows where it is true stand out.
        choices: columns of protocol choices, drawn in this order; those with one value say nothing and are left out,
            and an empty one is no choice.
        estimate: the column of the estimates.
        reference: a value to draw a line at.
        log: whether estimates are on a logarithmic axis.
    """
    rows = table[np.isfinite(table[estimate])].sort_values(estimate, kind="stable").reset_index(drop=True)
    varied = [c for c in choices if len(set(map(str, table[c]))) > 1]
    place = ax.get_subplotspec()
    figure = ax.get_figure()
    assert place is not None and figure is not None
    levels = {c: [v for v in dict.fromkeys(map(str, table[c])) if v] for c in varied}
    n_lines = sum(len(values) + 1 for values in levels.values())
    grid = place.subgridspec(2, 1, height_ratios=[9, max(n_lines, 2)], hspace=0.03)  # a row is a ninth of the curve
    ax.set_subplotspec(grid[0])
    below = figure.add_subplot(grid[1], sharex=ax)
    _curve(rows, estimate, ax, reference, log, label)
    _choices(rows, levels, below)
    missing = len(table) - len(rows)
    told = f"{len(rows)} protocols" + (f"; {missing} more gave no estimate" if missing else "")
    below.set_xlabel(f"{told}, in order of the estimate", color=INK)
    return ax


def _curve(rows: pd.DataFrame, estimate: str, ax: Axes, reference: float | None, log: bool, label: str) -> None:
    at = np.arange(len(rows))
    if log:
        ax.set_yscale("log")
    shown = rows[estimate].to_numpy(float)
    low, high = (rows[f"{estimate}_{side}"].to_numpy(float) for side in ("low", "high"))
    bottom, top = view(shown, [*low, *high], reference, log)
    width = float(np.clip(220 / max(len(rows), 1), 0.6, 3.0))  # a line each, however many there are
    known = ~np.isnan(low) & ~np.isnan(high)
    ends = (np.clip(end, bottom, top)[known] for end in (low, high))
    ax.vlines(at[known], *ends, color=FAINT, alpha=0.45, lw=width, zorder=1)
    ax.plot(at, shown, ls="none", marker="o", ms=float(np.clip(1.6 * width, 2.2, 4.5)), color=DOT, mew=0, zorder=3)
    if "default" in rows:
        chosen = rows["default"].to_numpy(bool)
        ax.plot(at[chosen], shown[chosen], ls="none", marker="D", ms=6.5, mfc=COLOURS[1], mec="white", zorder=4)
    if reference is not None:
        ax.axhline(reference, color=INK, lw=0.9, ls=(0, (4, 2)), zorder=2)
    ax.set_ylim(bottom, top)
    ax.set_ylabel(label, color=INK)
    if log:
        subs = (1.0,) if top > 1e3 * bottom else FEW if top > 8 * bottom else MANY
        ax.yaxis.set_major_locator(LogLocator(subs=subs, numticks=10 if top > 1e3 * bottom else 20))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.4g}×".replace("e+0", "e").replace("e+", "e")))
        ax.yaxis.set_minor_formatter(NullFormatter())
    finish(ax, "y", ("left",))
    ax.tick_params(axis="x", length=0, labelbottom=False)


def _choices(rows: pd.DataFrame, levels: dict[str, list[str]], ax: Axes) -> None:
    """A heading for each column and a row for each of its values, with a tick under every estimate made so."""
    at, height = np.arange(len(rows)), 0.0
    ticks: list[float] = []
    names: list[str] = []
    headings: list[int] = []
    width = float(np.clip(300 / max(len(rows), 1), 0.5, 4.0))
    for k, (column, values) in enumerate(levels.items()):
        ticks.append(height)
        names.append(column.replace("_", " "))
        headings.append(len(names) - 1)
        of = rows[column].astype(str).to_numpy()
        if k % 2 == 0:
            ax.axhspan(height - 0.5, height + len(values) + 0.5, color="#f4f4f4", lw=0, zorder=0)
        for value in values:
            height += 1.0
            ticks.append(height)
            names.append(value)
            ax.axhline(height, color=GRID, lw=0.6, zorder=1)
            ax.vlines(at[of == value], height - 0.34, height + 0.34, color=DOT, lw=width, zorder=2)
        height += 1.0
    ax.set_ylim(height - 0.5, -0.5)
    ax.set_yticks(ticks, names, fontsize="small")
    for k in headings:
        ax.get_yticklabels()[k].set(fontweight="bold", color=INK)
    ax.tick_params(axis="both", length=0)
    ax.tick_params(axis="x", labelbottom=False)
    ax.set_xlim(-0.5 - 0.01 * len(rows), len(rows) - 0.5 + 0.01 * len(rows))
    for spine in ax.spines.values():
        spine.set_visible(False)
