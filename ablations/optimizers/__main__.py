"""The table of all optimizers, as Markdown: what each keeps, what a step of it costs, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from algoprogress.ablations import accounting
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.optimizers import optimizers

MODEL = Transformer.preset("modern", width=256, n_layers=4)
VOCAB_SIZE, CONTEXT, BATCH_TOKENS = 257, 128, 2048  # bytes; the defaults of a run


HEADER = ("optimizer", "norm", "state", "FLOP", "share", "rates", "paper")


@cache
def _training_flop() -> tuple[int, float]:
    """Parameters of the model, and the FLOP of a training step of it."""
    n = accounting.n_params_total(MODEL, VOCAB_SIZE, CONTEXT)
    return n, accounting.flop_per_token(MODEL, VOCAB_SIZE, CONTEXT) * BATCH_TOKENS


def row(name: str) -> dict[str, str]:
    """What an optimizer keeps (numbers per weight) and a step costs (FLOP per weight, share of training), by column."""
    n, training = _training_flop()
    config = optimizers[name](name=name)
    cost = accounting.optimizer_cost(config, MODEL, VOCAB_SIZE, CONTEXT)
    values = (
        f"`{name}`",
        config.geometry,
        f"{cost.state / n:.3g}",
        f"{cost.flop / n:.4g}",
        f"{cost.flop / training:.2%}",
        " ".join(f"{rate:g}" for rate in config.rates),
        config.paper,
    )
    return dict(zip(HEADER, values, strict=True))


def markdown(lines: Iterator[tuple[str, ...]]) -> str:
    header, *body = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, tuple("---" for _ in header), *body))


def rows() -> Iterator[tuple[str, ...]]:
    yield HEADER
    for name in sorted(optimizers):
        yield tuple(row(name).values())


if __name__ == "__main__":
    print(markdown(rows()))
