"""LSTM against Transformer on a five-minute ladder: the study behind `make demo`."""

from __future__ import annotations

from collections.abc import Sequence

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
LADDER = {1e11: 512, 3e11: 512, 1e12: 1024, 3e12: 2048}
# N(0, .02), the usual start, is ten times too small for models this narrow: either Transformer learns faster from these
INIT = {"init": "xavier", "init_std": 0.1}

Size = tuple[ArchitectureConfig, Sequence[float]]  # a model and the learning rates tried on it


def transformer(preset: str, width: int, n_layers: int) -> ArchitectureConfig:
    return Transformer.preset(preset, width=width, n_layers=n_layers, **INIT)


def arm(
    ladder: dict[float, list[Size]],
    optimizer: OptimizerConfig,
    schedule: ScheduleConfig,
    evaluation: Evaluation,
) -> tuple[Entry, ...]:
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
        for budget, sizes in ladder.items()
        for model, rates in sizes
        for row in isoflop(budget, [model], DATA.vocab_size, DATA.context, LADDER[budget])
        for rate in rates
    )


@studies.register("demo")
def demo() -> Study:
    """Is the Transformer's gain in compute over the LSTM a constant factor, or does it grow with compute?

    Sizes and rates are the best few of wider sweeps at the two smaller budgets; where the best rate still sits at an
    edge, the sweep goes on by itself.
    """
    reset = Evaluation(tokens=VALIDATION_TOKENS)
    carry = Evaluation(tokens=VALIDATION_TOKENS, state="carry")
    arms = {
        "lstm": arm(
            {
                1e11: [(LSTM(width=48), (0.02, 0.04, 0.08))],
                3e11: [(LSTM(width=64), (0.01, 0.02))],
                1e12: [(LSTM(width=64), (0.01,))],
                3e12: [(LSTM(width=128), (0.01,))],
            },
            AdamW(),
            Cosine(),
            carry,
        ),
        "retro": arm(
            {
                1e11: [(transformer("retro", 32, 1), (0.01, 0.02, 0.04))],
                3e11: [(transformer("retro", 48, 1), (0.01, 0.02))],
                1e12: [(transformer("retro", 48, 2), (0.01,))],
                3e12: [(transformer("retro", 64, 2), (0.007,))],
            },
            Adam(),
            InverseSqrt(),
            reset,
        ),
        "modern": arm(
            {
                1e11: [(transformer("modern", 32, 1), (0.005, 0.01, 0.02))],
                3e11: [(transformer("modern", 48, 1), (0.005, 0.01))],
                1e12: [(transformer("modern", 48, 2), (0.01,))],
                3e12: [(transformer("modern", 64, 2), (0.007,))],
            },
            AdamW(),
            Cosine(),
            reset,
        ),
        "modern_sgd": arm(
            {
                1e11: [(transformer("modern", 32, 1), (0.125, 0.25, 0.5))],
                3e11: [(transformer("modern", 48, 1), (0.125, 0.25))],
                1e12: [(transformer("modern", 48, 2), (0.125,))],
                3e12: [(transformer("modern", 64, 2), (0.125,))],
            },
            Momentum(),
            Cosine(),
            reset,
        ),
    }
    sweep = Sweep(extensions=1, seeds=2, seeds_up_to=1e11)
    return Study(name="demo", question=question(demo), baseline="lstm", arms=arms, sweep=sweep)
