"""The models that are compared, one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from algoprogress.ablations.config import Config
from algoprogress.ablations.registry import Registry

if TYPE_CHECKING:
    from torch import nn


# Of the weights of small presets: at a width of 64 a product has the variance that N(0, .02) gives it at 768.
NARROW_STD = 0.07

Objective = Literal["next token", "masked tokens", "class"]


class ArchitectureConfig(Config):
    """A model's recipe. `build` makes the module; the counts are closed forms, checked against the module by tests.

    The module maps (tokens_BT, state) to (logits_BTV, state). `state` is None for a model without memory. A model that
    is trained on `class` reads the T values of an image in place of tokens, and gives logits_B1V of V classes.
    """

    name: str
    objective: ClassVar[Objective] = "next token"  # what it learns to predict, from what is read
    streams: ClassVar[bool] = (
        False  # trained on contiguous streams with its state carried over, not on shuffled windows
    )
    batch_statistics: ClassVar[bool] = False  # a row of a batch has a part in what is computed for the others

    def build(self, vocab_size: int, context: int) -> nn.Module:
        """A freshly initialised module, from torch's global generator."""
        raise NotImplementedError

    def check(self, vocab_size: int, context: int) -> None:
        """Whether there is a model of this recipe for such data.

        Raises:
            ValueError: there is none; the message says why.
        """

    def parameters(self, vocab_size: int, context: int) -> tuple[int, int]:
        """(non-embedding, all) trainable parameters.

        Embedding are the token and position tables, and an untied output layer with its bias.
        """
        raise NotImplementedError

    def idle_parameters(self) -> int:
        """Of the non-embedding parameters, those that one token does not pass through: experts that are not chosen."""
        return 0

    def forward_flop(self, vocab_size: int, context: int) -> dict[str, float]:
        """FLOP of one token's forward pass by part; a multiply-add is 2 FLOP; matrix products only.

        Keys: `layers`, `attention` (scores and weighted sum, over the full T x T square), `recurrence`, `output`, and
        `input`: the layer that reads the values of an image, which need no gradient.
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
