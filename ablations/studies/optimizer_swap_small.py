"""Every optimizer on two rungs of the smallest model: optimizer_swap in a quarter of an hour of one core."""

from __future__ import annotations

from collections.abc import Collection

from algoprogress.ablations.optimizers import OptimizerConfig, optimizers
from algoprogress.ablations.studies.optimizer_swap import entries, model
from algoprogress.ablations.study import Entry, Study, Sweep, question, studies

BASELINE = "adamw"
# budget in FLOP -> width, layers, tokens in a batch: as in `demo`, with a rung below
LADDER = {1e10: (32, 1, 256), 3e10: (32, 1, 256), 1e11: (32, 1, 512), 3e11: (48, 1, 512)}
SWAPPED = (3e10, 1e11)  # the baseline has the others too, so that better and worse losses are found on it


def arm(optimizer: OptimizerConfig, budgets: Collection[float]) -> tuple[Entry, ...]:
    ladder = {budget: LADDER[budget] for budget in budgets}
    return tuple(
        entry
        for budget, (width, n_layers, batch_tokens) in ladder.items()
        for entry in entries(optimizer, budget, model(width, n_layers), batch_tokens, optimizer.rates)
    )


@studies.register("optimizer_swap_small")
def optimizer_swap_small() -> Study:
    """How much compute does each optimizer save or waste beside AdamW on the smallest of models, at its best rate?

    The smallest of models: what is a gain here need not be one on the ladder of `optimizer_swap`.
    """
    return Study(
        name="optimizer_swap_small",
        question=question(optimizer_swap_small),
        baseline=BASELINE,
        arms={name: arm(optimizers[name](name=name), LADDER if name == BASELINE else SWAPPED) for name in optimizers},
        sweep=Sweep(extensions=1, seeds=3, seeds_up_to=3e10),
    )
