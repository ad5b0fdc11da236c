"""The trace of a matrix of which only products are known, by Hutch++ (Meyer, Musco, Musco and Woodruff 2021)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from algoprogress.analysis.curvature.quadrature import Estimate

if TYPE_CHECKING:
    import torch

    from algoprogress.analysis.curvature.products import Product


def hutch_bytes(n: int, products: int) -> int:
    """What `hutch` holds at once: four (n, products / 3) matrices of float64, signs, range and their products."""
    return 4 * 8 * n * (products // 3)


def hutch(product: Product, n: int, products: int, seed: int = 0, device: torch.device | str = "cpu") -> Estimate:
    """tr(A) = tr(Q' A Q) exactly on the range of A S, and Hutchinson's mean of g' A g on the rest.

    Args:
        product: V -> V A for (K, n) float64 tensors, A symmetric.
        n: size of A; with products >= 3 n the trace is exact.
        products: with A, a third each for the range, the trace on it, and the rest.
        seed: of the random signs S and g.
        device: where the products are wanted.

    Returns:
        The trace, and the standard error of the random rest.

    Raises:
        ValueError: fewer than 6 products, from which there would be no error.
    """
    import torch

    if products < 6:
        raise ValueError(f"Hutch++ takes at least 6 products, not {products}: 2 for each of its three parts")
    k = products // 3
    generator = torch.Generator().manual_seed(seed)

    def signs() -> torch.Tensor:
        drawn = torch.randint(2, (min(k, n), n), generator=generator, dtype=torch.float64)
        return (2 * drawn - 1).to(device)

    Q_nk, _ = torch.linalg.qr(product(signs()).mT)
    on_range = float((product(Q_nk.mT.contiguous()) * Q_nk.mT).sum())
    if Q_nk.shape[1] == n:
        return Estimate(on_range, 0.0)
    G_Kn = signs()
    G_Kn = G_Kn - (G_Kn @ Q_nk) @ Q_nk.mT
    rest = (product(G_Kn) * G_Kn).sum(1)
    return Estimate(on_range + float(rest.mean()), float(rest.std()) / math.sqrt(len(rest)))
