"""Where is the minimum of loss over size at one compute?  Estimators of one curve, for many resamples at once."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from scipy.interpolate import Akima1DInterpolator

from algoprogress.analysis.objective import huber

HUBER_K = 1.345  # in standard deviations: 95 % efficient for normal noise (Huber 1981)
MAD = 1.4826  # standard deviation of normal noise over its median absolute deviation
GRID = 25  # sizes for each gap between two that were trained: Porian et al. 2024
REWEIGHTED = 30  # steps of reweighting; curves of ten points come to rest in about ten


@dataclass(frozen=True)
class Curves:
    """The n points of K isoFLOP curves, by budget and then by size.

    Attributes:
        log_n: ln of n_params, (n,).
        log_c: ln of the budget in FLOP, (n,).
        slices: the points of each budget.
    """

    log_n: np.ndarray
    log_c: np.ndarray
    slices: tuple[slice, ...]

    @classmethod
    def of(cls, n_params: np.ndarray, budget: np.ndarray) -> "Curves":
        """From points that are sorted by budget and then by size."""
        starts = [0, *(np.flatnonzero(np.diff(budget)) + 1).tolist(), len(budget)]
        slices = tuple(slice(i, j) for i, j in pairwise(starts))
        return cls(np.log(n_params), np.log(budget), slices)

    @property
    def budgets(self) -> np.ndarray:
        """ln C of the K budgets."""
        return np.array([self.log_c[s.start] for s in self.slices])

    @property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """The smallest and the largest ln N tried at each budget, (K,) each."""
        return np.array([self.log_n[s][0] for s in self.slices]), np.array([self.log_n[s][-1] for s in self.slices])

    @property
    def spacing(self) -> np.ndarray:
        """Mean distance between neighbouring sizes in ln N at each budget, (K,)."""
        least, most = self.ends
        return (most - least) / np.array([s.stop - s.start - 1 for s in self.slices])


@dataclass(frozen=True)
class Minima:
    """Where B sets of K curves have their minima.

    Attributes:
        log_n_BK, loss_BK: ln of the best n_params, and the loss there in nats/token.
        edge_BK: -1 or 1 where the loss still falls at the smallest or the largest size tried, else 0.
    """

    log_n_BK: np.ndarray
    loss_BK: np.ndarray
    edge_BK: np.ndarray


Found = tuple[np.ndarray, np.ndarray, np.ndarray]  # ln N, loss and edge of B minima


class Estimator(Protocol):
    """What finds minima of all curves at once, and draws the curves that it found them on."""

    def minima(self, curves: Curves, loss_Bn: np.ndarray) -> Minima:
        """Minima of B sets of losses in nats/token."""

    def lines(self, curves: Curves, loss: np.ndarray, grid: Curves) -> np.ndarray:
        """The loss between the points, at the sizes of `grid`, which has the budgets of `curves`."""

    def spacing(self, curves: Curves) -> np.ndarray:
        """A step of the sizes in ln N at each budget, (K,): how finely they can tell a minimum."""


@dataclass(frozen=True)
class EachBudget:
    """An estimator of one curve, applied to each budget by itself.

    Attributes:
        minimum: (ln N (n,), rising; loss (B, n)) -> minima.
        line: (ln N (n,), loss (n,), ln N of a grid) -> loss on the grid.
        grid: sizes for each gap among which the minimum is looked for; 0 where it is on no grid.
    """

    minimum: Callable[[np.ndarray, np.ndarray], Found]
    line: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    grid: int = 0

    def minima(self, curves: Curves, loss_Bn: np.ndarray) -> Minima:
        log_n, loss, edge = zip(*(self.minimum(curves.log_n[s], loss_Bn[:, s]) for s in curves.slices), strict=True)
        return Minima(np.stack(log_n, 1), np.stack(loss, 1), np.stack(edge, 1))

    def lines(self, curves: Curves, loss: np.ndarray, grid: Curves) -> np.ndarray:
        pairs = zip(curves.slices, grid.slices, strict=True)
        return np.concatenate([self.line(curves.log_n[s], loss[s], grid.log_n[t]) for s, t in pairs])

    def spacing(self, curves: Curves) -> np.ndarray:
        """The mean step of the sizes; of a grid, as many of its steps as there are for a gap."""
        steps = self.grid * np.array([s.stop - s.start - 1 for s in curves.slices])
        return curves.spacing * (steps / (steps - 1) if self.grid else 1.0)


# ---- parabolas -----------------------------------------------------------------------------------------------------


def _quadratic(x: np.ndarray, at: np.ndarray | None = None) -> np.ndarray:
    u = (x if at is None else at) - x.mean()
    return np.stack([np.ones_like(u), u, u**2], 1)


def _by_squares(x: np.ndarray, y_Bn: np.ndarray) -> np.ndarray:
    return y_Bn @ np.linalg.pinv(_quadratic(x)).T


def _by_huber(x: np.ndarray, y_Bn: np.ndarray) -> np.ndarray:
    X, c_B3 = _quadratic(x), _by_squares(x, y_Bn)
    for _ in range(REWEIGHTED):
        residual = y_Bn - c_B3 @ X.T
        sd = MAD * np.median(np.abs(residual), axis=1, keepdims=True)
        scaled = residual / np.maximum(sd, 1e-12)
        weight = huber(scaled, HUBER_K)[1] / np.where(scaled == 0, 1, scaled) + (scaled == 0)
        H = np.einsum("bn,np,nq->bpq", weight, X, X)
        c_B3 = np.linalg.solve(H, ((weight * y_Bn) @ X)[:, :, None])[:, :, 0]
    return c_B3


def _vertex(x: np.ndarray, c_B3: np.ndarray) -> Found:
    """The lowest point of c0 + c1 u + c2 u², u = x - mean x, between the ends of x."""
    c0, c1, c2 = c_B3.T
    ends = np.array([x[0], x[-1]]) - x.mean()
    lower = (c0[:, None] + c1[:, None] * ends + c2[:, None] * ends**2).argmin(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        u = -c1 / (2 * c2)
    inside = (c2 > 0) & (u > ends[0]) & (u < ends[1])
    u = np.where(inside, u, ends[lower])
    return u + x.mean(), c0 + c1 * u + c2 * u**2, np.where(inside, 0, 2 * lower - 1)


def parabola(x: np.ndarray, y_Bn: np.ndarray) -> Found:
    """Vertex of the least-squares parabola of loss in ln N (approach 2 of Hoffmann et al. 2022)."""
    return _vertex(x, _by_squares(x, y_Bn))


def parabola_line(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    return _quadratic(x, at) @ _by_squares(x, y[None])[0]


def robust_parabola(x: np.ndarray, y_Bn: np.ndarray) -> Found:
    """Vertex of the parabola by Huber's function, its threshold 1.345 robust standard deviations of the residuals."""
    return _vertex(x, _by_huber(x, y_Bn))


def robust_parabola_line(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    return _quadratic(x, at) @ _by_huber(x, y[None])[0]


# ---- interpolation -------------------------------------------------------------------------------------------------


def akima(x: np.ndarray, y_Bn: np.ndarray) -> Found:
    """Minimum of Akima's interpolant of ln loss in ln N, as Porian et al. 2024; of its cubics, not of a grid."""
    c3, c2, c1, c0 = Akima1DInterpolator(x, np.log(y_Bn), axis=1).c  # (pieces, B) each
    width = np.diff(x)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(c2**2 - 3 * c3 * c1)
        turn = np.where(c2 > 0, -c1 / (c2 + root), (root - c2) / (3 * c3))  # without cancellation
    inner = np.where((turn > 0) & (turn < width), turn, 0.0)
    t = np.stack([np.zeros_like(c0), inner, np.broadcast_to(width, c0.shape)])
    value = ((c3 * t + c2) * t + c1) * t + c0
    member = np.arange(value.shape[-1])
    which, piece = np.unravel_index(value.reshape(-1, len(member)).argmin(0), value.shape[:2])
    at = x[piece] + t[which, piece, member]
    near = 1e-9 * (x[-1] - x[0])
    return at, np.exp(value[which, piece, member]), np.where(at < x[0] + near, -1, np.where(at > x[-1] - near, 1, 0))


def akima_on_grid(x: np.ndarray, y_Bn: np.ndarray) -> Found:
    """The least of Akima's interpolant of ln loss on a grid of 25 sizes a gap, even in ln N: exactly Porian et al."""
    grid = np.linspace(x[0], x[-1], GRID * (len(x) - 1))
    value = Akima1DInterpolator(x, np.log(y_Bn), axis=1)(grid)
    least = value.argmin(1)
    edge = np.where(least == 0, -1, np.where(least == len(grid) - 1, 1, 0))
    return grid[least], np.exp(value.min(1)), edge


def akima_line(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    return np.exp(Akima1DInterpolator(x, np.log(y))(at))
