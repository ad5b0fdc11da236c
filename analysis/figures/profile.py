"""How well is a parameter known?  The objective against it, all others refitted."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from algoprogress.analysis.figures.style import FAINT, GRID, INK
from algoprogress.analysis.palette import COLOURS


def profile_plot(
    profile: pd.DataFrame,
    ax: Axes,
    estimate: float | None = None,
    interval: tuple[float, float] | None = None,
    cut: float | None = None,
    cut_label: str = "95 %",
    label: str = "objective",
    log: bool = False,
) -> Axes:
    """The objective, or its likelihood ratio, against one parameter, with the estimate and the interval it gives.

    Args:
        profile: [parameter, value, objective], of one parameter; its unit may stand in a column `unit`.
        estimate: value at the minimum.
        interval: values at which the profile crosses the cut; an infinite end is open.
        cut: the objective at the ends of the interval, such as 3.84 for twice a log likelihood ratio.
        cut_label: what the cut is.
        label: what the objective is.
        log: whether the parameter is on a logarithmic axis.
    """
    names = pd.unique(profile["parameter"])
    if len(names) != 1:
        raise ValueError(f"A profile is of one parameter; the table has {', '.join(map(str, names)) or 'none'}.")
    line = profile[np.isfinite(profile["objective"])].sort_values("value")
    if log:
        ax.set_xscale("log")
    if interval is not None:
        low, high = np.clip(interval, line["value"].min(), line["value"].max())
        ax.axvspan(low, high, color=COLOURS[0], alpha=0.10, lw=0, zorder=0)
    ax.plot(line["value"], line["objective"], color=COLOURS[0], lw=1.8, zorder=3)
    least = line["objective"].min()
    top = line["objective"].max()
    if cut is not None:  # a profile runs off far above the cut: what is of interest lies around it
        top = min(top, least + 2.6 * (cut - least))
        ax.axhline(cut, color=COLOURS[1], lw=1.2, ls=(0, (4, 2)), zorder=2)
        style: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "color": COLOURS[1]}
        ax.annotate(cut_label, (1.0, cut), xycoords=ax.get_yaxis_transform(), xytext=(-3, 3), **style)
    if estimate is not None:
        at = float(np.interp(estimate, line["value"], line["objective"]))
        ax.plot(estimate, at, marker="o", ms=6.5, mfc=COLOURS[0], mec="white", mew=0.9, zorder=4)
    shown = line["value"][line["objective"] <= top]
    if len(shown) > 1:
        margin = 0.15 * (shown.max() - shown.min())
        if not log:
            ax.set_xlim(max(shown.min() - margin, line["value"].min()), min(shown.max() + margin, line["value"].max()))
    ax.set_ylim(least - 0.06 * (top - least), top)
    unit = f" ({line['unit'].iloc[0]})" if "unit" in line and line["unit"].iloc[0] else ""
    ax.set_xlabel(f"{names[0]}{unit}", color=INK)
    ax.set_ylabel(label, color=INK)
    ax.grid(True, color=GRID, lw=0.7)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(FAINT)
    return ax
