"""What BERT and ViT share: blocks that see both sides of each position, with GELU, biases and learned positions."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from algoprogress.ablations.architectures import ArchitectureConfig
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.config import Whole


class Encoder(ArchitectureConfig):
    """The sizes of such blocks."""

    width: Whole = Field(64, ge=1)
    n_layers: Whole = Field(4, ge=1)
    head_dim: Whole = Field(16, ge=1, description="width must be a multiple of it")
    ff_ratio: float = Field(4.0, gt=0, description="F / D; the result is rounded to a multiple of 8")
    dropout: float = Field(0.0, ge=0, lt=1)
    init_std: float = Field(0.02, gt=0, description="of every matrix")

    placement: ClassVar[Literal["pre", "post"]] = "pre"  # of the norms

    @property
    def body(self) -> Transformer:
        """The blocks, as those of a Transformer."""
        return Transformer(
            width=self.width,
            n_layers=self.n_layers,
            head_dim=self.head_dim,
            ff_ratio=self.ff_ratio,
            activation="gelu",
            norm="layernorm",
            placement=self.placement,
            position="learned",
            bias=True,
            dropout=self.dropout,
            init_std=self.init_std,
        )
