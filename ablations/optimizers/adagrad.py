"""Adagrad: v <- v + g^2, W <- W - lr g / (sqrt(v) + eps)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from algoprogress.ablations.optimizers import OptimizerConfig, optimizers, parameter_groups
from algoprogress.ablations.optimizers.base import Batch, FirstOrder
from algoprogress.ablations.optimizers.costs import Cost, per_element
from algoprogress.ablations.optimizers.roles import Role


@optimizers.register("adagrad")
class Adagrad(OptimizerConfig):
    """Duchi et al. 2011, with a diagonal. Decay, if any, is added to the gradient."""

    name: Literal["adagrad"] = "adagrad"
    eps: float = Field(1e-10, gt=0)

    paper: ClassVar[str] = "Duchi et al. 2011"
    geometry: ClassVar[str] = "l1→l∞ (sign)"
    rates: ClassVar[tuple[float, ...]] = (0.02, 0.04, 0.08)
    decoupled: ClassVar[bool] = False

    def build(self, model: nn.Module, learning_rate: float) -> AdagradOptimizer:
        groups = parameter_groups(model, self.weight_decay)
        return AdagradOptimizer(groups, learning_rate, **self.hyperparameters())

    def cost(self, shape: tuple[int, ...], role: Role) -> Cost:
        return per_element(shape, state=1, flop=7)  # v 2, root, eps, quotient, rate, difference


class AdagradOptimizer(FirstOrder):
    def directions(self, batch: Batch) -> list[Tensor]:
        sums = batch.buffers("sum")
        torch._foreach_addcmul_(sums, batch.raw, batch.raw)
        roots = torch._foreach_sqrt(sums)
        torch._foreach_add_(roots, batch.group["eps"])
        return list(torch._foreach_div(batch.grads, roots))
