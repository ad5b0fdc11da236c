"""Stochastic gradient descent: W <- W - lr g."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from algoprogress.ablations.optimizers import OptimizerConfig, optimizers, parameter_groups


@optimizers.register("sgd")
class SGD(OptimizerConfig):
    """Robbins and Monro 1951. Decay, if any, is added to the gradient."""

    name: Literal["sgd"] = "sgd"

    def build(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameter_groups(model, self.weight_decay), lr=learning_rate, fused=True)
