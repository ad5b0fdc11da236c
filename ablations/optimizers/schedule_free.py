"""Schedule-free AdamW: gradients at an interpolation y, steps on z, and the running average x as the model."""

from __future__ import annotations

import weakref
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from algoprogress.ablations.optimizers import OptimizerConfig, optimizers, parameter_groups
from algoprogress.ablations.optimizers.base import Batch, FirstOrder, debias
from algoprogress.ablations.optimizers.costs import Cost, per_element
from algoprogress.ablations.optimizers.roles import Role


@optimizers.register("schedule_free_adamw")
class ScheduleFreeAdamW(OptimizerConfig):
    """Defazio et al. 2024. Made for a constant rate after warm-up; decay is added to the step, at y.

    z <- z - lr (g / (sqrt(v) + eps) + decay y), x <- (1 - c) x + c z with c = lr_max^2 / sum lr_max^2,
    y = (1 - beta1) z + beta1 x. The weights hold y while the model trains; a forward pass in evaluation mode sees x.
    """

    name: Literal["schedule_free_adamw"] = "schedule_free_adamw"
    weight_decay: float = Field(0.01, ge=0, description="as AdamW's")
    beta1: float = Field(0.9, gt=0, lt=1, description="of the interpolation")
    beta2: float = Field(0.95, ge=0, lt=1, description="as AdamW's")
    eps: float = Field(1e-8, gt=0)

    paper: ClassVar[str] = "Defazio et al. 2024"
    geometry: ClassVar[str] = "l1→l∞ (sign)"
    rates: ClassVar[tuple[float, ...]] = (0.01, 0.02, 0.04)

    def build(self, model: nn.Module, learning_rate: float) -> ScheduleFreeOptimizer:
        groups = parameter_groups(model, self.weight_decay)
        optimizer = ScheduleFreeOptimizer(groups, learning_rate, **self.hyperparameters())
        _evaluate_the_average(model, optimizer)
        return optimizer

    def cost(self, shape: tuple[int, ...], role: Role) -> Cost:
        # v 4, correction, root, eps, quotient; y towards z 3, y and z along the step 2 each
        return per_element(shape, state=2, flop=15)


class ScheduleFreeOptimizer(FirstOrder):
    def directions(self, batch: Batch) -> list[Tensor]:
        beta2, steps = batch.group["beta2"], batch.advance()
        for state, param in zip(batch.states, batch.params, strict=True):
            if "z" not in state:
                state["z"] = param.clone()
        squares = batch.buffers("exp_avg_sq")
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, batch.raw, batch.raw, value=1 - beta2)
        roots = torch._foreach_div(squares, debias(beta2, steps))
        torch._foreach_sqrt_(roots)
        torch._foreach_add_(roots, batch.group["eps"])
        return list(torch._foreach_div(batch.grads, roots))

    def apply(self, batch: Batch, updates: list[Tensor]) -> None:
        rate, beta1, decay = batch.rate, batch.group["beta1"], batch.group["weight_decay"]
        shares = []
        for state in batch.states:
            state["rate_max"] = max(rate, state.get("rate_max", 0.0))
            state["weight_sum"] = state.get("weight_sum", 0.0) + state["rate_max"] ** 2
            shares.append(state["rate_max"] ** 2 / state["weight_sum"] if state["weight_sum"] else 0.0)
        if decay:
            updates = list(torch._foreach_add(updates, batch.params, alpha=decay))
        z = [state["z"] for state in batch.states]
        for param, to, share in zip(batch.params, z, shares, strict=True):
            param.lerp_(to, share)
        torch._foreach_add_(batch.params, torch._foreach_mul(updates, [rate * (beta1 * (1 - c) - 1) for c in shares]))
        torch._foreach_add_(z, updates, alpha=-rate)

    def average(self) -> dict[Tensor, Tensor]:
        """Parameter -> x, of those that have stepped: y + (1 - 1 / beta1) (z - y)."""
        found = {}
        for group in self.param_groups:
            for param in group["params"]:
                if "z" in self.state.get(param, {}):
                    found[param] = param.detach().lerp(self.state[param]["z"], 1 - 1 / group["beta1"])
        return found


def _evaluate_the_average(model: nn.Module, optimizer: ScheduleFreeOptimizer) -> None:
    """Put x in the place of y for each forward pass in evaluation mode, and y back, bit for bit, after it."""
    ours, theirs = weakref.ref(model), weakref.ref(optimizer)
    held: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def before(module: nn.Module, _: Any) -> None:
        found = theirs()
        if found is None or module is not ours() or module.training:
            return
        for param, x in found.average().items():
            held.append((param, param.detach().clone()))
            param.copy_(x)

    @torch.no_grad()
    def after(module: nn.Module, _: Any, __: Any) -> None:
        if module is ours():
            for param, y in held:
                param.copy_(y)
            held.clear()

    model.register_forward_pre_hook(before)
    model.register_forward_hook(after, always_call=True)
