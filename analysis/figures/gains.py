"""Compute-equivalent gains against compute, and how they depend on it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from algoprogress.analysis.figures.style import COMPUTE, INK, dress, finish, legend, view
from algoprogress.analysis.palette import colours, markers, styles


def gain_versus_compute(gains: pd.DataFrame, bands: pd.DataFrame, arms: Sequence[str], baseline: str, ax: Axes) -> Axes:
    """CEG over the baseline: interpolated gains as markers with intervals, the law with its band, the baseline at 1.

    A gain known only to be larger or smaller than a bound is an open marker at the bound with an arrow.

    Args:
        gains: rows of a gain table by the method "interpolated", at the rungs.
        bands: rows by the method "law", on a grid of compute; may be empty.
        arms: in the order of the study, the baseline among them.
    """
    colour, marker, style = colours(arms), markers(arms), styles(arms)
    others = [a for a in arms if a != baseline]
    ax.set_xscale("log")
    ax.set_yscale("log")
    shown = pd.concat([gains["ceg"], bands["ceg"], pd.Series([1.0])]).dropna()
    shown = shown[(shown > 0) & np.isfinite(shown)]
    ends = pd.concat([gains["ceg_low"], gains["ceg_high"], bands["ceg_low"], bands["ceg_high"]])
    ends = ends[np.isfinite(ends) & (ends > shown.min() / 3) & (ends < shown.max() * 3)]
    bottom, top = min([*shown, *ends]) / 1.35, max([*shown, *ends]) * 1.35
    ax.set_ylim(bottom, top)
    ax.axhline(1, color=colour[baseline], lw=1.6, zorder=1, label=f"{baseline} (baseline)")
    for k, arm in enumerate(others):
        own, law = gains[gains["arm"] == arm], bands[bands["arm"] == arm].dropna(subset=["ceg"])
        if len(law):
            low, high = law["ceg_low"].clip(lower=bottom / 10), law["ceg_high"].clip(upper=top * 10)
            ax.fill_between(law["compute"], low, high, color=colour[arm], alpha=0.13, lw=0, zorder=1)
            ax.plot(law["compute"], law["ceg"], color=colour[arm], ls=style[arm], lw=1.6, zorder=3)
        nudge = 1.07 ** (k - (len(others) - 1) / 2)  # arms side by side at a rung
        for row in own.dropna(subset=["ceg"]).itertuples():
            x = row.compute * nudge
            if row.censored:
                arrow = {"arrowstyle": "-|>", "color": colour[arm], "lw": 1.3, "shrinkA": 2, "shrinkB": 0}
                factor = 1.28 if row.censored == ">" else 1 / 1.28
                ax.annotate("", (x, row.ceg * factor), (x, row.ceg), zorder=4, arrowprops=arrow)
            elif np.isfinite(row.ceg_high):
                ax.plot([x, x], [max(row.ceg_low, bottom / 10), row.ceg_high], color=colour[arm], lw=1.2, zorder=3)
            elif np.isfinite(row.ceg_low):
                ax.plot([x, x], [max(row.ceg_low, bottom / 10), top * 10], color=colour[arm], lw=1.2, zorder=3)
            face = "white" if row.censored else colour[arm]
            edge = colour[arm] if row.censored else "white"
            ax.plot(
                x, row.ceg, marker=marker[arm], ms=6.5, mfc=face, mec=edge, mew=1.2 if row.censored else 0.9, zorder=5
            )
        ax.plot([], [], color=colour[arm], marker=marker[arm], mec="white", ms=6.5, ls=style[arm], lw=1.6, label=arm)
    ax.set_ylim(bottom, top)
    dress(ax, COMPUTE, f"compute-equivalent gain over {baseline}")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}×"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    legend(ax)
    return ax


def slope_forest(slopes: pd.DataFrame, arms: Sequence[str], ax: Axes) -> Axes:
    """d ln CEG / d ln C of each arm and method with its interval, beside a line at 0: a gain the same at every compute.

    Args:
        slopes: [arm, slope, slope_low, slope_high, method] as of `scale_dependence`; `law` is told where there is one.
        arms: in the order of the study, the baseline among them or not.
    """
    colour, marker = colours(arms), markers(arms)
    rows = [r for arm in arms for r in slopes[slopes["arm"] == arm].dropna(subset=["slope"]).itertuples()]
    ends = [end for r in rows for end in (r.slope_low, r.slope_high)]
    left, right = view([r.slope for r in rows], ends, reference=0.0) if rows else (-1.0, 1.0)
    height, last, ticks, names = 0.0, None, [], []
    for row in rows:
        if last is not None and row.arm != last:
            height += 0.55
        law = getattr(row, "law", None)
        by = f"law ({law})" if row.method == "law" and isinstance(law, str) and law else str(row.method)
        ticks.append(height)
        names.append(f"{row.arm}, {by}" + (", extrapolated" if getattr(row, "range", "") == "extrapolated" else ""))
        if not (np.isnan(row.slope_low) or np.isnan(row.slope_high)):
            interval = np.clip([row.slope_low, row.slope_high], left, right)
            ax.plot(interval, [height, height], color=colour[row.arm], lw=2.0, zorder=2)
        face = "white" if row.method == "law" else colour[row.arm]
        ax.plot(row.slope, height, marker=marker[row.arm], ms=7, mfc=face, mec=colour[row.arm], mew=1.4, zorder=3)
        known = not np.isnan(row.slope_low)
        text = f"{row.slope:.2f}" + (f" [{row.slope_low:.2f}, {row.slope_high:.2f}]" if known else "")
        text = text.replace("-", "\u2212").replace("inf", "∞")
        ax.annotate(text, (1.02, height), xycoords=ax.get_yaxis_transform(), va="center", fontsize="small", color=INK)
        last, height = row.arm, height + 1
    ax.axvline(0, color=INK, lw=0.9, zorder=1)
    ax.set_yticks(ticks, names)
    ax.set_ylim(height - 0.4, -0.6)
    ax.set_xlim(left, right)
    ax.set_xlabel("scale dependence of the gain, d ln CEG / d ln C", color=INK)
    finish(ax, "x", ("bottom",))
    ax.tick_params(axis="y", length=0)
    return ax
