"""The lines and bands of the figures: a law and its gains on a grid of compute, with intervals."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd

from algoprogress.analysis.gains import Reference, gains_of
from algoprogress.analysis.joint import JointFit
from algoprogress.analysis.laws.base import Law
from algoprogress.analysis.warnings import AnalysisWarning

N_GRID = 41
BEYOND = 10.0  # a fit is drawn this many times the compute of the largest run, dashed where it is extrapolated


def law_curves(fit: JointFit, level: float = 0.95) -> pd.DataFrame:
    """L_arm(C) of the joint law within each arm's measured compute: [arm, compute, loss, loss_low, loss_high]."""
    columns = ["arm", "compute", "loss", "loss_low", "loss_high"]
    of = fit.first
    if of.law is None:
        return pd.DataFrame(columns=columns, dtype=float)
    parts = []
    for arm in of.arms:
        compute = np.geomspace(*of.measured[arm], N_GRID)
        loss = of.best_loss(compute, arm)
        low = high = np.full(N_GRID, np.nan)
        if of.theta_BP is not None:
            tail = (1 - level) / 2
            low, high = np.quantile(of.best_loss(compute, arm, of.theta_BP), [tail, 1 - tail], axis=0)
            low, high = np.minimum(low, loss), np.maximum(high, loss)
        parts.append(pd.DataFrame(dict(zip(columns, (arm, compute, loss, low, high), strict=True))))
    return pd.concat(parts, ignore_index=True)


def gain_bands(fit: JointFit, level: float = 0.95, reference: Reference = "new") -> pd.DataFrame:
    """The gain by law on a grid over each arm's measured compute: rows of a gain table; empty without a law."""
    between = np.geomspace(fit.rungs[0], fit.rungs[-1], N_GRID)[1:-1].tolist() if len(fit.rungs) > 1 else []
    compute = sorted({*fit.rungs, *between})  # with the rungs, where an arm's measured range begins and ends
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AnalysisWarning)  # said already with the table
        bands = gains_of(replace(fit, fits=fit.fits[:1]), compute, method="law", reference=reference, level=level)
    measured = fit.front.groupby("arm")["rung"].agg(["min", "max"])
    inside = bands["compute"].between(bands["arm"].map(measured["min"]), bands["arm"].map(measured["max"]))
    return bands[inside].reset_index(drop=True)


def fitted_curves(law: Law, runs: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Best loss of each arm of a fitted law, from its smallest run to a decade beyond its largest.

    The band is that of the covariance of the parameters, by the delta method in log loss: about the line, and without
    what resampling knows of the frontier.

    Args:
        runs: [arm, compute] of what it was fitted to.

    Returns:
        [arm, compute, loss, loss_low, loss_high, extrapolated], as `fit_with_band` draws it; the band is nan where a
        parameter has no error.
    """
    from scipy.stats import norm

    parts = []
    step = 1e-5 * np.maximum(1.0, np.abs(law.theta_))
    for arm in law.arms_:
        first, last = runs.loc[runs["arm"].astype(str) == str(arm), "compute"].agg(["min", "max"]).astype(float)
        compute = np.unique([*np.geomspace(first, BEYOND * last, N_GRID), last])
        up, down = (np.log(law.best_loss(compute, arm, law.theta_ + s * np.diag(step))) for s in (1, -1))
        J = (up - down) / (2 * step[:, None])
        spread = norm.ppf((1 + level) / 2) * np.sqrt(np.einsum("pc,pq,qc->c", J, law.covariance_, J))
        loss = law.best_loss(compute, arm)
        parts.append(
            pd.DataFrame({"arm": arm, "compute": compute, "loss": loss}).assign(
                loss_low=loss * np.exp(-spread), loss_high=loss * np.exp(spread), extrapolated=compute > last
            )
        )
    return pd.concat(parts, ignore_index=True)
