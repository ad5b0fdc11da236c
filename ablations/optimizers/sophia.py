"""A step of Sophia's form, m / max(gamma h, eps) clipped to [-1, 1], with squared gradients as curvature h."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from algoprogress.ablations.config import Whole
from algoprogress.ablations.optimizers import OptimizerConfig, optimizers, parameter_groups
from algoprogress.ablations.optimizers.base import Batch, FirstOrder
from algoprogress.ablations.optimizers.costs import Cost, per_element
from algoprogress.ablations.optimizers.roles import Role


@optimizers.register("sophia_ef")
class SophiaEF(OptimizerConfig):
    """Liu et al. 2023, algorithm 3, with the empirical Fisher as its diagonal.

    Sophia-G squares the gradient of a loss whose labels are drawn from the model; here the labels are the data's, so
    that a step needs no second backward pass. The difference counts: the two diagonals agree only where the model
    fits the data.
    """

    name: Literal["sophia_ef"] = "sophia_ef"
    weight_decay: float = Field(0.01, ge=0, description="as AdamW's")
    beta1: float = Field(0.965, ge=0, lt=1, description="the authors' code")
    beta2: float = Field(0.99, ge=0, lt=1, description="the authors' code")
    gamma: float = Field(100.0, gt=0, description="gamma B of the paper: 0.05 for Sophia-G, at B = 2,048 tokens")
    eps: float = Field(1e-12, gt=0, description="against division by zero")
    every: Whole = Field(10, ge=1, description="steps between two looks at the curvature: Liu et al. 2023")

    paper: ClassVar[str] = "Liu et al. 2023"
    geometry: ClassVar[str] = "none (clipped diagonal Newton)"
    rates: ClassVar[tuple[float, ...]] = (0.0005, 0.001, 0.002)

    def build(self, model: nn.Module, learning_rate: float) -> SophiaOptimizer:
        groups = parameter_groups(model, self.weight_decay)
        return SophiaOptimizer(groups, learning_rate, **self.hyperparameters())

    def cost(self, shape: tuple[int, ...], role: Role) -> Cost:
        # m 3, gamma, maximum, quotient, two clamps, rate, difference; h 4 at some steps
        return per_element(shape, state=2, flop=10 + 4 / self.every)


class SophiaOptimizer(FirstOrder):
    def directions(self, batch: Batch) -> list[Tensor]:
        group, steps = batch.group, batch.advance()
        means, curvatures = batch.buffers("exp_avg"), batch.buffers("curvature")
        torch._foreach_lerp_(means, batch.grads, 1 - group["beta1"])
        due = [i for i, step in enumerate(steps) if (step - 1) % group["every"] == 0]
        if due:
            torch._foreach_lerp_([curvatures[i] for i in due], [batch.raw[i].square() for i in due], 1 - group["beta2"])
        scales = torch._foreach_mul(curvatures, group["gamma"])
        torch._foreach_clamp_min_(scales, group["eps"])
        updates = torch._foreach_div(means, scales)
        torch._foreach_clamp_min_(updates, -1.0)
        torch._foreach_clamp_max_(updates, 1.0)
        return list(updates)
