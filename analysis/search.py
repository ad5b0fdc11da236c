"""From many starts to the one minimum: of a joint fit, and of its refits to resamples."""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from algoprogress.analysis import profiles
from algoprogress.analysis.fit import ANNEAL, MET, Evaluate, minimise, minimise_from
from algoprogress.analysis.objective import HuberSum, padded
from algoprogress.analysis.warnings import NotIdentified

if TYPE_CHECKING:
    from algoprogress.analysis.laws.base import Law

AGREE = 1e-6  # starts whose objectives differ by less than this share of the best found the same minimum
THINNED = 5000  # points that starts are chosen on: more do not move a start
FOLLOWED, HOPELESS = 3, 1.5  # minima on the thinned points that are followed on all, unless this much higher
REFITTED = 1e-3  # relative offset at which a refit takes its last step: at most .003 standard errors off
CHECKED = 40  # resamples that are also fitted through the annealing, to see that both find one minimum
FEW = 60  # points: with fewer, resamples may have minima of their own, so that the check begins from other starts too


@dataclass(frozen=True)
class Found:
    """The best minimum, how many starts led there, and the profile of E through it."""

    theta: np.ndarray
    objective: float
    offset: float
    at_bound: np.ndarray
    n_starts: int
    starts_agree: float
    iterations: int
    profiles: dict[int, profiles.ColumnProfile]


def best_minimum(law: "Law") -> Found:
    """The lowest of the minima that the starts lead to, or what lies lower in a flat valley of E."""
    n = len(law.y_)
    if n <= THINNED:
        start_SP = joint_starts(law, law.points_)
        found, count = minimise_from(law.huber_sum_.in_blocks, start_SP, law.lower_, law.upper_, n, law.huber)
    else:
        points = _thinned(law)
        start_SP = joint_starts(law, points)
        n_some = sum(p.y.size for p in points)
        found, count = minimise_from(
            law.sum_over(points).in_blocks, start_SP, law.lower_, law.upper_, n_some, law.huber
        )
        first = np.argsort(found.objective_B)[:FOLLOWED]
        first = first[found.objective_B[first] <= HOPELESS * found.objective_B.min()]
        start_SP, count = found.theta_BP[first], count[first]
        found = minimise(law.huber_sum_.in_blocks, start_SP, law.lower_, law.upper_, n, law.huber, anneal=())
    law.start_SP_ = start_SP
    k = int(found.objective_B.argmin())
    best = (found.theta_BP[k], float(found.objective_B[k]), float(found.offset_B[k]), found.at_bound_BP[k])
    of_E = {}
    for c in profiles.columns_of(law, "E"):
        profile = profiles.of_column(law, c, best[0])
        if profile.objective.min() < best[1] * (1 - 1e-9):  # a flat valley: what the starts crept along, E walks
            best = profiles.polish(law, profile, best)
        of_E[c] = profile
    agree = count[found.objective_B <= best[1] * (1 + AGREE) + 1e-18 * n].sum() / count.sum()
    return Found(*best, int(count.sum()), float(agree), found.iterations, of_E)


def _thinned(law: "Law") -> list[Any]:
    rng = np.random.default_rng(0)
    parts = []
    for rows in law.rows_:
        share = max(int(THINNED * len(rows) / len(law.y_)), min(len(rows), THINNED // 10))
        chosen = rows if share >= len(rows) else rng.choice(rows, share, replace=False)
        parts.append(law.points(tuple(x[chosen] for x in law.x_), law.y_[chosen]))
    return parts


def joint_starts(law: "Law", points: list[Any]) -> np.ndarray:
    """Starts (S, P) of a joint fit: those of each arm side by side, each arm fitted alone, and all as one arm.

    A shared parameter begins at the mean over its arms.
    """
    lowest = float(np.exp(min(p.y.min() for p in points)))
    each = [law.starts(p, lowest) for p in points]
    longest = max(len(w) for w in each)
    side_by_side = np.stack([w[np.arange(longest) % len(w)] for w in each], 1)
    if len(points) == 1:
        return law.sharing_.gather(side_by_side)
    alone = _each_alone(law, points, side_by_side)
    merged = law.points(*_merged(law, points))
    together = _one_arm(law, merged, law.starts(merged, lowest))
    best = np.stack([alone, np.tile(together, (len(points), 1))])
    return law.sharing_.gather(np.concatenate([best, side_by_side]))


def _merged(law: "Law", points: list[Any]) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    rows = np.concatenate(law.rows_)
    if sum(p.y.size for p in points) < len(rows):
        rows = np.random.default_rng(1).choice(rows, THINNED, replace=False)
    return tuple(x[rows] for x in law.x_), law.y_[rows]


def _each_alone(law: "Law", points: list[Any], start_Sak: np.ndarray) -> np.ndarray:
    """Working parameters (A, k) of the best fit to each arm alone: all as members of one batch where they are alike.

    Every start is followed to the end, where `_one_arm` follows those that differ.
    """
    alike = padded(points, [np.ones((1, p.y.shape[-1])) for p in points])
    if alike is None:
        return np.stack([_one_arm(law, p, start_Sak[:, a]) for a, p in enumerate(points)])
    S, A, _ = start_Sak.shape
    M, kept = _map_of_one(law)
    evaluate = HuberSum(law.sums, [alike[0]], M[None], law.sharing_.offset_ak[:1], law.rows_, alike[1])
    whose = np.repeat(np.arange(A), S)

    def of_arm(theta: np.ndarray, active: np.ndarray, delta: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return evaluate(theta, whose[active], delta)

    lower, upper = (np.stack(b)[:, kept][whose] for b in zip(*map(law.bounds, points), strict=True))
    start = np.swapaxes(start_Sak, 0, 1).reshape(A * S, -1)[:, kept]
    n = points[0].y.size
    wide = minimise(of_arm, start, lower, np.maximum(upper, lower), n, max(ANNEAL[0], law.huber), (), at_rest=MET)
    found = minimise(of_arm, wide.theta_BP, lower, np.maximum(upper, lower), n, law.huber, ANNEAL[1:])
    best = found.objective_B.reshape(A, S).argmin(1)
    return found.theta_BP.reshape(A, S, -1)[np.arange(A), best] @ M.T + law.sharing_.offset_ak[0]


def _map_of_one(law: "Law") -> tuple[np.ndarray, np.ndarray]:
    """M (k, p) from what is free in one arm to its working parameters, and which of those stand for it (p,)."""
    column_k = law.sharing_.column_ak[0]
    free = np.flatnonzero(column_k >= 0)
    first = np.unique(column_k[free], return_index=True)[1]
    return (column_k[:, None] == column_k[free[first]]).astype(float), free[first]


def _one_arm(law: "Law", points: Any, start_Sk: np.ndarray) -> np.ndarray:
    """Working parameters (k,) of the best fit to one arm alone, with what is fixed."""
    sharing = law.sharing_
    M, kept = _map_of_one(law)
    evaluate = HuberSum(law.sums, [points], M[None], sharing.offset_ak[:1], law.rows_)
    lower, upper = (bound[kept] for bound in law.bounds(points))
    start = start_Sk[:, kept]
    found, _ = minimise_from(evaluate, start, lower, np.maximum(upper, lower), points.y.size, law.huber)
    return found.theta_BP[found.objective_B.argmin()] @ M.T + sharing.offset_ak[0]


def refitted(law: "Law", points: list[Any], weight_Bn: np.ndarray | None, B: int) -> np.ndarray:
    """Free parameters (B, P) of resamples: from the estimate, and CHECKED of them through the annealing as well.

    Where the two disagree more often than one time in a hundred there is more than one minimum, and every resample gets
    the lower of both.
    """
    evaluate = law.sum_over(points, weight_Bn).in_blocks
    lower, upper = law.joint_bounds(points)
    n = len(law.y_)
    start = np.tile(law.theta_, (B, 1))
    near = _one_step(law, weight_Bn) if points is law.points_ and weight_Bn is not None else start
    found = minimise(evaluate, near, lower, upper, n, law.huber, anneal=(), at_rest=REFITTED)
    theta, objective = found.theta_BP, found.objective_B.copy()
    some = np.arange(0, B, max(1, B // CHECKED))
    others = law.start_SP_[[0, -2 % len(law.start_SP_)]] if n < FEW else law.start_SP_[:0]
    again, again_objective = _annealed(evaluate, law, others, lower, upper, some)
    agree = np.abs(again_objective / np.maximum(objective[some], 1e-300) - 1) < AGREE
    agree |= np.abs(again_objective - objective[some]) < 1e-18 * n
    if agree.mean() < 0.99:
        some = np.arange(B)
        again, again_objective = _annealed(evaluate, law, others, lower, upper, some)
    lower_again = again_objective < objective[some]
    theta[some] = np.where(lower_again[:, None], again, theta[some])
    converged = float((found.offset_B < REFITTED).mean())
    law.diagnostics_["refits_converged"] = converged
    law.diagnostics_["refits_agree"] = float(agree.mean())
    if converged < 0.95:
        warnings.warn(
            f"{law.name}: {1 - converged:.0%} of the refits lie in a flat valley; "
            "the intervals understate what is not known.",
            NotIdentified,
            stacklevel=4,
        )
    return theta


def _annealed(
    evaluate: Evaluate, law: "Law", others: np.ndarray, lower: np.ndarray, upper: np.ndarray, members: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The best of annealed fits from the estimate and from other starts, for some members of a batch."""
    starts = np.concatenate([law.theta_[None], others])
    S, b = len(starts), len(members)
    whose = np.repeat(members, S)

    def of_member(theta: np.ndarray, active: np.ndarray, delta: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return evaluate(theta, whose[active], delta)

    lo, hi = (bound if bound.ndim == 1 else bound[whose] for bound in (lower, upper))
    found = minimise(of_member, np.tile(starts, (b, 1)), lo, hi, len(law.y_), law.huber, at_rest=REFITTED)
    best = found.objective_B.reshape(b, S).argmin(1)
    return found.theta_BP.reshape(b, S, -1)[np.arange(b), best], found.objective_B.reshape(b, S)[np.arange(b), best]


def _one_step(law: "Law", weight_Bn: np.ndarray) -> np.ndarray:
    """theta - H^-1 sum_i w_i psi_i grad_i with H of the runs themselves: Newton's first step for all weights."""
    from algoprogress.analysis.identifiability import scaled_inverse, scores

    _, _, H = law.huber_sum_(law.theta_[None], np.zeros(1, int), law.huber)
    step = (weight_Bn @ scores(law)) @ scaled_inverse(H[0])[0]
    return law.theta_ - np.clip(step, -1, 1)
