"""Which way would each optimizer go from the same place?  All are fed the gradients of one trajectory.

After Pan and Li 2023 (arXiv 2306.00204): optimizers that train each for themselves arrive at places of different
curvature, which says nothing of the directions they take.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from algoprogress.ablations.optimizers import OptimizerConfig, optimizers
from algoprogress.ablations.optimizers.clipping import CoordinateClipping
from algoprogress.analysis.curvature.problem import Block


class Follower:
    """An optimizer whose states see every gradient of a trajectory and whose steps lead nowhere.

    Weight decay is off: it is no answer to the gradient. The learning rate is the middle one of those that the
    optimizer is tuned over; the sharpness of a direction does not depend on it.

    Args:
        name: a registered optimizer.
        model: of which it keeps a copy.
    """

    def __init__(self, name: str, model: nn.Module) -> None:
        config = optimizers[name].model_validate({}).model_copy(update={"weight_decay": 0.0})
        self.model = copy.deepcopy(model)
        self.optimizer = config.build(self.model, middle_rate(config))

    def update(self, model: nn.Module) -> dict[str, Tensor]:
        """What one step takes the model's parameters by, by name; call it once at each step of the trajectory.

        Raises:
            ValueError: the model has no gradient, as after the last step of a run.
        """
        theirs = dict(model.named_parameters())
        if all(p.grad is None for p in theirs.values()):
            raise ValueError("there is no gradient to follow after the last step of a run: look at an earlier step")
        ours = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, p in ours.items():
                p.copy_(theirs[name])
                grad = theirs[name].grad
                p.grad = None if grad is None else grad.clone()
            self.optimizer.step()
            return {name: p - theirs[name] for name, p in ours.items()}


def middle_rate(config: OptimizerConfig) -> float:
    return config.rates[len(config.rates) // 2]


def clipped(update: dict[str, Tensor], fraction: float) -> dict[str, Tensor]:
    """The update with its largest coordinates clipped, that share of all jointly, as optimizers clip their own."""
    found = CoordinateClipping(fraction=fraction, of="update")(list(update.values()))
    return dict(zip(update, found, strict=True))


def as_vector(block: Block, update: dict[str, Tensor], model: nn.Module) -> Tensor:
    """The update as one float64 vector of the block's coordinates."""
    of = {id(p): update[name] for name, p in model.named_parameters()}
    return block.gather([of[id(p)][None] for p in block.parameters()])[0]
