"""The gain of every innovation of an account against compute, and how far of it was measured."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from algoprogress.analysis.figures.style import COMPUTE, dress, end_labels, gain_axis, words
from algoprogress.analysis.palette import colours, styles


def account_gains_plot(gains: pd.DataFrame, ax: Axes) -> Axes:
    """A line an innovation with its band: solid on the shaded range in which it was measured, thin and dashed beyond.

    Args:
        gains: [key, compute, gain, gain_low, gain_high, measured_low, measured_high] as of
            `account_tables.gains_by_compute`.
    """
    keys = [k for k in pd.unique(gains["key"]) if gains.loc[gains["key"] == k, "gain"].notna().any()]
    colour, style = colours(keys), styles(keys)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ends = {}
    for key in keys:
        part = gains[(gains["key"] == key) & gains["gain"].notna()].sort_values("compute")
        x, y = part["compute"].to_numpy(), part["gain"].to_numpy()
        if part["gain_low"].notna().any():
            ax.fill_between(x, part["gain_low"], part["gain_high"], color=colour[key], alpha=0.14, lw=0, zorder=1)
        low, high = part["measured_low"].iloc[0], part["measured_high"].iloc[0]
        if np.isnan(low):
            ls = style[key] if style[key] == "-" else ":"  # dashes are for what is extrapolated
            ax.plot(x, y, color=colour[key], lw=1.4, ls=ls, zorder=3)
        else:
            ax.plot(x, y, color=colour[key], lw=1.0, ls=(0, (4, 2.5)), zorder=3)
        if low <= high:
            within = np.unique(np.clip([low, *x[(x > low) & (x < high)], high], x[0], x[-1]))
            log_y = np.interp(np.log(within), np.log(x), np.log(y))
            ax.plot(within, np.exp(log_y), color=colour[key], lw=2.8, solid_capstyle="round", zorder=4)
            ax.axvspan(within[0], within[-1], color=colour[key], alpha=0.06, lw=0, zorder=0)
        ends[key] = float(y[-1])
    ax.set_xlim(gains["compute"].min(), gains["compute"].max())
    dress(ax, COMPUTE, "gain")
    gain_axis(ax)
    end_labels(ax, {words(k): v for k, v in ends.items()}, {words(k): colour[k] for k in ends})
    return ax


def fixed_compute_plot(growth: pd.DataFrame, ax: Axes) -> Axes:
    """Growth per year at a compute that stays, against that compute.

    Args:
        growth: [compute, growth_per_year, growth_low, growth_high] as of `Account.fixed_compute_growth`.
    """
    colour = colours(["growth"])["growth"]
    rows = growth.sort_values("compute")
    ax.set_xscale("log")
    if rows["growth_low"].notna().any():
        ax.fill_between(
            rows["compute"], 100 * rows["growth_low"], 100 * rows["growth_high"], color=colour, alpha=0.14, lw=0
        )
    ax.plot(rows["compute"], 100 * rows["growth_per_year"], color=colour, lw=1.8, marker="o", ms=6, mec="white")
    for row in rows.itertuples():
        at = (row.compute, 100 * row.growth_per_year)
        ax.annotate(f"{at[1]:.0f} %", at, xytext=(-5, 4), textcoords="offset points", ha="right", fontsize="small")
    top = np.nanmax(100 * rows[["growth_per_year", "growth_high"]].to_numpy(float))
    ax.set_ylim(0, 1.12 * top)
    ax.margins(x=0.12)
    dress(ax, "training compute that stays (FLOP)", "growth of the gain per year (%)")
    return ax
