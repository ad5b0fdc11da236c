"""Heavy ball: m <- beta m + g, W <- W - lr m."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from algoprogress.ablations.optimizers import OptimizerConfig, optimizers, parameter_groups
from algoprogress.ablations.optimizers.base import Batch, FirstOrder
from algoprogress.ablations.optimizers.costs import Cost, per_element
from algoprogress.ablations.optimizers.roles import Role


@optimizers.register("momentum")
class Momentum(OptimizerConfig):
    """Polyak 1964; with `nesterov`, Sutskever et al. 2013. Decay, if any, is added to the gradient."""

    name: Literal["momentum"] = "momentum"
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False

    paper: ClassVar[str] = "Polyak 1964"
    geometry: ClassVar[str] = "Frobenius"
    rates: ClassVar[tuple[float, ...]] = (0.0625, 0.125, 0.25)
    decoupled: ClassVar[bool] = False

    def build(self, model: nn.Module, learning_rate: float) -> MomentumOptimizer:
        groups = parameter_groups(model, self.weight_decay)
        return MomentumOptimizer(groups, learning_rate, **self.hyperparameters())

    def cost(self, shape: tuple[int, ...], role: Role) -> Cost:
        # m 2, with nesterov g + beta m 2 more, rate, difference
        return per_element(shape, state=1, flop=6 if self.nesterov else 4)


class MomentumOptimizer(FirstOrder):
    def directions(self, batch: Batch) -> list[Tensor]:
        momentum = batch.group["momentum"]
        buffers = batch.buffers("momentum_buffer")
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, batch.grads)
        if batch.group["nesterov"]:
            return list(torch._foreach_add(batch.grads, buffers, alpha=momentum))
        return buffers
