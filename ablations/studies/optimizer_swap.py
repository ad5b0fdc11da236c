"""Every optimizer on one ladder of models, each at its own best rate: the swap that most studies of optimizers make."""

from __future__ import annotations

from collections.abc import Mapping

from algoprogress.ablations.allocation import isoflop
from algoprogress.ablations.architectures import ArchitectureConfig
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.ladder import Sized, main, modern, sweep
from algoprogress.ablations.optimizers import OptimizerConfig, optimizers
from algoprogress.ablations.presets import DEFAULT, Preset, preset_named, study_name
from algoprogress.ablations.schedules import Constant, Cosine, ScheduleConfig
from algoprogress.ablations.spec import Data, Evaluation, RunSpec
from algoprogress.ablations.studies.demo import INIT, VALIDATION_TOKENS
from algoprogress.ablations.study import Entry, Study, question, studies
from algoprogress.ablations.tuning import Tuning

DATA = Data(context=128)
# budget in FLOP -> width, layers, tokens in a batch: the modern arm of `demo`, whose runs so belong to both studies
LADDER = {1e11: (32, 1, 512), 3e11: (48, 1, 512), 1e12: (48, 2, 1024)}
SCHEDULES: dict[str, ScheduleConfig] = {"schedule_free_adamw": Constant()}  # made for it; all others: cosine


def model(width: int, n_layers: int, **fields: object) -> ArchitectureConfig:
    return Transformer.preset("modern", width=width, n_layers=n_layers, **INIT, **fields)


def entries(
    optimizer: OptimizerConfig,
    budget: float,
    architecture: ArchitectureConfig,
    batch_tokens: int,
    rates: tuple[float, ...],
    clip: float | None = 1.0,
) -> tuple[Entry, ...]:
    """One model at one budget, trained at each rate."""
    (row,) = isoflop(budget, [architecture], DATA.vocab_size, DATA.context, batch_tokens)
    return tuple(
        Entry(
            spec=RunSpec(
                architecture=row.architecture,
                tokens=row.tokens,
                batch_tokens=batch_tokens,
                learning_rate=rate,
                optimizer=optimizer,
                schedule=SCHEDULES.get(optimizer.name, Cosine()),
                data=DATA,
                clip=clip,
                evaluation=Evaluation(tokens=VALIDATION_TOKENS),
            ),
            compute_budget=budget,
        )
        for rate in rates
    )


def arm(
    optimizer: OptimizerConfig,
    rates: tuple[float, ...] | None = None,
    clip: float | None = 1.0,
    ladder: Mapping[float, tuple[int, int, int]] = LADDER,
) -> tuple[Entry, ...]:
    """The model of each budget, trained at each rate: by default those of the optimizer."""
    return tuple(
        entry
        for budget, (width, n_layers, batch_tokens) in ladder.items()
        for entry in entries(optimizer, budget, model(width, n_layers), batch_tokens, rates or optimizer.rates, clip)
    )


def swapped(preset: Preset, optimizer: OptimizerConfig) -> Sized:
    """The modern recipe by another optimizer."""

    def at(compute: float) -> RunSpec:
        schedule = SCHEDULES.get(optimizer.name, Cosine())
        return modern(preset)(compute).model_copy(update={"optimizer": optimizer, "schedule": schedule})

    return at


@studies.register("optimizer_swap")
def optimizer_swap(preset: str = DEFAULT) -> Study:
    """How much compute does each optimizer save or waste beside AdamW, both at their best rates, and does scale matter?

    Each optimizer has its defaults, and rates of its own to begin the sweep with.
    """
    at = preset_named(preset)
    arms = {name: swapped(at, optimizers[name](name=name)) for name in ("adamw", *optimizers)}
    return Study(
        name=study_name("optimizer_swap", at),
        question=question(optimizer_swap),
        baseline="adamw",
        arms={name: sweep(sized, at.swept) for name, sized in arms.items()},
        tuning=Tuning(),
        main={
            name: main(sized, at.budgets if name == "adamw" else at.ablated, at.seeds) for name, sized in arms.items()
        },
    )
