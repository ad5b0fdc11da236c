"""A study: one question, a baseline arm, and the trainings of each arm."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from algoprogress.ablations.config import Config, Whole
from algoprogress.ablations.probes import Probing
from algoprogress.ablations.registry import Registry
from algoprogress.ablations.spec import RunSpec
from algoprogress.ablations.tuning import TunedArm, Tuning


class Entry(Config):
    """One training in its place on a ladder of compute budgets."""

    spec: RunSpec
    compute_budget: float | None = Field(None, gt=0, description="FLOP asked for; None off any ladder")
    stage: Literal["sweep", "main"] = Field("main", description="sweep: trained to find the rate of the main runs")


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
    tuning: Tuning | None = Field(None, description="the arms are sweeps, from which the main runs get their rate")
    main: dict[str, tuple[Entry, ...]] = Field({}, description="main runs, which wait for their arm's rate")
    tuned: dict[str, TunedArm] = Field({}, description="what came of the sweeps that are done; see `refine`")
    against: dict[str, str] = Field({}, description="arm -> the arm that it is compared with, if not the baseline")
    innovations: dict[str, dict[str, Any]] = Field({}, description="arm -> what it has more or less than the other")
    probes: tuple[Probing, ...] = Field((), description="what is measured of the weights of its best runs")
    repeats: str | None = Field(None, description="the study that asks the same on another corpus; see `on_corpus`")

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
        named = {**self.main, **self.against, **self.innovations, **dict.fromkeys(self.against.values())}
        of_probes = [arm for probing in self.probes for arm in probing.arms]
        if unknown := [arm for arm in (*named, *of_probes) if arm not in self.arms]:
            raise ValueError(f"{', '.join(unknown)} is no arm; arms: {', '.join(self.arms)}")
        if self.sweep is not None and self.tuning is not None:
            raise ValueError("a study has a sweep at every budget or a tuning stage, not both")
        return self

    def entries(self) -> Iterator[tuple[str, Entry]]:
        for arm, entries in self.arms.items():
            for entry in entries:
                yield arm, entry

    @property
    def grows(self) -> bool:
        """Whether losses decide what else is trained."""
        return self.sweep is not None or self.tuning is not None

    def specs(self) -> dict[str, RunSpec]:
        """run_id -> spec, each training once."""
        return {entry.spec.run_id: entry.spec for _, entry in self.entries()}

    def arm(self, name: str) -> tuple[Entry, ...]:
        if name not in self.arms:
            raise ValueError(f"unknown arm {name!r} in study {self.name!r}; arms: {', '.join(self.arms)}")
        return self.arms[name]

    def differences(self) -> dict[str, dict[str, dict[str, list[Any]]]]:
        """arm -> field -> {"baseline": values, "arm": values}, for each field whose values differ from the baseline's.

        An arm that is compared with another arm differs from that one.
        Fields are dotted paths into the RunSpec; a value that occurs in several runs is listed once, in order of first
        use; a field that an arm does not have has no values.
        """
        values = {arm: _values((*entries, *self.main.get(arm, ()))) for arm, entries in self.arms.items()}
        return {
            arm: _differing(mine, values[self.against.get(arm, self.baseline)])
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
                    | ({"stage": e.stage} if self.tuning is not None else {})
                    for e in entries
                ]
                for arm, entries in self.arms.items()
            },
            "differences": self.differences(),
            **({"against": self.against} if self.against else {}),
            **({"innovations": self.innovations} if self.innovations else {}),
            **({"probes": [probing.model_dump(mode="json") for probing in self.probes]} if self.probes else {}),
            **({"repeats": self.repeats} if self.repeats else {}),
            **({"tuning": {arm: found.stored() for arm, found in self.tuned.items()}} if self.tuned else {}),
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


def _differing(mine: dict[str, list[Any]], base: dict[str, list[Any]]) -> dict[str, dict[str, list[Any]]]:
    return {
        field: {"baseline": base.get(field, []), "arm": mine.get(field, [])}
        for field in [*mine, *(f for f in base if f not in mine)]
        if set(map(repr, mine.get(field, []))) != set(map(repr, base.get(field, [])))
    }


def _values(entries: tuple[Entry, ...]) -> dict[str, list[Any]]:
    seen: dict[str, list[Any]] = {}
    for entry in entries:
        for field, value in flatten(entry.spec.model_dump()).items():
            if value not in seen.setdefault(field, []):
                seen[field].append(value)
    return seen


studies: Registry[Callable[..., Study]] = Registry("study", "algoprogress.ablations.studies")


def on_corpus(study: Study, corpus: str) -> Study:
    """The same question, arms and budgets on another text: a study of its own, which knows what it repeats.

    Args:
        study: not resolved.
        corpus: a built-in corpus or a path.

    Raises:
        ValueError: the study reads images, or several corpora.
    """
    entries = [e for part in (study.arms, study.main) for entries in part.values() for e in entries]
    read = sorted({e.spec.data.corpus for e in entries})
    if len(read) > 1 or any(e.spec.data.images for e in entries):
        raise ValueError(
            f"{study.name} reads {', '.join(read)}, and only a study of one text can be asked again: leave "
            f"--corpus {corpus} out"
        )

    def moved(entry: Entry) -> Entry:
        data = entry.spec.data.model_copy(update={"corpus": corpus, "corpus_sha256": None})
        return entry.model_copy(update={"spec": entry.spec.model_copy(update={"data": data})})

    there = re.sub(r"[^A-Za-z0-9_.-]+", "-", PurePath(corpus).stem)
    return study.model_copy(
        update={
            "name": f"{study.name}-{there}",
            "repeats": study.name,
            "arms": {arm: tuple(map(moved, entries)) for arm, entries in study.arms.items()},
            "main": {arm: tuple(map(moved, entries)) for arm, entries in study.main.items()},
        }
    )


def has_presets(name: str) -> bool:
    return "preset" in inspect.signature(studies[name]).parameters


def at_preset(name: str, preset: str | None = None) -> Study:
    """A built-in study at a preset, or at its default.

    Raises:
        ValueError: no such study or preset, or a study of one range.
    """
    if preset is None:
        return studies[name]()
    if not has_presets(name):
        known = ", ".join(other for other in studies if has_presets(other))
        raise ValueError(f"the study {name} has one range: leave out the preset {preset!r}; with presets: {known}")
    return studies[name](preset)


def question(study: Callable[..., Study]) -> str:
    """A built-in study's question: the first paragraph of its docstring."""
    return " ".join((study.__doc__ or "").strip().split("\n\n")[0].split())
