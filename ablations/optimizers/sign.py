"""Sign descent: W <- W - lr sign(g)."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import nn

from algoprogress.ablations.optimizers import OptimizerConfig, optimizers, parameter_groups
from algoprogress.ablations.optimizers.costs import Cost, per_element
from algoprogress.ablations.optimizers.roles import Role
from algoprogress.ablations.optimizers.signum import SignumOptimizer


@optimizers.register("sign")
class Sign(OptimizerConfig):
    """Bernstein et al. 2018's signSGD: Adam with all its averaging off, and Signum without momentum."""

    name: Literal["sign"] = "sign"

    paper: ClassVar[str] = "Bernstein et al. 2018"
    geometry: ClassVar[str] = "l1→l∞ (sign)"
    rates: ClassVar[tuple[float, ...]] = (0.002, 0.004, 0.008)

    def build(self, model: nn.Module, learning_rate: float) -> SignumOptimizer:
        groups = parameter_groups(model, self.weight_decay)
        return SignumOptimizer(groups, learning_rate, **self.hyperparameters(), beta=0.0)

    def cost(self, shape: tuple[int, ...], role: Role) -> Cost:
        return per_element(shape, state=0, flop=3)
