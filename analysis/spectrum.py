"""What the singular values and the directions of a weight matrix say: four numbers of Qiu et al. 2025, in numpy.

Shapes: m rows (neurons), n columns, r = min(m, n) singular values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def svd_entropy(singular_values: ArrayLike) -> float:
    """H = -(1 / log r) sum p_i log p_i with p_i = s_i^2 / sum s_j^2: 1 for equal singular values, 0 for rank one.

    Alter et al. 2000; Qiu et al. 2025 follow it through a training.

    Args:
        singular_values: r of them, 2 or more, not all zero.
    """
    s = _positive(singular_values)
    if len(s) < 2:
        raise ValueError(f"an entropy needs 2 or more singular values, not {len(s)}")
    p = s**2 / (s**2).sum()
    p = p[p > 0]
    return float(-(p * np.log(p)).sum() / np.log(len(s)))


def spectrum_drift(singular_values: ArrayLike, initial: ArrayLike) -> float:
    """max_i |s_i - s0_i| / s0_1, both in falling order: 0 where a training keeps the spectrum.

    Relative to the largest, since rounding alone moves a small singular value by a large part of itself.

    Args:
        singular_values: now.
        initial: as many, at the start.
    """
    s, s0 = _positive(singular_values), _positive(initial)
    if len(s) != len(s0):
        raise ValueError(f"{len(s)} singular values cannot be compared with {len(s0)}: give those of one matrix")
    return float(np.abs(np.sort(s) - np.sort(s0)).max() / s0.max())


def orthogonality_error(R: ArrayLike) -> float:
    """||R R^T - I||_F / ||I||_F of a square matrix."""
    R = np.asarray(R, dtype=float)
    if R.ndim != 2 or R.shape[0] != R.shape[1]:
        raise ValueError(f"a square matrix is wanted, not one of shape {R.shape}")
    eye = np.eye(len(R))
    return float(np.linalg.norm(R @ R.T - eye) / np.linalg.norm(eye))


def hyperspherical_energy(W: ArrayLike) -> float:
    """Mean over pairs of rows of 1 / ||w_i / |w_i| - w_j / |w_j| ||: small where the neurons point apart.

    Liu et al. 2018, with the Riesz exponent s = 1. Any rotation of the inputs leaves it as it is.

    Args:
        W: m x n, two rows or more, none of them zero.
    """
    W = np.asarray(W, dtype=float)
    norms = np.linalg.norm(W, axis=1, keepdims=True)
    if W.ndim != 2 or len(W) < 2 or not (norms > 0).all():
        raise ValueError("the energy is that of two or more neurons, none of them zero")
    unit = W / norms
    squared = 2 - 2 * (unit @ unit.T)[np.triu_indices(len(W), 1)]
    with np.errstate(divide="ignore"):
        return float((1 / np.sqrt(np.maximum(squared, 0))).mean())


def _positive(values: ArrayLike) -> NDArray[np.float64]:
    s = np.asarray(values, dtype=float).ravel()
    if not (len(s) and np.isfinite(s).all() and (s >= 0).all() and s.max() > 0):
        raise ValueError("singular values are finite, 0 or more, and not all 0")
    return s
