"""Every registered architecture with data that it can read: text of any vocabulary and context, or digits."""

from typing import Any

import torch

from algoprogress.ablations.architectures import ArchitectureConfig, architectures
from algoprogress.ablations.spec import Data

CLASSES, VALUES = 10, 64  # of scikit-learn's digits


def shape_of(config: ArchitectureConfig, vocab_size: int = 257, context: int = 128) -> tuple[int, int]:
    """(V, T) as given for a model of text, (10, 64) for one of images."""
    return (CLASSES, VALUES) if config.objective == "class" else (vocab_size, context)


def data_of(config: ArchitectureConfig) -> dict[str, Any]:
    """The fields of a run of 4,096 tokens that reads what the architecture reads."""
    images = config.objective == "class"
    data = Data(corpus="digits", tokenizer=f"pixels-{CLASSES}", context=VALUES) if images else Data()
    return {"data": data, "batch_tokens": 2048, "tokens": 4096}


def named(name: str) -> ArchitectureConfig:
    """An architecture with its defaults, or a preset of one."""
    if name in architectures:
        return architectures[name]()
    return next(
        a.preset(name) for a in map(architectures.__getitem__, architectures) if name in getattr(a, "presets", ())
    )


def tiny(name: str = "transformer") -> torch.nn.Module:
    """A preset, or an architecture's defaults, made as small as it can be."""
    torch.manual_seed(0)
    kind = named(name)
    small = {"width": 16, "head_dim": 16, "n_layers": 2, "fc_width": 16, "fc_side": 1, "dropout": 0.0}
    kind = kind.model_copy(update={k: v for k, v in small.items() if k in type(kind).model_fields})
    if kind.objective == "class":
        return kind.build(10, (4 * kind.patch) ** 2 if hasattr(kind, "patch") else 64)
    return kind.build(20, 8)
