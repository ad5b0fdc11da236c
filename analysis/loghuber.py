"""The sums behind a fit of L = E + A N^-alpha + B D^-beta: a Huber function of log loss with its exact Hessian, fast.

Five parameters are few, but a fit is wanted from many starts and for thousands of resamples. A resample is a vector of
weights on the same points, so a batch of fits is a handful of (B, n) arrays, and an iteration is one pass over them.

Axes: n points, B members of the batch, k = 5 working parameters.
"""

from dataclasses import dataclass

import numpy as np

from algoprogress.analysis.objective import POINTS_AT_ONCE, of_members

E, a, b, ALPHA, BETA = range(5)


@dataclass(frozen=True)
class Points:
    """Log loss y at x = ln N - mean and z = ln D - mean, with the products that the Hessian sums over.

    Working parameters: E as a share of the mean loss, a and b the logs of the two terms at the centre of the data,
    alpha, beta. Log loss is (n,), or (B, n) where the members of a batch have outcomes of their own.
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


def log_loss(w_Bk: np.ndarray, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ln L (B, n) and its Jacobian (B, n, k)."""
    p, q, inverse = _terms(w_Bk, x, z)
    s, t = p * inverse, q * inverse
    return -np.log(inverse), np.stack([inverse, s, t, -x * s, -z * t], -1)


def _terms(w_Bk: np.ndarray, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    p = np.exp(w_Bk[:, a, None] - w_Bk[:, ALPHA, None] * x)
    q = np.exp(w_Bk[:, b, None] - w_Bk[:, BETA, None] * z)
    return p, q, 1 / (p + q + w_Bk[:, E, None])


def derivatives(
    points: Points, weight_Bn: np.ndarray, w_Bk: np.ndarray, delta: float, members: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """F = sum_i w_i rho(r_i), r = ln L(w) - y; its gradient and exact Hessian.

    With s = (1, A N^-alpha, B D^-beta) / L and psi = rho', the Hessian is Z' M Z, M = (rho'' - psi) s s' + psi diag(0,
    s_1, s_2), and Z = (1; 1, -x; 1, -z) the derivatives of E and of the exponents.

    Args:
        members: rows of weight_Bn and of the outcomes that belong to w_Bk; one row serves all.

    Returns:
        F (B,), gradient (B, k), Hessian (B, k, k).
    """
    F, G, H = np.empty(len(w_Bk)), np.empty((len(w_Bk), 5)), np.empty((len(w_Bk), 5, 5))
    size = max(1, POINTS_AT_ONCE // len(points.x))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a step too far is refused as NaN or inf
        for first in range(0, len(w_Bk), size):
            part = slice(first, first + size)
            weight, y = of_members(weight_Bn, members[part]), of_members(points.y, members[part])
            _derivatives(points, y, weight, w_Bk[part], delta, F[part], G[part], H[part])
    return F, G, H


def _derivatives(
    points: Points,
    y: np.ndarray,
    weight: np.ndarray,
    w: np.ndarray,
    delta: float,
    F: np.ndarray,
    G: np.ndarray,
    H: np.ndarray,
) -> None:
    p, q, inverse = _terms(w, points.x, points.z)
    r = np.log(inverse)
    r += y
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
