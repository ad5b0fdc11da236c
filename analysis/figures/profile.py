"""How well is a parameter known?  The likelihood-ratio statistic against it, all others refitted."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from algoprogress.analysis.figures.style import INK, finish
from algoprogress.analysis.palette import COLOURS

VIEW = 2.6  # thresholds above the minimum: a profile runs off far higher, and what is of interest lies around the line


def profile_plot(
    profile: pd.DataFrame, ax: Axes, unit: str = "", statistic: str = "likelihood-ratio statistic", level: str = "95 %"
) -> Axes:
    """The profile of one parameter as a line, the estimate on it, and what lies below the threshold of its interval.

    Args:
        profile: [parameter, value, statistic, threshold, estimate] as of `Law.profile`, of one parameter; with a column
            objective alone the objective is drawn, without a threshold where there is none. A profile on a geometric
            grid of values is drawn on a logarithmic axis.
        unit: of the parameter.
        statistic: what is drawn, in words.
        level: of the threshold, in words.
    """
    names = pd.unique(profile["parameter"])
    if len(names) != 1:
        raise ValueError(f"A profile is of one parameter; the table has {', '.join(map(str, names)) or 'none'}.")
    column = "statistic" if "statistic" in profile else "objective"
    line = profile[np.isfinite(profile[column])].sort_values("value")
    x, y = line["value"].to_numpy(float), line[column].to_numpy(float)
    if _geometric(x):
        ax.set_xscale("log")
    least, top = y.min(), y.max()
    threshold = float(line["threshold"].iloc[0]) if "threshold" in line else np.nan
    if np.isfinite(threshold):
        top = min(top, least + VIEW * (threshold - least))
        ax.fill_between(x, y, threshold, where=y <= threshold, interpolate=True, color=COLOURS[0], alpha=0.12, lw=0)
        ax.axhline(threshold, color=COLOURS[1], lw=1.2, ls=(0, (4, 2)), zorder=2)
        style: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "color": COLOURS[1]}
        ax.annotate(level, (1.0, threshold), xycoords=ax.get_yaxis_transform(), xytext=(-3, 3), **style)
    ax.plot(x, y, color=COLOURS[0], lw=1.8, zorder=3)
    if "estimate" in line:
        best = float(line["estimate"].iloc[0])
        at = float(np.interp(best, x, y))
        ax.plot(best, at, marker="o", ms=6.5, mfc=COLOURS[0], mec="white", mew=0.9, ls="none", zorder=4)
        ax.vlines(best, least - (top - least), at, color=COLOURS[0], lw=0.9, ls=(0, (1, 1.5)), zorder=2)
    shown = x[y <= top]
    if len(shown) > 1:
        ax.set_xlim(shown.min(), shown.max())
    ax.set_ylim(least - 0.06 * (top - least), top)
    ax.set_xlabel(f"{names[0]} ({unit})" if unit else str(names[0]), color=INK)
    ax.set_ylabel(statistic if column == "statistic" else "objective", color=INK)
    finish(ax)
    return ax


def _geometric(x: np.ndarray) -> bool:
    """Whether positive values step by a factor rather than by a distance."""
    if len(x) < 3 or x[0] <= 0 or x[-1] < 2 * x[0]:
        return False
    return bool(np.ptp(np.diff(np.log(x))) < np.ptp(np.diff(x)) / np.diff(x).mean() * np.diff(np.log(x)).mean())
