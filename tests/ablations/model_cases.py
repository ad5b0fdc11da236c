"""Every registered architecture with data that it can read: text of any vocabulary and context, or digits."""

from typing import Any

from algoprogress.ablations.architectures import ArchitectureConfig
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
