"""Progress hangs on what it is measured against: over the years by base algorithm, and at computes that stay."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from algoprogress.analysis.figures.style import INK, end_labels, finish, gain_axis
from algoprogress.analysis.formatting import flop_text
from algoprogress.analysis.palette import colours, styles


def reference_plot(against: pd.DataFrame, ax: Axes) -> Axes:
    """The gain at each year's frontier over each base algorithm: a straight line is exponential, a level one is none.

    Args:
        against: [base, year, gain, gain_low, gain_high] as of `account_tables.reference_dependence`.
    """
    bases = list(pd.unique(against["base"]))
    colour, style = colours(bases), styles(bases)
    ends = {}
    ax.set_yscale("log")
    for base in bases:
        part = against[against["base"] == base].sort_values("year")
        if part["gain_low"].notna().any():
            ax.fill_between(part["year"], part["gain_low"], part["gain_high"], color=colour[base], alpha=0.14, lw=0)
        ax.plot(part["year"], part["gain"], color=colour[base], ls=style[base], lw=2.0)
        ends[f"against the {base}"] = float(part["gain"].iloc[-1])
    return _over_years(ax, against["year"], ends, {f"against the {b}": c for b, c in colour.items()})


def small_models_plot(totals: pd.DataFrame, ax: Axes) -> Axes:
    """The total over the years for models of a compute that stays, a step where an innovation was adopted.

    Args:
        totals: [compute, year, gain] as of `account_tables.small_models`; compute is nan along the frontier.
    """
    known = sorted(totals["compute"].dropna().unique())
    names = {c: f"at {flop_text(c)} FLOP" for c in known}
    colour = colours([*names.values(), "along the frontier"])
    ends = {}
    ax.set_yscale("log")
    for c, name in names.items():
        part = totals[totals["compute"] == c].sort_values("year")
        ax.plot(part["year"], part["gain"], drawstyle="steps-post", color=colour[name], lw=1.8)
        ends[name] = float(part["gain"].iloc[-1])
    part = totals[totals["compute"].isna()].sort_values("year")
    if len(part):
        ax.plot(part["year"], part["gain"], color=INK, lw=1.8, ls=(0, (4, 2)))
        ends["along the frontier"] = float(part["gain"].iloc[-1])
    return _over_years(ax, totals["year"], ends, colour | {"along the frontier": INK})


def _over_years(ax: Axes, years: pd.Series, ends: dict[str, float], colour: dict[str, str]) -> Axes:
    ax.set_xlim(float(np.min(years)), float(np.max(years)))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    ax.set_xlabel("year", color=INK)
    ax.set_ylabel("gain", color=INK)
    gain_axis(ax)
    finish(ax)
    end_labels(ax, ends, colour)
    return ax
