"""The optimizers that are compared, one file each: a config that builds a live optimizer on explicit groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from algoprogress.ablations.config import Config
from algoprogress.ablations.optimizers.clipping import Clipping
from algoprogress.ablations.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import nn

    from algoprogress.ablations.optimizers.costs import Cost
    from algoprogress.ablations.optimizers.roles import Role


class OptimizerConfig(Config):
    """An optimizer's recipe without its learning rate, which the run and its schedule set."""

    name: str
    weight_decay: float = Field(0.0, ge=0, description="on matrices of linear and recurrent layers alone")
    clipping: Clipping | None = Field(None, description="within the optimizer, after the run's own global-norm clip")

    paper: ClassVar[str]
    geometry: ClassVar[str]  # the norm whose steepest descent a step is when all averaging is off
    # Where to look for the peak learning rate, a factor 2 apart. The middle was within 0.01 nats/token of the best of a
    # sweep in factors of 2, with the defaults and one seed, on the `modern` Transformer of width 32 with one layer, at
    # 3e10 FLOP and 256 bytes a step.
    rates: ClassVar[tuple[float, ...]]
    decoupled: ClassVar[bool] = True  # decay W <- (1 - lr decay) W apart from the step; else added to the gradient
    # whether a step follows a rounding error of its gradient by no more than that: not so where eigenvectors of nearly
    # equal eigenvalues, or inverse roots of eigenvalues near 0, are taken
    continuous: ClassVar[bool] = True

    # whether a step's entries have one size whatever the gradient's: what muP's rates of matrices are for
    entrywise: ClassVar[bool] = False

    def hyperparameters(self) -> dict[str, Any]:
        """Keyword arguments of the live optimizer: the recipe's own numbers and choices, how decay acts, and clipping.

        A field that is a recipe itself, as the geometry of a role is, belongs to the groups of parameters.
        """
        own = {
            name: getattr(self, name) for name in type(self).model_fields if name not in OptimizerConfig.model_fields
        }
        numbers = {name: value for name, value in own.items() if not isinstance(value, Config)}
        return numbers | {"decoupled": self.decoupled, "clipping": self.clipping}

    def build(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        """The live optimizer over all trainable parameters, decay on matrices alone."""
        raise NotImplementedError

    def cost(self, shape: tuple[int, ...], role: Role) -> Cost:
        """What one parameter tensor costs, decay and clipping not counted."""
        raise NotImplementedError

    def total_cost(self, model: nn.Module) -> Cost:
        """Numbers kept and FLOP of one step over all trainable parameters, decay and clipping counted."""
        from algoprogress.ablations.optimizers.costs import Cost
        from algoprogress.ablations.optimizers.roles import MATRICES, roles

        total = Cost()
        for parameter, role in roles(model).items():
            n = parameter.numel()
            if n == 0:
                continue
            decay = (1 if self.decoupled else 2) if self.weight_decay and role in MATRICES else 0
            clip = self.clipping.flop_per_element if self.clipping else 0
            total = total.plus(self.cost(tuple(parameter.shape), role)).plus(Cost(elementwise=n * (decay + clip)))
        return total

    def state_bytes(self, model: nn.Module) -> float:
        """Memory kept from step to step beside weights and gradients, at the precision of the weights."""
        sizes = [p.element_size() for p in model.parameters()]
        return self.total_cost(model).state * (max(sizes) if sizes else 0)

    def flop_per_step(self, model: nn.Module) -> float:
        """FLOP of one step, averaged over the steps between two factorizations where there are any."""
        return self.total_cost(model).flop


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two explicit groups: decayed matrices; and norms, biases and embeddings, which never decay.

    Roles come from the module that owns a parameter, never from its name. A tied output layer is an embedding.
    A model with a `hidden_rate` has its hidden matrices in a group of their own, with that share of the rate.
    """
    from algoprogress.ablations.optimizers.roles import MATRICES, roles

    found = roles(model)
    groups: list[dict[str, Any]] = [
        {"params": [p for p, role in found.items() if role in MATRICES], "weight_decay": weight_decay},
        {"params": [p for p, role in found.items() if role not in MATRICES], "weight_decay": 0.0},
    ]
    if (rate := getattr(model, "hidden_rate", 1.0)) != 1.0:
        hidden = {p for p, role in found.items() if role == "linear"}
        groups[0]["params"] = [p for p in groups[0]["params"] if p not in hidden]
        groups.append({"params": list(hidden), "weight_decay": weight_decay, "rate": rate})
    return [g for g in groups if g["params"]]


def role_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """One group for each role that the model has, for optimizers that treat roles differently; key `role`."""
    from algoprogress.ablations.optimizers.roles import MATRICES, ROLES, roles

    found = roles(model)
    groups: list[dict[str, Any]] = [
        {
            "params": [p for p, role in found.items() if role == wanted],
            "weight_decay": weight_decay if wanted in MATRICES else 0.0,
            "role": wanted,
        }
        for wanted in ROLES
    ]
    return [g for g in groups if g["params"]]


optimizers: Registry[type[OptimizerConfig]] = Registry("optimizer", __name__)
