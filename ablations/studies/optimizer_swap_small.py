"""optimizer_swap where it is cheapest: every optimizer on two rungs of the smallest model."""

from __future__ import annotations

from algoprogress.ablations.optimizers import optimizers
from algoprogress.ablations.studies.optimizer_swap import arm
from algoprogress.ablations.study import Study, Sweep, question, studies

BASELINE = "adamw"
# budget in FLOP -> width, layers, tokens in a batch: as in `demo`, with a rung below
LADDER = {1e10: (32, 1, 256), 3e10: (32, 1, 256), 1e11: (32, 1, 512), 3e11: (48, 1, 512)}
# the baseline has the other two as well, so that losses better and worse than its own are found on it
SWAPPED = {budget: LADDER[budget] for budget in (3e10, 1e11)}


@studies.register("optimizer_swap_small")
def optimizer_swap_small() -> Study:
    """How much compute does each optimizer save or waste beside AdamW on the smallest of models, at its best rate?

    What is a gain here need not be one further up, on the ladder of `optimizer_swap`.
    """
    return Study(
        name="optimizer_swap_small",
        question=question(optimizer_swap_small),
        baseline=BASELINE,
        arms={
            name: arm(optimizers[name](name=name), ladder=LADDER if name == BASELINE else SWAPPED)
            for name in optimizers
        },
        sweep=Sweep(extensions=4, seeds=3, seeds_up_to=3e10),
    )
