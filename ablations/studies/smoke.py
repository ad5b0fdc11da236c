"""A study of seconds, for tests and for a first look at a new machine."""

from __future__ import annotations

from algoprogress.ablations.allocation import isoflop
from algoprogress.ablations.architectures import ArchitectureConfig
from algoprogress.ablations.architectures.lstm import LSTM
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.spec import Data, Evaluation, RunSpec
from algoprogress.ablations.study import Entry, Study, question, studies

BUDGETS = (2e9, 4e9, 8e9)  # FLOP: 12 runs in a few seconds on one core


@studies.register("smoke")
def smoke() -> Study:
    """Does everything work on this machine? A tiny LSTM and a tiny Transformer, too short to say which is better."""
    models: dict[str, ArchitectureConfig] = {
        "lstm": LSTM(width=16),
        "modern": Transformer.preset("modern", width=16, n_layers=1),
    }
    data, batch_tokens = Data(context=64), 512
    arms = {
        arm: tuple(
            Entry(
                spec=RunSpec(
                    architecture=row.architecture,
                    tokens=row.tokens,
                    learning_rate=0.02,
                    seed=seed,
                    data=data,
                    batch_tokens=batch_tokens,
                    evaluation=Evaluation(tokens=4096),
                ),
                compute_budget=budget,
            )
            for budget in BUDGETS
            for row in isoflop(budget, [model], data.vocab_size, data.context, batch_tokens)
            for seed in (0, 1)
        )
        for arm, model in models.items()
    }
    return Study(name="smoke", question=question(smoke), baseline="lstm", arms=arms)
