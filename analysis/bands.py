"""The lines and bands of the figures: a law and its gains on a grid of compute, with intervals."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd

from algoprogress.analysis.gains import Reference, gains_of
from algoprogress.analysis.joint import JointFit
from algoprogress.analysis.warnings import AnalysisWarning

N_GRID = 41


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
