"""Signum: m <- beta m + (1 - beta) g, W <- W - lr sign(m)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from algoprogress.ablations.optimizers import OptimizerConfig, optimizers, parameter_groups
from algoprogress.ablations.optimizers.base import Batch, FirstOrder
from algoprogress.ablations.optimizers.costs import Cost, per_element
from algoprogress.ablations.optimizers.roles import Role


@optimizers.register("signum")
class Signum(OptimizerConfig):
    """Bernstein et al. 2018: sign descent on a running mean of the gradient."""

    name: Literal["signum"] = "signum"
    beta: float = Field(0.9, ge=0, lt=1)

    paper: ClassVar[str] = "Bernstein et al. 2018"
    geometry: ClassVar[str] = "l1→l∞ (sign)"
    rates: ClassVar[tuple[float, ...]] = (0.001, 0.002, 0.004)

    def build(self, model: nn.Module, learning_rate: float) -> SignumOptimizer:
        groups = parameter_groups(model, self.weight_decay)
        return SignumOptimizer(groups, learning_rate, **self.hyperparameters())

    def cost(self, shape: tuple[int, ...], role: Role) -> Cost:
        kept = bool(self.beta)
        return per_element(shape, state=kept, flop=3 + 3 * kept)  # sign, rate, difference; m 3


class SignumOptimizer(FirstOrder):
    def directions(self, batch: Batch) -> list[Tensor]:
        return list(torch._foreach_sign(batch.average("momentum_buffer", batch.group["beta"], batch.grads)))
