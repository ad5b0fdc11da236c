"""LSTM against Transformer on a five-minute ladder: the study behind `make demo`."""

from __future__ import annotations

from collections.abc import Collection

from algoprogress.ablations.allocation import isoflop
from algoprogress.ablations.architectures import ArchitectureConfig
from algoprogress.ablations.architectures.lstm import LSTM
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.optimizers import OptimizerConfig
from algoprogress.ablations.optimizers.adam import Adam
from algoprogress.ablations.optimizers.adamw import AdamW
from algoprogress.ablations.optimizers.momentum import Momentum
from algoprogress.ablations.schedules import Cosine, InverseSqrt, ScheduleConfig
from algoprogress.ablations.spec import Data, Evaluation, RunSpec
from algoprogress.ablations.study import Entry, Study, Sweep, question, studies

DATA = Data(context=128)
VALIDATION_TOKENS = 32_768  # a tenth of the split: a larger share would cost the smallest runs more than their training
# FLOP -> tokens in a batch: small runs need many small steps, large ones run faster in larger batches
LADDER = {3e10: 256, 1e11: 512, 3e11: 512, 1e12: 1024, 3e12: 2048}
# N(0, .02), the usual start, is ten times too small for models this narrow: either Transformer learns faster from these
INIT = {"init": "xavier", "init_std": 0.1}

Ladder = dict[float, tuple[ArchitectureConfig, float]]  # budget -> model, and the middle of the rates tried on it


def transformer(preset: str, width: int, n_layers: int) -> ArchitectureConfig:
    return Transformer.preset(preset, width=width, n_layers=n_layers, **INIT)


def arm(
    ladder: Ladder,
    optimizer: OptimizerConfig,
    schedule: ScheduleConfig,
    evaluation: Evaluation,
    swept: Collection[float],
) -> tuple[Entry, ...]:
    """One model a budget; three rates, a factor 2 apart, at the budgets that are swept, and one at the others."""
    return tuple(
        Entry(
            spec=RunSpec(
                architecture=row.architecture,
                tokens=row.tokens,
                batch_tokens=LADDER[budget],
                learning_rate=rate,
                optimizer=optimizer,
                schedule=schedule,
                data=DATA,
                evaluation=evaluation,
            ),
            compute_budget=budget,
        )
        for budget, (model, middle) in ladder.items()
        for row in isoflop(budget, [model], DATA.vocab_size, DATA.context, LADDER[budget])
        for rate in ([middle / 2, middle, middle * 2] if budget in swept else [middle])
    )


def arms(swept: Collection[float]) -> dict[str, tuple[Entry, ...]]:
    reset = Evaluation(tokens=VALIDATION_TOKENS)
    carry = Evaluation(tokens=VALIDATION_TOKENS, state="carry")
    lstm: Ladder = {
        3e10: (LSTM(width=32), 0.04),  # below the others' ladder, so that a gain under 1 can be measured at 1e11
        1e11: (LSTM(width=48), 0.04),
        3e11: (LSTM(width=64), 0.02),
        1e12: (LSTM(width=64), 0.01),
        3e12: (LSTM(width=128), 0.02),
    }
    retro: Ladder = {
        1e11: (transformer("retro", 32, 1), 0.01),
        3e11: (transformer("retro", 48, 1), 0.01),
        1e12: (transformer("retro", 48, 2), 0.01),
        3e12: (transformer("retro", 64, 2), 0.01),
    }
    modern: Ladder = {
        1e11: (transformer("modern", 32, 1), 0.01),
        3e11: (transformer("modern", 48, 1), 0.005),
        1e12: (transformer("modern", 48, 2), 0.005),
        3e12: (transformer("modern", 64, 2), 0.005),
    }
    by_sgd: Ladder = {
        budget: (model, rate)
        for (budget, (model, _)), rate in zip(modern.items(), (0.125, 0.125, 0.125, 0.5), strict=True)
    }
    return {
        "lstm": arm(lstm, AdamW(), Cosine(), carry, swept),
        "retro": arm(retro, Adam(), InverseSqrt(), reset, swept),
        "modern": arm(modern, AdamW(), Cosine(), reset, swept),
        "modern_sgd": arm(by_sgd, Momentum(), Cosine(), reset, swept),
    }


@studies.register("demo")
def demo() -> Study:
    """Is the Transformer's gain in compute over the LSTM a constant factor, or does it grow with compute?

    Every arm's rate is swept at 1e11 FLOP; elsewhere stands the best rate of `demo_wide`.
    """
    sweep = Sweep(extensions=1, seeds=2, seeds_up_to=1e11)
    return Study(name="demo", question=question(demo), baseline="lstm", arms=arms([1e11]), sweep=sweep)
