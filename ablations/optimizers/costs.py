"""What one optimizer step costs and keeps, per parameter tensor: the counts behind memory and FLOP of every optimizer.

A multiply-add of a matrix product is 2 FLOP; each addition, multiplication, division, root, sign or comparison that an
equation asks for on an element is 1; a factorization of a matrix has the leading term of its textbook algorithm.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from algoprogress.ablations.optimizers.roles import Role


class Cost(NamedTuple):
    """Numbers kept from step to step, and FLOP of one step."""

    state: float = 0.0
    elementwise: float = 0.0
    products: float = 0.0
    factorizations: float = 0.0

    @property
    def flop(self) -> float:
        return self.elementwise + self.products + self.factorizations

    def plus(self, other: Cost) -> Cost:
        return Cost(*(a + b for a, b in zip(self, other, strict=True)))


def per_element(shape: tuple[int, ...], state: float, flop: float) -> Cost:
    """An optimizer that treats every element alike."""
    n = math.prod(shape)
    return Cost(state=state * n, elementwise=flop * n)


def matrix(shape: tuple[int, ...], role: Role) -> tuple[int, int, int]:
    """(stack, out, in) of the linear maps that a tensor holds: one for each tap of a convolution, else one."""
    if role == "vector" or len(shape) < 2:
        return 1, math.prod(shape), 1
    if role == "convolution":
        return math.prod(shape[2:]), shape[0], shape[1]
    if role == "embedding":
        return 1, shape[1], shape[0]
    return 1, shape[0], math.prod(shape[1:])


def eigen(n: int) -> float:
    """Symmetric eigendecomposition with vectors: about 9 n^3 (Golub and Van Loan 2013, section 8.3)."""
    return 9.0 * n**3


def singular(m: int, n: int) -> float:
    """Thin singular value decomposition, m >= n: 6 m n^2 + 20 n^3 (Golub and Van Loan 2013, figure 8.6.1)."""
    m, n = max(m, n), min(m, n)
    return 6.0 * m * n**2 + 20.0 * n**3


def orthonormal(n: int) -> float:
    """Householder QR of a square matrix with Q formed: 8/3 n^3 (Golub and Van Loan 2013, sections 5.1 and 5.2)."""
    return 8.0 / 3.0 * n**3
