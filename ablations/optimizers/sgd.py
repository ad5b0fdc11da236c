"""Stochastic gradient descent: W <- W - lr g."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from algoprogress.ablations.optimizers import OptimizerConfig, optimizers, parameter_groups
from algoprogress.ablations.optimizers.base import Batch, FirstOrder
from algoprogress.ablations.optimizers.costs import Cost, per_element
from algoprogress.ablations.optimizers.roles import Role


@optimizers.register("sgd")
class SGD(OptimizerConfig):
    """Robbins and Monro 1951. Decay, if any, is added to the gradient."""

    name: Literal["sgd"] = "sgd"

    paper: ClassVar[str] = "Robbins and Monro 1951"
    geometry: ClassVar[str] = "Frobenius"
    rates: ClassVar[tuple[float, ...]] = (1.0, 2.0, 4.0)
    decoupled: ClassVar[bool] = False

    def build(self, model: nn.Module, learning_rate: float) -> SGDOptimizer:
        groups = parameter_groups(model, self.weight_decay)
        return SGDOptimizer(groups, learning_rate, **self.hyperparameters())

    def cost(self, shape: tuple[int, ...], role: Role) -> Cost:
        return per_element(shape, state=0, flop=2)


class SGDOptimizer(FirstOrder):
    def directions(self, batch: Batch) -> list[Tensor]:
        return batch.grads
