"""The very deep plain network of Simonyan and Zisserman 2015: 3 x 3 convolutions and maxima, then linear layers.

Shapes: B images, C channels, S pixels a side, V classes.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from algoprogress.ablations import ops
from algoprogress.ablations.architectures import architectures
from algoprogress.ablations.architectures.images import (
    Convolution,
    ImageArchitecture,
    convolution_flop,
    image_shape,
    initialise,
    pixels,
)
from algoprogress.ablations.config import Whole

STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # A, B, D, E of table 1
GROWTH = (1, 2, 4, 8, 8)  # channels of a stage over those of the first


@architectures.register("vgg")
class VGG(ImageArchitecture):
    """Five stages of convolutions, each ending in a maximum over 2 x 2, and two hidden linear layers."""

    name: Literal["vgg"] = "vgg"
    width: Whole = Field(8, ge=1, description="channels of the first stage")
    depth: Literal[11, 13, 16, 19] = Field(16, description="layers, as the paper counts them")
    batch_norm: bool = Field(False, description="a norm behind each convolution; the paper is older than it")
    fc_width: Whole = Field(64, ge=1, description="of the two hidden linear layers")
    fc_side: Whole = Field(1, ge=1, description="pixels a side that the convolutions' result is averaged to; paper: 7")
    least_side: Whole = Field(
        2, ge=1, description="a maximum that would leave fewer pixels a side than this is left out, for small images"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="behind the hidden linear layers")

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "vgg16": {"width": 64, "fc_width": 4096, "fc_side": 7, "dropout": 0.5},
        "vgg16_bn": {"width": 64, "fc_width": 4096, "fc_side": 7, "dropout": 0.5, "batch_norm": True},
        "vgg16_small": {"width": 8, "fc_width": 64},
        "vgg16_bn_small": {"width": 8, "fc_width": 64, "batch_norm": True},
    }

    @property
    def batch_statistics(self) -> bool:  # type: ignore[override]
        return self.batch_norm

    def build(self, vocab_size: int, context: int) -> VGGModel:
        return VGGModel(self, vocab_size, context)

    def halved(self, side: int) -> int:
        """The side behind a stage whose convolutions have this side."""
        return side // 2 if side // 2 >= self.least_side else side

    def convolutions(self, context: int) -> list[Convolution]:
        c_in, side = image_shape(context)
        found = []
        for n, growth in zip(STAGES[self.depth], GROWTH, strict=True):
            for _ in range(n):
                found.append(Convolution(c_in, growth * self.width, 3, side))
                c_in = growth * self.width
            side = self.halved(side)
        return found

    def dense(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of the hidden linear layers."""
        return [(GROWTH[-1] * self.width * self.fc_side**2, self.fc_width), (self.fc_width, self.fc_width)]

    def parameters(self, vocab_size: int, context: int) -> tuple[int, int]:
        norm = 2 if self.batch_norm else 0
        n = sum(c.weights + (1 + norm) * c.c_out for c in self.convolutions(context))
        n += sum(d_in * d_out + d_out for d_in, d_out in self.dense())
        return n, n + (self.fc_width + 1) * vocab_size

    def forward_flop(self, vocab_size: int, context: int) -> dict[str, float]:
        dense = 2.0 * sum(d_in * d_out for d_in, d_out in self.dense())
        return convolution_flop(self.convolutions(context), dense, 2.0 * self.fc_width * vocab_size, context)


class VGGModel(nn.Module):
    def __init__(self, c: VGG, vocab_size: int, context: int) -> None:
        super().__init__()
        self.channels, self.side = image_shape(context)
        layers = c.convolutions(context)
        self.conv = nn.ModuleList(x.build(bias=True) for x in layers)
        self.norm = nn.ModuleList(nn.BatchNorm2d(x.c_out) if c.batch_norm else nn.Identity() for x in layers)
        ends = {sum(STAGES[c.depth][: i + 1]) - 1 for i in range(len(GROWTH))}
        self.pooled = [i in ends and c.halved(layer.side) < layer.side for i, layer in enumerate(layers)]
        self.fc_side = c.fc_side
        self.fc = nn.ModuleList(nn.Linear(d_in, d_out) for d_in, d_out in c.dense())
        self.dropout = nn.Dropout(c.dropout)
        self.head = nn.Linear(c.fc_width, vocab_size)
        initialise(self, self.head)

    def forward(self, values_BT: Tensor, state: None = None) -> tuple[Tensor, None]:
        x_BCSS = pixels(values_BT, self.channels, self.side, self.head.weight)
        for convolution, norm, pooled in zip(self.conv, self.norm, self.pooled, strict=True):
            x_BCSS = norm(convolution(x_BCSS)).relu()
            x_BCSS = F.max_pool2d(x_BCSS, 2) if pooled else x_BCSS
        x_BD = F.adaptive_avg_pool2d(x_BCSS, self.fc_side).flatten(1)
        for layer in self.fc:
            x_BD = self.dropout(ops.linear(layer, x_BD).relu())  # type: ignore[arg-type]
        return ops.linear(self.head, x_BD)[:, None], None
