"""The sweeps behind the demo's learning rates: the same ladder, tuned at every budget."""

from __future__ import annotations

from algoprogress.ablations.studies.demo import LADDER, arms
from algoprogress.ablations.study import Study, Sweep, question, studies


@studies.register("demo_wide")
def demo_wide() -> Study:
    """Does the demo's answer stand when every arm's learning rate is swept at every budget, over three seeds?"""
    sweep = Sweep(extensions=2, seeds=3, seeds_up_to=3e11)
    return Study(name="demo_wide", question=question(demo_wide), baseline="lstm", arms=arms(LADDER), sweep=sweep)
