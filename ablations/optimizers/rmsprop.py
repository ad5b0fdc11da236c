"""RMSprop: v <- alpha v + (1 - alpha) g^2, W <- W - lr g / (sqrt(v) + eps)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from algoprogress.ablations.optimizers import OptimizerConfig, optimizers, parameter_groups


@optimizers.register("rmsprop")
class RMSprop(OptimizerConfig):
    """Tieleman and Hinton 2012. Decay, if any, is added to the gradient."""

    name: Literal["rmsprop"] = "rmsprop"
    alpha: float = Field(0.99, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0)
    momentum: float = Field(0.0, ge=0, lt=1)

    def build(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        groups = parameter_groups(model, self.weight_decay)
        return torch.optim.RMSprop(
            groups, lr=learning_rate, alpha=self.alpha, eps=self.eps, momentum=self.momentum, foreach=True
        )
