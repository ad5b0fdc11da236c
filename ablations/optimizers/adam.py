"""Adam: bias-corrected means of the gradient and of its square, W <- W - lr m / (sqrt(v) + eps)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from algoprogress.ablations.optimizers import OptimizerConfig, optimizers, parameter_groups
from algoprogress.ablations.optimizers.base import Batch, FirstOrder, debias
from algoprogress.ablations.optimizers.costs import Cost, per_element
from algoprogress.ablations.optimizers.roles import Role


@optimizers.register("adam")
class Adam(OptimizerConfig):
    """Kingma and Ba 2015. Decay, if any, is added to the gradient (the L2 form; see AdamW for the decoupled one)."""

    name: Literal["adam"] = "adam"
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.95, ge=0, lt=1, description="Brown et al. 2020 for language models; 0.999 in the paper")
    eps: float = Field(1e-8, gt=0)

    paper: ClassVar[str] = "Kingma and Ba 2015"
    geometry: ClassVar[str] = "l1→l∞ (sign)"
    rates: ClassVar[tuple[float, ...]] = (0.0025, 0.005, 0.01)
    decoupled: ClassVar[bool] = False
    entrywise: ClassVar[bool] = True

    def build(self, model: nn.Module, learning_rate: float) -> AdamOptimizer:
        groups = parameter_groups(model, self.weight_decay)
        return AdamOptimizer(groups, learning_rate, **self.hyperparameters(), fused=True)

    def cost(self, shape: tuple[int, ...], role: Role) -> Cost:
        # m 3, v 4, root, correction, eps, quotient, rate with the other correction, difference
        return per_element(shape, state=2, flop=13)


class AdamOptimizer(FirstOrder):
    """Groups have beta1, beta2 and eps; `fused` makes torch restore the step where the kernel wants it."""

    def directions(self, batch: Batch) -> list[Tensor]:
        return adam_directions(batch)

    def fused(self, batch: Batch) -> bool:
        return adam_fused(batch, self.decoupled)


def _state(batch: Batch) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    for state, param in zip(batch.states, batch.params, strict=True):
        if "step" not in state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=param.device)
    return batch.buffers("exp_avg"), batch.buffers("exp_avg_sq"), [state["step"] for state in batch.states]


def adam_fused(batch: Batch, decoupled: bool) -> bool:
    """The whole step of a group in torch's own kernel; False, and nothing done, where that kernel does not apply.

    torch.optim reaches the same kernel by way of sorting the tensors by device and precision at each step, which for
    small models takes longer than the step.
    """
    if batch.raw is not batch.grads or len({(p.dtype, p.device) for p in batch.params}) > 1:
        return False
    exp_avgs, exp_avg_sqs, steps = _state(batch)
    torch._foreach_add_(steps, 1)
    kernel = torch._fused_adamw_ if decoupled else torch._fused_adam_
    kernel(
        batch.params,
        batch.grads,
        exp_avgs,
        exp_avg_sqs,
        [],
        steps,
        lr=batch.rate,
        beta1=batch.group["beta1"],
        beta2=batch.group["beta2"],
        weight_decay=batch.group["weight_decay"],
        eps=batch.group["eps"],
        amsgrad=False,
        maximize=False,
    )
    return True


def adam_directions(batch: Batch) -> list[Tensor]:
    """(m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps), for clipping and for groups of mixed precision."""
    beta1, beta2 = batch.group["beta1"], batch.group["beta2"]
    exp_avgs, exp_avg_sqs, steps = _state(batch)
    torch._foreach_add_(steps, 1)
    torch._foreach_lerp_(exp_avgs, batch.grads, 1 - beta1)
    torch._foreach_mul_(exp_avg_sqs, beta2)
    torch._foreach_addcmul_(exp_avg_sqs, batch.raw, batch.raw, value=1 - beta2)
    at = [int(step.item()) for step in steps]
    roots = torch._foreach_sqrt(exp_avg_sqs)
    torch._foreach_div_(roots, [c**0.5 for c in debias(beta2, at)])
    torch._foreach_add_(roots, batch.group["eps"])
    means = torch._foreach_div(exp_avgs, debias(beta1, at))
    return list(torch._foreach_div(means, roots))
