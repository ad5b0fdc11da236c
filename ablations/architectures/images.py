"""What models of images have in common: what they read, and how their layers are counted and drawn.

An image is a row of the stream: T = C S^2 whole numbers from 0 to 255, channel by channel.
Shapes: B images, C channels, S pixels a side, V classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from algoprogress.ablations.architectures import ArchitectureConfig, Objective

CHANNELS = (1, 3)  # grey and RGB; no number of values is a square and three times a square


class ImageArchitecture(ArchitectureConfig):
    """A classifier of square images. The context is the number of an image's values, the vocabulary its classes."""

    objective: ClassVar[Objective] = "class"

    def check(self, vocab_size: int, context: int) -> None:
        image_shape(context)


def image_shape(context: int) -> tuple[int, int]:
    """(C, S) of an image of that many values.

    Raises:
        ValueError: no square image, grey or RGB, has so many.

    >>> image_shape(64), image_shape(3 * 32 * 32)
    ((1, 8), (3, 32))
    """
    for channels in CHANNELS:
        side = math.isqrt(context // channels)
        if side and channels * side * side == context:
            return channels, side
    raise ValueError(
        f"no square image has {context} values: the context of images is S x S, such as 64, or 3 x S x S, such as 3072"
    )


def pixels(values_BT: Tensor, channels: int, side: int, like: Tensor) -> Tensor:
    """The values from [0, 255] to [-1, 1], as (B, C, S, S) of the precision and on the device of `like`."""
    if values_BT.shape[1] != channels * side * side:
        raise ValueError(f"the model reads images of {channels * side * side} values, not {values_BT.shape[1]}")
    return values_BT.to(like).div(127.5).sub(1.0).view(-1, channels, side, side)


def patches(values_BT: Tensor, channels: int, side: int, patch: int, like: Tensor) -> Tensor:
    """The image cut into squares of `patch` pixels a side, row by row; (B, P, C patch^2)."""
    n = side // patch
    x = pixels(values_BT, channels, side, like).view(-1, channels, n, patch, n, patch)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(len(values_BT), n * n, channels * patch * patch)


def n_patches(context: int, patch: int) -> tuple[int, int]:
    """(number of patches, values of each).

    Raises:
        ValueError: the image cannot be cut into whole patches.
    """
    channels, side = image_shape(context)
    if side % patch:
        raise ValueError(
            f"an image of {side} pixels a side cannot be cut into patches of {patch}: take a divisor of {side}"
        )
    return (side // patch) ** 2, channels * patch * patch


class Convolution(NamedTuple):
    """A square kernel with zeros around the map, and the side of what it gives."""

    c_in: int
    c_out: int
    kernel: int
    side: int
    stride: int = 1

    @property
    def weights(self) -> int:
        return self.c_in * self.c_out * self.kernel**2

    @property
    def flop(self) -> float:
        return 2.0 * self.weights * self.side**2

    @property
    def padding(self) -> int:
        return self.kernel // 2

    @property
    def taps(self) -> float:
        """Of the kernel's side, how much meets the map, on average over where it is put."""
        return self.kernel - self.padding * (self.padding + 1) / self.stride / self.side

    def build(self, bias: bool) -> nn.Conv2d:
        layer = nn.Conv2d(self.c_in, self.c_out, self.kernel, self.stride, self.padding, bias=bias)
        std = math.sqrt(2 / (self.c_out * self.taps**2))  # see `initialise`
        nn.init.normal_(layer.weight, std=std)
        return layer


def convolution_flop(
    convolutions: Iterable[Convolution], dense: float, output: float, context: int
) -> dict[str, float]:
    """The parts of `forward_flop`: what an image costs, divided by its values; the first convolution reads it."""
    first, *rest = convolutions
    layers = sum(c.flop for c in rest) + dense
    return {"input": first.flop / context, "layers": layers / context, "output": output / context}


@torch.no_grad()
def initialise(model: nn.Module, head: nn.Linear) -> None:
    """Draw the weights of a model of ReLUs: N(0, 2 / n), biases zero (He et al. 2015).

    n is, of a linear layer, its inputs; of a convolution, the products that an input has a part in. These are c_out k^2
    inside the map and fewer at its edge, which is most of a small map: taken as c_out k^2 there, a deep plain network
    of small images begins with next to nothing as its output. The output layer is drawn as torch does, with a variance
    of 1 / 3 n.
    """
    for module in model.modules():
        if module is head:
            nn.init.normal_(module.weight, std=1 / math.sqrt(3 * head.in_features))
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
            nn.init.zeros_(module.bias)
