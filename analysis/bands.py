"""The lines and bands of the figures: a law and its gains on a grid of compute, with intervals."""

import numpy as np
import pandas as pd

from algoprogress.analysis.gain_estimates import interval
from algoprogress.analysis.gains import Reference
from algoprogress.analysis.joint import JointFit
from algoprogress.analysis.laws.base import Law

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
    """The gain by law on a grid over each arm's measured compute; empty without a law.

    Returns:
        [arm, compute, ceg, ceg_low, ceg_high], as `gains_of` gives them by the first law.
    """
    columns, of = ["arm", "compute", "ceg", "ceg_low", "ceg_high"], fit.first
    if of.law is None or fit.baseline not in of.arms:
        return pd.DataFrame(columns=columns, dtype=float)
    between = np.geomspace(fit.rungs[0], fit.rungs[-1], N_GRID)[1:-1] if len(fit.rungs) > 1 else np.empty(0)
    grid = np.unique([*fit.rungs, *between])  # with the rungs, where an arm's measured range begins and ends
    measured = fit.front.groupby("arm")["rung"].agg(["min", "max"])
    parts = []
    sign = 1 if reference == "new" else -1
    for arm in (a for a in fit.arms if a != fit.baseline and a in of.arms):
        first, second = (arm, fit.baseline) if reference == "new" else (fit.baseline, arm)
        compute = grid[(grid >= measured.loc[arm, "min"]) & (grid <= measured.loc[arm, "max"])]
        with np.errstate(divide="ignore", invalid="ignore"):
            log_ceg = sign * np.log(of.compute_for(of.best_loss(compute, first), second) / compute)
            log_ceg = np.where(np.isfinite(log_ceg), log_ceg, np.nan)
            low = high = np.full(len(compute), np.nan)
            if of.theta_BP is not None:
                loss_Bm = of.best_loss(compute, first, of.theta_BP)
                each = [of.compute_for_each(loss_B, second, of.theta_BP) for loss_B in loss_Bm.T]
                drawn = sign * np.log(each / compute[:, None])
                ends = [interval(g, g, v, level) for g, v in zip(drawn, log_ceg, strict=True)]
                low, high = (np.where(np.isnan(log_ceg), np.nan, v) for v in np.array(ends).reshape(-1, 2).T)
        parts.append(pd.DataFrame(dict(zip(columns, (arm, compute, np.exp(log_ceg), low, high), strict=True))))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns, dtype=float)


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
