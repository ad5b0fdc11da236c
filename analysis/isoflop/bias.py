"""How far is an estimator of isoFLOP minima off without any noise?

A parabola through a curve that is no parabola has its vertex beside the minimum: the more so, the wider, the less
centred and the less even the sizes, and the more lopsided the curve (Czech et al. 2026, arXiv 2603.22339).
"""

import warnings

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from algoprogress.analysis.isoflop.estimators import estimator_named
from algoprogress.analysis.isoflop.minima import Curves
from algoprogress.analysis.laws.base import Law
from algoprogress.analysis.warnings import AnalysisWarning, ConvergenceError

REACH = np.log(1e3)  # how far beyond the sizes tried the law's own minimum is looked for


def minimum_bias(points: pd.DataFrame, law: Law, estimator: str = "parabola") -> pd.DataFrame:
    """The estimator on losses of a law, without noise, at the sizes that were tried, beside the law's true minimum.

    Args:
        points: [budget, n_params, tokens] as of `isoflop_points`; losses are not looked at.
        law: fitted, in n_params and tokens.

    Returns:
        [budget, n_params, n_params_true, bias]: bias is ln(n_params / n_params_true), nan where the estimate is at an
        edge of the sizes tried.
    """
    curves = Curves.of(points["n_params"].to_numpy(float), points["budget"].to_numpy(float))
    exact = np.asarray(law.predict(points["n_params"], points["tokens"]), float)
    found = estimator_named(estimator).minima(curves, exact[None])
    true = true_minima(points, curves, law)
    bias = np.where(found.edge_BK[0] == 0, found.log_n_BK[0] - true, np.nan)
    budgets = np.exp(curves.budgets)
    return pd.DataFrame(
        {"budget": budgets, "n_params": np.exp(found.log_n_BK[0]), "n_params_true": np.exp(true), "bias": bias}
    )


def true_minima(points: pd.DataFrame, curves: Curves, law: Law) -> np.ndarray:
    """ln N of the least loss of a law at each budget, with ln D the straight line in ln N through the runs', (K,)."""
    log_d, found = np.log(points["tokens"].to_numpy(float)), []
    for s in curves.slices:
        slope, start = np.polyfit(curves.log_n[s], log_d[s], 1)

        def loss(x: float, slope: float = slope, start: float = start) -> float:
            return float(law.predict(np.exp(x), np.exp(start + slope * x)))

        ends = (curves.log_n[s][0] - REACH, curves.log_n[s][-1] + REACH)
        found.append(float(minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-9}).x))
    return np.array(found)


def law_for(runs: pd.DataFrame) -> Law | None:
    """Hoffmann's law of the runs themselves, or None where they do not determine it."""
    from algoprogress.analysis.laws import laws

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AnalysisWarning)  # it only says how lopsided the curves are
        try:
            return laws["chinchilla"]().fit(runs.drop(columns="arm", errors="ignore"))
        except (ValueError, ConvergenceError):
            return None
