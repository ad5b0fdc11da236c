"""What rotations do in training: the spectrum they keep, and the cone they settle on."""

import pandas as pd
from matplotlib.axes import Axes

from algoprogress.analysis.figures.style import FAINT, GRID, INK, legend
from algoprogress.analysis.palette import colours, markers


def entropy_plot(curves: pd.DataFrame, ax: Axes) -> Axes:
    """SVD entropy against the step, a line an arm.

    Args:
        curves: [arm, step, svd_entropy], means over weights.
    """
    return _lines(curves, "svd_entropy", "SVD entropy, mean of all weights", ax)


def cone_plot(curves: pd.DataFrame, ax: Axes, dates: tuple[float, float] | None = None) -> Axes:
    """cos(v, R v) against the step, a line an arm, and the first steps of phases II and III.

    Args:
        curves: [arm, step, cosine], means over weights.
        dates: of the first arm for which there are phases; None for none.
    """
    for name, at in zip(("II", "III"), dates or (), strict=False):
        ax.axvline(at, color=FAINT, lw=0.9, ls=(0, (4, 2)), zorder=1)
        ax.annotate(name, (at, 1.0), xytext=(3, -2), textcoords="offset points", va="top", color=FAINT)
    return _lines(curves, "cosine", "cos(v, R v), mean of all weights", ax)


def _lines(curves: pd.DataFrame, column: str, label: str, ax: Axes) -> Axes:
    arms = list(pd.unique(curves["arm"]))
    colour, marker = colours(arms), markers(arms)
    for arm in arms:
        part = curves[curves["arm"] == arm].sort_values("step")
        ax.plot(part["step"], part[column], color=colour[arm], marker=marker[arm], ms=4, lw=1.5, mec="white", label=arm)
    ax.set_xlabel("step", color=INK)
    ax.set_ylabel(label, color=INK)
    ax.grid(True, color=GRID, lw=0.7)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    legend(ax)
    return ax
