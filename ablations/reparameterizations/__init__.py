"""Reparameterizations of a model's weights: how a weight is expressed in what is trained, one file each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from algoprogress.ablations.config import Config
from algoprogress.ablations.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import nn

# Name of a linear layer in its model -> (m outputs, n inputs, K): K weights of m x n, stacked in one layer.
Shapes = Mapping[str, tuple[int, int, int]]


class ReparameterizationConfig(Config):
    """How a model's weights are expressed in trained parameters.

    The trainer changes a model through `apply` and `after_step` alone; the other methods are functions of the recipe.
    """

    name: str

    def apply(self, model: nn.Module) -> None:
        """Replace weights in place, before the optimizer is built; random numbers are from torch's generator."""
        raise NotImplementedError

    def after_step(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Called after each optimizer step; `step` counts from 0."""
        raise NotImplementedError

    def clip_factor(self, step: int) -> float:
        """What the run's gradient clip is multiplied by at a step, which counts from 0."""
        return 1.0

    def check(self, layers: Shapes) -> None:
        """Whether a model with these linear layers can be expressed so.

        Raises:
            ValueError: they cannot; the message says which and what to do.
        """
        raise NotImplementedError

    def flop_per_step(self, layers: Shapes) -> float:
        """FLOP that one training step costs beyond the plain model's, forward and backward; matrix products only."""
        raise NotImplementedError

    def trained_shapes(self, m: int, n: int, K: int) -> list[tuple[int, ...]]:
        """Shapes of the trained parameters that stand for K stacked weights of m x n."""
        raise NotImplementedError

    def n_trained(self, layers: Shapes) -> int:
        """Trained parameters that stand for the weights of these layers; biases are not among them."""
        return sum(math.prod(s) for layer in layers.values() for s in self.trained_shapes(*layer))


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of a model by name, without its output layer `head`."""
    from torch import nn

    head = getattr(model, "head", None)
    return {
        name: module for name, module in model.named_modules() if isinstance(module, nn.Linear) and module is not head
    }


def shape(layer: nn.Linear) -> tuple[int, int, int]:
    """(m, n, K) of a linear layer; K is its attribute `n_stacked`, where it has one."""
    K = int(getattr(layer, "n_stacked", 1))
    return layer.out_features // K, layer.in_features, K


reparameterizations: Registry[type[ReparameterizationConfig]] = Registry("reparameterization", __name__)
