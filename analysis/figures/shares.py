"""What is each innovation's part of the logarithm, year by year?"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from algoprogress.analysis.figures.style import FAINT, INK, spread, words
from algoprogress.analysis.palette import COLOURS

HATCHES = ("", "///", "...", "xxx")  # past the colours, and in print without colour
SIDE = 1.2  # in heights of a letter, to keep between names at the side


def shares_plot(shares: pd.DataFrame, ax: Axes) -> Axes:
    """Bands that add up to all, named at the right edge; an innovation appears in the year it was adopted.

    Args:
        shares: [year, key, log_share] as of `account_tables.shares_by_year`.
    """
    keys = list(pd.unique(shares["key"]))
    wide = shares.pivot_table(index="year", columns="key", values="log_share").reindex(columns=keys).fillna(0.0)
    years = wide.index.to_numpy(float)
    bands = wide.to_numpy().T
    rank = np.argsort(np.argsort(-bands[:, -1], kind="stable"))  # the largest bands have the plain colours
    styles = [(COLOURS[k % len(COLOURS)], HATCHES[k // len(COLOURS) % len(HATCHES)]) for k in rank]
    layers = ax.stackplot(years, bands, colors=[c for c, _ in styles], edgecolor="white", lw=0.7)
    for layer, (_, hatch) in zip(layers, styles, strict=True):
        layer.set_hatch(hatch)
    ends = np.cumsum(bands[:, -1])
    middles = ends - bands[:, -1] / 2
    figure = ax.get_figure(root=True)
    assert figure is not None
    gap = SIDE * 9 / 72 / (figure.get_figheight() * 0.8)  # of the axis, at nine points a letter
    shown = [k for k in range(len(keys)) if bands[k, -1] > 1e-4]
    for k, y in zip(shown, spread(middles[shown], gap), strict=True):
        line = {"arrowstyle": "-", "color": FAINT, "lw": 0.7, "shrinkA": 2, "shrinkB": 1, "relpos": (0, 0.5)}
        ax.annotate(
            f"{words(keys[k])}  {100 * bands[k, -1]:.1f} %",
            xy=(1.0, middles[k]),
            xytext=(1.055, y),
            xycoords=("axes fraction", "data"),
            textcoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
            color=INK,
            arrowprops=line,
            annotation_clip=False,
        )
    ax.set_xlim(years[0], years[-1])
    ax.set_ylim(0, 1)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    ax.set_xlabel("year", color=INK)
    ax.set_ylabel("share of the logarithm of the total", color=INK)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(FAINT)
    return ax
