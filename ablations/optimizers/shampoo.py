"""Shampoo: W <- W - lr L^-1/4 M R^-1/4, with L and R the running G G^T and G^T G."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from algoprogress.ablations.config import Whole
from algoprogress.ablations.optimizers import OptimizerConfig, optimizers, parameter_groups
from algoprogress.ablations.optimizers.base import Batch, FirstOrder
from algoprogress.ablations.optimizers.costs import Cost, eigen
from algoprogress.ablations.optimizers.roles import Role


@optimizers.register("shampoo")
class Shampoo(OptimizerConfig):
    """Gupta et al. 2018, in blocks as Anil et al. 2020; vectors by the diagonal form, m / sqrt(v).

    Without accumulation (beta2 = 0) a step is U V^T of the gradient. Eigenvalues that are 0 to rounding have no root:
    the pseudo-inverse.
    """

    name: Literal["shampoo"] = "shampoo"
    beta1: float = Field(0.9, ge=0, lt=1, description="of the running mean of the gradient, bias-corrected; 0: itself")
    beta2: float = Field(
        0.95, ge=0, le=1, description="1: sums, as in Gupta et al. 2018; 0: no accumulation; between: running means"
    )
    eps: float = Field(0.0, ge=0, description="added to the eigenvalues of L and R; 1e-6 stands for a start at 1e-6 I")
    block_size: Whole = Field(128, ge=1, description="largest side of a block with its own L and R: Anil et al. 2020")
    every: Whole = Field(10, ge=1, description="steps between two computations of the roots; 10: Vyas et al. 2024")

    paper: ClassVar[str] = "Gupta et al. 2018"
    geometry: ClassVar[str] = "spectral"
    rates: ClassVar[tuple[float, ...]] = (0.04, 0.08, 0.16)
    continuous: ClassVar[bool] = False

    def build(self, model: nn.Module, learning_rate: float) -> ShampooOptimizer:
        groups = parameter_groups(model, self.weight_decay)
        return ShampooOptimizer(groups, learning_rate, **self.hyperparameters())

    def cost(self, shape: tuple[int, ...], role: Role) -> Cost:
        n = math.prod(shape)
        kept = bool(self.beta1)
        if len(shape) < 2:
            # v 4, root, eps, quotient, rate, difference; m 3 and its correction
            return Cost(state=(1 + kept) * n, elementwise=(9 + 4 * kept) * n)
        blocks, m, k = Blocks(shape, self.block_size).stack
        root = 2.0 * (m**3 + k**3) + eigen(m) + eigen(k)
        return Cost(
            state=kept * n + blocks * 2 * (m * m + k * k),
            elementwise=(4 * kept + 2) * n + blocks * 3 * (m * m + k * k),
            # G G^T and G^T G, and the two roots on either side of M
            products=blocks * 2.0 * (2 * m * m * k + 2 * m * k * k),
            factorizations=blocks * root / self.every,
        )


class Blocks:
    """A tensor as a stack of equal matrices, zeros added where its sides are no multiples of theirs."""

    def __init__(self, shape: tuple[int, ...], largest: int) -> None:
        self.shape = tuple(shape)
        self.sides = (shape[0], math.prod(shape[1:]))
        self.counts = tuple(math.ceil(side / largest) for side in self.sides)
        self.block = tuple(math.ceil(side / count) for side, count in zip(self.sides, self.counts, strict=True))

    @property
    def stack(self) -> tuple[int, int, int]:
        return self.counts[0] * self.counts[1], self.block[0], self.block[1]

    def split(self, tensor: Tensor) -> Tensor:
        """(blocks, m, n)."""
        (r, c), (m, n) = self.counts, self.block
        matrix = tensor.reshape(self.sides)
        padded = torch.nn.functional.pad(matrix, (0, c * n - self.sides[1], 0, r * m - self.sides[0]))
        return padded.view(r, m, c, n).transpose(1, 2).reshape(r * c, m, n)

    def join(self, blocks: Tensor) -> Tensor:
        (r, c), (m, n) = self.counts, self.block
        padded = blocks.view(r, c, m, n).transpose(1, 2).reshape(r * m, c * n)
        return padded[: self.sides[0], : self.sides[1]].reshape(self.shape)


class ShampooOptimizer(FirstOrder):
    def directions(self, batch: Batch) -> list[Tensor]:
        group = batch.group
        means = batch.average("exp_avg", group["beta1"], batch.grads)
        return [
            _direction(mean / (1 - group["beta1"] ** step), raw, state, step, group)
            for mean, raw, state, step in zip(means, batch.raw, batch.states, batch.advance(), strict=True)
        ]


def _direction(mean: Tensor, raw: Tensor, state: dict[str, Any], step: int, group: dict[str, Any]) -> Tensor:
    beta2, eps = group["beta2"], group["eps"]
    newest = 1.0 if beta2 == 1 else 1 - beta2
    correction = 1.0 if beta2 == 1 else 1 - beta2**step
    if raw.ndim < 2:
        total = _accumulate(state, "sum", raw.square(), beta2, newest) / correction
        tiny = torch.finfo(raw.dtype).tiny
        return mean / (total + eps).sqrt().clamp_min(tiny)
    blocks = Blocks(tuple(raw.shape), group["block_size"])
    G = blocks.split(raw)
    for side, statistics in (("left", G @ G.mT), ("right", G.mT @ G)):
        total = _accumulate(state, side, statistics, beta2, newest)
        if f"{side}_root" not in state or (step - 1) % group["every"] == 0:
            state[f"{side}_root"] = inverse_root(total / correction, 0.25, eps)
    return blocks.join(state["left_root"] @ blocks.split(mean) @ state["right_root"])


def _accumulate(state: dict[str, Any], name: str, value: Tensor, beta: float, newest: float) -> Tensor:
    if name not in state:
        state[name] = torch.zeros_like(value)
    return state[name].mul_(beta).add_(value, alpha=newest)


def inverse_root(A: Tensor, power: float, eps: float = 0.0) -> Tensor:
    """(A + eps I)^-power of symmetric A >= 0, (..., n, n), over the eigenvalues that are not 0 to rounding.

    NaN where A holds what is not finite: a run that diverges is to end as one, and not as an error of LAPACK.
    """
    if not bool(A.isfinite().all()):
        return torch.full_like(A, torch.nan)
    values, Q = torch.linalg.eigh(A)
    values = values.clamp_min(0.0) + eps
    cutoff = A.shape[-1] * torch.finfo(A.dtype).eps * values[..., -1:]
    roots = values.clamp_min(torch.finfo(A.dtype).tiny).pow(-power) * (values > cutoff)
    return (Q * roots[..., None, :]) @ Q.mT
