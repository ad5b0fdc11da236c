"""A study: one question, a baseline arm, and the trainings of each arm."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import Field, field_validator, model_validator

from algoprogress.ablations.config import Config, Whole
from algoprogress.ablations.registry import Registry
from algoprogress.ablations.spec import RunSpec


class Entry(Config):
    """One training in its place on a ladder of compute budgets."""

    spec: RunSpec
    compute_budget: float | None = Field(None, gt=0, description="FLOP asked for; None off any ladder")


class Sweep(Config):
    """What is added to a grid once its losses are known, the same for every arm.

    Where the best learning rate of an (arm, budget) is the lowest or highest tried at that size, the sweep goes one
    `factor` further, up to `extensions` times. Then the best configuration is repeated with further seeds.
    """

    factor: float = Field(2.0, gt=1)
    extensions: Whole = Field(2, ge=0)
    seeds: Whole = Field(1, ge=1, description="runs of the best configuration of each budget")
    seeds_up_to: float = Field(math.inf, gt=0, allow_inf_nan=True, description="largest budget that is repeated, FLOP")


class Study(Config):
    """Arms of trainings that answer one question. Equal specs, in whatever arm or study, are one run."""

    name: str
    question: str
    baseline: str = Field(description="the arm that gains are measured against")
    arms: dict[str, tuple[Entry, ...]]
    sweep: Sweep | None = None

    @field_validator("name")
    @classmethod
    def _name_is_a_file_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", value):
            raise ValueError(
                f"a study's name is letters, digits, '_', '-' and '.', the first a letter or digit; not {value!r}"
            )
        return value

    @model_validator(mode="after")
    def _arms_fit(self) -> Study:
        if self.baseline not in self.arms:
            raise ValueError(f"the baseline {self.baseline!r} is not an arm; arms: {', '.join(self.arms)}")
        for arm, entries in self.arms.items():
            if not entries:
                raise ValueError(f"the arm {arm!r} has no runs: give it some or take it out")
        return self

    def entries(self) -> Iterator[tuple[str, Entry]]:
        for arm, entries in self.arms.items():
            for entry in entries:
                yield arm, entry

    def specs(self) -> dict[str, RunSpec]:
        """run_id -> spec, each training once."""
        return {entry.spec.run_id: entry.spec for _, entry in self.entries()}

    def arm(self, name: str) -> tuple[Entry, ...]:
        if name not in self.arms:
            raise ValueError(f"unknown arm {name!r} in study {self.name!r}; arms: {', '.join(self.arms)}")
        return self.arms[name]

    def differences(self) -> dict[str, dict[str, dict[str, list[Any]]]]:
        """arm -> field -> {"baseline": values, "arm": values}, for each field whose values differ from the baseline's.

        Fields are dotted paths into the RunSpec; a value that occurs in several runs is listed once, in order of first
        use; a field that an arm does not have has no values.
        """
        values = {arm: _values(entries) for arm, entries in self.arms.items()}
        base = values[self.baseline]
        return {
            arm: {
                field: {"baseline": base.get(field, []), "arm": mine.get(field, [])}
                for field in [*mine, *(f for f in base if f not in mine)]
                if set(map(repr, mine.get(field, []))) != set(map(repr, base.get(field, [])))
            }
            for arm, mine in values.items()
            if arm != self.baseline
        }

    def stored(self) -> dict[str, Any]:
        """The study as the store keeps it, so that tables need no study code."""
        return {
            "name": self.name,
            "question": self.question,
            "baseline": self.baseline,
            "arms": {
                arm: [
                    {"run_id": e.spec.run_id, "compute_budget": e.compute_budget, "compute": e.spec.compute}
                    for e in entries
                ]
                for arm, entries in self.arms.items()
            },
            "differences": self.differences(),
        }


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _values(entries: tuple[Entry, ...]) -> dict[str, list[Any]]:
    seen: dict[str, list[Any]] = {}
    for entry in entries:
        for field, value in flatten(entry.spec.model_dump()).items():
            if value not in seen.setdefault(field, []):
                seen[field].append(value)
    return seen


def refine(study: Study, losses: Mapping[str, float]) -> Study:
    """The study with the trainings that its sweep adds, given the losses that are known.

    A pure function of the grid and the losses: asked again with the same losses, it gives the same study, so that an
    interrupted study goes on where it was. A diverged run has an infinite loss.

    Args:
        study: the grid as it was written.
        losses: run_id -> final validation loss, nats/token.
    """
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


studies: Registry[Callable[[], Study]] = Registry("study", "algoprogress.ablations.studies")


def question(study: Callable[[], Study]) -> str:
    """A built-in study's question: the first paragraph of its docstring."""
    return " ".join((study.__doc__ or "").strip().split("\n\n")[0].split())
