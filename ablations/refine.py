"""What is trained next: the runs that a study adds to its grid once losses are known.

A sweep follows each best rate beyond the edge of its grid and repeats the best configurations. A tuning stage follows
them too, fits the law of the best rate, widens the sweep where the law leads out of it, and then sets the main runs of
the arm going at the rates that the law gives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from algoprogress.ablations.spec import RunSpec
from algoprogress.ablations.study import Entry, Study, Sweep
from algoprogress.ablations.tuning import Chosen, Rejected, TunedArm, Tuning, rate_for, tuned_arm


def refine(study: Study, losses: Mapping[str, float]) -> Study:
    """The study with the trainings that its sweep adds, given the losses that are known.

    A pure function of the grid and the losses: asked again with the same losses, it gives the same study, so that an
    interrupted study goes on where it was. A diverged run has an infinite loss.

    Args:
        study: the grid as it was written.
        losses: run_id -> final validation loss, nats/token.
    """
    if study.tuning is not None:
        return _tuned(study, study.tuning, losses)
    if study.sweep is None:
        return study
    arms = {arm: _refine_arm(entries, study.sweep, losses) for arm, entries in study.arms.items()}
    return study.model_copy(update={"arms": arms})


def _refine_arm(entries: tuple[Entry, ...], sweep: Sweep, losses: Mapping[str, float]) -> tuple[Entry, ...]:
    budgets: dict[float | None, list[Entry]] = {}
    for entry in entries:
        budgets.setdefault(entry.compute_budget, []).append(entry)
    added = [e for rung in budgets.values() for e in _refine_rung(rung, sweep, losses)]
    return (*entries, *added)


def _refine_rung(rung: list[Entry], sweep: Sweep, losses: Mapping[str, float]) -> list[Entry]:
    grid, added = list(rung), list[Entry]()

    def add(**change: Any) -> bool:
        """True when the added training has a loss already, so that there is more to decide."""
        entry = best.model_copy(update={"spec": best.spec.model_copy(update=change)})
        grid.append(entry)
        added.append(entry)
        return entry.spec.run_id in losses

    while all(e.spec.run_id in losses for e in grid):
        best = min(grid, key=lambda e: losses[e.spec.run_id])
        if not math.isfinite(losses[best.spec.run_id]):
            return added  # nothing at this budget converged: there is no best rate to go on from
        rates = sorted(e.spec.learning_rate for e in grid if _same_but_rate(e.spec, best.spec))
        rate, extended = best.spec.learning_rate, sum(_same_but_rate(e.spec, best.spec) for e in added)
        at_edge = len(rates) > 1 and rate in (rates[0], rates[-1])
        if at_edge and extended < sweep.extensions:
            if not add(learning_rate=rate * sweep.factor if rate == rates[-1] else rate / sweep.factor):
                return added
            continue
        if best.compute_budget is None or best.compute_budget <= sweep.seeds_up_to:
            for seed in range(best.spec.seed + 1, best.spec.seed + sweep.seeds):
                if not any(e.spec == best.spec.model_copy(update={"seed": seed}) for e in grid):
                    add(seed=seed)
        return added
    return added


def most_added(study: Study) -> int:
    """The largest number of trainings that the study's sweep can add to its grid."""
    if study.tuning is not None:
        sizes = sum(len(_sizes(entries)) for entries in study.arms.values())
        return study.tuning.extensions * sizes + sum(map(len, study.main.values()))
    if study.sweep is None:
        return 0
    total = 0
    for entries in study.arms.values():
        rungs: dict[float | None, set[float]] = {}
        for entry in entries:
            rungs.setdefault(entry.compute_budget, set()).add(entry.spec.learning_rate)
        for budget, rates in rungs.items():
            total += study.sweep.extensions if len(rates) > 1 else 0
            total += study.sweep.seeds - 1 if budget is None or budget <= study.sweep.seeds_up_to else 0
    return total


def _same_but_rate(a: RunSpec, b: RunSpec) -> bool:
    return a.model_copy(update={"learning_rate": b.learning_rate}) == b


def _tuned(study: Study, tuning: Tuning, losses: Mapping[str, float]) -> Study:
    """The arms with their extended sweeps and, where these are done, their main runs."""
    arms, waiting, tuned = {}, {}, {}
    for arm, entries in study.arms.items():
        main = study.main.get(arm, ())
        swept, found = _swept(_sizes(entries), main, tuning, losses)
        if found is not None:
            tuned[arm] = found
        if found is None or found.at_edge or found.beyond:
            arms[arm] = swept
            if main:
                waiting[arm] = main
            continue
        placed = [_at(_by(entry, found.momentum), rate_for(found, entry.spec.n_params)) for entry in main]
        own = [entry.spec for entry in placed]  # a main run that is also of the sweep counts as a main run
        arms[arm] = (*(entry for entry in swept if entry.spec not in own), *placed)
    return study.model_copy(update={"arms": arms, "main": waiting, "tuned": tuned})


def _swept(
    begun: list[list[Entry]], main: tuple[Entry, ...], tuning: Tuning, losses: Mapping[str, float]
) -> tuple[tuple[Entry, ...], TunedArm | None]:
    """The sweeps of an arm, wide enough for its main runs as far as losses tell, and the law; None while some lack."""
    momenta: dict[float | None, list[list[Entry]]] = {}
    for size in begun:
        momenta.setdefault(_momentum(size[0].spec), []).append(size)
    if len(momenta) == 1:
        return _widened(begun, main, tuning, losses)
    tried = {momentum: _widened(sizes, (), tuning, losses) for momentum, sizes in momenta.items()}
    laws = {momentum: law for momentum, (_, law) in tried.items() if law is not None}
    found = None
    if len(laws) == len(momenta):
        best = min(laws, key=lambda momentum: laws[momentum].loss)
        tried[best] = _widened(momenta[best], main, tuning, losses)
        if (law := tried[best][1]) is not None:
            rejected = tuple(Rejected(momentum=m or 0.0, sweep=laws[m].sweep) for m in laws if m != best)
            found = law.model_copy(update={"momentum": best, "rejected": rejected})
    return tuple(entry for entries, _ in tried.values() for entry in entries), found


def _momentum(spec: RunSpec) -> float | None:
    return getattr(spec.optimizer, "momentum", None)


def _widened(
    begun: list[list[Entry]], main: tuple[Entry, ...], tuning: Tuning, losses: Mapping[str, float]
) -> tuple[tuple[Entry, ...], TunedArm | None]:
    """As `_swept`, of one momentum."""
    sizes, most = begun, [len(size) + tuning.extensions for size in begun]
    while True:
        sizes = [_extended(size, n, tuning, losses) for size, n in zip(sizes, most, strict=True)]
        found = _law(sizes, losses)
        if found is not None and not found.at_edge:
            found = found.model_copy(update={"chosen": _chosen(found, main)})
            further = _further(found, sizes, most, tuning)
            if further != sizes:
                sizes = further
                continue
        return tuple(entry for size in sizes for entry in size), found


def _chosen(found: TunedArm, main: tuple[Entry, ...]) -> tuple[Chosen, ...]:
    """One rate for each size of the main runs."""
    sizes = dict.fromkeys((entry.compute_budget, entry.spec.n_params) for entry in main)
    return tuple(found.choose(compute_budget, n_params) for compute_budget, n_params in sizes)


def _further(found: TunedArm, sizes: list[list[Entry]], most: list[int], tuning: Tuning) -> list[list[Entry]]:
    """The sweeps with one more rate for each size that does not reach beyond the rates chosen near it."""
    grown = list(sizes)
    for chosen in found.beyond:
        k = found.nearest(chosen.n_params, chosen.compute_budget)
        low, high = found.sweep[k].rates[0], found.sweep[k].rates[-1]
        rate = low / tuning.factor if chosen.learning_rate <= low else high * tuning.factor
        if len(sizes[k]) < most[k] and grown[k] is sizes[k]:
            grown[k] = [*sizes[k], _at(sizes[k][0], rate)]
    return grown


def _at(entry: Entry, rate: float) -> Entry:
    return entry.model_copy(update={"spec": entry.spec.model_copy(update={"learning_rate": rate})})


def _by(entry: Entry, momentum: float | None) -> Entry:
    """The entry with the momentum that was found to be the best, if several were swept."""
    if momentum is None:
        return entry
    optimizer = entry.spec.optimizer.model_copy(update={"momentum": momentum})
    return entry.model_copy(update={"spec": entry.spec.model_copy(update={"optimizer": optimizer})})


def _sizes(entries: tuple[Entry, ...]) -> list[list[Entry]]:
    """Entries that differ in nothing but their rate, together."""
    found: list[list[Entry]] = []
    for entry in entries:
        for size in found:
            if _same_but_rate(entry.spec, size[0].spec):
                size.append(entry)
                break
        else:
            found.append([entry])
    return found


def _extended(size: list[Entry], most: int, tuning: Tuning, losses: Mapping[str, float]) -> list[Entry]:
    """The sweep of one size, one step further beyond an edge for each best rate that was found there."""
    grid = list(size)
    while len(grid) < most:
        known = [losses.get(entry.spec.run_id) for entry in grid]
        if None in known or len(grid) < 2:
            break
        best = grid[min(range(len(grid)), key=lambda k: known[k])]  # type: ignore[arg-type, return-value]
        rates = sorted(entry.spec.learning_rate for entry in grid)
        rate = best.spec.learning_rate
        if not math.isfinite(losses[best.spec.run_id]):
            further = rates[0] / tuning.factor  # all diverged
        elif rate in (rates[0], rates[-1]):
            further = rate * tuning.factor if rate == rates[-1] else rate / tuning.factor
        else:
            break
        grid.append(_at(best, further))
    return grid


def _law(sizes: list[list[Entry]], losses: Mapping[str, float]) -> TunedArm | None:
    """None while losses are missing, or where nothing converged."""
    swept = []
    for size in sizes:
        found = {e.spec.learning_rate: losses.get(e.spec.run_id, math.nan) for e in size}
        if any(map(math.isnan, found.values())) or not any(map(math.isfinite, found.values())):
            return None
        swept.append((size[0].compute_budget, size[0].spec.n_params, found))
    return tuned_arm(swept)
