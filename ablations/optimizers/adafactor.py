"""Adafactor: Adam's second moment as a rank-one table, steps relative to the size of the weights."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from algoprogress.ablations.optimizers import OptimizerConfig, optimizers, parameter_groups
from algoprogress.ablations.optimizers.base import Batch, FirstOrder
from algoprogress.ablations.optimizers.costs import Cost
from algoprogress.ablations.optimizers.roles import Role


@optimizers.register("adafactor")
class Adafactor(OptimizerConfig):
    """Shazeer and Stern 2018 without momentum, as torch.optim.Adafactor has it.

    V = r c^T / mean(r) of running row and column means of g^2 with weight t^-0.8 on the newest; u = g / sqrt(V),
    divided by max(1, RMS(u) / d); W <- W - max(eps, RMS(W)) min(lr, 1 / sqrt(t)) u. Vectors keep all of V.
    """

    name: Literal["adafactor"] = "adafactor"
    beta2_decay: float = Field(0.8, gt=0, description="weight of the newest square is t^-0.8: section 7.2")
    eps: float = Field(1e-3, gt=0, description="least size of the weights that steps are relative to: section 8")
    d: float = Field(1.0, gt=0, description="largest RMS of an update: section 6")

    paper: ClassVar[str] = "Shazeer and Stern 2018"
    geometry: ClassVar[str] = "none (rank-one Adam)"
    rates: ClassVar[tuple[float, ...]] = (0.0125, 0.025, 0.05)

    def build(self, model: nn.Module, learning_rate: float) -> AdafactorOptimizer:
        groups = parameter_groups(model, self.weight_decay)
        return AdafactorOptimizer(groups, learning_rate, **self.hyperparameters())

    def cost(self, shape: tuple[int, ...], role: Role) -> Cost:
        n = math.prod(shape)
        if len(shape) < 2:
            # v 4, root, quotient, RMS of u and of W 2 each, rate with both sizes, difference
            return Cost(state=n, elementwise=12 * n)
        lines = n // shape[-1] + n // shape[-2]
        # two means of squares 2 each, outer product, quotient, root, quotient, two RMS 2 each, rate, difference
        return Cost(state=lines, elementwise=14 * n + 3 * lines)


class AdafactorOptimizer(FirstOrder):
    def directions(self, batch: Batch) -> list[Tensor]:
        group, rate = batch.group, batch.rate
        updates = []
        for param, grad, raw, state, step in zip(
            batch.params, batch.grads, batch.raw, batch.states, batch.advance(), strict=True
        ):
            newest = step ** -group["beta2_decay"]
            tiny = torch.finfo(param.dtype).eps
            if grad.ndim > 1:
                rows = _mean(state, "row_var", raw.square().mean(-1, keepdim=True), newest)
                columns = _mean(state, "col_var", raw.square().mean(-2, keepdim=True), newest)
                variance = rows @ columns / rows.mean(-2, keepdim=True).clamp(min=tiny)
            else:
                variance = _mean(state, "variance", raw.square(), newest)
            update = grad / variance.clamp(min=tiny**2).sqrt()
            size = param.square().mean().sqrt().clamp(min=group["eps"])
            capped = min(rate, step**-0.5) / rate if rate else 0.0
            updates.append(update * (size * capped / (update.square().mean().sqrt() / group["d"]).clamp(min=1.0)))
        return updates


def _mean(state: dict[str, Tensor], name: str, value: Tensor, newest: float) -> Tensor:
    if name not in state:
        state[name] = torch.zeros_like(value)
    return state[name].lerp_(value, newest)
