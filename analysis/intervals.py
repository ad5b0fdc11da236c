"""How far off may each parameter of a fitted law be?  Six ways to an interval, of any law.

| method | what varies | for |
|---|---|---|
| pairs | runs drawn with replacement, refitted | independent runs |
| cluster | clusters of runs drawn with replacement, refitted | checkpoints of one run, runs of one budget or seed |
| wild-cluster | residuals of clusters turned over by random weights, refitted, studentised | a wide Huber threshold |
| jackknife | one run, or one cluster, left out at a time (CV3) | few clusters, small samples |
| sandwich | nothing: curvature and scores at the estimate | many runs, a wide Huber threshold |
| profile | nothing: how the objective rises as one parameter is moved | E near 0, skew, flat valleys |

Every method but profile and the percentiles of pairs and cluster is a Wald interval, in ln of the parameters that a
law calls logarithmic. Runs of several arms are drawn within each arm, and so are clusters that lie within one; clusters
that reach over arms, such as seeds that arms share, are drawn whole, so that arms stay paired.
"""

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from algoprogress.analysis import identifiability, profiles
from algoprogress.analysis.resampling import cluster_labels, resamples, wild_weights
from algoprogress.analysis.warnings import FewSeeds, NotIdentified

if TYPE_CHECKING:
    from algoprogress.analysis.laws.base import Law

METHODS = ("pairs", "cluster", "wild-cluster", "jackknife", "sandwich", "profile")
FEW_CLUSTERS = 10  # with fewer, an interval by resampling clusters is known to be too short (Cameron et al. 2008)
FEWEST_CLUSTERS = 5  # with fewer, no method is worth much (Cameron et al. 2008, table 2: 5 is the least they try)
MOST_LEFT_OUT = 5000  # refits of a jackknife: beyond, resample
DEGENERATE = 0.05  # share of resamples without enough points for the law, above which the others mean little
AT_ONCE = 20_000_000  # weights or outcomes in memory at a time


def intervals(law: "Law", method: str, cluster: str | None, level: float, n: int, seed: int) -> pd.DataFrame:
    """Intervals of the parameters and derived quantities of every arm.

    Args:
        law: fitted.
        method: one of METHODS.
        cluster: a column of the runs, or "compute_bin"; for cluster, and as a choice for wild-cluster, jackknife and
            sandwich.
        level: of the intervals.
        n: resamples, where there are any.
        seed: of the resampling; with 42, pairs of one arm are the draws of Besiroglu et al. 2024.

    Returns:
        [arm, parameter, estimate, stderr, low, high, method, level, n_resamples]; n_resamples is 0 without resampling.
    """
    method = method.removesuffix("-bootstrap")
    if method not in METHODS:
        raise ValueError(f"method is one of {', '.join(METHODS)}, not {method!r}.")
    if (method == "cluster" and cluster is None) or (method in ("pairs", "profile") and cluster is not None):
        raise ValueError("Name a column with cluster= for method='cluster', and not for pairs or profile.")
    if not 0 < level < 1:
        raise ValueError(f"level is a share between 0 and 1, such as 0.95; not {level:g}.")
    if n < 2:
        raise ValueError(f"Intervals need 2 resamples or more, not {n}.")
    groups = None if cluster is None else _numbered(law, cluster, method)
    if method in ("pairs", "cluster"):
        table = _percentiles(law, groups, level, n, seed)
    elif method == "wild-cluster":
        table = _wild(law, np.arange(len(law.y_)) if groups is None else groups, level, n, seed)
    elif method == "jackknife":
        table = _jackknife(law, groups, level)
    elif method == "sandwich":
        table = _sandwich(law, groups, level)
    else:
        table = _profile(law, level)
    named = method if cluster is None else f"{method} by {cluster}"
    return table.assign(method=named if method != "cluster" else f"cluster by {cluster}", level=level)[
        ["arm", "parameter", "estimate", "stderr", "low", "high", "method", "level", "n_resamples"]
    ]


def _numbered(law: "Law", cluster: str, method: str) -> np.ndarray:
    groups = np.unique(cluster_labels(law.runs_, cluster), return_inverse=True)[1]
    G = int(groups.max()) + 1
    if G < 2:
        raise ValueError(f"All runs have one {cluster}: there is nothing to resample.")
    if (few := FEW_CLUSTERS if method in ("cluster", "sandwich") else FEWEST_CLUSTERS) > G:
        warnings.warn(
            f"{cluster} makes {G} clusters only; intervals by {method} from fewer than {few} are too short.",
            FewSeeds,
            stacklevel=4,
        )
    return groups


# ---- by refitting -------------------------------------------------------------------------------------------------


def _percentiles(law: "Law", groups: np.ndarray | None, level: float, n: int, seed: int) -> pd.DataFrame:
    kept = []
    for weight_Bn in resamples(law.rows_, groups, n, seed, AT_ONCE):
        enough = _enough(law, weight_Bn, groups)
        kept.append(law.refit(weight_Bn if enough.all() else weight_Bn[enough]))
    theta_BP = np.concatenate(kept)
    if len(theta_BP) < (1 - DEGENERATE) * n:
        raise ValueError(
            f"{1 - len(theta_BP) / n:.0%} of the resamples hold fewer different points than {law.name} has parameters, "
            "so that such intervals mean nothing; use method wild-cluster, jackknife, sandwich or profile."
        )
    parts, law.resamples_ = [], _table_of(law, theta_BP)
    tails = [(1 - level) / 2, (1 + level) / 2]
    for _, arm, values in _values(law):
        again = law.resamples_.loc[law.resamples_["arm"] == arm, law.quantity_names].to_numpy()
        low, high = np.quantile(again, tails, axis=0)
        parts.append(_rows(law, arm, values, again.std(0), low, high, len(theta_BP)))
    return pd.concat(parts, ignore_index=True)


def _enough(law: "Law", weight_Bn: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Whether each resample (B,) has as many different points as the fit has parameters."""
    ids = law.runs_.groupby(["arm", *law.inputs], sort=False).ngroup().to_numpy()
    n_points, n_free = int(ids.max()) + 1, law.sharing_.n_free
    n_drawn = n_points if groups is None else int(groups.max()) + 1
    if n_points > 10 * n_free and n_drawn > 20:  # too few is then all but impossible
        return np.ones(len(weight_Bn), bool)
    of_point = np.zeros((len(ids), n_points))
    of_point[np.arange(len(ids)), ids] = 1.0
    return ((weight_Bn @ of_point) > 0).sum(1) >= n_free


def _table_of(law: "Law", theta_BP: np.ndarray) -> pd.DataFrame:
    parts = [
        pd.DataFrame(law.quantities(a, theta_BP), columns=law.quantity_names).assign(arm=arm)
        for a, arm in enumerate(law.arms_)
    ]
    return pd.concat(parts, ignore_index=True)


def _jackknife(law: "Law", groups: np.ndarray | None, level: float) -> pd.DataFrame:
    """Variance (G - 1) / G sum (q_g - q)², q_g without cluster g: CV3 of MacKinnon, Nielsen and Webb 2023."""
    own = np.arange(len(law.y_)) if groups is None else groups
    G = int(own.max()) + 1
    if G > MOST_LEFT_OUT:
        raise ValueError(f"Leaving out one of {G:,} at a time takes {G:,} fits; name a column with fewer clusters.")
    size = max(1, AT_ONCE // len(own))
    parts = []
    for first in range(0, G, size):
        left_out = np.arange(first, min(first + size, G))
        weight = (own[None] != left_out[:, None]).astype(float)
        if not _enough(law, weight, np.zeros(1, int)).all():
            raise ValueError(
                f"Without one of the {G} {'runs' if groups is None else 'clusters'} too few different points are left "
                f"for the {law.sharing_.n_free} parameters of {law.name}; use method profile, or measure more."
            )
        parts.append(law.refit(weight))
    theta = np.concatenate(parts)
    tables = []
    for a, arm, values in _values(law):
        again, g = law.quantities(a, theta), _logarithmic(law)
        with np.errstate(divide="ignore", invalid="ignore"):
            off = np.where(g, np.log(again / values), again - values)
            spread = np.sqrt((off**2).sum(0) * (G - 1) / G)
            stderr = np.sqrt(((again - values) ** 2).sum(0) * (G - 1) / G)
        low, high = _wald(law, values, spread, _t(level, G - 1))
        tables.append(_rows(law, arm, values, stderr, low, high, 0))
    return pd.concat(tables, ignore_index=True)


def _wild(law: "Law", groups: np.ndarray, level: float, n: int, seed: int) -> pd.DataFrame:
    """q ± |t*|_level se: t* of fits to ln L_hat + v_g r, v_g random weights of cluster g (Cameron et al. 2008)."""
    r = -identifiability.residuals(law)
    fitted = law.y_ - r + law.log_l0_
    at_bound = _at_bound(law)
    V = identifiability.covariance(law, at_bound, groups, "sandwich")
    rng = np.random.default_rng(seed)
    size = max(1, AT_ONCE // len(r))
    thetas, covariances = [], []
    for first in range(0, n, size):
        v_BG = wild_weights(rng, min(size, n - first), int(groups.max()) + 1)
        y_Bn = fitted + v_BG[:, groups] * r
        theta = law.refit(y_Bn=y_Bn)
        thetas.append(theta)
        covariances.append(_sandwiches(law, theta, y_Bn - law.log_l0_, groups, ~at_bound))
    theta_BP, V_BPP = np.concatenate(thetas), np.concatenate(covariances)
    law.resamples_ = _table_of(law, theta_BP)
    tables = []
    for a, arm, values in _values(law):
        again, D, g = law.quantities(a, theta_BP), law.slopes(a), _logarithmic(law)
        with np.errstate(divide="ignore", invalid="ignore"):
            D = np.where(g[:, None], D / values[:, None], D)
            off = np.where(g, np.log(again / values), again - values)
            se_B = np.sqrt(np.maximum(np.einsum("mp,bpq,mq->bm", D, V_BPP, D), 0.0))
            se = np.sqrt(np.maximum(np.einsum("mp,pq,mq->m", D, V, D), 0.0))
            t = np.where(off == 0, 0.0, np.abs(off) / se_B)
        width = np.sort(np.where(np.isnan(t), np.inf, t), axis=0)[int(np.ceil(level * n)) - 1]
        low, high = _wald(law, values, np.where(_unknown(law, arm), np.nan, se), width)
        tables.append(_rows(law, arm, values, again.std(0), low, high, n))
    return pd.concat(tables, ignore_index=True)


def _sandwiches(law: "Law", theta_BP: np.ndarray, y_Bn: np.ndarray, groups: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Clustered sandwich (B, P, P) of each resample about its own estimate."""
    from algoprogress.analysis.objective import with_outcomes

    B, P = theta_BP.shape
    n, G = len(groups), int(groups.max()) + 1
    factor = G / (G - 1) * (n - 1) / max(n - P, 1)
    found = np.zeros((B, P, P))
    size = max(1, AT_ONCE // (20 * n * len(law.parameters)))
    for first in range(0, B, size):
        part = slice(first, min(first + size, B))
        theta, y = theta_BP[part], y_Bn[part]
        points = [with_outcomes(p, y[:, r]) for p, r in zip(law.points_, law.rows_, strict=True)]
        H = law.sum_over(points)(theta, np.arange(len(theta)), law.huber)[2]
        scores = np.zeros((len(theta), G, P))
        for a, rows in enumerate(law.rows_):
            order = np.argsort(groups[rows], kind="stable")
            own = rows[order]
            y_hat, J = law.log_loss(law.sharing_.working(theta, a), *(x[own] for x in law.x_))
            s = J * np.clip(y_hat - y[:, own], -law.huber, law.huber)[:, :, None]
            first_of = np.flatnonzero(np.diff(groups[own], prepend=-1))
            scores[:, groups[own][first_of]] += np.add.reduceat(s, first_of, axis=1) @ law.sharing_.map_akP[a]
        s, H = scores[:, :, free], H[:, free][:, :, free]
        scale = np.sqrt(np.maximum(np.abs(np.einsum("bpp->bp", H)), 1e-300))
        outer = scale[:, :, None] * scale[:, None, :]
        inverse = np.linalg.pinv(H / outer, hermitian=True) / outer
        V = np.zeros((len(theta), P, P))
        V[np.ix_(np.arange(len(theta)), free, free)] = inverse @ (np.swapaxes(s, 1, 2) @ s) @ inverse * factor
        found[part] = V
    return found


# ---- at the estimate ----------------------------------------------------------------------------------------------


def _sandwich(law: "Law", groups: np.ndarray | None, level: float) -> pd.DataFrame:
    V = identifiability.covariance(law, _at_bound(law), groups, "sandwich")
    n_left = len(law.y_) - law.sharing_.n_free if groups is None else int(groups.max())
    if n_left < 1:
        raise ValueError(f"{len(law.y_)} points leave no freedom beyond the parameters of {law.name}: measure more.")
    tables = []
    for a, arm, values in _values(law):
        D = law.slopes(a)
        stderr = np.sqrt(np.maximum(np.einsum("mp,pq,mq->m", D, V, D), 0.0))
        stderr = np.where(_unknown(law, arm), np.nan, stderr)
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = np.where(_logarithmic(law), stderr / values, stderr)
        low, high = _wald(law, values, spread, _t(level, n_left))
        tables.append(_rows(law, arm, values, stderr, low, high, 0))
    return pd.concat(tables, ignore_index=True)


def _profile(law: "Law", level: float) -> pd.DataFrame:
    done: dict[tuple[str, float], tuple[float, float]] = {}  # what arms share is profiled once
    tables = []
    for a, arm, values in _values(law):
        own, ends = law.summary[law.summary["arm"] == arm], []
        for name, value in zip(law.quantity_names, values, strict=True):
            if (name, value) not in done:
                try:
                    done[name, value] = profiles.interval(law, name, a, level)
                except ValueError:  # fixed, or not a linear condition on the working parameters
                    known = own.loc[own["parameter"] == name, "stderr"].iloc[0] == 0
                    done[name, value] = (value, value) if known else (float("nan"), float("nan"))
            ends.append(done[name, value])
        low, high = np.array(ends).T
        tables.append(_rows(law, arm, values, own["stderr"].to_numpy(), low, high, 0))
    return pd.concat(tables, ignore_index=True)


# ---- parts --------------------------------------------------------------------------------------------------------


def _values(law: "Law") -> list[tuple[int, str, np.ndarray]]:
    return [(a, arm, law.quantities(a, law.theta_)) for a, arm in enumerate(law.arms_)]


def _at_bound(law: "Law") -> np.ndarray:
    return np.array([label in law.diagnostics_["at_bound"] for label in law.sharing_.labels])


def _unknown(law: "Law", arm: str) -> np.ndarray:
    return law.summary.loc[law.summary["arm"] == arm, "stderr"].isna().to_numpy()


def _logarithmic(law: "Law") -> np.ndarray:
    return np.array([name in law.logarithmic or name == "kappa" for name in law.quantity_names])


def _t(level: float, dof: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, dof))


def _wald(law: "Law", values: np.ndarray, spread: np.ndarray, width: np.ndarray | float) -> tuple:
    """q ± width spread, or q exp(± width spread) for logarithmic parameters; E not below 0."""
    half, g = width * spread, _logarithmic(law)
    with np.errstate(over="ignore", invalid="ignore"):
        low = np.where(g, values * np.exp(-half), values - half)
        high = np.where(g, values * np.exp(half), values + half)
    floor = np.array([0.0 if name == "E" else -np.inf for name in law.quantity_names])
    return np.maximum(low, floor), high


def _rows(
    law: "Law", arm: str, values: np.ndarray, stderr: np.ndarray, low: np.ndarray, high: np.ndarray, n: int
) -> pd.DataFrame:
    open_end = ~np.isfinite(high) & ~np.isnan(high)
    if open_end.any():
        names = ", ".join(np.array(law.quantity_names)[open_end])
        warnings.warn(f"{law.name}: the runs set no upper limit to {names} of {arm}.", NotIdentified, stacklevel=5)
    return pd.DataFrame(
        {
            "arm": arm,
            "parameter": law.quantity_names,
            "estimate": values,
            "stderr": stderr,
            "low": low,
            "high": high,
            "n_resamples": n,
        }
    )
