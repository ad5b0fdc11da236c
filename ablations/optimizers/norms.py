"""Norms of a weight matrix, their dual norms, and their duality maps: the geometry that an optimizer steps in.

Of a matrix that takes R^in to R^out, as a tensor (..., out, in); a vector of n numbers is the map R -> R^n. For a norm
||.||, the dual norm is ||G||_* = max over ||T|| <= 1 of <G, T>, and the duality map T(G) is where that is reached; T(0)
is 0. Steepest descent under the norm goes along -T(G). After Bernstein and Newhouse 2024; the norms themselves:
Pethick et al. 2025, table 2; Tropp 2004, section 4.3 for l1 -> p and p -> linf.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from algoprogress.ablations.optimizers.newton_schulz import polar

Map = Callable[[Tensor], Tensor]
NormName = Literal[
    "sign",
    "scaled_sign",
    "frobenius",
    "rms",
    "column",
    "row",
    "l1_to_rms",
    "rms_to_linf",
    "spectral",
    "rms_to_rms",
]


class Norm(NamedTuple):
    """||W|| and ||G||_* as (...) from (..., out, in); T(G); what is asked of a matrix of that shape."""

    size: Map
    dual: Map
    duality: Callable[[Tensor, Map], Tensor]  # the second argument orthogonalizes, where that is called for
    spectral: bool = False


def _total(W: Tensor) -> Tensor:
    return W.sum((-2, -1))


def _largest(W: Tensor) -> Tensor:
    return W.amax((-2, -1))


def _frobenius(W: Tensor) -> Tensor:
    return torch.linalg.vector_norm(W, dim=(-2, -1))


def _rows(W: Tensor) -> Tensor:
    return torch.linalg.vector_norm(W, dim=-1, keepdim=True)


def _columns(W: Tensor) -> Tensor:
    return torch.linalg.vector_norm(W, dim=-2, keepdim=True)


def _singular(W: Tensor) -> Tensor:
    return torch.linalg.svdvals(W)


def _over(G: Tensor, size: Tensor) -> Tensor:
    """G / size, and 0 / 0 = 0."""
    return G / size.clamp_min(torch.finfo(G.dtype).tiny)


def _gain(W: Tensor) -> float:
    """sqrt(out / in)."""
    return math.sqrt(W.shape[-2] / W.shape[-1])


def _entries(W: Tensor) -> float:
    return math.sqrt(W.shape[-2] * W.shape[-1])


NORMS: dict[NormName, Norm] = {
    # max |W_ij|: l1 -> linf
    "sign": Norm(
        lambda W: _largest(W.abs()),
        lambda G: _total(G.abs()),
        lambda G, _: G.sign(),
    ),
    # in max |W_ij|, which bounds linf -> linf: Pethick et al. 2025 for output layers
    "scaled_sign": Norm(
        lambda W: _largest(W.abs()) * W.shape[-1],
        lambda G: _total(G.abs()) / G.shape[-1],
        lambda G, _: G.sign() / G.shape[-1],
    ),
    # l2 of all entries
    "frobenius": Norm(
        _frobenius,
        _frobenius,
        lambda G, _: _over(G, _frobenius(G)[..., None, None]),
    ),
    # root mean square of all entries; of a vector, the RMS norm
    "rms": Norm(
        lambda W: _frobenius(W) / _entries(W),
        lambda G: _frobenius(G) * _entries(G),
        lambda G, _: _over(G, _frobenius(G)[..., None, None]) * _entries(G),
    ),
    # max over columns of ||column||_2: l1 -> l2
    "column": Norm(
        lambda W: _largest(_columns(W)),
        lambda G: _total(_columns(G)),
        lambda G, _: _over(G, _columns(G)),
    ),
    # max over rows of ||row||_2: l2 -> linf
    "row": Norm(
        lambda W: _largest(_rows(W)),
        lambda G: _total(_rows(G)),
        lambda G, _: _over(G, _rows(G)),
    ),
    # max over columns of RMS(column): l1 -> RMS, for tables whose columns are tokens
    "l1_to_rms": Norm(
        lambda W: _largest(_columns(W)) / math.sqrt(W.shape[-2]),
        lambda G: _total(_columns(G)) * math.sqrt(G.shape[-2]),
        lambda G, _: _over(G, _columns(G)) * math.sqrt(G.shape[-2]),
    ),
    # sqrt(in) max over rows of ||row||_2: RMS -> linf
    "rms_to_linf": Norm(
        lambda W: _largest(_rows(W)) * math.sqrt(W.shape[-1]),
        lambda G: _total(_rows(G)) / math.sqrt(G.shape[-1]),
        lambda G, _: _over(G, _rows(G)) / math.sqrt(G.shape[-1]),
    ),
    # largest singular value: l2 -> l2; its dual is the nuclear norm
    "spectral": Norm(
        lambda W: _singular(W).amax(-1),
        lambda G: _singular(G).sum(-1),
        lambda G, orthogonal: orthogonal(G),
        spectral=True,
    ),
    # sqrt(in / out) times the largest singular value: RMS -> RMS
    "rms_to_rms": Norm(
        lambda W: _singular(W).amax(-1) / _gain(W),
        lambda G: _singular(G).sum(-1) * _gain(G),
        lambda G, orthogonal: orthogonal(G) * _gain(G),
        spectral=True,
    ),
}


def norm(name: NormName, W: Tensor) -> Tensor:
    """||W||, shape (...), of W (..., out, in)."""
    return NORMS[name].size(W)


def dual_norm(name: NormName, G: Tensor) -> Tensor:
    """max of <G, T> over ||T|| <= 1, shape (...), of G (..., out, in)."""
    return NORMS[name].dual(G)


def duality_map(name: NormName, G: Tensor, orthogonalize: Map = polar) -> Tensor:
    """The T of unit norm with <G, T> = ||G||_*, shape of G.

    Args:
        name: a key of NORMS.
        G: (..., out, in).
        orthogonalize: U V^T of a stack of matrices, for norms of singular values; exact by default.
    """
    return NORMS[name].duality(G, orthogonalize)


def modular_norm(names: list[NormName], radii: list[float], weights: list[Tensor]) -> Tensor:
    """max over layers of ||W_l||_l / r_l: Large et al. 2024; its dual is the sum of r_l ||G_l||_*,l."""
    return torch.stack([norm(n, W) / r for n, r, W in zip(names, radii, weights, strict=True)]).amax()


def modular_dual_norm(names: list[NormName], radii: list[float], gradients: list[Tensor]) -> Tensor:
    """Sum over layers of r_l ||G_l||_*,l: what one global step of steepest descent is as long as."""
    return torch.stack([r * dual_norm(n, G) for n, r, G in zip(names, radii, gradients, strict=True)]).sum()
