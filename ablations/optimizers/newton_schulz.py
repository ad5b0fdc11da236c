"""U V^T of a matrix U S V^T by matrix products alone: Newton-Schulz iterations, on stacks of matrices at once.

Shapes: (..., m, n); the iterations work on the side that is shorter.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Coefficients = tuple[float, float, float]
CUBIC: Coefficients = (1.5, -0.5, 0.0)  # Newton's iteration for the polar factor; converges: Higham 2008, section 8.3
# Jordan et al. 2024: the steepest slope at 0; does not converge, singular values of 0.01 to 1 end in [0.68, 1.14]
QUINTIC: Coefficients = (3.4445, -4.7750, 2.0315)
QUINTIC_STEPS = 5  # Jordan et al. 2024
# from here a singular value of 1e-3 of the Frobenius norm is 1 to rounding: 1.5^k 1e-3 > 1 at k = 18, then quadratic
CUBIC_STEPS = 24
METHODS = ("svd", "cubic", "quintic")
Method = Literal["svd", "cubic", "quintic"]


def polar(X: Tensor) -> Tensor:
    """U V^T of X = U S V^T, over the singular values that are not 0 to rounding.

    So T(0) = 0, and a rank-deficient X has the pseudo-inverse's answer. NaN where X holds what is not finite.
    """
    X = X.where(X.isfinite(), 0) if (broken := not bool(X.isfinite().all())) else X
    U, S, Vh = torch.linalg.svd(X, full_matrices=False)
    cutoff = max(X.shape[-2:]) * torch.finfo(X.dtype).eps * S[..., :1]
    found = (U * S.gt(cutoff).to(X.dtype)[..., None, :]) @ Vh
    return found * torch.nan if broken else found


def newton_schulz(X: Tensor, coefficients: Coefficients = QUINTIC, steps: int = QUINTIC_STEPS) -> Tensor:
    """X <- a X + b (X X^T) X + c (X X^T)^2 X, `steps` times from X / ||X||_F, in the precision of X.

    Acts on singular values as s <- a s + b s^3 + c s^5 and leaves U and V as they are. Where X is wide enough that it
    takes fewer FLOP, the polynomials are multiplied up on m x m Gram matrices and meet X once, at the end.
    """
    a, b, c = coefficients
    turned = X.shape[-2] > X.shape[-1]
    X = X.mT if turned else X
    X = X / X.norm(dim=(-2, -1), keepdim=True).clamp_min(torch.finfo(X.dtype).tiny)
    if X.dtype != torch.bfloat16 and uses_gram(X.shape[-2], X.shape[-1], coefficients, steps):
        X = _by_gram(X, coefficients, steps)
    else:
        for _ in range(steps):
            A = X @ X.mT
            B = _add_product(b, A, c, A, A) if c else b * A
            X = _add_product(a, X, 1.0, B, X)
    return X.mT if turned else X


def _by_gram(X: Tensor, coefficients: Coefficients, steps: int) -> Tensor:
    # X_k = P_k X and A_k = X_k X_k^T = P_k A P_k; all of them are polynomials in A, and so commute
    a, b, c = coefficients
    A = X @ X.mT
    P = _polynomial(a, b, c, A)
    B = P
    for _ in range(steps - 1):
        A = B @ A @ B
        B = _polynomial(a, b, c, A)
        P = B @ P
    return P @ X


def _polynomial(a: float, b: float, c: float, A: Tensor) -> Tensor:
    """a I + b A + c A^2."""
    B = _add_product(b, A, c, A, A) if c else b * A
    B.diagonal(dim1=-2, dim2=-1).add_(a)
    return B


def _add_product(beta: float, M: Tensor, alpha: float, A: Tensor, B: Tensor) -> Tensor:
    """beta M + alpha A B in one pass, for one matrix or a stack."""
    if M.ndim == 2:
        return torch.addmm(M, A, B, beta=beta, alpha=alpha)
    if M.ndim == 3:
        return torch.baddbmm(M, A, B, beta=beta, alpha=alpha)
    return beta * M + alpha * (A @ B)


def uses_gram(m: int, n: int, coefficients: Coefficients, steps: int) -> bool:
    """Whether Gram matrices take fewer FLOP; only for few steps, since rounding grows with the square of 1 / s."""
    return steps <= QUINTIC_STEPS and _gram_flop(m, n, coefficients, steps) < _plain_flop(m, n, coefficients, steps)


def flop(m: int, n: int, coefficients: Coefficients, steps: int) -> float:
    """FLOP of the matrix products of `newton_schulz` on one m x n matrix."""
    m, n = min(m, n), max(m, n)
    gram = uses_gram(m, n, coefficients, steps)
    return (_gram_flop if gram else _plain_flop)(m, n, coefficients, steps)


def _plain_flop(m: int, n: int, coefficients: Coefficients, steps: int) -> float:
    square = bool(coefficients[2])
    return 2.0 * steps * (2 * m * m * n + square * m**3)


def _gram_flop(m: int, n: int, coefficients: Coefficients, steps: int) -> float:
    square = bool(coefficients[2])
    return 2.0 * (2 * m * m * n + (square * steps + (steps - 1) + 2 * (steps - 1)) * m**3)


def orthogonalize(X: Tensor, method: Method) -> Tensor:
    """U V^T, exactly or by one of the two iterations with its usual number of steps."""
    if method == "svd":
        return polar(X)
    if method == "cubic":
        return newton_schulz(X, CUBIC, CUBIC_STEPS)
    if method == "quintic":
        return newton_schulz(X, QUINTIC, QUINTIC_STEPS)
    raise ValueError(f"unknown orthogonalization {method!r}; known: {', '.join(METHODS)}")
