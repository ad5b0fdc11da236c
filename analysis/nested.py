"""Do arms differ by a constant factor of compute?  Tests of nested joint fits, from all separate to one multiplier.

With one E and the same exponents an arm is the baseline at kappa times its compute, and the gain is kappa at every
compute (arXiv 2602.07712). The models below are nested, each a restriction of the one above it:

    separate                    each arm has all its parameters
    shared E                    one irreducible loss: same text, same tokenizer
    shared E and exponents      arms differ in their coefficients only
    one compute multiplier      ... and those by one factor: the null of a constant gain

For a law in compute the last two are one model. Three tests of a restriction by q parameters, from objectives F0 >= F1:

- "f": ((F0 - F1) / q) / (F1 / (n - P1)) against F(q, n - P1), exact for linear models with normal noise.
- "likelihood-ratio": (n - P1 + q / 2 - 1) ln(F0 / F1) against chi-squared with q degrees of freedom, the likelihood
  ratio with the factor of Box (1949) in place of n, which makes it hold for few points.
- "bootstrap": (F0 - F1) / F1 against its distribution under the null, refitted to ln L_0 + v r_0 with random signs v of
  the residuals of the restricted fit, drawn by run or by cluster (the restricted wild bootstrap; Cameron et al. 2008).

The first two are for least squares and independent points. Under Huber's function with a threshold that residuals
exceed, and for runs that come in clusters, use the third.
"""

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from algoprogress.analysis import objective
from algoprogress.analysis.fit import FLOOR, NEAR, minimise
from algoprogress.analysis.frontier import frontier
from algoprogress.analysis.identifiability import residuals
from algoprogress.analysis.laws import laws
from algoprogress.analysis.laws.base import Law
from algoprogress.analysis.laws.law import LossLaw
from algoprogress.analysis.likelihood import criteria
from algoprogress.analysis.objective import HuberSum
from algoprogress.analysis.profiles import STEPS
from algoprogress.analysis.resampling import cluster_labels, wild_weights
from algoprogress.analysis.runs import usable_runs
from algoprogress.analysis.sharing import Share, Sharing
from algoprogress.analysis.warnings import AnalysisWarning, ConvergenceError

Test = Literal["f", "likelihood-ratio", "bootstrap"]
TESTS = ("f", "likelihood-ratio", "bootstrap")
N_BOOTSTRAP = 399  # (B + 1) alpha is whole at 5 % and 1 % (Davidson and MacKinnon 2000)
COLUMNS = [
    *("model", "law", "n", "n_free", "objective", "log_likelihood", "aicc", "bic"),
    *("against", "restrictions", "statistic", "p", "test", "note"),
]


def nested_models(
    runs: pd.DataFrame,
    law: str | Law = "power",
    test: Test | None = None,
    cluster: str | None = None,
    n_resamples: int = N_BOOTSTRAP,
    seed: int = 0,
    max_epochs: float = 1.0,
) -> pd.DataFrame:
    """The nested joint fits of all arms, each tested against the one above it, with AICc and BIC.

    Args:
        runs: one row per (arm, run); a law in compute is fitted to their frontier, another to all of them.
        law: a name or an unfitted law; tests "f" and "likelihood-ratio" fit it by least squares.
        test: by default "f" for a law in compute whose residuals lie within the Huber threshold, else "bootstrap".
        cluster: of runs that are not independent: a column, or "compute_bin"; with "bootstrap" only.
        n_resamples: of "bootstrap".
        seed: of "bootstrap".

    Returns:
        [model, law, n, n_free, objective, log_likelihood, aicc, bic, against, restrictions, statistic, p, test, note].
        p is small where the restriction is not borne out; a model that can not be fitted has a note.

    Example:
        >>> from algoprogress.analysis.simulation import simulate_runs
        >>> arms = {"old": (0.6, 60.0, 0.14), "new": (0.6, 60.0 * 1.6**-0.14, 0.14)}  # a gain of 1.6 at any compute
        >>> table = nested_models(simulate_runs(arms, noise=0.02, seed=1))
        >>> bool(table.set_index("model").loc["one compute multiplier", "p"] > 0.05)
        True
    """
    if test is not None and test not in TESTS:
        raise ValueError(f"test is one of {', '.join(TESTS)}, not {test!r}.")
    if cluster is not None and test not in (None, "bootstrap"):
        raise ValueError(f"test {test!r} takes runs to be independent; with cluster= use test='bootstrap'.")
    if n_resamples < 19:
        raise ValueError(f"n_resamples is 19 or more, for a p of 5 %; not {n_resamples}.")
    given = laws[law]() if isinstance(law, str) else law
    in_compute = isinstance(given, LossLaw)
    data = frontier(runs, max_epochs) if in_compute else usable_runs(runs, max_epochs)
    if in_compute:
        n_rungs = data.groupby("arm")["rung"].transform("size")
        data = data[n_rungs >= 2]
    if data["arm"].nunique() < 2:
        raise ValueError("Nested models compare two arms or more, each measured at two computes or more.")
    huber = float("inf") if test in ("f", "likelihood-ratio") else given.huber
    rows: list[dict] = []
    above: Law | None = None
    for model, share in models_of(given).items():
        row: dict = {"model": model, "law": given.name, "n": len(data), "note": ""}
        fitted = _fit(given, data, share, huber)
        if isinstance(fitted, str):
            rows.append({**row, "note": fitted})
            continue
        row |= {
            "n_free": fitted.sharing_.n_free,
            "objective": fitted.diagnostics_["objective"],
            "log_likelihood": criteria(fitted)["log_likelihood"],
            "aicc": fitted.aicc,
            "bic": fitted.bic,
        }
        if above is not None:
            row |= {"against": rows[-1]["model"] if not rows[-1]["note"] else _last(rows)}
            row |= compare(above, fitted, test, cluster, n_resamples, seed)
        rows.append(row)
        above = fitted
    return pd.DataFrame(rows, columns=COLUMNS)


def models_of(law: Law) -> dict[str, Share]:
    """What is shared in each of the nested models of a law, the freest first."""
    exponents = [p for p in law.shareable if p not in law.fixed]
    found: dict[str, Share] = {"separate": {}}
    if "E" in exponents:
        found["shared E"] = {"E": "all"}
    if len(law.rescaled) > 1:
        found["shared E and exponents"] = dict.fromkeys(exponents, "all")
    if law.rescaled:
        found["one compute multiplier"] = "rescaled"
    return found


def equal_exponents(law: Law, *arms: str, n_resamples: int = N_BOOTSTRAP, seed: int = 0) -> float:
    """p of the test that arms share their exponents, given a joint fit with all else as it is; nan if there is none."""
    exponents = [p for p in law.shareable if p != "E" and p not in law.fixed and p not in law.tied]
    if isinstance(law.share, str) or not exponents:
        return float("nan")
    share = {**law.share, **{p: list(arms) for p in exponents if p not in law.share}}
    if _test_of(law) == "f" and isinstance(law, LossLaw) and len(law.profiles_) == 1:
        rise, q = _rise(law, share, *arms)
        F1, n_left = _at_least(law), len(law.y_) - law.sharing_.n_free
        return float(f_test(rise, F1, q, n_left)[1]) if q and n_left > 0 else float("nan")
    restricted = _fit(law, law.runs_, share, law.huber)
    if isinstance(restricted, str):
        return float("nan")
    return float(compare(law, restricted, None, None, n_resamples, seed)["p"])


def _rise(law: Law, share: Share, *arms: str) -> tuple[float, int]:
    """How far a restriction of some arms raises the objective of a law with one E, and how many parameters it costs.

    At each E of the law's profile all other arms are at their best already, so only the restricted ones are fitted
    anew; from the lowest of these few steps of all lead to the minimum that a fit from nothing finds.
    """
    fixed = {p: law.to_working(p, v) for p, v in law.fixed.items()}
    sharing = Sharing.of(law.arms_, law.parameters, law.shareable, law.rescaled, law.tied, fixed, share, law.name)
    (profile,) = law.profiles_.values()
    working = np.stack([law.sharing_.working(profile.theta_mP, a) for a in range(len(law.arms_))], 1)
    lower, upper = sharing.bounds(*(np.stack(b) for b in zip(*map(law.bounds, law.points_), strict=True)))
    column_of_E = sharing.column_ak[0, law.parameters.index("E")]
    start, hold = sharing.gather(working), np.arange(sharing.n_free) == column_of_E
    used_aP = (sharing.map_akP != 0).any(1)
    own = np.array([law.arms_.index(arm) for arm in arms])
    used = used_aP[own].any(0)
    if (np.delete(used_aP, own, 0).any(0) & used & ~hold).any():  # they share more than E with others
        own, used = np.arange(len(law.arms_)), np.ones(sharing.n_free, bool)
    points, every = [law.points_[a] for a in own], np.arange(len(start))
    restricted = HuberSum(law.sums, points, sharing.map_akP[own][:, :, used], sharing.offset_ak[own], law.rows_)
    held = minimise(
        *(restricted.in_blocks, start[:, used], lower[used], upper[used], restricted.n, law.huber, ()),
        hold_P=hold[used],
        at_rest=NEAR,
        most=STEPS,
    )
    once = [np.ones((1, p.y.size)) for p in points]
    free = [law.sums(p, once[k], working[:, own[k]], law.huber, every)[0] for k, p in enumerate(points)]
    start[:, used], total = held.theta_BP, profile.objective - np.sum(free, 0) + held.objective_B
    evaluate = HuberSum(law.sums, law.points_, sharing.map_akP, sharing.offset_ak, law.rows_).in_blocks
    found = minimise(evaluate, start[[total.argmin()]], lower, upper, len(law.y_), law.huber, anneal=())
    return max(float(found.objective_B.min()) - _at_least(law), 0.0), law.sharing_.n_free - sharing.n_free


def _test_of(law: Law, cluster: str | None = None) -> Test:
    """The test by default: see `nested_models`."""
    within = bool((np.abs(residuals(law)) <= law.huber).all())
    return "f" if within and cluster is None and isinstance(law, LossLaw) else "bootstrap"


def _at_least(law: Law) -> float:
    """The objective at the minimum, or what counts as an exact fit."""
    return max(law.diagnostics_["objective"], 0.5 * len(law.y_) * FLOOR)


def compare(
    free: Law,
    restricted: Law,
    test: Test | None = None,
    cluster: str | None = None,
    n_resamples: int = N_BOOTSTRAP,
    seed: int = 0,
) -> dict:
    """{restrictions, statistic, p, test, note} of two nested fits to the same runs: see the tests above."""
    if test is None:
        test = _test_of(free, cluster)
    n, P1 = len(free.y_), free.sharing_.n_free
    q = P1 - restricted.sharing_.n_free
    F1 = _at_least(free)
    rise = max(restricted.diagnostics_["objective"] - F1, 0.0)
    row = {"restrictions": q, "statistic": np.nan, "p": np.nan, "test": test, "note": ""}
    if q < 1:
        return {**row, "note": "no parameter fewer: nothing to test"}
    if n - P1 < 1:
        return {**row, "note": f"{n} points for {P1} parameters: none left to judge by"}
    if test == "bootstrap":
        ratios = _under_null(free, restricted, cluster, n_resamples, seed)
        row["statistic"] = rise / F1
        return {**row, "p": float((1 + (ratios >= rise / F1).sum()) / (1 + len(ratios)))}
    if test == "f":
        row["statistic"], p = f_test(rise, F1, q, n - P1)
        return {**row, "p": float(p)}
    from scipy.stats import chi2

    row["statistic"] = max(n - P1 + q / 2 - 1, 1.0) * float(np.log1p(rise / F1))
    return {**row, "p": float(chi2.sf(row["statistic"], q))}


def f_test(rise: ArrayLike, F1: ArrayLike, q: int, n_left: int) -> tuple[Any, Any]:
    """F of q restrictions that raise an objective F1 with n_left degrees of freedom by `rise`, and its p."""
    from scipy.stats import f

    statistic = np.asarray(rise) / q / (np.asarray(F1) / n_left)
    return statistic, f.sf(statistic, q, n_left)


def _under_null(free: Law, restricted: Law, cluster: str | None, n: int, seed: int) -> np.ndarray:
    """(F0* - F1*) / F1* (n,) of both fits to outcomes drawn from the restricted one."""
    r = -residuals(restricted)
    labels = np.arange(len(r)) if cluster is None else cluster_labels(restricted.runs_, cluster)
    groups = np.unique(labels, return_inverse=True)[1]
    v_BG = wild_weights(np.random.default_rng(seed), n, int(groups.max()) + 1)
    y_Bn = restricted.y_ - r + restricted.log_l0_ + v_BG[:, groups] * r
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AnalysisWarning)
        F0, F1 = (objectives(law, law.refit(y_Bn=y_Bn), y_Bn) for law in (restricted, free))
    return np.maximum(F0 - F1, 0.0) / np.maximum(F1, 0.5 * len(r) * FLOOR)


def objectives(law: Law, theta_BP: np.ndarray, y_Bn: np.ndarray) -> np.ndarray:
    """Huber sums (B,) of refits with their own outcomes, ln of nats/token."""
    total = np.zeros(len(theta_BP))
    for a, rows in enumerate(law.rows_):
        w = law.sharing_.working(theta_BP, a)
        r = law.log_loss(w, *(x[rows] for x in law.x_))[0] + law.log_l0_ - y_Bn[:, rows]
        total += objective.huber(r, law.huber)[0].sum(1)
    return total


def _fit(law: Law, data: pd.DataFrame, share: Share, huber: float) -> Law | str:
    """The joint fit, or why there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AnalysisWarning)
            return type(law)(huber=huber, fixed=law.fixed).fit(data, share)
    except (ValueError, ConvergenceError) as error:
        return str(error)


def _last(rows: Sequence[dict]) -> str:
    return next(row["model"] for row in reversed(rows) if "objective" in row)
