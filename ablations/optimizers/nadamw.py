"""NAdamW: Adam with Nesterov's look-ahead in the mean of the gradient, and decoupled decay."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from algoprogress.ablations.optimizers import OptimizerConfig, optimizers, parameter_groups
from algoprogress.ablations.optimizers.base import Batch, FirstOrder, debias
from algoprogress.ablations.optimizers.costs import Cost, per_element
from algoprogress.ablations.optimizers.roles import Role


@optimizers.register("nadamw")
class NAdamW(OptimizerConfig):
    """Dozat 2016, decay as in Loshchilov and Hutter 2019.

    W <- W - lr ((1 - mu_t) g / (1 - prod_{i<=t} mu_i) + mu_{t+1} m / (1 - prod_{i<=t+1} mu_i)) / (sqrt(v) + eps) with
    mu_t = beta1 (1 - 0.96^(t psi) / 2), v bias-corrected, m = beta1 m + (1 - beta1) g.
    """

    name: Literal["nadamw"] = "nadamw"
    weight_decay: float = Field(0.01, ge=0, description="as AdamW's")
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.95, ge=0, lt=1, description="as AdamW's")
    eps: float = Field(1e-8, gt=0)
    momentum_decay: float = Field(4e-3, ge=0, description="psi: Dozat 2016")

    paper: ClassVar[str] = "Dozat 2016"
    geometry: ClassVar[str] = "l1→l∞ (sign)"
    rates: ClassVar[tuple[float, ...]] = (0.0025, 0.005, 0.01)

    def build(self, model: nn.Module, learning_rate: float) -> NAdamWOptimizer:
        groups = parameter_groups(model, self.weight_decay)
        return NAdamWOptimizer(groups, learning_rate, **self.hyperparameters())

    def cost(self, shape: tuple[int, ...], role: Role) -> Cost:
        # as Adam's 13, and the gradient's own term 2
        return per_element(shape, state=2, flop=15)


class NAdamWOptimizer(FirstOrder):
    def directions(self, batch: Batch) -> list[Tensor]:
        beta1, beta2, psi = (batch.group[k] for k in ("beta1", "beta2", "momentum_decay"))
        steps = batch.advance()
        exp_avgs, exp_avg_sqs = batch.buffers("exp_avg"), batch.buffers("exp_avg_sq")
        torch._foreach_lerp_(exp_avgs, batch.grads, 1 - beta1)
        torch._foreach_mul_(exp_avg_sqs, beta2)
        torch._foreach_addcmul_(exp_avg_sqs, batch.raw, batch.raw, value=1 - beta2)
        roots = torch._foreach_div(exp_avg_sqs, debias(beta2, steps))
        torch._foreach_sqrt_(roots)
        torch._foreach_add_(roots, batch.group["eps"])
        of_grad, of_mean = [], []
        for state, step in zip(batch.states, steps, strict=True):
            mu, mu_next = (beta1 * (1 - 0.5 * 0.96 ** (t * psi)) for t in (step, step + 1))
            product = state["mu_product"] = state.get("mu_product", 1.0) * mu
            of_grad.append((1 - mu) / (1 - product))
            of_mean.append(mu_next / (1 - product * mu_next))
        ahead = torch._foreach_mul(batch.grads, of_grad)
        torch._foreach_add_(ahead, torch._foreach_mul(exp_avgs, of_mean))
        return list(torch._foreach_div(ahead, roots))
