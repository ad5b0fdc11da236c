"""Adam: bias-corrected means of the gradient and of its square, W <- W - lr m / (sqrt(v) + eps)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from algoprogress.ablations.optimizers import OptimizerConfig, optimizers, parameter_groups


@optimizers.register("adam")
class Adam(OptimizerConfig):
    """Kingma and Ba 2015. Decay, if any, is added to the gradient (the L2 form; see AdamW for the decoupled one)."""

    name: Literal["adam"] = "adam"
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.95, ge=0, lt=1, description="Brown et al. 2020 for language models; 0.999 in the paper")
    eps: float = Field(1e-8, gt=0)

    def build(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        groups = parameter_groups(model, self.weight_decay)
        return torch.optim.Adam(groups, lr=learning_rate, betas=(self.beta1, self.beta2), eps=self.eps, fused=True)
