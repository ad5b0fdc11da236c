"""IsoFLOP curves: loss against size at each compute budget, with their minima."""

from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes

from algoprogress.analysis.figures.style import FAINT, INK, LOSS, dress
from algoprogress.analysis.formatting import flop_text

COLOURS = "viridis"  # even in lightness, and in print without colour the order stays
SPAN = (0.0, 0.88)  # of the colour map: its end is too pale on white


def isoflop_curves(points: pd.DataFrame, lines: pd.DataFrame, minima: pd.DataFrame, ax: Axes) -> Axes:
    """A curve for each budget with its runs, its minimum, and a line from minimum to minimum.

    Args:
        points: [budget, n_params, loss].
        lines: [budget, n_params, loss], the curve that the minimum was found on; may be empty.
        minima: [compute, n_params, n_params_low, n_params_high, loss, at_edge]; one at an edge is an open marker and
            not joined to the others.
    """
    budgets = sorted(points["budget"].unique())
    share = [SPAN[0] + (SPAN[1] - SPAN[0]) * k / max(len(budgets) - 1, 1) for k in range(len(budgets))]
    colour = dict(zip(budgets, colormaps[COLOURS](share), strict=True))
    ax.set_xscale("log")
    for budget in reversed(budgets):
        own, line = points[points["budget"] == budget], lines[lines["budget"] == budget]
        ax.plot(line["n_params"], line["loss"], color=colour[budget], lw=1.3, zorder=2)
        style: dict[str, Any] = {"ls": "none", "marker": "o", "ms": 4.2, "mec": "white", "mew": 0.5}
        ax.plot(own["n_params"], own["loss"], **style, color=colour[budget], zorder=3)
        ax.plot([], [], **{**style, "ls": "-"}, color=colour[budget], label=flop_text(budget))
    ends = minima.dropna(subset=["n_params_low", "n_params_high"])
    tried = points["n_params"].min(), points["n_params"].max()
    ax.hlines(
        ends["loss"], ends["n_params_low"].clip(*tried), ends["n_params_high"].clip(*tried), color=INK, lw=0.9, zorder=5
    )
    inside = minima[minima["at_edge"] == ""].sort_values("compute")
    beyond = minima[minima["at_edge"] != ""]
    ax.plot(inside["n_params"], inside["loss"], color=INK, lw=1.0, ls=(0, (1, 1.5)), zorder=4)
    ax.plot(inside["n_params"], inside["loss"], ls="none", marker="D", ms=5.5, mfc=INK, mec="white", mew=0.8, zorder=6)
    ax.plot(beyond["n_params"], beyond["loss"], ls="none", marker="D", ms=5.5, mfc="white", mec=INK, mew=1.1, zorder=6)
    least, most = min(points["loss"].min(), minima["loss"].min()), minima["loss"].max()
    top = most + 0.6 * max(most - least, 0.1)  # curves run far up at their ends: the view holds the minima
    above = int((points["loss"] > top).sum())
    ax.set_ylim(least - 0.08 * (top - least), min(top, points["loss"].max() + 0.04 * (top - least)))
    if above:
        text, box = f"{above} run{'s' * (above > 1)} above", {"fc": "white", "ec": "none", "pad": 1.5}
        style = {"ha": "right", "va": "top", "fontsize": 8, "color": FAINT, "zorder": 7}
        ax.annotate(text, (0.99, 0.985), xycoords="axes fraction", bbox=box, **style)
    dress(ax, "parameters", LOSS)
    handles, labels = ax.get_legend_handles_labels()
    frame: dict[str, Any] = {"frameon": False, "alignment": "left", "handlelength": 1.2, "labelspacing": 0.35}
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0}
    ax.legend(handles, labels, title="budget (FLOP)", **place, **frame)
    return ax
