"""The fixed matrix that a reparameterized weight starts from; its singular values are those that it keeps.

Shapes: m outputs (rows, the neurons), n inputs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

STANDARD = 0.02  # Radford et al. 2018


def standard(m: int, n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """N(0, 0.02^2)."""
    return STANDARD * torch.randn(m, n, dtype=dtype)


def xavier(m: int, n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """U(-a, a), a^2 = 6 / (m + n): Glorot and Bengio 2010."""
    return nn.init.xavier_uniform_(torch.empty(m, n, dtype=dtype))


def normalized(m: int, n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A Gaussian matrix whose rows are scaled to norm 1: Qiu et al. 2025."""
    gaussian = torch.randn(m, n, dtype=dtype)
    return gaussian / gaussian.norm(dim=1, keepdim=True)


def uniform_spectrum(m: int, n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A Gaussian matrix whose singular values are all set to 1, U V^T: Qiu et al. 2025."""
    U, _, Vt = torch.linalg.svd(torch.randn(m, n, dtype=torch.float64), full_matrices=False)
    return (U @ Vt).to(dtype)


INITIALISATIONS: dict[str, Callable[[int, int, torch.dtype], Tensor]] = {
    "standard": standard,
    "xavier": xavier,
    "normalized": normalized,
    "uniform_spectrum": uniform_spectrum,
}
