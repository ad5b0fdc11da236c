"""Lanczos tridiagonalisation with full reorthogonalisation, of several starting vectors in step.

Without reorthogonalisation rounding makes copies of eigenvalues that are not there (ghosts: Paige 1972).
Shapes: K starting vectors, n coordinates, m steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal

from algoprogress.analysis.curvature.basis import MEMORY, Basis

if TYPE_CHECKING:
    from torch import Tensor

    from algoprogress.analysis.curvature.products import Product

Array = NDArray[np.float64]
# Of float64's precision and of the largest coefficient so far: a remainder of that size is rounding, and the Krylov
# space is complete. The square root of n is how rounding errors of n coordinates add up; small betas on the way magnify
# them some tens of times.
ROUNDING = 100.0
# A pass that leaves that part of a vector has lost no digits to cancellation (Daniel, Gragg, Kaufman and Stewart 1976)
ENOUGH = 2**-0.5


@dataclass(frozen=True)
class Tridiagonal:
    """T of one starting vector: Q' A Q, with `alphas` on its diagonal and `betas` beside it."""

    alphas: Array  # (m,)
    betas: Array  # (m - 1,)

    def nodes_and_weights(self) -> tuple[Array, Array]:
        """Gauss quadrature of the starting vector's spectral measure: v' f(A) v = sum_i w_i f(theta_i).

        Exact for polynomials f of degree at most 2 m - 1 (Golub and Meurant 2010, theorem 6.3).
        """
        if len(self.alphas) == 1:
            return self.alphas.copy(), np.ones(1)
        nodes, vectors = eigh_tridiagonal(self.alphas, self.betas)
        return nodes, vectors[0] ** 2


def lanczos(
    product: Product,
    start_Kn: Tensor,
    steps: int,
    memory: int = MEMORY,
    on_step: Callable[[], None] | None = None,
) -> list[Tridiagonal]:
    """One T for each starting vector, of size m = min(steps, n), or smaller where the Krylov space is complete.

    Args:
        product: V -> V A for (K, n) float64 tensors, A symmetric.
        start_Kn: need not be of norm 1.
        steps: m.
        memory: bytes that the vectors of the Krylov space may fill; the others are kept in a temporary file.
        on_step: called after each step.

    Raises:
        ValueError: steps below 1, a starting vector that is zero, or a product that is not finite.
    """
    import torch

    if steps < 1:
        raise ValueError(f"Lanczos takes at least 1 step, not {steps}")
    K, n = start_Kn.shape
    m = min(steps, n)
    norms = start_Kn.norm(dim=1, keepdim=True)
    if not bool((norms > 0).all()):
        raise ValueError("a starting vector is zero: give one with a direction")
    basis = Basis(K, n, m, start_Kn.device, memory)
    alphas, betas = np.zeros((K, m)), np.zeros((K, m))
    sizes, scale = np.full(K, m), np.zeros(K)
    q = start_Kn.double() / norms
    before, length = torch.zeros_like(q), torch.zeros_like(norms[:, 0])
    tolerance = ROUNDING * np.sqrt(n) * np.finfo(float).eps
    for j in range(m):
        basis.append(q)
        w = product(q)
        alpha = (w * q).sum(1, keepdim=True)
        alphas[:, j] = alpha[:, 0].cpu().numpy()
        w = w - alpha * q - length[:, None] * before
        size = w.norm(dim=1)
        w = basis.without(w)
        if bool((w.norm(dim=1) < ENOUGH * size).any()):  # a second pass is enough: Giraud, Langou and Rozloznik 2005
            w = basis.without(w)
        length = w.norm(dim=1)
        betas[:, j] = length.cpu().numpy()
        if not np.isfinite(alphas[:, j] + betas[:, j]).all():
            raise ValueError("a product with the matrix is not finite: its gradients overflow or hold NaN")
        scale = np.maximum(scale, np.abs(alphas[:, j]) + betas[:, j])
        if on_step is not None:
            on_step()
        over = (betas[:, j] <= tolerance * scale) & (sizes == m)
        sizes[over] = j + 1
        if (sizes <= j + 1).all():
            break
        on = torch.as_tensor(sizes > j + 1, device=w.device)[:, None]
        before, q = q, torch.where(on, w / length[:, None].clamp_min(1e-300), 0.0)
    return [Tridiagonal(alphas[k, :size], betas[k, : size - 1]) for k, size in enumerate(sizes)]
