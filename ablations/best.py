"""Which runs show what an arm can do?  The best configuration of each size and budget, every seed of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from algoprogress.ablations.probes import Probing
from algoprogress.ablations.study import Entry, Study


def best_runs(study: Study, losses: Mapping[str, float]) -> dict[str, list[Entry]]:
    """Arm -> the finished runs of the best configuration of each budget.

    The main runs where rates were tuned in a stage of their own; else configurations are compared by the run of their
    lowest seed, which each of a sweep has, and the others follow it.

    Args:
        study: refined.
        losses: run_id -> final validation loss; infinite for a diverged run.
    """
    found = {}
    for arm, entries in study.arms.items():
        done = [e for e in entries if math.isfinite(losses.get(e.spec.run_id, math.inf))]
        if study.tuning is not None:
            found[arm] = [e for e in done if e.stage == "main"]
            continue
        found[arm] = [
            e for budget in dict.fromkeys(e.compute_budget for e in done) for e in _best(done, budget, losses)
        ]
    return found


def _best(entries: list[Entry], budget: float | None, losses: Mapping[str, float]) -> Iterator[Entry]:
    rung = [e for e in entries if e.compute_budget == budget]
    lowest = min(e.spec.seed for e in rung)
    first = min((e for e in rung if e.spec.seed == lowest), key=lambda e: losses[e.spec.run_id])
    for entry in sorted(rung, key=lambda e: e.spec.seed):
        if entry.spec.configuration_id == first.spec.configuration_id:
            yield entry


def probed(study: Study, losses: Mapping[str, float]) -> Iterator[tuple[str, Entry, Probing]]:
    """(arm, run, what is measured of it) for all that a study asks for, of the runs that are there."""
    best = best_runs(study, losses)
    for probing in study.probes:
        for arm in probing.arms or study.arms:
            runs = best[arm]
            if probing.longest:
                largest = max((entry.compute_budget or 0.0 for entry in study.arms[arm]), default=0.0)
                runs = [entry for entry in runs if (entry.compute_budget or 0.0) == largest]
            seeds = sorted({entry.spec.seed for entry in runs})[: probing.seeds]
            for entry in runs:
                if entry.spec.seed in seeds:
                    yield arm, entry, probing
