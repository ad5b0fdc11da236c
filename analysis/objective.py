"""What a fit makes least: the Huber sum of a law's residuals in log loss over one or several arms, with derivatives.

Axes: n points, B members of a batch (starts or resamples), k parameters of one arm, P columns of the joint fit.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from algoprogress.analysis.bordered import Bordered, Layout

POINTS_AT_ONCE = 16_384  # over all members: a dozen such arrays of doubles stay in a processor's own cache
FEW_POINTS = 64  # of an arm: with more the arithmetic takes longer than the calls, and a loop over arms costs nothing
STEP = 1e-5  # of central differences of a Jacobian: its errors, of truncation and of rounding, are then both near 1e-10


@dataclass(frozen=True)
class Points:
    """Points of one arm: log inputs and log loss, each (n,), or (B, n) where members differ."""

    x: tuple[np.ndarray, ...]
    y: np.ndarray


def of_members(array: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Rows of the members (b, n) from (B, n); (n,) and (1, n) serve all."""
    return array if array.ndim == 1 or len(array) == 1 else array[members]


def huber(residual: np.ndarray, delta: float) -> tuple[np.ndarray, np.ndarray]:
    """rho(r) = r²/2 for |r| <= delta, delta (|r| - delta/2) beyond, and its derivative psi(r)."""
    psi = np.clip(residual, -delta, delta)
    return psi * (residual - 0.5 * psi), psi


def derivatives(
    log_loss: Callable[..., tuple[np.ndarray, np.ndarray]],
    curvature: Callable[..., np.ndarray],
    points: Points,
    weight_Bn: np.ndarray,
    w_Bk: np.ndarray,
    delta: float,
    members: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """F = sum_i w_i rho(r_i), r = ln L(w) - y, its gradient and exact Hessian, of any law.

    H = sum_i w_i (rho''(r_i) J_i J_i' + psi(r_i) d² ln L_i), J the derivative of ln L.

    Args:
        log_loss: (w (b, k), *x) -> ln L (b, n), J (b, n, k).
        curvature: (w (b, k), q (b, n), *x) -> sum_i q_i d² ln L_i (b, k, k).
        weight_Bn: how often each point counts; one row serves all members.
        members: rows of the batch that w_Bk belongs to.

    Returns:
        F (b,), gradient (b, k), Hessian (b, k, k).
    """
    b, k = w_Bk.shape
    F, G, H = np.empty(b), np.empty((b, k)), np.empty((b, k, k))
    size = max(1, POINTS_AT_ONCE // points.y.shape[-1])
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a trial step too far is refused as NaN or inf
        for first in range(0, b, size):
            part = slice(first, first + size)
            own = members[part]
            x = [of_members(values, own) for values in points.x]
            weight = of_members(weight_Bn, own)
            y, J = log_loss(w_Bk[part], *x)
            r = y - of_members(points.y, own)
            rho, psi = huber(r, delta)
            F[part] = (rho * weight).sum(1)
            q = psi * weight
            G[part] = np.matmul(q[:, None, :], J)[:, 0]
            inside = (psi == r) * weight
            H[part] = np.swapaxes(J * inside[:, :, None], 1, 2) @ J + curvature(w_Bk[part], q, *x)
    return F, G, H


def numeric_curvature(
    log_loss: Callable[..., tuple[np.ndarray, np.ndarray]], w_Bk: np.ndarray, q_Bn: np.ndarray, *x: np.ndarray
) -> np.ndarray:
    """sum_i q_i d² ln L_i (B, k, k) by central differences of the Jacobian."""
    B, k = w_Bk.shape
    found = np.empty((B, k, k))
    for j in range(k):
        step = np.zeros_like(w_Bk)
        step[:, j] = STEP * np.maximum(1.0, np.abs(w_Bk[:, j]))
        above, below = (np.matmul(q_Bn[:, None, :], log_loss(w_Bk + s * step, *x)[1])[:, 0] for s in (1, -1))
        found[:, j] = (above - below) / (2 * step[:, j, None])
    return 0.5 * (found + np.swapaxes(found, 1, 2))


class HuberSum:
    """F(theta) = sum over arms a and their points i of w_i rho(ln L_i(M_a theta + m_a) - y_i): `fit.Evaluate`.

    Args:
        sums: (points, weight_Bn, w_Bk, delta, members) -> F, gradient, Hessian of one arm.
        points: of each arm.
        map_akP, offset_ak: M and m (see `sharing`).
        weight_Bn: of all points in the order of `rows`; all once by default.
        rows: positions of each arm's points among all.
    """

    def __init__(
        self,
        sums: Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]],
        points: Sequence[Any],
        map_akP: np.ndarray,
        offset_ak: np.ndarray,
        rows: Sequence[np.ndarray],
        weight_Bn: np.ndarray | None = None,
    ) -> None:
        self.sums, self.points, self.map, self.offset = sums, points, map_akP, offset_ak
        self.n = sum(p.y.shape[-1] for p in points)
        if weight_Bn is None:
            self.weights = [np.ones((1, p.y.shape[-1])) for p in points]
        else:
            self.weights = [weight_Bn] if len(points) == 1 else [weight_Bn[:, r] for r in rows]
        self.used = [np.flatnonzero((M != 0).any(0)) for M in map_akP]
        self.padded = padded(points, self.weights)
        self.layout = Layout.of(map_akP) if self.padded is not None else None
        k, P = map_akP.shape[1:]
        self.is_plain = len(points) == 1 and k == P and bool((map_akP[0] == np.eye(k)).all()) and not offset_ak.any()

    def __call__(
        self, theta: np.ndarray, members: np.ndarray, delta: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self.is_plain:
            return self.sums(self.points[0], self.weights[0], theta, delta, members)
        b, P = theta.shape
        F, G, H = np.zeros(b), np.zeros((b, P)), np.zeros((b, P, P))
        for columns, M, (f, g, h) in zip(self.used, self.map, self._each(theta, members, delta), strict=True):
            M = M[:, columns]
            F += f
            G[:, columns] += g @ M
            H[:, columns[:, None], columns] += M.T @ h @ M
        return F, G, H

    def in_blocks(
        self, theta: np.ndarray, members: np.ndarray, delta: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | Bordered]:
        """The same, the Hessian in blocks where there are many arms that share little."""
        if self.layout is None:
            return self(theta, members, delta)
        f_bA, g_bAk, h_bAkk = self._all(theta, members, delta)
        with np.errstate(over="ignore", invalid="ignore"):
            return f_bA.sum(1), *self.layout.assemble(g_bAk, h_bAkk)

    def _each(self, theta: np.ndarray, members: np.ndarray, delta: float) -> Iterator[tuple[np.ndarray, ...]]:
        """Sum, gradient and Hessian of each arm in its own parameters."""
        if self.padded is not None:
            f_bA, g_bAk, h_bAkk = self._all(theta, members, delta)
            yield from ((f_bA[:, a], g_bAk[:, a], h_bAkk[:, a]) for a in range(len(self.points)))
            return
        for a, points in enumerate(self.points):
            w = theta @ self.map[a].T + self.offset[a]
            yield self.sums(points, self.weights[a], w, delta, members)

    def _all(self, theta: np.ndarray, members: np.ndarray, delta: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`_each` of all arms at once, as members of one batch: (b, A), (b, A, k), (b, A, k, k)."""
        assert self.padded is not None
        points, weight, n_sets = self.padded
        (A, k, P), b = self.map.shape, len(theta)
        w = (theta @ self.map.reshape(A * k, P).T).reshape(b, A, k) + self.offset
        rows = (members[:, None] if n_sets > 1 else np.zeros((b, 1), int)) * A + np.arange(A)
        f, g, h = self.sums(points, weight, w.reshape(b * A, k), delta, rows.ravel())
        return f.reshape(b, A), g.reshape(b, A, k), h.reshape(b, A, k, k)


def padded(points: Sequence[Any], weights: Sequence[np.ndarray]) -> tuple[Points, np.ndarray, int] | None:
    """The points of all arms as rows (sets x arms, n) of one array, with weights of 0 where an arm has fewer points.

    None where it saves nothing: one arm, points of a law's own kind, many points an arm, or arms of unlike sizes.
    """
    sizes = [p.y.shape[-1] for p in points]
    if len(points) < 2 or any(type(p) is not Points for p in points):
        return None
    if max(sizes) > FEW_POINTS or len(points) * max(sizes) > 2 * sum(sizes):
        return None
    n_sets = max(len(np.atleast_2d(v)) for p, w in zip(points, weights, strict=True) for v in (*p.x, p.y, w))

    def stacked(values: Sequence[np.ndarray], pad: bool) -> np.ndarray:
        found = np.zeros((n_sets, len(values), max(sizes)))
        for a, v in enumerate(values):
            found[:, a, : sizes[a]] = v
            if pad:  # with a point of the arm itself, so that nothing there is out of range
                found[:, a, sizes[a] :] = found[:, a, :1]
        return found.reshape(n_sets * len(values), max(sizes))

    x = tuple(stacked([p.x[j] for p in points], True) for j in range(len(points[0].x)))
    return Points(x, stacked([p.y for p in points], True)), stacked(weights, False), n_sets


def with_outcomes(points: Any, y: np.ndarray) -> Any:
    """The same points with other log losses, (n,) or (B, n)."""
    return replace(points, y=y)
