"""A study's answer in two sentences, from its tables: what the best arm gains, and whether that depends on scale."""

import numpy as np
import pandas as pd

from algoprogress.analysis.formatting import flop_text, gain_text, interval_text, number
from algoprogress.analysis.gain_estimates import Lines, interpolated
from algoprogress.analysis.joint import JointFit
from algoprogress.analysis.tables import StudyTables


def answer(tables: StudyTables) -> str:
    """Two sentences: the gain at the largest compute of the baseline and many others, and its dependence on compute."""
    fit = tables.fit
    if fit.arms == [fit.baseline]:
        return f"Only {fit.baseline} has runs that can be used, so there is no gain to state yet."
    front = _compared(fit)
    if front.empty:
        return f"No other arm was measured at a compute of {fit.baseline}."
    top = well_measured(fit)[-1]
    at_top = front[front["rung"] == top]
    best = at_top.loc[at_top["loss"].idxmin()]
    arm, level = str(best["arm"]), tables.gains.attrs["resamples"].level
    return f"{_gain(fit, arm, top, level)} {_scale(tables, arm)}"


def well_measured(fit: JointFit) -> list[float]:
    """Computes (FLOP, ascending) of the baseline at which there are half as many other arms or more as at any."""
    arms = _compared(fit).groupby("rung")["arm"].nunique()
    return [float(rung) for rung in arms.index[arms >= arms.max() / 2]]


def _compared(fit: JointFit) -> pd.DataFrame:
    """The frontier of the other arms at the computes of the baseline."""
    return fit.front[(fit.front["arm"] != fit.baseline) & fit.front["rung"].isin(fit.points(fit.baseline)["rung"])]


def _gain(fit: JointFit, arm: str, compute: float, level: float) -> str:
    row, _, _ = interpolated(fit, Lines(fit), arm, compute, "compute", "old", level)
    where = f"the loss of {fit.baseline} at {flop_text(compute)} FLOP"
    gain = gain_text(row["ceg"], row["ceg_low"], row["ceg_high"])
    interval = (
        f" ({100 * level:g} % interval in brackets)" if "[" in gain else " (no interval: no configuration was repeated)"
    )
    if np.isnan(row["ceg"]):
        return (
            f"{arm}, the best of the other arms, can not be compared with {fit.baseline} at {flop_text(compute)} FLOP."
        )
    if row["censored"] == ">":
        return f"{arm} beats {where} at its smallest compute already: a gain of more than {number(row['ceg'])} times."
    if row["censored"] == "<":
        return f"No arm reaches {where}: the gain of {arm}, the nearest, is less than {number(row['ceg'])}."
    if row["ceg"] < 1:
        return f"No arm beats {where}; for the nearest, {arm}, the compute-equivalent gain is {gain}{interval}."
    return f"{arm} reaches {where} with {gain} times less compute{interval}; gain at the compute of {fit.baseline}."


def _scale(tables: StudyTables, arm: str) -> str:
    slopes = tables.scale_dependence.query("arm == @arm and range == 'measured'")
    usable = slopes.dropna(subset=["slope"])
    if usable.empty:
        return f"Whether that depends on compute can not be said from {len(tables.fit.rungs)} compute(s)."
    told = []
    for method, words in (("law", "by the law"), ("interpolated", "interpolated")):
        for _, r in usable[usable["method"] == method].iterrows():
            told.append(f"{number(r['slope'], 2)}{interval_text(r['slope_low'], r['slope_high'])} {words}")
    signs = {_sign(r) for _, r in usable.iterrows()}
    numbers = f"d ln CEG / d ln C = {' and '.join(told)}"
    if signs == {1}:
        return f"Its gain grows with compute: {numbers}."
    if signs == {-1}:
        return f"Its gain shrinks with compute: {numbers}."
    if signs <= {0}:
        return f"Its gain shows no clear dependence on compute: {numbers}."
    if signs <= {0, 1} or signs <= {0, -1}:
        word = "grows" if 1 in signs else "shrinks"
        return f"Its gain seems to {word.rstrip('s')} with compute, by one of two estimates: {numbers}."
    return f"Two estimates of how its gain depends on compute disagree: {numbers}."


def _sign(row: pd.Series) -> int:
    """1 or -1 where the interval of a slope lies on one side of zero, else 0."""
    return int(row["slope_low"] > 0) - int(row["slope_high"] < 0)
