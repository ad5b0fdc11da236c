"""A fitted law with its band beside the points that it was fitted to."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from algoprogress.analysis.figures.style import COMPUTE, FAINT, LOSS, dress, legend
from algoprogress.analysis.palette import colours, markers

AXES = {  # column -> (words, logarithmic)
    "compute": (COMPUTE, True),
    "loss": (LOSS, False),
    "n_params": ("parameters", True),
    "tokens": ("training tokens", True),
}
DASHED = (0, (4, 2.5))


def fit_with_band(
    points: pd.DataFrame, law: pd.DataFrame, arms: Sequence[str], ax: Axes, x: str = "compute", y: str = "loss"
) -> Axes:
    """Points as markers with their intervals, the law as a line with a band, dashed where it is extrapolated.

    Args:
        points: [arm, x, y], and y_low, y_high where they are known; `arm` may be missing where there is one.
        law: [arm, x, y, y_low, y_high, extrapolated], sorted by x within an arm; the ends of the band may be nan.
        arms: in the order of the study.
        x, y: columns: compute, loss, n_params or tokens.
    """
    colour, marker = colours(arms), markers(arms)
    for column, set_scale in ((x, ax.set_xscale), (y, ax.set_yscale)):
        if AXES[column][1]:
            set_scale("log")
    for arm in arms:
        own, line = (t[t["arm"] == arm] if "arm" in t else t for t in (points, law))
        for part, extrapolated in _stretches(line["extrapolated"].to_numpy(bool)):
            piece, alpha = line.iloc[part], 0.09 if extrapolated else 0.2
            ax.fill_between(piece[x], piece[f"{y}_low"], piece[f"{y}_high"], color=colour[arm], alpha=alpha, lw=0)
            ax.plot(piece[x], piece[y], color=colour[arm], ls=DASHED if extrapolated else "-", lw=1.6, zorder=3)
        if f"{y}_low" in own:
            known = own.dropna(subset=[f"{y}_low", f"{y}_high"])
            ax.vlines(known[x], known[f"{y}_low"], known[f"{y}_high"], color=colour[arm], lw=1.2, zorder=4)
        style: dict[str, Any] = {"ls": "none", "ms": 6.5, "mec": "white", "mew": 0.9}
        ax.plot(own[x], own[y], marker=marker[arm], color=colour[arm], zorder=5, label=arm, **style)
    dress(ax, AXES[x][0], AXES[y][0])
    if law["extrapolated"].any():
        ax.plot([], [], color=FAINT, ls=DASHED, lw=1.6, label="extrapolated")
    if len(ax.get_legend_handles_labels()[1]) > 1:
        legend(ax)
    return ax


def _stretches(beyond: np.ndarray) -> list[tuple[slice, bool]]:
    """Where a line is extrapolated and where not; a stretch that is also holds its neighbours, so that no gap shows."""
    changes = [0, *(np.flatnonzero(np.diff(beyond)) + 1).tolist(), len(beyond)]
    return [
        (slice(max(i - 1, 0), j + 1) if beyond[i] else slice(i, j), bool(beyond[i]))
        for i, j in pairwise(changes)
        if j > i
    ]
