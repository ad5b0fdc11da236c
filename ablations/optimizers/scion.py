"""Scion: steps to the edge of a norm ball for each role, along a running mean of the gradient."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from algoprogress.ablations.optimizers import OptimizerConfig, optimizers
from algoprogress.ablations.optimizers import newton_schulz as ns
from algoprogress.ablations.optimizers.base import Batch
from algoprogress.ablations.optimizers.costs import Cost
from algoprogress.ablations.optimizers.roles import Role
from algoprogress.ablations.optimizers.steepest import (
    Geometry,
    OfRole,
    SteepestOptimizer,
    duality_cost,
    geometry_groups,
    matrix_numbers,
)


@optimizers.register("scion")
class Scion(OptimizerConfig):
    """Pethick et al. 2025: W <- W - lr r T(m), m <- beta m + (1 - beta) g, with T and r of the tensor's role.

    Constrained, W <- (1 - lr) W - lr r T(m) stays in the ball of radius r once it is there.
    """

    name: Literal["scion"] = "scion"
    linear: OfRole = Field(Geometry(norm="rms_to_rms", radius=50.0), description="radii: the authors' GPT-2 examples")
    embedding: OfRole = Field(
        Geometry(norm="sign", radius=3.9), description="3,000 / 768: their shared table, at the width of that model"
    )
    head: OfRole = Geometry(norm="scaled_sign", radius=3000.0)
    vector: OfRole = Geometry(norm="rms", radius=50.0)
    convolution: OfRole = Geometry(norm="rms_to_rms", radius=50.0)
    beta: float = Field(0.9, ge=0, lt=1, description="1 - the authors' momentum, 0.1")
    constrained: bool = False
    orthogonalization: ns.Method = "quintic"

    paper: ClassVar[str] = "Pethick et al. 2025"
    geometry: ClassVar[str] = "RMS→RMS, sign"
    rates: ClassVar[tuple[float, ...]] = (0.000125, 0.00025, 0.0005)

    def build(self, model: nn.Module, learning_rate: float) -> ScionOptimizer:
        groups = geometry_groups(self, model)
        return ScionOptimizer(groups, learning_rate, **self.hyperparameters(), length="unit", nesterov=False)

    def cost(self, shape: tuple[int, ...], role: Role) -> Cost:
        # the mean 3, radius, rate, difference; shrinking to the ball
        n = matrix_numbers(shape) * (3 * bool(self.beta) + 3 + self.constrained)
        norm = getattr(self, role).norm
        return duality_cost(shape, role, norm, self.orthogonalization, bool(self.beta)).plus(Cost(elementwise=n))


class ScionOptimizer(SteepestOptimizer):
    def apply(self, batch: Batch, updates: list[Tensor]) -> None:
        if batch.group["constrained"]:
            torch._foreach_mul_(batch.params, 1 - batch.rate)
        super().apply(batch, updates)
