"""How often do intervals hold the truth, over simulated designs?"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MultipleLocator

from algoprogress.analysis.figures.style import FAINT, GRID, INK, finish
from algoprogress.analysis.palette import colours, markers

SPREAD = 0.66  # of the height of a design that its quantities take


def coverage_plot(
    table: pd.DataFrame, ax: Axes, level: float = 0.95, allowed: tuple[float, float] = (0.92, 0.98)
) -> Axes:
    """Cover of each quantity by design, with two standard errors, and the band that it should lie in.

    Args:
        table: [design, quantity, method, coverage, stderr] as of `analysis.coverage`.
        level: nominal.
        allowed: the band.
    """
    designs = list(pd.unique(table["design"]))
    kinds = list(dict.fromkeys(zip(table["quantity"], table["method"], strict=True)))
    names = [f"{q}, {m}" if q in ("gain", "slope") else q for q, m in kinds]
    colour, marker = colours(names), markers(names)
    ax.axvspan(*allowed, color=GRID, zorder=0, lw=0)
    ax.axvline(level, color=FAINT, lw=0.8, zorder=1)
    for k, (quantity, method) in enumerate(kinds):
        part = table[(table["quantity"] == quantity) & (table["method"] == method)]
        y = np.array([len(designs) - 1 - designs.index(d) for d in part["design"]], float)
        y += SPREAD * (0.5 - k / max(len(kinds) - 1, 1))
        name = names[k]
        ax.errorbar(
            *(part["coverage"], y),
            xerr=2 * part["stderr"],
            fmt=marker[name],
            color=colour[name],
            label=name,
            ms=4.5,
            lw=1.0,
            mec="white",
            mew=0.5,
        )
    ax.set_yticks(range(len(designs)), designs[::-1], color=INK)
    ax.set_ylim(-0.6, len(designs) - 0.4)
    ax.set_xlim(min(0.85, float((table["coverage"] - 2 * table["stderr"]).min()) - 0.01), 1.003)
    ax.xaxis.set_major_locator(MultipleLocator(0.05))
    ax.xaxis.set_minor_locator(MultipleLocator(0.01))
    ax.set_xlabel(f"share of nominal {level:.0%} intervals that hold the truth", color=INK)
    ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    finish(ax, grid="x")
    return ax
