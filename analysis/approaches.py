"""How should compute be split between size and data?  Approaches 1, 2 and 3 of Hoffmann et al. 2022, side by side."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.analysis.envelope import envelope
from algoprogress.analysis.isoflop import isoflop
from algoprogress.analysis.laws import laws
from algoprogress.analysis.laws.chinchilla import Chinchilla
from algoprogress.analysis.warnings import AnalysisWarning, ConvergenceError

COLUMNS = [
    *("approach", "law", "a", "a_low", "a_high", "b", "b_low", "b_high"),
    *("compute", "n_params", "n_params_low", "n_params_high", "tokens", "tokens_low", "tokens_high"),
    *("n_runs", "level", "note"),
]


def approach1(
    runs: pd.DataFrame,
    curves: pd.DataFrame | None = None,
    at_compute: float | None = None,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """N*(C) = G C^a and D*(C) = H C^b through the minimum over training curves at each compute; see `envelope`.

    Args:
        runs: rows of one arm with n_params, tokens, compute (FLOP), loss (nats/token); run_id where curves are given.
        curves: [run_id, compute, loss]: losses on the way, which are lower at the end of a decayed schedule than a
            longer run's on its way. Without them the final losses of one size, at several numbers of tokens, are its
            curve.
        at_compute: FLOP at which the best size and data are told; by default the largest of the runs.
        level, n_resamples, seed: of the intervals, by resampling whole curves.

    Returns:
        One row [approach, law, a, a_low, a_high, b, b_low, b_high, compute, n_params, n_params_low, n_params_high,
        tokens, tokens_low, tokens_high, n_runs, level, note].
    """
    found = envelope(runs, curves, n_resamples=n_resamples, seed=seed)
    powers = {"n_params": found.n_params_power, "tokens": found.tokens_power}
    row = _from_powers(powers, _at(runs, at_compute), level)
    return _table(row, "1", "envelope", len(runs), level, found.note)


def approach2(
    runs: pd.DataFrame,
    estimator: str = "parabola",
    at_compute: float | None = None,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
    **options: Any,
) -> pd.DataFrame:
    """N*(C) = G C^a and D*(C) = H C^b through the minima of isoFLOP curves: a row as of `approach1`.

    Args:
        runs, at_compute, level, n_resamples, seed: as of `approach1`.
        estimator, options: see `isoflop`. The note says how far the exponent is off without any noise.
    """
    fit = isoflop(runs, estimator, level=level, n_resamples=n_resamples, seed=seed, **options)
    exponents = fit.exponents.set_index("quantity")
    C = _at(runs, at_compute)
    row = fit.frontier(C).iloc[0].to_dict() if fit.powers else {"compute": C}
    for quantity, name in (("n_params", "a"), ("tokens", "b")):
        found = exponents.loc[quantity]
        row |= {name: found["exponent"], f"{name}_low": found["low"], f"{name}_high": found["high"]}
    told = exponents.loc["n_params"]
    bias = "" if np.isnan(told["bias"]) else f"bias of a without noise {told['bias']:+.3f}"
    edges = int((fit.minima["at_edge"] != "").sum())
    beyond = f"{edges} of {len(fit.minima)} minima beyond the sizes tried" if edges else ""
    note = "; ".join(s for s in (f"{told['n_budgets']} budgets", bias, beyond, told["note"]) if s)
    return _table(row, "2", f"isoFLOP {estimator}", int(told["n_runs"]), level, note)


def approach3(
    runs: pd.DataFrame,
    law: str = "chinchilla",
    at_compute: float | None = None,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 42,
    cluster: str | None = None,
    **options: Any,
) -> pd.DataFrame:
    """a = beta / (alpha + beta) and b = 1 - a of L = E + A N^-alpha + B D^-beta: a row as of `approach1`.

    Args:
        runs, at_compute, level, n_resamples, seed: as of `approach1`.
        law, options: a law in n_params and tokens, and what it is made with.
        cluster: a column; whole clusters are resampled in place of runs.
    """
    fit = laws[law](**options)
    if not isinstance(fit, Chinchilla):
        known = ", ".join(name for name in laws if issubclass(laws[name], Chinchilla))
        raise ValueError(f"Approach 3 fits a law of Hoffmann et al. in size and data ({known}), not {law!r}.")
    fit.fit(runs)
    C = _at(runs, at_compute)
    best = fit.frontier(C).iloc[0]
    row = {"compute": C, "a": fit.a_opt_, "b": 1 - fit.a_opt_, "n_params": best["n_params"], "tokens": best["tokens"]}
    if n_resamples > 1:
        fit.intervals("pairs" if cluster is None else "cluster", cluster, level, n_resamples, seed)
        drawn = fit.resamples_
        a, log_c = drawn["a_opt"].to_numpy(), np.log(C / 6)
        A, B, alpha, beta = (drawn[name].to_numpy() for name in ("A", "B", "alpha", "beta"))
        log_n = np.log(alpha * A / (beta * B)) / (alpha + beta) + a * log_c
        row |= _ends({"a": a, "b": 1 - a, "n_params": np.exp(log_n), "tokens": np.exp(log_c - log_n)}, level)
    said = f"by {cluster or 'runs'}" if n_resamples > 1 else "no interval"
    return _table(row, "3", law, len(runs), level, said)


def approaches(
    runs: pd.DataFrame,
    curves: pd.DataFrame | None = None,
    estimators: tuple[str, ...] = ("parabola", "akima", "surface"),
    at_compute: float | None = None,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Approaches 1, 2 (by each estimator) and 3 side by side; where the runs do not allow one, the note says why."""
    common: dict[str, Any] = {"at_compute": at_compute, "level": level, "n_resamples": n_resamples, "seed": seed}
    asked: list[tuple[str, str, Callable[[], pd.DataFrame]]] = [
        ("1", "envelope", partial(approach1, runs, curves, **common))
    ]
    asked += [("2", f"isoFLOP {e}", partial(approach2, runs, e, **common)) for e in estimators]
    asked.append(("3", "chinchilla", partial(approach3, runs, **common)))
    return pd.concat([_tried(*one, len(runs), level) for one in asked], ignore_index=True)


def _tried(approach: str, law: str, make: Callable[[], pd.DataFrame], n_runs: int, level: float) -> pd.DataFrame:
    """The row, with its warnings as notes; a row of nan where the runs do not allow it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AnalysisWarning)
        try:
            table = make()
        except (ValueError, ConvergenceError) as error:
            return _table({}, approach, law, n_runs, level, str(error))
    said = [str(w.message).rstrip(".") for w in caught if issubclass(w.category, AnalysisWarning)]
    notes = [n for n in dict.fromkeys([table.loc[0, "note"], *said]) if n]
    return table.assign(note="; ".join(notes))


def _at(runs: pd.DataFrame, at_compute: float | None) -> float:
    if at_compute is None:
        compute = runs["compute"] if "compute" in runs else 6.0 * runs["n_params"] * runs["tokens"]
        return float(compute.max())
    if not (np.isfinite(at_compute) and at_compute > 0):
        raise ValueError(f"at_compute is a positive number of FLOP, not {at_compute}.")
    return float(at_compute)


def _from_powers(powers: dict[str, np.ndarray], compute: float, level: float) -> dict[str, float]:
    """From (1 + B, 2) exponents and log coefficients, the estimate first."""
    row, drawn = {"compute": compute}, dict[str, np.ndarray]()
    for quantity, name in (("n_params", "a"), ("tokens", "b")):
        exponent, log_coefficient = powers[quantity].T
        value = np.exp(log_coefficient + exponent * np.log(compute))
        row |= {name: exponent[0], quantity: value[0]}
        drawn |= {name: exponent[1:], quantity: value[1:]}
    return row | _ends(drawn, level)


def _ends(drawn: dict[str, np.ndarray], level: float) -> dict[str, float]:
    tail, ends = (1 - level) / 2, dict[str, float]()
    for name, values in drawn.items():
        known = values[np.isfinite(values)]
        if known.size > 1:
            ends[f"{name}_low"], ends[f"{name}_high"] = np.quantile(known, [tail, 1 - tail])
    return ends


def _table(row: dict[str, Any], approach: str, law: str, n_runs: int, level: float, note: str) -> pd.DataFrame:
    told = {"approach": approach, "law": law, "n_runs": n_runs, "level": level, "note": note}
    return pd.DataFrame([{**dict.fromkeys(COLUMNS, np.nan), **row, **told}])[COLUMNS]
