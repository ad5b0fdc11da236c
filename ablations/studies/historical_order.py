"""From 2017 to 2023 one innovation at a time, in the order of their years: the gain of each on top of those before."""

from __future__ import annotations

from typing import Any

from algoprogress.ablations.innovations import INNOVATIONS, changed, has
from algoprogress.ablations.ladder import Sized, main, modern, retro, sweep
from algoprogress.ablations.presets import DEFAULT, preset_named, study_name
from algoprogress.ablations.study import Study, question, studies
from algoprogress.ablations.tuning import Tuning

PROBE = 1e10  # FLOP: which innovations part the recipes is the same at every size
STEPS_OF_AN_AXIS = ("linear_decay", "learned_positions", "cosine_from_linear", "rotary_from_learned", "swiglu_wider")


def steps(old: Sized, new: Sized) -> list[str]:
    """The innovations that lead from one recipe to the other, by year; each axis in one step."""
    return [
        name
        for name, innovation in INNOVATIONS.items()
        if name not in STEPS_OF_AN_AXIS and has(old(PROBE), innovation.before) and has(new(PROBE), innovation.after)
    ]


def after(sized: Sized, names: list[str]) -> Sized:
    def at(compute: float) -> Any:
        spec = sized(compute)
        for name in names:
            spec = changed(spec, INNOVATIONS[name].after)
        return spec

    return at


@studies.register("historical_order")
def historical_order(preset: str = DEFAULT) -> Study:
    """How did the gain over the recipe of 2017 build up, one innovation after another, until that of 2023?

    Each arm has all innovations of the arms before it; `no_biases` comes last and is the recipe of 2023.
    """
    at = preset_named(preset)
    names = steps(retro(at), modern(at))
    arms = {"retro": retro(at)} | {name: after(retro(at), names[: k + 1]) for k, name in enumerate(names)}
    return Study(
        name=study_name("historical_order", at),
        question=question(historical_order),
        baseline="retro",
        arms={arm: sweep(sized, at.swept) for arm, sized in arms.items()},
        tuning=Tuning(),
        main={arm: main(sized, at.budgets if arm == "retro" else at.ablated, at.seeds) for arm, sized in arms.items()},
    )
