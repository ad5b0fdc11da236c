"""The table of all optimizers, as Markdown: what each keeps, what a step of it costs, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator

from algoprogress.ablations import accounting
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.optimizers import optimizers

MODEL = Transformer.preset("modern", width=256, n_layers=4)
VOCAB_SIZE, CONTEXT, BATCH_TOKENS = 257, 128, 2048  # bytes; the defaults of a run


def rows() -> Iterator[tuple[str, ...]]:
    yield "optimizer", "norm", "state per weight", "FLOP per weight", "share of training", "rates", "paper"
    n = accounting.n_params_total(MODEL, VOCAB_SIZE, CONTEXT)
    training = accounting.flop_per_token(MODEL, VOCAB_SIZE, CONTEXT) * BATCH_TOKENS
    for name in sorted(optimizers):
        config = optimizers[name](name=name)
        cost = accounting.optimizer_cost(config, MODEL, VOCAB_SIZE, CONTEXT)
        yield (
            f"`{name}`",
            config.geometry,
            f"{cost.state / n:.3g}",
            f"{cost.flop / n:.4g}",
            f"{cost.flop / training:.2%}",
            " ".join(f"{rate:g}" for rate in config.rates),
            config.paper,
        )


def table() -> str:
    header, *body = rows()
    lines = [header, tuple("---" for _ in header), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(table())
