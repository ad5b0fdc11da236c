"""Heavy ball: m <- beta m + g, W <- W - lr m."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from algoprogress.ablations.optimizers import OptimizerConfig, optimizers, parameter_groups


@optimizers.register("momentum")
class Momentum(OptimizerConfig):
    """Polyak 1964; with `nesterov`, Sutskever et al. 2013. Decay, if any, is added to the gradient."""

    name: Literal["momentum"] = "momentum"
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False

    def build(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        groups = parameter_groups(model, self.weight_decay)
        return torch.optim.SGD(groups, lr=learning_rate, momentum=self.momentum, nesterov=self.nesterov, fused=True)
