"""Orthogonal matrices from skew-symmetric ones: the Cayley map, and its Neumann series of order k.

    R = (I + Q) (I - Q)^-1,    R_k = (I + Q) (I + Q + ... + Q^k) = R (I - Q^(k+1)),    Q^T = -Q.

With eigenvalues +-i t of Q the singular values of R_k are |1 - (i t)^(k+1)|: 1 - t^4 for k = 3, and for even k the much
closer sqrt(1 + t^(2k+2)). The series says nothing at t >= 1. Qiu et al. 2025.

Shapes: N matrices, b rows and columns, c = b (b - 1) / 2 entries above the diagonal.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ORDERS = (1, 2, 3, 4, 5)
# Matrix products of one series; found by factoring, for instance k = 3: (I + Q)^2 (I + Q^2).
PRODUCTS = {1: 1, 2: 2, 3: 2, 4: 3, 5: 3}


class _Skew(torch.autograd.Function):
    """Its own backward, since torch's for an indexed write is many times slower; linear, so differentiable again."""

    @staticmethod
    def forward(ctx: Any, q_Nc: Tensor, above: Tensor, b: int) -> Tensor:
        ctx.save_for_backward(above)
        ctx.b = b
        Q = q_Nc.new_zeros(len(q_Nc), b * b)
        Q.index_copy_(1, above[0], q_Nc)
        Q.index_copy_(1, above[1], -q_Nc)
        return Q.view(-1, b, b)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (above,) = ctx.saved_tensors
        return _Above.apply(grads[0], above, ctx.b), None, None


class _Above(torch.autograd.Function):
    """The adjoint of _Skew: entries above the diagonal less those below."""

    @staticmethod
    def forward(ctx: Any, Q_Nbb: Tensor, above: Tensor, b: int) -> Tensor:
        ctx.save_for_backward(above)
        ctx.b = b
        flat = Q_Nbb.flatten(1)
        return flat.index_select(1, above[0]) - flat.index_select(1, above[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (above,) = ctx.saved_tensors
        return _Skew.apply(grads[0], above, ctx.b), None, None


def above_diagonal(b: int) -> Tensor:
    """(2, c): places in a flat b x b matrix of the entries above the diagonal, and of their mirror images."""
    rows, columns = torch.triu_indices(b, b, offset=1)
    return torch.stack([rows * b + columns, columns * b + rows])


def skew(q_Nc: Tensor, b: int, above: Tensor | None = None) -> Tensor:
    """Skew-symmetric (N, b, b) matrices with the entries q above the diagonal, row by row.

    Args:
        q_Nc: b (b - 1) / 2 entries for each matrix.
        b: rows.
        above: `above_diagonal(b)`, where the caller has it already.
    """
    return _Skew.apply(q_Nc, above_diagonal(b).to(q_Nc.device) if above is None else above, b)


def cayley(Q_Nbb: Tensor) -> Tensor:
    """R = (I + Q) (I - Q)^-1: orthogonal, determinant 1, whatever the size of Q."""
    eye = torch.eye(Q_Nbb.shape[-1], dtype=Q_Nbb.dtype, device=Q_Nbb.device)
    return torch.linalg.solve(eye - Q_Nbb, eye + Q_Nbb)  # the factors commute


def cayley_neumann(Q_Nbb: Tensor, order: int) -> Tensor:
    """R_k = I + 2 (Q + ... + Q^k) + Q^(k+1), in as few products as `PRODUCTS` says.

    Args:
        Q_Nbb: skew-symmetric.
        order: k, 1 to 5.
    """
    Q, eye = Q_Nbb, torch.eye(Q_Nbb.shape[-1], dtype=Q_Nbb.dtype, device=Q_Nbb.device)
    Q2 = Q @ Q
    if order == 1:
        return eye + 2 * Q + Q2
    if order == 2:
        return torch.baddbmm(eye + 2 * (Q + Q2), Q2, Q)
    if order == 3:
        return (eye + 2 * Q + Q2) @ (eye + Q2)
    Q3 = Q2 @ Q
    if order == 4:
        return torch.baddbmm(eye + 2 * (Q + Q2), Q2, 2 * (Q + Q2) + Q3)
    if order == 5:
        return torch.baddbmm(eye + 2 * (Q + Q2 + Q3), Q3, 2 * (Q + Q2) + Q3)
    raise ValueError(f"the series is written out for orders {', '.join(map(str, ORDERS))}, not {order!r}")


def rotation(Q_Nbb: Tensor, order: int | None) -> Tensor:
    """The Neumann series of that order; None: the exact Cayley map."""
    return cayley(Q_Nbb) if order is None else cayley_neumann(Q_Nbb, order)


def flop(b: int, order: int | None) -> float:
    """FLOP of one forward and backward pass through one b x b rotation.

    Each product of the series costs 2 b^3 and has two in the backward pass. The exact map factors I - Q once, 2/3 b^3,
    and solves with it twice, 2 b^3 each, and its backward pass has one product more (Golub and Van Loan 2013, 3.2).
    """
    return (2 / 3 + 6) * b**3 if order is None else 6.0 * PRODUCTS[order] * b**3


def spectral_norm_bound(q_Nc: Tensor) -> Tensor:
    """(N,) upper bounds of ||Q||_2, from ||Q||_F^2 = 2 sum t^2 over the pairs of eigenvalues +-i t of Q."""
    return q_Nc.norm(dim=1)
