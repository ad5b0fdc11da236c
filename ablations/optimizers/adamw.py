"""AdamW: Adam's step, and apart from it W <- (1 - lr decay) W."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from algoprogress.ablations.optimizers import OptimizerConfig, optimizers, parameter_groups


@optimizers.register("adamw")
class AdamW(OptimizerConfig):
    """Loshchilov and Hutter 2019."""

    name: Literal["adamw"] = "adamw"
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.95, ge=0, lt=1, description="Brown et al. 2020 for language models; 0.999 in the paper")
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.01, ge=0, description="0.01: Gundlach et al. 2025; on matrices alone")

    def build(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        groups = parameter_groups(model, self.weight_decay)
        return torch.optim.AdamW(groups, lr=learning_rate, betas=(self.beta1, self.beta2), eps=self.eps, fused=True)
