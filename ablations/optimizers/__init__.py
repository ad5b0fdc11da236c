"""The optimizers that are compared, one file each: a config that builds torch's own optimizer on explicit groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from algoprogress.ablations.config import Config
from algoprogress.ablations.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import nn


class OptimizerConfig(Config):
    """An optimizer's recipe without its learning rate, which the run and its schedule set."""

    name: str
    weight_decay: float = Field(0.0, ge=0, description="on matrices of linear and recurrent layers alone")

    def build(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        """The live optimizer over `parameter_groups(model, self.weight_decay)`."""
        raise NotImplementedError


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Two explicit groups: decayed matrices; and norms, biases and embeddings, which never decay.

    Roles come from the module that owns a parameter, never from its name. A tied output layer is an embedding.
    """
    from torch import nn

    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
    matrices = {
        id(p)
        for m in model.modules()
        if isinstance(m, nn.Linear | nn.LSTM)
        for p in m.parameters(recurse=False)
        if p.ndim == 2 and id(p) not in embeddings
    }
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if id(p) in matrices], "weight_decay": weight_decay},
        {"params": [p for p in trainable if id(p) not in matrices], "weight_decay": 0.0},
    ]
    return [g for g in groups if g["params"]]


optimizers: Registry[type[OptimizerConfig]] = Registry("optimizer", __name__)
