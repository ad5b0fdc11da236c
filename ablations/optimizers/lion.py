"""Lion: W <- W - lr sign(beta1 m + (1 - beta1) g), then m <- beta2 m + (1 - beta2) g."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from algoprogress.ablations.optimizers import OptimizerConfig, optimizers, parameter_groups
from algoprogress.ablations.optimizers.base import Batch, FirstOrder
from algoprogress.ablations.optimizers.costs import Cost, per_element
from algoprogress.ablations.optimizers.roles import Role


@optimizers.register("lion")
class Lion(OptimizerConfig):
    """Chen et al. 2023: the mean that is kept is longer than the one that is stepped along."""

    name: Literal["lion"] = "lion"
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.99, ge=0, lt=1)

    paper: ClassVar[str] = "Chen et al. 2023"
    geometry: ClassVar[str] = "l1→l∞ (sign)"
    rates: ClassVar[tuple[float, ...]] = (0.001, 0.002, 0.004)

    def build(self, model: nn.Module, learning_rate: float) -> LionOptimizer:
        groups = parameter_groups(model, self.weight_decay)
        return LionOptimizer(groups, learning_rate, **self.hyperparameters())

    def cost(self, shape: tuple[int, ...], role: Role) -> Cost:
        return per_element(shape, state=1, flop=9)  # two means 3 each, sign, rate, difference


class LionOptimizer(FirstOrder):
    def directions(self, batch: Batch) -> list[Tensor]:
        means = batch.buffers("exp_avg")
        updates = torch._foreach_lerp(means, batch.grads, 1 - batch.group["beta1"])
        torch._foreach_sign_(updates)
        torch._foreach_lerp_(means, batch.grads, 1 - batch.group["beta2"])
        return list(updates)
