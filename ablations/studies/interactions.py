"""A fractional factorial over the axes on which 2017 and 2023 differ: do innovations help each other or overlap?"""

from __future__ import annotations

import itertools
import math
from typing import Any

from algoprogress.ablations.innovations import INNOVATIONS
from algoprogress.ablations.ladder import main, retro, sweep
from algoprogress.ablations.presets import DEFAULT, preset_named, study_name
from algoprogress.ablations.studies.historical_order import after
from algoprogress.ablations.study import Entry, Study, question, studies
from algoprogress.ablations.tuning import Tuning

# 2^(7-3), resolution IV: main effects are clear of each other and of two-way interactions, which come in chains of
# three. Generators E = ABC, F = BCD, G = ACD: Box, Hunter and Hunter 2005, table 6.22.
FREE = ("pre_norm", "swiglu", "rotary", "adamw")
GENERATED = {
    "rmsnorm": ("pre_norm", "swiglu", "rotary"),
    "cosine": ("swiglu", "rotary", "adamw"),
    "no_biases": ("pre_norm", "rotary", "adamw"),
}


def design() -> list[dict[str, int]]:
    """16 rows: innovation -> +1 where it is in, -1 where it is not; the first has none, the last has all."""
    rows = []
    for levels in itertools.product((-1, 1), repeat=len(FREE)):
        row = dict(zip(FREE, levels, strict=True))
        rows.append(row | {name: math.prod(row[factor] for factor in of) for name, of in GENERATED.items()})
    return rows


@studies.register("interactions")
def interactions(preset: str = DEFAULT) -> Study:
    """Do the innovations between 2017 and 2023 multiply, or is one worth less where the others are there already?

    Sixteen of all 128 combinations, each innovation in eight of them.
    """
    at = preset_named(preset)
    arms: dict[str, tuple[Entry, ...]] = {}
    mains: dict[str, tuple[Entry, ...]] = {}
    facts: dict[str, dict[str, Any]] = {}
    for row in design():
        names = [name for name in INNOVATIONS if row.get(name) == 1]
        arm = "+".join(names) or "retro"
        sized = after(retro(at), names)
        arms[arm] = sweep(sized, at.swept)
        mains[arm] = main(sized, at.ablated if names else at.budgets, at.seeds)
        facts[arm] = {"levels": row}
    return Study(
        name=study_name("interactions", at),
        question=question(interactions),
        baseline="retro",
        arms=arms,
        tuning=Tuning(),
        main=mains,
        innovations=facts,
    )
