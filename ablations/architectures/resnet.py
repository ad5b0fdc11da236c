"""Residual network of He et al. 2016: batch norm, and shortcuts around each two convolutions.

Shapes: B images, C channels, S pixels a side, V classes.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

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

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}  # of each stage: table 1


@architectures.register("resnet")
class ResNet(ImageArchitecture):
    """Blocks of two 3 x 3 convolutions in four stages, each with twice the channels and half the side of the last."""

    name: Literal["resnet"] = "resnet"
    width: Whole = Field(8, ge=1, description="channels of the first stage")
    depth: Literal[18, 34] = Field(18, description="layers, as the paper counts them")
    large_images: bool = Field(
        False,
        description="begin with a 7 x 7 convolution and a maximum, each of stride 2, for images of about 224 pixels; "
        "else with a 3 x 3 convolution of stride 1, as the paper does for small ones",
    )
    least_side: Whole = Field(
        2, ge=1, description="a stride that would leave fewer pixels a side than this is not taken, for small images"
    )

    batch_statistics: ClassVar[bool] = True

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "resnet18": {"width": 64, "large_images": True},
        "resnet18_small": {"width": 8},
        "resnet34": {"width": 64, "depth": 34, "large_images": True},
    }

    def build(self, vocab_size: int, context: int) -> ResNetModel:
        return ResNetModel(self, vocab_size, context)

    @property
    def last_width(self) -> int:
        return 8 * self.width

    def convolutions(self, context: int) -> list[Convolution]:
        channels, side = image_shape(context)
        if self.large_images:
            side = halved(side)
            found = [Convolution(channels, self.width, 7, side, 2)]
            side = halved(side)
        else:
            found = [Convolution(channels, self.width, 3, side)]
        c_in = self.width
        for stage, n_blocks in enumerate(BLOCKS[self.depth]):
            c_out = self.width * 2**stage
            for block in range(n_blocks):
                stride = 2 if stage and block == 0 and halved(side) >= self.least_side else 1
                side = halved(side) if stride == 2 else side
                found += [Convolution(c_in, c_out, 3, side, stride), Convolution(c_out, c_out, 3, side)]
                if c_in != c_out:
                    found.append(Convolution(c_in, c_out, 1, side, stride))
                c_in = c_out
        return found

    def parameters(self, vocab_size: int, context: int) -> tuple[int, int]:
        n = sum(c.weights + 2 * c.c_out for c in self.convolutions(context))  # each has a norm behind it
        return n, n + (self.last_width + 1) * vocab_size

    def forward_flop(self, vocab_size: int, context: int) -> dict[str, float]:
        return convolution_flop(self.convolutions(context), 0.0, 2.0 * self.last_width * vocab_size, context)


def halved(side: int) -> int:
    """What a stride of 2 leaves."""
    return -(-side // 2)


class Block(nn.Module):
    def __init__(self, first: Convolution, second: Convolution, shortcut: Convolution | None) -> None:
        super().__init__()
        self.conv1, self.norm1 = first.build(bias=False), nn.BatchNorm2d(first.c_out)
        self.conv2, self.norm2 = second.build(bias=False), nn.BatchNorm2d(second.c_out)
        self.shortcut: nn.Module = nn.Identity()
        if shortcut is not None:
            self.shortcut = nn.Sequential(shortcut.build(bias=False), nn.BatchNorm2d(shortcut.c_out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(x)).relu()
        return (self.norm2(self.conv2(y)) + self.shortcut(x)).relu()


class ResNetModel(nn.Module):
    def __init__(self, c: ResNet, vocab_size: int, context: int) -> None:
        super().__init__()
        self.channels, self.side = image_shape(context)
        layers = iter(c.convolutions(context))
        self.stem, self.norm = next(layers).build(bias=False), nn.BatchNorm2d(c.width)
        self.pool = nn.MaxPool2d(3, 2, padding=1) if c.large_images else nn.Identity()
        blocks = []
        for first in layers:
            second = next(layers)
            blocks.append(Block(first, second, next(layers) if first.c_in != first.c_out else None))
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(c.last_width, vocab_size)
        initialise(self, self.head)

    def forward(self, values_BT: Tensor, state: None = None) -> tuple[Tensor, None]:
        x_BCSS = pixels(values_BT, self.channels, self.side, self.stem.weight)
        x_BCSS = self.blocks(self.pool(self.norm(self.stem(x_BCSS)).relu()))
        return ops.linear(self.head, x_BCSS.mean((2, 3)))[:, None], None
