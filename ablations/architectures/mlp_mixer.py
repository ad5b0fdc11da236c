"""MLP-Mixer of Tolstikhin et al. 2021: perceptrons across the patches of an image and across their channels, in turn.

Shapes: B images, P patches, D width, F hidden width, V classes.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from algoprogress.ablations import ops
from algoprogress.ablations.architectures import architectures
from algoprogress.ablations.architectures.images import ImageArchitecture, image_shape, n_patches, patches
from algoprogress.ablations.config import Whole

STD = 0.02  # of every matrix, as in the ViT that it is compared with: the paper draws them wider where they are narrow


@architectures.register("mlp_mixer")
class MLPMixer(ImageArchitecture):
    """Pre-LayerNorm blocks of two perceptrons with GELU, the class from the mean over patches."""

    name: Literal["mlp_mixer"] = "mlp_mixer"
    width: Whole = Field(64, ge=1)
    n_layers: Whole = Field(4, ge=1)
    patch: Whole = Field(2, ge=1, description="pixels a side of a patch; a divisor of the image's")
    tokens_width: Whole = Field(32, ge=1, description="hidden width across patches")
    channels_width: Whole = Field(256, ge=1, description="hidden width across channels")

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "mixer_base": {"width": 768, "n_layers": 12, "patch": 16, "tokens_width": 384, "channels_width": 3072},
        "mixer_nano": {"width": 64, "n_layers": 4, "patch": 2, "tokens_width": 32, "channels_width": 256},
    }

    def check(self, vocab_size: int, context: int) -> None:
        n_patches(context, self.patch)

    def build(self, vocab_size: int, context: int) -> MLPMixerModel:
        return MLPMixerModel(self, vocab_size, context)

    def parameters(self, vocab_size: int, context: int) -> tuple[int, int]:
        d = self.width
        P, values = n_patches(context, self.patch)
        across_patches = 2 * P * self.tokens_width + self.tokens_width + P
        across_channels = 2 * d * self.channels_width + self.channels_width + d
        n = (values + 1) * d + self.n_layers * (across_patches + across_channels + 4 * d) + 2 * d
        return n, n + (d + 1) * vocab_size

    def forward_flop(self, vocab_size: int, context: int) -> dict[str, float]:
        d = self.width
        P, _ = n_patches(context, self.patch)
        of_layer = 4.0 * d * P * (self.tokens_width + self.channels_width)
        return {
            "input": 2.0 * d,  # each value is in one patch, and goes to D numbers
            "layers": self.n_layers * of_layer / context,
            "output": 2.0 * d * vocab_size / context,
        }


class Perceptron(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        return ops.linear(self.down, ops.gelu(ops.linear(self.up, x)), residual)


class Block(nn.Module):
    def __init__(self, c: MLPMixer, P: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(c.width), nn.LayerNorm(c.width)
        self.tokens, self.channels = Perceptron(P, c.tokens_width), Perceptron(c.width, c.channels_width)

    def forward(self, x_BPD: Tensor) -> Tensor:
        y_BDP = ops.norm(self.norm1, x_BPD).transpose(1, 2).contiguous()
        x_BPD = x_BPD + self.tokens(y_BDP).transpose(1, 2)
        return self.channels(ops.norm(self.norm2, x_BPD), x_BPD)


class MLPMixerModel(nn.Module):
    def __init__(self, c: MLPMixer, vocab_size: int, context: int) -> None:
        super().__init__()
        self.channels, self.side = image_shape(context)
        self.patch_side = c.patch
        P, values = n_patches(context, c.patch)
        self.patch = nn.Linear(values, c.width)
        self.blocks = nn.ModuleList(Block(c, P) for _ in range(c.n_layers))
        self.norm = nn.LayerNorm(c.width)
        self.head = nn.Linear(c.width, vocab_size)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=STD)
                nn.init.zeros_(module.bias)

    def forward(self, values_BT: Tensor, state: None = None) -> tuple[Tensor, None]:
        x_BPD = ops.linear(self.patch, patches(values_BT, self.channels, self.side, self.patch_side, self.patch.weight))
        for block in self.blocks:
            x_BPD = block(x_BPD)
        return ops.linear(self.head, ops.norm(self.norm, x_BPD).mean(1, keepdim=True)), None
