"""Each innovation alone, both ways: taken out of the recipe of 2023, and put into that of 2017."""

from __future__ import annotations

from typing import Any

from algoprogress.ablations.innovations import INNOVATIONS, Innovation, changed, has
from algoprogress.ablations.ladder import Sized, main, modern, retro, sweep
from algoprogress.ablations.presets import DEFAULT, preset_named, study_name
from algoprogress.ablations.study import Entry, Study, question, studies
from algoprogress.ablations.tuning import Tuning

PROBE = 1e10  # FLOP: whether a recipe has an innovation is the same at every size


def toggled(sized: Sized, innovation: Innovation) -> tuple[str, Sized] | None:
    """("out" or "in", the recipe without or with the innovation); None where it has neither before nor after."""
    if has(sized(PROBE), innovation.after):
        return "out", lambda compute: changed(sized(compute), innovation.before)
    if has(sized(PROBE), innovation.before):
        return "in", lambda compute: changed(sized(compute), innovation.after)
    return None


@studies.register("ablations")
def ablations(preset: str = DEFAULT) -> Study:
    """What is each innovation worth in compute, taken out of a modern recipe and put into a retro one, at each scale?

    An arm `modern-x` is the modern recipe without x, `modern+x` with it, and so on; each is compared with its recipe.
    """
    at = preset_named(preset)
    arms: dict[str, tuple[Entry, ...]] = {}
    mains: dict[str, tuple[Entry, ...]] = {}
    against: dict[str, str] = {}
    facts: dict[str, dict[str, Any]] = {}
    for base, sized in (("modern", modern(at)), ("retro", retro(at))):
        arms[base], mains[base] = sweep(sized, at.swept), main(sized, at.budgets, at.seeds)
        for innovation in INNOVATIONS.values():
            found = toggled(sized, innovation) if innovation.asked_in == "ablations" else None
            if found is None:
                continue
            direction, recipe = found
            arm = f"{base}{'-' if direction == 'out' else '+'}{innovation.name}"
            arms[arm], mains[arm] = sweep(recipe, at.swept), main(recipe, at.ablated, at.seeds)
            against[arm] = base
            facts[arm] = {"innovation": innovation.name, "year": innovation.year, "direction": direction}
            facts[arm] |= {"published": innovation.published, "source": innovation.source, "paper": innovation.paper}
    return Study(
        name=study_name("ablations", at),
        question=question(ablations),
        baseline="modern",
        arms=arms,
        tuning=Tuning(),
        main=mains,
        against=against,
        innovations=facts,
    )
