"""Adam's lead over SGD beside how differently blocks are curved, and the sharpness of updates as training goes on."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from algoprogress.analysis.figures.style import FAINT, INK, finish, legend
from algoprogress.analysis.palette import colours, markers, styles

NAMES = {
    "js_nats": "heterogeneity: mean Jensen–Shannon divergence (nats)",
    "log_spread": "heterogeneity: spread of log10 largest |eigenvalue|",
}


def lead_against_heterogeneity(table: pd.DataFrame, ax: Axes, x: str = "js_nats") -> Axes:
    """A point for each model: Adam ahead above the line, SGD below it.

    Args:
        table: [model, lead, low, high, and x].
        x: js_nats or log_spread.
    """
    models = list(table["model"])
    colour, mark = colours(models), markers(models)
    for row in table.to_dict("records"):
        model = row["model"]
        ends = np.nan_to_num([[row["lead"] - row["low"]], [row["high"] - row["lead"]]])
        ax.errorbar(row[x], row["lead"], ends, fmt=mark[model], color=colour[model], lw=1.2, capsize=2, label=model)
    ax.axhline(0, color=FAINT, lw=0.8, zorder=0)
    ax.set_xscale("log")
    ax.set_xlabel(NAMES.get(x, x), color=INK)
    ax.set_ylabel("ln(loss of SGD / loss of Adam)", color=INK)
    finish(ax)
    legend(ax)
    return ax


def ratios_over_steps(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Sharpness of each optimizer's update over that of SGD's, medians over seeds; dotted where it is clipped.

    Args:
        rows: [step, update_of, ratio, clipped_ratio] along one kind of trajectory; negative ratios cannot be drawn.
    """
    names = list(dict.fromkeys(rows["update_of"]))
    colour, style = colours(names), styles(names)
    medians = rows.groupby(["update_of", "step"])[["ratio", "clipped_ratio"]].median()
    for name in names:
        part = medians.loc[name]
        step = part.index.to_numpy() + 1
        ax.plot(
            step,
            part["ratio"].where(part["ratio"] > 0),
            color=colour[name],
            ls=style[name],
            marker="o",
            ms=3,
            label=name,
        )
        ax.plot(step, part["clipped_ratio"].where(part["clipped_ratio"] > 0), color=colour[name], ls=":", lw=1)
    ax.axhline(1, color=FAINT, lw=0.8, zorder=0)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("steps taken + 1 (dotted: the update, clipped)", color=INK)
    ax.set_ylabel("sharpness / |sharpness of SGD|", color=INK)
    finish(ax)
    legend(ax)
    return ax
