"""Do innovations multiply?  A linear model on the log gains of a factorial: main effects and two-way interactions."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.analysis.frontier import frontier
from algoprogress.analysis.interpolation import Interpolant
from algoprogress.analysis.runs import usable_runs

COLUMNS = ["effect", "order", "gain", "low", "high", "p", "aliases", "n_runs", "n_arms"]


def interaction_table(study: Mapping[str, Any], runs: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """ln CEG = mu_C + sum_i b_i x_i / 2 + sum_(i<j) b_ij x_i x_j / 2 + error, x = +1 with an innovation and -1 without.

    The gain of a run is that over the baseline's measured losses, a line in ln C between them, at the run's own loss.
    mu_C is one constant for each compute, so the error is what seeds and a dependence on scale leave. Runs whose loss
    the baseline's runs do not reach are left out.

    Returns:
        [effect, order, gain, low, high, p, aliases, n_runs, n_arms]: gain is exp(b). Of an innovation it is its gain,
        averaged over all combinations of the others; of two, the factor by which the gain of either is larger with the
        other than on average, and smaller without it. Interactions that the design cannot tell apart share a row: the
        others are named under `aliases`. Empty for a study that is no factorial, and while it lacks runs for the model.
    """
    levels = {arm: fact["levels"] for arm, fact in study.get("innovations", {}).items() if "levels" in fact}
    if not levels:
        return pd.DataFrame(columns=COLUMNS)
    import statsmodels.api as sm

    kept = usable_runs(runs)
    base = frontier(kept[kept["arm"] == study["baseline"]])
    line = Interpolant.through(np.log(base["compute"].to_numpy(float)), base["loss"].to_numpy(float))
    log_c, outside = line.log_c_for(kept["loss"].to_numpy(float))
    own = kept.assign(log_ceg=log_c - np.log(kept["compute"].astype(float)), outside=outside != "")
    asked = own.loc[own["arm"] != study["baseline"], "rung"].unique()  # the baseline has more, to measure gains on
    own = own[~own["outside"] & own["arm"].isin(list(levels)) & own["rung"].isin(asked)]
    design, aliases = _effects(pd.DataFrame([levels[arm] for arm in own["arm"]], index=own.index))
    constants = pd.get_dummies(own["rung"].astype(str), dtype=float)
    X = pd.concat([design / 2, constants], axis=1)
    if len(own) <= X.shape[1] or np.linalg.matrix_rank(X) < X.shape[1]:
        return pd.DataFrame(columns=COLUMNS)
    fit = sm.OLS(own["log_ceg"].astype(float), X).fit()
    bounds = fit.conf_int(1 - level)
    return pd.DataFrame(
        {
            "effect": name,
            "order": 1 + name.count(" x "),
            "gain": float(np.exp(fit.params[name])),
            "low": float(np.exp(bounds.loc[name, 0])),
            "high": float(np.exp(bounds.loc[name, 1])),
            "p": float(fit.pvalues[name]),
            "aliases": ", ".join(aliases[name]),
            "n_runs": len(own),
            "n_arms": own["arm"].nunique(),
        }
        for name in design
    )


def _effects(levels: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Columns of +-1 for each effect that differs from those before it, and what each stands for besides."""
    columns: dict[str, np.ndarray] = {name: levels[name].to_numpy(float) for name in levels}
    aliases: dict[str, list[str]] = {name: [] for name in columns}
    for one, other in itertools.combinations(levels, 2):
        column = levels[one].to_numpy(float) * levels[other].to_numpy(float)
        same = next((name for name, found in columns.items() if np.abs(found @ column) == len(column)), None)
        if same is not None:
            aliases[same].append(f"{one} x {other}")
        elif np.ptp(column):
            columns[f"{one} x {other}"], aliases[f"{one} x {other}"] = column, []
    return pd.DataFrame(columns, index=levels.index), aliases
