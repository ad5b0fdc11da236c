"""The solver of L = E + A N^-alpha + B D^-beta: exact Newton steps on a Huber function of log loss, many fits at once.

Five parameters are few, but a fit is wanted from many starts and for thousands of resamples. A resample is a vector of
weights on the same points, so a batch of fits is a handful of (B, n) arrays, and an iteration is one pass over them.

Axes: n points, B members of the batch, P = 5 working parameters, F free ones where some are tied.
"""

from dataclasses import dataclass

import numpy as np

from algoprogress.analysis.fit import AT_REST, FLOOR, Solutions

E, a, b, ALPHA, BETA = range(5)
ANNEAL = (
    2e-2,
    5e-3,
    1e-3,
    3e-4,
)  # Huber thresholds on the way to delta: a wide one has no ripples, its minimum is near
NEAR = 1e-2  # relative offset at which a wider threshold has served
MAX_ITERATIONS = 200
POINTS_AT_ONCE = 16_384  # over all members: a dozen such arrays of doubles stay in a processor's own cache
EXPONENTS = (1e-4, 5.0)  # bounds of alpha and beta: hold any law of learning
SPAN = 30.0  # a term may be exp(±30) of the loss at the centre of the data: beyond that it is absent or everything


@dataclass(frozen=True)
class Points:
    """Log loss y at x = ln N - mean and z = ln D - mean, with the products that the Hessian sums over.

    Working parameters: E in nats/token, a and b the logs of the two terms at the centre of the data, alpha, beta.
    """

    x: np.ndarray
    z: np.ndarray
    y: np.ndarray
    powers_x: np.ndarray  # (n, 3): 1, x, x²
    powers_z: np.ndarray
    powers_xz: np.ndarray  # (n, 4): 1, x, z, x z

    @classmethod
    def of(cls, x: np.ndarray, z: np.ndarray, y: np.ndarray) -> "Points":
        one = np.ones_like(x)
        return cls(x, z, y, np.stack([one, x, x * x], 1), np.stack([one, z, z * z], 1), np.stack([one, x, z, x * z], 1))

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds (P,). E may exceed the lowest loss: the Huber function forgives a point below it."""
        low, high = float(self.y.min()), float(self.y.max())
        lower = np.array([0.0, low - SPAN, low - SPAN, EXPONENTS[0], EXPONENTS[0]])
        return lower, np.array([np.exp(high), high + SPAN, high + SPAN, EXPONENTS[1], EXPONENTS[1]])


def log_loss(theta_BP: np.ndarray, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ln L (B, n) and its Jacobian (B, n, P)."""
    p, q, inverse = _terms(theta_BP, x, z)
    s, t = p * inverse, q * inverse
    return -np.log(inverse), np.stack([inverse, s, t, -x * s, -z * t], -1)


def _terms(theta_BP: np.ndarray, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    p = np.exp(theta_BP[:, a, None] - theta_BP[:, ALPHA, None] * x)
    q = np.exp(theta_BP[:, b, None] - theta_BP[:, BETA, None] * z)
    return p, q, 1 / (p + q + theta_BP[:, E, None])


def derivatives(
    points: Points, weight_Bn: np.ndarray, theta_BP: np.ndarray, delta: float, members: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """F = sum_i w_i rho(r_i), r = ln L(theta) - y; its gradient and exact Hessian.

    With s = (1, A N^-alpha, B D^-beta) / L and psi = rho', the Hessian is Z' M Z, M = (rho'' - psi) s s' + psi diag(0,
    s_1, s_2), and Z = (1; 1, -x; 1, -z) the derivatives of E and of the exponents.

    Args:
        members: rows of weight_Bn that belong to theta_BP; one row serves all.

    Returns:
        F (B,), gradient (B, P), Hessian (B, P, P).
    """
    F, G, H = np.empty(len(theta_BP)), np.empty((len(theta_BP), 5)), np.empty((len(theta_BP), 5, 5))
    size = max(1, POINTS_AT_ONCE // len(points.y))
    for first in range(0, len(theta_BP), size):
        part = slice(first, first + size)
        if len(weight_Bn) == 1:
            weight = weight_Bn
        else:
            weight = weight_Bn[part] if members is None else weight_Bn[members[part]]
        _derivatives(points, weight, theta_BP[part], delta, F[part], G[part], H[part])
    return F, G, H


def _derivatives(
    points: Points, weight: np.ndarray, theta: np.ndarray, delta: float, F: np.ndarray, G: np.ndarray, H: np.ndarray
) -> None:
    p, q, inverse = _terms(theta, points.x, points.z)
    r = np.log(inverse)
    r += points.y
    np.negative(r, out=r)
    psi = np.minimum(np.maximum(r, -delta), delta)
    k = (psi == r) * weight
    r -= 0.5 * psi
    r *= psi  # psi (r - psi / 2) is rho on both sides
    psi *= weight
    F[:] = (r * weight).sum(1) if len(weight) > 1 else r @ weight[0]
    k -= psi
    p *= inverse
    q *= inverse
    ke = k * inverse
    ps, pt, ks, kt = psi * p, psi * q, k * p, k * q
    g_x, g_z = ps @ points.powers_x[:, :2], pt @ points.powers_z[:, :2]
    psi *= inverse
    G[:, E] = psi.sum(1)
    G[:, a], G[:, ALPHA], G[:, b], G[:, BETA] = g_x[:, 0], -g_x[:, 1], g_z[:, 0], -g_z[:, 1]
    h_xz = (ks * q) @ points.powers_xz
    h_x = (ps + ks * p) @ points.powers_x
    h_z = (pt + kt * q) @ points.powers_z
    h_ex, h_ez = (ke * p) @ points.powers_x[:, :2], (ke * q) @ points.powers_z[:, :2]
    H[:, E, E] = (ke * inverse).sum(1)
    H[:, a, a], H[:, ALPHA, ALPHA] = h_x[:, 0], h_x[:, 2]
    H[:, b, b], H[:, BETA, BETA] = h_z[:, 0], h_z[:, 2]
    for i, j, value in (
        (a, ALPHA, -h_x[:, 1]),
        (b, BETA, -h_z[:, 1]),
        (a, b, h_xz[:, 0]),
        (b, ALPHA, -h_xz[:, 1]),
        (a, BETA, -h_xz[:, 2]),
        (ALPHA, BETA, h_xz[:, 3]),
        (E, a, h_ex[:, 0]),
        (E, ALPHA, -h_ex[:, 1]),
        (E, b, h_ez[:, 0]),
        (E, BETA, -h_ez[:, 1]),
    ):
        H[:, i, j] = H[:, j, i] = value


def minimise(
    points: Points,
    theta_BP: np.ndarray,
    delta: float,
    weight_Bn: np.ndarray | None = None,
    anneal: tuple[float, ...] = ANNEAL,
    tie_PF: np.ndarray | None = None,
    hold: tuple[int, ...] = (),
    at_rest: float = AT_REST,
    most: int = MAX_ITERATIONS,
) -> Solutions:
    """min over theta of sum_i w_i rho_delta(ln L_i(theta) - y_i), for each member of a batch.

    Args:
        theta_BP: a start for each member.
        delta: Huber threshold in log loss.
        weight_Bn: how often each point counts, for each member; all once by default.
        anneal: wider thresholds to pass through first.
        tie_PF: theta = tie @ phi, for laws that share an exponent.
        hold: parameters kept at their start.
        at_rest: relative offset (see `Solutions`) at which a member is done.
        most: iterations at each threshold.
    """
    weight = np.ones((1, len(points.y))) if weight_Bn is None else weight_Bn
    theta = theta_BP
    for wide in anneal:
        if wide > delta:
            theta = _descend(points, weight, theta, wide, NEAR, tie_PF, hold, most).theta_BP
    return _descend(points, weight, theta, delta, at_rest, tie_PF, hold, most)


def _descend(
    points: Points,
    weight: np.ndarray,
    theta_BP: np.ndarray,
    delta: float,
    at_rest: float,
    tie_PF: np.ndarray | None,
    hold: tuple[int, ...],
    most: int,
) -> Solutions:
    """Newton steps with Levenberg's damping, scaled by the diagonal, until the predicted decrease is rounding.

    The damping of a member falls when a step succeeds and rises when it fails, which also carries it past places where
    the Hessian is not positive definite: a step is taken only if it descends.
    """
    tie = np.eye(5) if tie_PF is None else tie_PF
    n_free, n = tie.shape[1], len(points.y)
    lower, upper = points.bounds()
    theta = np.clip(theta_BP, lower, upper)
    lo, hi = (np.array([bound[tie[:, f] > 0][0] for f in range(n_free)]) for bound in (lower, upper))
    of = np.array([int(np.flatnonzero(tie[:, f])[0]) for f in range(n_free)])  # phi_f = theta[of[f]]
    kept = np.isin(of, hold)
    B = len(theta)
    objective, offset = np.full(B, np.inf), np.full(B, np.inf)
    at_bound = np.zeros((B, n_free), bool)
    damping = np.full(B, 1e-2)
    active = np.arange(B)
    value, g, H = derivatives(points, weight, theta, delta)
    objective[:] = value
    iteration = 0
    for iteration in range(1, most + 1):  # noqa: B007 (reported after the loop)
        phi = theta[active][:, of]
        g_f, H_f = g @ tie, tie.T @ H @ tie
        free = ~(kept | ((phi <= lo) & (g_f > 0)) | ((phi >= hi) & (g_f < 0)))
        at_bound[active] = ~free & ~kept
        scale = np.sqrt(np.abs(np.einsum("bff->bf", H_f)) + 1e-12 * n * delta)
        g_s = np.where(free, g_f / scale, 0.0)
        H_s = np.where(free[:, :, None] & free[:, None, :], H_f / (scale[:, :, None] * scale[:, None, :]), 0.0)
        eye = np.eye(n_free)
        H_s = np.where(eye.astype(bool) & ~free[:, :, None], 1.0, H_s)
        step = np.linalg.solve(H_s + damping[active, None, None] * eye, g_s[:, :, None])[:, :, 0]
        decrement = (step * g_s).sum(1)
        wrong = np.flatnonzero(decrement <= 0)
        if len(wrong):  # not positive definite: along each eigenvector by the size of its curvature
            curvature, V = np.linalg.eigh(H_s[wrong])
            size = np.maximum(np.abs(curvature), 1e-10) + damping[active[wrong], None]
            step[wrong] = np.einsum("bfe,be->bf", V, np.einsum("bfe,bf->be", V, g_s[wrong]) / size)
            decrement[wrong] = (step[wrong] * g_s[wrong]).sum(1)
        floor = np.maximum(objective[active], n * FLOOR)
        offset[active] = np.where(decrement >= 0, np.sqrt(np.abs(decrement) * n / (2 * floor)), np.inf)
        moving = ~(offset[active] < at_rest)
        if not moving.any():
            break
        active, phi, step, scale = active[moving], phi[moving], step[moving], scale[moving]
        g, H, decrement = g[moving], H[moving], decrement[moving]
        trial = np.clip(phi - np.clip(step / scale, -2, 2), lo, hi) @ tie.T
        value, g_new, H_new = derivatives(points, weight, trial, delta, active)
        better = (value < objective[active]) & (decrement > 0)
        damping[active] = np.where(better, np.maximum(damping[active] * 0.1, 1e-14), damping[active] * 10)
        theta[active[better]], objective[active[better]] = trial[better], value[better]
        g[better], H[better] = g_new[better], H_new[better]
        going = damping[active] < 1e8  # beyond that rounding leaves nothing to gain
        active, g, H = active[going], g[going], H[going]
        if not len(active):
            break
    return Solutions(theta, objective, offset, at_bound @ (tie.T > 0), iteration)
