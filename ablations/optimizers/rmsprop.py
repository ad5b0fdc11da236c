"""RMSprop: v <- alpha v + (1 - alpha) g^2, W <- W - lr g / (sqrt(v) + eps)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from algoprogress.ablations.optimizers import OptimizerConfig, optimizers, parameter_groups
from algoprogress.ablations.optimizers.base import Batch, FirstOrder
from algoprogress.ablations.optimizers.costs import Cost, per_element
from algoprogress.ablations.optimizers.roles import Role


@optimizers.register("rmsprop")
class RMSprop(OptimizerConfig):
    """Tieleman and Hinton 2012. Decay, if any, is added to the gradient."""

    name: Literal["rmsprop"] = "rmsprop"
    alpha: float = Field(0.99, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0)
    momentum: float = Field(0.0, ge=0, lt=1)

    paper: ClassVar[str] = "Tieleman and Hinton 2012"
    geometry: ClassVar[str] = "l1→l∞ (sign)"
    rates: ClassVar[tuple[float, ...]] = (0.0025, 0.005, 0.01)
    decoupled: ClassVar[bool] = False

    def build(self, model: nn.Module, learning_rate: float) -> RMSpropOptimizer:
        groups = parameter_groups(model, self.weight_decay)
        return RMSpropOptimizer(groups, learning_rate, **self.hyperparameters())

    def cost(self, shape: tuple[int, ...], role: Role) -> Cost:
        # v 4, root, eps, quotient, rate, difference; the heavy ball 2
        return per_element(shape, state=1 + bool(self.momentum), flop=9 + 2 * bool(self.momentum))


class RMSpropOptimizer(FirstOrder):
    def directions(self, batch: Batch) -> list[Tensor]:
        alpha, momentum = batch.group["alpha"], batch.group["momentum"]
        squares = batch.buffers("square_avg")
        torch._foreach_mul_(squares, alpha)
        torch._foreach_addcmul_(squares, batch.raw, batch.raw, value=1 - alpha)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_add_(roots, batch.group["eps"])
        if not momentum:
            return list(torch._foreach_div(batch.grads, roots))
        buffers = batch.buffers("momentum_buffer")
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_addcdiv_(buffers, batch.grads, roots)
        return buffers
