"""Vision Transformer of Dosovitskiy et al. 2021: patches of an image as tokens, a class token that sees them all.

Shapes: B images, P patches, D width, V classes.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from algoprogress.ablations import ops
from algoprogress.ablations.architectures import NARROW_STD, architectures
from algoprogress.ablations.architectures.encoder import Encoder
from algoprogress.ablations.architectures.images import ImageArchitecture, image_shape, n_patches, patches
from algoprogress.ablations.architectures.transformer import Block, initialise
from algoprogress.ablations.config import Whole


@architectures.register("vit")
class ViT(Encoder, ImageArchitecture):
    """Pre-LayerNorm blocks with GELU and biases, learned positions, the class from the class token."""

    name: Literal["vit"] = "vit"
    patch: Whole = Field(2, ge=1, description="pixels a side of a patch; a divisor of the image's")

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "vit_base": {"width": 768, "n_layers": 12, "head_dim": 64, "patch": 16},
        "vit_nano": {"width": 64, "n_layers": 4, "patch": 2, "init_std": NARROW_STD},
    }

    def check(self, vocab_size: int, context: int) -> None:
        n_patches(context, self.patch)
        _ = self.body

    def build(self, vocab_size: int, context: int) -> ViTModel:
        return ViTModel(self, vocab_size, context)

    def parameters(self, vocab_size: int, context: int) -> tuple[int, int]:
        d = self.width
        P, values = n_patches(context, self.patch)
        n = self.body.parameters(0, 0)[0] + (values + 1) * d
        return n, n + (P + 1) * d + d + (d + 1) * vocab_size

    def forward_flop(self, vocab_size: int, context: int) -> dict[str, float]:
        P, _ = n_patches(context, self.patch)
        of_token = self.body.forward_flop(0, P + 1)
        per_value = (P + 1) / context
        return {
            "input": 2.0 * self.width,  # each value is in one patch, and goes to D numbers
            "layers": of_token["layers"] * per_value,
            "attention": of_token["attention"] * per_value,
            "output": 2.0 * self.width * vocab_size / context,
        }


class ViTModel(nn.Module):
    def __init__(self, c: ViT, vocab_size: int, context: int) -> None:
        super().__init__()
        self.channels, self.side = image_shape(context)
        self.patch_side = c.patch
        P, values = n_patches(context, c.patch)
        self.patch = nn.Linear(values, c.width)
        self.class_token = nn.Parameter(torch.empty(c.width))
        self.position = nn.Parameter(torch.empty(P + 1, c.width))
        self.dropout = nn.Dropout(c.dropout)
        self.blocks = nn.ModuleList(Block(c.body, P + 1, causal=False) for _ in range(c.n_layers))
        self.norm = nn.LayerNorm(c.width)
        self.head = nn.Linear(c.width, vocab_size)
        nn.init.normal_(self.class_token, std=c.init_std)
        nn.init.normal_(self.position, std=c.init_std)
        initialise(self, self.head, c.body)

    def forward(self, values_BT: Tensor, state: None = None) -> tuple[Tensor, None]:
        x = patches(values_BT, self.channels, self.side, self.patch_side, self.position)
        x_BPD = ops.linear(self.patch, x)
        x_BPD = torch.cat([self.class_token.expand(len(x), 1, -1).to(x_BPD), x_BPD], dim=1) + self.position
        x_BPD = self.dropout(x_BPD)
        for block in self.blocks:
            x_BPD = block(x_BPD)
        return ops.linear(self.head, ops.norm(self.norm, x_BPD[:, :1].contiguous())), None
