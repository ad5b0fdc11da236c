"""The models that are compared, one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from algoprogress.ablations.config import Config
from algoprogress.ablations.registry import Registry

if TYPE_CHECKING:
    from torch import nn


class ArchitectureConfig(Config):
    """A model's recipe. `build` makes the module; the counts are closed forms, checked against the module by tests.

    The module maps (tokens_BT, state) to (logits_BTV, state). `state` is None for a model without memory.
    """

    name: str
    streams: ClassVar[bool] = (
        False  # trained on contiguous streams with its state carried over, not on shuffled windows
    )

    def build(self, vocab_size: int, context: int) -> nn.Module:
        """A freshly initialised module, from torch's global generator."""
        raise NotImplementedError

    def parameters(self, vocab_size: int, context: int) -> tuple[int, int]:
        """(non-embedding, all) trainable parameters.

        Embedding are the token and position tables, and an untied output layer.
        """
        raise NotImplementedError

    def idle_parameters(self) -> int:
        """Of the non-embedding parameters, those that one token does not pass through: experts that are not chosen."""
        return 0

    def forward_flop(self, vocab_size: int, context: int) -> dict[str, float]:
        """FLOP of one token's forward pass by part; a multiply-add is 2 FLOP; matrix products only.

        Keys: `layers`, `attention` (scores and weighted sum, over the full T x T square), `recurrence`, `output`.
        """
        raise NotImplementedError

    @classmethod
    def preset(cls, preset: str, **fields: Any) -> ArchitectureConfig:
        """A named starting point of this architecture with some fields changed."""
        presets: dict[str, dict[str, Any]] = getattr(cls, "presets", {})
        if not isinstance(preset, str) or preset not in presets:
            raise ValueError(f"unknown preset {preset!r}; known: {', '.join(presets) or 'none'}")
        return cls(**{**presets[preset], **fields})


architectures: Registry[type[ArchitectureConfig]] = Registry("architecture", __name__)
