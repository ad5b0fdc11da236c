"""Reparameterizations of a model's weights. None is built yet; the two seams that the trainer calls are here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from algoprogress.ablations.config import Config
from algoprogress.ablations.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import nn


class ReparameterizationConfig(Config):
    """How a model's weights are expressed in trained parameters."""

    name: str

    def apply(self, model: nn.Module) -> None:
        """Replace weights in place, before the optimizer is built."""
        raise NotImplementedError

    def after_step(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Called after each optimizer step."""
        raise NotImplementedError


reparameterizations: Registry[type[ReparameterizationConfig]] = Registry("reparameterization", __name__)
