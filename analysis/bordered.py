"""Hessians of joint fits of many arms: a small block for each arm, bordered by the few parameters that arms share.

With k parameters an arm and A arms a dense step of Newton costs (A k)³ and its matrix (A k)² numbers; by the Schur
complement of the shared parameters both grow with A alone (Nocedal and Wright 2006, appendix A). The step is the same.

Axes: b members of a batch, A arms, p parameters that an arm has to itself, s shared ones, P = all in the joint fit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

LEAST = 1e-10  # curvature of a Hessian scaled to a diagonal of one: less is rounding
MANY_ARMS = 8  # from there on blocks are quicker than one dense matrix (measured at k = 3: about equal at 6 arms)


@dataclass(frozen=True)
class Layout:
    """Which columns of theta belong to one arm alone, and which are shared.

    Attributes:
        own_Ap: columns of each arm, -1 where it has fewer than others.
        shared_s: columns of several arms.
        local_Akq: d w_a / d [own, shared] of each arm, q = p + s.
    """

    own_Ap: np.ndarray
    shared_s: np.ndarray
    local_Akq: np.ndarray

    @classmethod
    def of(cls, map_AkP: np.ndarray) -> "Layout | None":
        """From w_a = M_a theta + m_a; None where blocks would save nothing."""
        A = len(map_AkP)
        used = (map_AkP != 0).any(1)
        shared = used.sum(0) > 1
        if A < MANY_ARMS or shared.sum() > map_AkP.shape[1] + 2:
            return None
        own = used & ~shared
        columns = np.full((A, max(int(own.sum(1).max()), 1)), -1)
        for a in range(A):
            mine = np.flatnonzero(own[a])
            columns[a, : len(mine)] = mine
        local = np.where((columns >= 0)[:, None], np.take_along_axis(map_AkP, np.maximum(columns, 0)[:, None], 2), 0.0)
        return cls(columns, np.flatnonzero(shared), np.concatenate([local, map_AkP[:, :, shared]], 2))

    @cached_property
    def n(self) -> int:
        """P."""
        return int((self.own_Ap >= 0).sum()) + len(self.shared_s)

    @cached_property
    def order(self) -> np.ndarray | None:
        """The order of the parameters of each arm in [own, shared], where that is all there is to `local_Akq`."""
        first = self.local_Akq[0]
        k, q = first.shape
        is_order = (
            k == q and set(np.unique(first)) <= {0.0, 1.0} and (first.sum(0) == 1).all() and (first.sum(1) == 1).all()
        )
        return first.argmax(0) if is_order and (self.local_Akq == first).all() else None

    def gather(self, v_bP: np.ndarray, empty: Any) -> tuple[np.ndarray, np.ndarray]:
        """Values (b, P) as those of the arms (b, A, p), `empty` where an arm has fewer, and the shared ones (b, s)."""
        return np.where(self.own_Ap >= 0, v_bP[:, self.own_Ap], empty), v_bP[:, self.shared_s]

    def scatter(self, own_bAp: np.ndarray, shared_bs: np.ndarray) -> np.ndarray:
        """Back to (b, P)."""
        found = np.empty((len(own_bAp), self.n))
        there = self.own_Ap >= 0
        found[:, self.own_Ap[there]] = own_bAp[:, there]
        found[:, self.shared_s] = shared_bs
        return found

    def assemble(self, g_bAk: np.ndarray, h_bAkk: np.ndarray) -> tuple[np.ndarray, "Bordered"]:
        """Gradient (b, P) and Hessian in theta from those of the arms in their own parameters w."""
        p, order = self.own_Ap.shape[1], self.order
        if order is not None:
            g, h = g_bAk[:, :, order], h_bAkk[:, :, order[:, None], order]
        else:
            g = np.einsum("bak,akq->baq", g_bAk, self.local_Akq)
            h = np.swapaxes(self.local_Akq, 1, 2) @ (h_bAkk @ self.local_Akq)
        H = Bordered(self, h[:, :, :p, :p], h[:, :, :p, p:], h[:, :, p:, p:].sum(1))
        return self.scatter(g[:, :, :p], g[:, :, p:].sum(1)), H


@dataclass
class Bordered:
    """A batch of symmetric matrices (b, P, P): blocks of the arms, their border, and the corner of what is shared."""

    layout: Layout
    own: np.ndarray  # (b, A, p, p)
    border: np.ndarray  # (b, A, p, s)
    corner: np.ndarray  # (b, s, s)

    def __len__(self) -> int:
        return len(self.own)

    def __getitem__(self, members: np.ndarray) -> "Bordered":
        return Bordered(self.layout, self.own[members], self.border[members], self.corner[members])

    def __setitem__(self, members: np.ndarray, other: "Bordered") -> None:
        self.own[members], self.border[members], self.corner[members] = other.own, other.border, other.corner

    def diagonal(self) -> np.ndarray:
        """(b, P)."""
        return self.layout.scatter(np.einsum("bapp->bap", self.own), np.einsum("bss->bs", self.corner))

    def scaled(self, scale_bP: np.ndarray, free_bP: np.ndarray) -> "Bordered":
        """H / (scale scale'), with rows and columns of the identity for what is not free."""
        inverse, s_inverse = self.layout.gather(1 / scale_bP, 0.0)
        free, s_free = self.layout.gather(free_bP, False)
        inverse, s_inverse = inverse * free, s_inverse * s_free
        own = self.own * (inverse[..., :, None] * inverse[..., None, :])
        corner = self.corner * (s_inverse[..., :, None] * s_inverse[..., None, :])
        np.einsum("bapp->bap", own)[~free] = 1.0
        np.einsum("bss->bs", corner)[~s_free] = 1.0
        return Bordered(self.layout, own, self.border * (inverse[..., :, None] * s_inverse[:, None, None, :]), corner)

    def solve(self, damping_b: np.ndarray, g_bP: np.ndarray) -> np.ndarray:
        """(H + damping)^-1 g, (b, P). Raises LinAlgError where a matrix is exactly singular."""
        return self._eliminated(self.own, damping_b, g_bP, lambda S: S)

    def largest(self) -> np.ndarray:
        """The largest absolute entry of each, (b,); not a number where one is none."""
        return np.max(
            [np.abs(v).reshape(len(v), -1).max(1, initial=0) for v in (self.own, self.border, self.corner)], 0
        )

    def descent(self, damping_b: np.ndarray, g_bP: np.ndarray) -> np.ndarray:
        """The same with every block, and what is left of the corner without the blocks, made positive definite.

        Each by its own eigenvalues' absolute values, which costs a share of the eigenvectors of the whole.
        """
        return self._eliminated(_positive(self.own), damping_b, g_bP, _positive)

    def _eliminated(
        self, own: np.ndarray, damping_b: np.ndarray, g_bP: np.ndarray, of_corner: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        p, s = self.border.shape[2:]
        g, g_s = self.layout.gather(g_bP, 0.0)
        D = own + damping_b[:, None, None, None] * np.eye(p)
        X = _solve_small(D, np.concatenate([self.border, g[..., None]], -1))
        S = of_corner(self.corner - np.einsum("bapi,bapj->bij", self.border, X[..., :s]))
        S = S + damping_b[:, None, None] * np.eye(s)
        r = g_s - np.einsum("bapi,bap->bi", self.border, X[..., s])
        x_s = np.linalg.solve(S, r[..., None])[..., 0] if s else r
        return self.layout.scatter(X[..., s] - np.einsum("bapi,bi->bap", X[..., :s], x_s), x_s)


def descent(H: "np.ndarray | Bordered", damping_b: np.ndarray, g_bP: np.ndarray) -> np.ndarray:
    """Steps (b, P) that descend whatever H is: (|H| + damping)^-1 g, or block by block as `Bordered.descent`."""
    if isinstance(H, Bordered):
        return H.descent(damping_b, g_bP)
    value, V = np.linalg.eigh(H)
    along = np.einsum("bpe,bp->be", V, g_bP) / (np.maximum(np.abs(value), LEAST) + damping_b[:, None])
    step: np.ndarray = np.einsum("bpe,be->bp", V, along)
    return step


def _positive(H: np.ndarray) -> np.ndarray:
    """|H| of symmetric matrices: their eigenvalues by absolute value, and above rounding."""
    value, V = np.linalg.eigh(H)
    absolute: np.ndarray = (V * np.maximum(np.abs(value), LEAST)[..., None, :]) @ np.swapaxes(V, -1, -2)
    return absolute


def _solve_small(D: np.ndarray, R: np.ndarray) -> np.ndarray:
    """D^-1 R for many small D; by Cramer's rule up to 2 x 2, where the diagonal is one and more and calls cost most."""
    p = D.shape[-1]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if p == 1:
            return R / D
        if p == 2:
            a, b, d = D[..., 0, 0], D[..., 0, 1], D[..., 1, 1]
            inverse = np.stack([np.stack([d, -b], -1), np.stack([-b, a], -1)], -2) / (a * d - b * b)[..., None, None]
            return inverse @ R
    return np.linalg.solve(D, R)
