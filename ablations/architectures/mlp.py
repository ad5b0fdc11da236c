"""Multilayer perceptron: every pixel to every unit, and no more.

Shapes: B images, T values of each, D width, V classes.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from algoprogress.ablations import ops
from algoprogress.ablations.architectures import architectures
from algoprogress.ablations.architectures.images import ImageArchitecture, image_shape, initialise, pixels
from algoprogress.ablations.config import Whole


@architectures.register("mlp")
class MLP(ImageArchitecture):
    """Hidden layers of one width with ReLUs between them."""

    name: Literal["mlp"] = "mlp"
    width: Whole = Field(64, ge=1)
    n_layers: Whole = Field(3, ge=1, description="hidden layers")
    dropout: float = Field(0.0, ge=0, lt=1, description="behind each hidden layer")

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "mlp_small": {"width": 64, "n_layers": 3},
        # the ReLU network for MNIST of Srivastava et al. 2014, whose dropout is 0.5
        "mlp_large": {"width": 1024, "n_layers": 3, "dropout": 0.5},
    }

    def build(self, vocab_size: int, context: int) -> MLPModel:
        return MLPModel(self, vocab_size, context)

    def parameters(self, vocab_size: int, context: int) -> tuple[int, int]:
        d = self.width
        n = (context + 1) * d + (self.n_layers - 1) * (d + 1) * d
        return n, n + (d + 1) * vocab_size

    def forward_flop(self, vocab_size: int, context: int) -> dict[str, float]:
        d = self.width
        hidden = 2.0 * (self.n_layers - 1) * d * d
        return {"input": 2.0 * d, "layers": hidden / context, "output": 2.0 * d * vocab_size / context}


class MLPModel(nn.Module):
    def __init__(self, c: MLP, vocab_size: int, context: int) -> None:
        super().__init__()
        self.channels, self.side = image_shape(context)
        self.fc = nn.ModuleList(nn.Linear(c.width if i else context, c.width) for i in range(c.n_layers))
        self.dropout = nn.Dropout(c.dropout)
        self.head = nn.Linear(c.width, vocab_size)
        initialise(self, self.head)

    def forward(self, values_BT: Tensor, state: None = None) -> tuple[Tensor, None]:
        x_BD = pixels(values_BT, self.channels, self.side, self.head.weight).flatten(1)
        for layer in self.fc:
            x_BD = self.dropout(ops.linear(layer, x_BD).relu())  # type: ignore[arg-type]
        return ops.linear(self.head, x_BD)[:, None], None
