"""How a total comes about: each gain as a step as long as its share of the logarithm."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from algoprogress.analysis.figures.style import FAINT, INK, finish, times, words
from algoprogress.analysis.formatting import gain_text
from algoprogress.analysis.palette import colours

TOTAL = "#555555"


def waterfall_plot(steps: pd.DataFrame, ax: Axes, groups: tuple[str, ...] | None = None) -> Axes:
    """A bar for each gain from where the one before ends, the total last, intervals in words where there are any.

    Args:
        steps: [key, group, start, end, gain, gain_low, gain_high] as of `account_tables.waterfall`.
        groups: in the order of their colours; by default as they come.
    """
    found = [g for g in (groups or pd.unique(steps["group"])) if g]
    colour = colours(found) | {"": TOTAL}
    for y, row in enumerate(steps.itertuples()):
        low, high = sorted((row.start, row.end))
        ax.barh(y, high - low, left=low, height=0.62, color=colour[row.group], lw=0, zorder=3)
        if row.key != "total":
            ax.plot([row.end, row.end], [y + 0.31, y + 1 - 0.31], color=FAINT, lw=0.8, zorder=2)
        text = gain_text(row.gain, row.gain_low, row.gain_high)
        ax.annotate(
            f" {text}×", (high, y), xytext=(2, 0), textcoords="offset points", va="center", fontsize="small", color=INK
        )
    ax.set_xscale("log")
    low, top = min(1.0, *steps["start"], *steps["end"]), max(*steps["start"], *steps["end"])
    ax.set_xlim(low, top * (top / low) ** 0.22)
    ax.set_yticks(range(len(steps)), [words(k) for k in steps["key"]])
    ax.set_ylim(len(steps) - 0.5, -0.6)
    ax.set_xlabel("gain, cumulative", color=INK)
    ax.xaxis.set_major_locator(LogLocator(numticks=8))
    ax.xaxis.set_major_formatter(FuncFormatter(times))
    ax.xaxis.set_minor_formatter(NullFormatter())
    finish(ax, "x", ("bottom",))
    ax.tick_params(axis="y", length=0)
    if len(found) > 1:
        handles = [Patch(color=colour[g], label=g) for g in found]
        ax.legend(handles=handles, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2)
    return ax
