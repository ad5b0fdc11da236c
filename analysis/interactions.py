"""Do innovations multiply?  A linear model on the log gains of a factorial: main effects and two-way interactions."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.analysis.frontier import frontier
from algoprogress.analysis.interpolation import Interpolant
from algoprogress.analysis.runs import usable_runs

COLUMNS = ["effect", "order", "gain", "low", "high", "p", "aliases", "n_runs", "n_arms"]
BETWEEN = " x "  # the two names of an interaction


@dataclass(frozen=True, eq=False)
class InteractionModel:
    """ln CEG = mu_C + sum_i b_i x_i / 2 + sum_(i<j) b_ij x_i x_j / 2, fitted; x = +1 with an innovation, -1 without.

    Attributes:
        effects: names of b, "i" or "i x j", the main effects first.
        b: estimates (m,), covariance (m, m), in ln CEG.
        n_left: degrees of freedom of the residual variance.
        aliases: effect -> interactions that the design cannot tell from it, with "-" where it has their negative.
        measured: least and largest compute (FLOP) of the runs behind it.
    """

    effects: tuple[str, ...]
    b: np.ndarray
    covariance: np.ndarray
    n_left: float
    p: np.ndarray
    aliases: Mapping[str, Sequence[str]]
    measured: tuple[float, float]
    n_runs: int
    n_arms: int

    @property
    def factors(self) -> list[str]:
        return [e for e in self.effects if BETWEEN not in e]

    def step(self, added: str, present: Sequence[str], share: np.ndarray | None = None) -> np.ndarray:
        """Weights (m,) of the effects in what one more innovation gains: b_i + sum_j b_ij x_j.

        Where interactions share an estimate, each is that part of it which `share` says, by default an equal one. All
        innovations of a row of the design together gain the same, however it is shared.

        Args:
            share: (B, m, most): of each effect and what it stands for besides; the weights are then (B, m).
        """
        if added not in self.factors:
            raise ValueError(f"{added!r} is no factor of the fitted model; it has {', '.join(self.factors)}.")
        found = []
        for k, effect in enumerate(self.effects):
            named = [effect, *self.aliases[effect]]
            signs = [_sign(name, added, present) for name in named]
            if BETWEEN not in effect:  # a main effect; by the design's resolution its aliases are taken as nothing
                found.append(np.asarray(signs[0]))
            elif share is None:
                found.append(np.asarray(np.mean(signs)))
            else:
                found.append(share[:, k, : len(named)] @ np.array(signs))
        return np.stack(np.broadcast_arrays(*found), -1)

    @lru_cache(maxsize=4)  # noqa: B019 (a handful of models, as long as the process)
    def draws(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """b (n, m) by the fit's covariance and Student's t, and the shares (n, m, most) of what cannot be told apart.

        In each draw one interaction has all of an estimate, any of them as likely: few of many are at work (effect
        sparsity, Box and Meyer 1986). The draws are the same for all who ask, so that what several innovations gain is
        drawn jointly.
        """
        rng, m = np.random.default_rng(0), len(self.b)
        eigenvalues, V = np.linalg.eigh(self.covariance)
        z = rng.standard_normal((n, m)) * np.sqrt(np.maximum(eigenvalues, 0)) @ V.T
        t = z * np.sqrt(self.n_left / rng.chisquare(self.n_left, (n, 1)))
        share = np.zeros((n, m, 1 + max(len(a) for a in self.aliases.values())))
        for k, effect in enumerate(self.effects):
            many = 1 + len(self.aliases[effect])
            share[np.arange(n), k, rng.integers(many, size=n)] = 1.0
        return self.b + t, share

    def table(self, level: float = 0.95) -> pd.DataFrame:
        """See `interaction_table`."""
        from scipy.stats import t

        half = t.ppf((1 + level) / 2, self.n_left) * np.sqrt(np.diag(self.covariance))
        return pd.DataFrame(
            {
                "effect": list(self.effects),
                "order": [1 + e.count(BETWEEN) for e in self.effects],
                "gain": np.exp(self.b),
                "low": np.exp(self.b - half),
                "high": np.exp(self.b + half),
                "p": self.p,
                "aliases": [", ".join(self.aliases[e]) for e in self.effects],
                "n_runs": self.n_runs,
                "n_arms": self.n_arms,
            }
        )


def interaction_table(study: Mapping[str, Any], runs: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """The effects of `fit_interactions`.

    Returns:
        [effect, order, gain, low, high, p, aliases, n_runs, n_arms]: gain is exp(b). Of an innovation it is its gain,
        averaged over all combinations of the others; of two, the factor by which the gain of either is larger with the
        other than on average, and smaller without it. Interactions that the design cannot tell apart share a row: the
        others are named under `aliases`. Empty for a study that is no factorial, and while it lacks runs for the model.
    """
    model = fit_interactions(study, runs)
    return pd.DataFrame(columns=COLUMNS) if model is None else model.table(level)


def fit_interactions(study: Mapping[str, Any], runs: pd.DataFrame) -> InteractionModel | None:
    """The model, by least squares over the runs of a factorial.

    The gain of a run is that over the baseline's measured losses, a line in ln C between them, at the run's own loss.
    mu_C is one constant for each compute, so the error is what seeds and a dependence on scale leave. Runs whose loss
    the baseline's runs do not reach are left out.

    Returns:
        None for a study that is no factorial, and while it lacks runs for the model.
    """
    levels = {arm: fact["levels"] for arm, fact in study.get("innovations", {}).items() if "levels" in fact}
    if not levels:
        return None
    from statsmodels.regression.linear_model import OLS  # all of statsmodels takes longer than the fit

    kept = usable_runs(runs)
    base = frontier(kept[kept["arm"] == study["baseline"]])
    line = Interpolant.through(np.log(base["compute"].to_numpy(float)), base["loss"].to_numpy(float))
    log_c, outside = line.log_c_for(kept["loss"].to_numpy(float))
    own = kept.assign(log_ceg=log_c - np.log(kept["compute"].astype(float)), outside=outside != "")
    asked = own.loc[own["arm"] != study["baseline"], "rung"].unique()  # the baseline has more, to measure gains on
    own = own[~own["outside"] & own["arm"].isin(list(levels)) & own["rung"].isin(asked)]
    if own.empty:
        return None
    design, aliases = _effects(pd.DataFrame([levels[arm] for arm in own["arm"]], index=own.index))
    constants = pd.get_dummies(own["rung"].astype(str), dtype=float)
    X = pd.concat([design / 2, constants], axis=1)
    if len(own) <= X.shape[1] or np.linalg.matrix_rank(X) < X.shape[1]:
        return None
    fit = OLS(own["log_ceg"].astype(float), X).fit()
    names = list(design)
    return InteractionModel(
        tuple(names),
        fit.params[names].to_numpy(),
        fit.cov_params().loc[names, names].to_numpy(),
        float(fit.df_resid),
        fit.pvalues[names].to_numpy(),
        aliases,
        (float(own["compute"].min()), float(own["compute"].max())),
        len(own),
        int(own["arm"].nunique()),
    )


def _sign(effect: str, added: str, present: Sequence[str]) -> float:
    """x of the other innovation of an interaction with the one added; 1 for its main effect, 0 without it."""
    names = effect.removeprefix("-").split(BETWEEN)
    if added not in names:
        return 0.0
    others = [name for name in names if name != added]
    return float(np.prod([1.0 if name in present else -1.0 for name in others])) * (-1 if effect[0] == "-" else 1)


def _effects(levels: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Columns of +-1 for each effect that differs from those before it, and what each stands for besides."""
    columns: dict[str, np.ndarray] = {name: levels[name].to_numpy(float) for name in levels}
    aliases: dict[str, list[str]] = {name: [] for name in columns}
    for one, other in itertools.combinations(levels, 2):
        column = levels[one].to_numpy(float) * levels[other].to_numpy(float)
        same = next((name for name, found in columns.items() if np.abs(found @ column) == len(column)), None)
        if same is not None:
            opposite = "-" * int(columns[same] @ column < 0)
            aliases[same].append(f"{opposite}{one}{BETWEEN}{other}")
        elif np.ptp(column):
            name = f"{one}{BETWEEN}{other}"
            columns[name], aliases[name] = column, []
    return pd.DataFrame(columns, index=levels.index), aliases
