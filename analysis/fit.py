"""The solver: damped Newton on a Huber sum of residuals in log loss, for many starts and many resamples at once.

Every problem here is small (up to a few hundred points, about ten parameters) but is solved thousands of times, once
for each start and each resample. So one loop carries a whole batch, and an iteration is a few stacked products. With
a small Huber threshold most points pull with a constant force and Gauss-Newton crawls: the exact Hessian does not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from algoprogress.analysis.bordered import Bordered, descent

# (theta (b, P), members (b,), delta) -> sum (b,), its gradient (b, P) and Hessian (b, P, P), dense or in blocks
Evaluate = Callable[[np.ndarray, np.ndarray, float], tuple[np.ndarray, np.ndarray, Any]]

ANNEAL = (
    2e-2,
    5e-3,
    1e-3,
    3e-4,
)  # Huber thresholds on the way to delta: a wide one has no ripples, its minimum is near
AT_REST = 1e-7  # relative offset at which iteration stops: the estimate is then within 1e-7 residuals of the minimum
MET = 1e-5  # relative offset, and difference in working parameters, at which starts have met
NEAR = 1e-2  # relative offset at which a wider threshold has served
CONVERGED = 1e-4  # relative offset that still counts as a minimum where rounding lets no step improve further
FLOOR = 1e-15  # mean-square residual that counts as an exact fit, in log loss; rounding of the data is of this order
MAX_ITERATIONS = 200
DAMPING, EASED, RAISED = 1e-3, 0.03, 10.0  # first damping, its factors after success and failure: fewest steps of those
# tried on 4,000 resamples of 240 runs (1e-2 to 1e-7, factors .1 to .01)
TRUSTED = 1e-3  # damping above which the damped decrement no longer measures the distance to the minimum
LONGEST = 2.0  # step in a working parameter: these are logs, exponents and shares of the loss
FLAT = 1e-8  # of the largest curvature: what a direction without any counts as, for damping to hold it back
LARGEST = 1e100  # entry of a scaled Hessian: beyond, products leave the range of numbers
MINIMA = 8  # different minima at the widest threshold that are followed up


@dataclass(frozen=True)
class Solutions:
    """Where each member of a batch came to rest.

    Attributes:
        theta_BP: parameters.
        objective_B: sum over points of the Huber function of the residual in log loss.
        offset_B: relative offset, sqrt(g' H^-1 g / (2 objective / n)) over the free parameters (Bates and Watts 1981):
            the distance to the minimum in units of the residuals, whatever the units of the parameters.
        at_bound_BP: parameters held at a bound.
        iterations: of the slowest member.
    """

    theta_BP: np.ndarray
    objective_B: np.ndarray
    offset_B: np.ndarray
    at_bound_BP: np.ndarray
    iterations: int


def minimise(
    evaluate: Evaluate,
    theta_BP: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    n: int,
    delta: float,
    anneal: tuple[float, ...] = ANNEAL,
    hold_P: np.ndarray | None = None,
    at_rest: float = AT_REST,
    most: int = MAX_ITERATIONS,
) -> Solutions:
    """min over lower <= theta <= upper of the sum that `evaluate` gives, for each member of a batch.

    Args:
        evaluate: sum, gradient and exact Hessian at theta (b, P) of the members (b,) still moving.
        theta_BP: a start for each member.
        lower, upper: bounds, (P,) or (B, P).
        n: points in the sum.
        delta: Huber threshold in log loss.
        anneal: wider thresholds to pass through first.
        hold_P: True for parameters kept at their start.
        at_rest: relative offset (see `Solutions`) at which a member is done.
        most: iterations at each threshold.
    """
    lower, upper = (np.broadcast_to(bound, theta_BP.shape) for bound in (lower, upper))
    hold = np.zeros(theta_BP.shape[1], bool) if hold_P is None else hold_P
    theta = theta_BP
    for wide in anneal:
        if wide > delta:
            theta = _descend(evaluate, theta, lower, upper, n, wide, hold, NEAR, most).theta_BP
    return _descend(evaluate, theta, lower, upper, n, delta, hold, at_rest, most)


def minimise_from(
    evaluate: Evaluate, theta_SP: np.ndarray, lower: np.ndarray, upper: np.ndarray, n: int, delta: float
) -> tuple[Solutions, np.ndarray]:
    """Every start taken to rest at the widest Huber threshold; where they meet, one goes on to delta for all.

    Args:
        theta_SP: starts; other arguments as for `minimise`, bounds (P,).

    Returns:
        The minima found, and how many of the starts led to each.
    """
    first = minimise(evaluate, theta_SP, lower, upper, n, max(ANNEAL[0], delta), anneal=(), at_rest=MET)
    near = (first.theta_BP / (10 * MET)).round()
    _, kept, count = np.unique(near, axis=0, return_index=True, return_counts=True)
    best = np.argsort(first.objective_B[kept], kind="stable")[:MINIMA]
    kept, dropped = kept[best], count.sum() - count[best].sum()
    found = minimise(evaluate, first.theta_BP[kept], lower, upper, n, delta, anneal=ANNEAL[1:])
    count = count[best]
    count[-1] += dropped  # counted with the worst that was followed up
    return found, count


def _descend(
    evaluate: Evaluate,
    theta_BP: np.ndarray,
    lower_BP: np.ndarray,
    upper_BP: np.ndarray,
    n: int,
    delta: float,
    hold_P: np.ndarray,
    at_rest: float,
    most: int,
) -> Solutions:
    """Newton steps with Levenberg's damping, scaled by the diagonal, until the predicted decrease is rounding.

    The damping of a member falls when a step succeeds and rises when it fails, which also carries it past places where
    the Hessian is not positive definite: a step is taken only if it descends.
    """
    theta = np.clip(theta_BP, lower_BP, upper_BP).astype(float)
    B, P = theta.shape
    eye = np.eye(P)
    offset = np.full(B, np.inf)
    at_bound = np.zeros((B, P), bool)
    damping = np.full(B, DAMPING)
    active = np.arange(B)
    objective, g, H = evaluate(theta, active, delta)
    objective = np.where(np.isfinite(objective), objective, np.inf)
    iteration = 0
    for iteration in range(1, most + 1):  # noqa: B007 (reported after the loop)
        now, lo, hi = theta[active], lower_BP[active], upper_BP[active]
        free = ~(hold_P | (lo >= hi) | ((now <= lo) & (g > 0)) | ((now >= hi) & (g < 0)))
        at_bound[active] = ~free & ~hold_P & (lo < hi)
        scale = np.abs(H.diagonal() if isinstance(H, Bordered) else np.einsum("bpp->bp", H))
        scale = np.sqrt(scale + FLAT * scale.max(1, keepdims=True) + 1e-12 * n * min(delta, 1.0))
        g_s = np.where(free, g / scale, 0.0)
        H_s = H.scaled(scale, free) if isinstance(H, Bordered) else _scaled(H, scale, free, eye)
        step, decrement = _steps(H_s, g_s, damping[active], eye)
        distance = decrement.copy()
        doubt = np.flatnonzero((damping[active] > TRUSTED) & (distance * n < 1e4 * at_rest**2 * objective[active]))
        if len(doubt):  # so damped a step is short wherever it is
            distance[doubt] = _steps(H_s[doubt], g_s[doubt], np.full(len(doubt), 1e-12), eye)[1]
        floor = np.maximum(objective[active], n * FLOOR)
        offset[active] = np.sqrt(np.abs(distance) * n / (2 * floor))
        moving = ~(offset[active] < at_rest)
        if at_rest > AT_REST and not moving.all():  # so near a minimum a Newton step brings it nearer unseen
            near = np.flatnonzero(~moving & (damping[active] < TRUSTED))
            theta[active[near]] = np.clip(now[near] - step[near] / scale[near], lo[near], hi[near])
        if not moving.any():
            break
        if not moving.all():
            active, now, lo, hi, step, scale = (array[moving] for array in (active, now, lo, hi, step, scale))
            g, H = g[moving], H[moving]
        trial = np.clip(now - np.clip(step / scale, -LONGEST, LONGEST), lo, hi)
        value, g_new, H_new = evaluate(trial, active, delta)
        better = value < objective[active]  # False for NaN too
        damping[active] = np.where(better, np.maximum(damping[active] * EASED, 1e-14), damping[active] * RAISED)
        theta[active[better]], objective[active[better]] = trial[better], value[better]
        g[better], H[better] = g_new[better], H_new[better]
        going = damping[active] < 1e8  # beyond that rounding leaves nothing to gain
        if not going.all():
            active, g, H = active[going], g[going], H[going]
            if not len(active):
                break
    return Solutions(theta, objective, offset, at_bound, iteration)


def _scaled(H: np.ndarray, scale: np.ndarray, free: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """H / (scale scale'), with rows and columns of the identity for what is not free."""
    H_s = H / (scale[:, :, None] * scale[:, None, :])
    if not free.all():
        H_s = np.where(free[:, :, None] & free[:, None, :], H_s, 0.0)
        H_s = np.where(eye.astype(bool) & ~free[:, :, None], 1.0, H_s)
    return H_s


def _steps(H: Any, g: np.ndarray, damping: np.ndarray, eye: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Damped Newton steps (b, P) and how much they promise (b,); by eigenvectors where H is not positive definite."""
    try:
        if isinstance(H, Bordered):
            step = H.solve(damping, g)
        else:
            step = np.linalg.solve(H + damping[:, None, None] * eye, g[:, :, None])[:, :, 0]
        decrement = (step * g).sum(1)
    except np.linalg.LinAlgError:  # one is exactly singular
        step, decrement = np.zeros_like(g), np.full(len(g), -1.0)
    wrong = np.flatnonzero(~(decrement > 0) & (g != 0).any(1))
    if len(wrong):
        largest = H[wrong].largest() if isinstance(H, Bordered) else np.abs(H[wrong]).max((1, 2))
        kept = wrong[np.isfinite(g[wrong]).all(1) & (largest < LARGEST)]
        step[wrong], decrement[wrong] = 0.0, np.inf
        step[kept] = descent(H[kept], damping[kept], g[kept])
        decrement[kept] = (step[kept] * g[kept]).sum(1)
    return step, decrement
