"""Prodigy: Adam times an estimate d of the distance to the solution, which grows as the weights move away."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from algoprogress.ablations.optimizers import OptimizerConfig, optimizers, parameter_groups
from algoprogress.ablations.optimizers.base import Batch, FirstOrder
from algoprogress.ablations.optimizers.costs import Cost, per_element
from algoprogress.ablations.optimizers.roles import Role


@optimizers.register("prodigy")
class Prodigy(OptimizerConfig):
    """Mishchenko and Defazio 2023, algorithm 4. The learning rate is a factor on d, 1 in the paper.

    r <- beta3 r + lr d^2 <g, W_0 - W> / d_0, s <- beta3 s + lr d^2 g / d_0, d_next = max(d, r / ||s||_1);
    m <- beta1 m + (1 - beta1) d g, v <- beta2 v + (1 - beta2) d^2 g^2; W <- W - lr d m / (sqrt(v) + d_next eps).
    With all averaging off that is W - lr d sign(g): sign descent that finds its own rate.
    """

    name: Literal["prodigy"] = "prodigy"
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    beta3: float | None = Field(None, ge=0, lt=1, description="None: sqrt(beta2)")
    eps: float = Field(1e-8, gt=0)
    d0: float = Field(1e-6, gt=0, description="the first d; too small costs steps, too large cannot be taken back")
    d_coef: float = Field(1.0, gt=0, description="factor on the estimate")
    bias_correction: bool = Field(False, description="Adam's, on the rate")
    index: Literal["current", "next"] = Field(
        "current",
        description="the d that a step is taken with: from the gradients before it, as in the paper, which under a "
        "constant gradient gives steps of 1, 1, 1, 2, 3, 5, ... d0; or with its own gradient among them: 1, 1, 2, 4, 8",
    )

    paper: ClassVar[str] = "Mishchenko and Defazio 2023"
    geometry: ClassVar[str] = "l1→l∞ (sign)"
    rates: ClassVar[tuple[float, ...]] = (0.03125, 0.0625, 0.125)

    def build(self, model: nn.Module, learning_rate: float) -> ProdigyOptimizer:
        groups = parameter_groups(model, self.weight_decay)
        beta3 = math.sqrt(self.beta2) if self.beta3 is None else self.beta3
        return ProdigyOptimizer(groups, learning_rate, **self.hyperparameters() | {"beta3": beta3})

    def cost(self, shape: tuple[int, ...], role: Role) -> Cost:
        # m 3, v 4, root, eps, quotient, rate, difference; W_0 - W, its product with g 2, s 3, ||s||_1 2
        return per_element(shape, state=3 + bool(self.beta1), flop=12 - 3 * (not self.beta1) + 8)


class ProdigyOptimizer(FirstOrder):
    """d, r and the count of steps are kept with each parameter, and are the same for all that step together."""

    def joint_directions(self, batches: list[Batch]) -> list[list[Tensor]]:
        if not batches:
            return []
        for batch in batches:
            for state, param in zip(batch.states, batch.params, strict=True):
                if "start" not in state:
                    state["start"] = param.clone()
        group = batches[0].group
        shared = self._shared(group)
        d, lr = shared["d"], max(batch.rate for batch in batches)
        beta1, beta2, beta3 = group["beta1"], group["beta2"], group["beta3"]
        step = shared["step"] + 1
        correction = math.sqrt(1 - beta2**step) / (1 - beta1**step) if group["bias_correction"] else 1.0
        weight = d / group["d0"] * d * lr * correction
        r, s = beta3 * shared["r"], 0.0
        for batch in batches:
            away = torch._foreach_sub([state["start"] for state in batch.states], batch.params)
            r += weight * sum(float((g * a).sum()) for g, a in zip(batch.raw, away, strict=True))
            sums = batch.buffers("s")
            torch._foreach_mul_(sums, beta3)
            torch._foreach_add_(sums, batch.raw, alpha=weight)
            s += sum(float(n) for n in torch._foreach_norm(sums, 1))
        found = d if s == 0 else max(d, group["d_coef"] * r / s)  # s = 0: no gradient yet, nothing to learn from
        updates = [self._adam(batch, d, found, correction) for batch in batches]
        for batch in batches:
            for state in batch.states:
                state |= {"step": step, "d": found, "r": r, "used": d * correction}
        return updates

    def _shared(self, group: dict[str, Any]) -> dict[str, float]:
        """What the parameters that have stepped most often know."""
        known = [state for state in self.state.values() if "d" in state]
        return max(known, key=lambda state: state["step"]) if known else {"d": group["d0"], "r": 0.0, "step": 0}

    def _adam(self, batch: Batch, d: float, found: float, correction: float) -> list[Tensor]:
        group = batch.group
        means = list(torch._foreach_mul(batch.grads, d))
        if group["beta1"]:
            kept = batch.buffers("exp_avg")
            torch._foreach_lerp_(kept, means, 1 - group["beta1"])
            means = kept
        squares = batch.buffers("exp_avg_sq")
        torch._foreach_mul_(squares, group["beta2"])
        torch._foreach_addcmul_(squares, batch.raw, batch.raw, value=d * d * (1 - group["beta2"]))
        roots = torch._foreach_sqrt(squares)
        torch._foreach_add_(roots, found * group["eps"])
        updates = torch._foreach_div(means, roots)
        torch._foreach_mul_(updates, (found if group["index"] == "next" else d) * correction)
        return list(updates)

    def apply(self, batch: Batch, updates: list[Tensor]) -> None:
        decay = batch.group["weight_decay"]
        if decay:
            torch._foreach_mul_(batch.params, 1 - batch.rate * batch.states[0]["used"] * decay)
        torch._foreach_add_(batch.params, updates, alpha=-batch.rate)
