"""What a study would train, what of it is done, and how long the rest takes on this machine. Trains nothing.

The estimate is the measured time of a few steps of each shape of run, kept for this machine and version of torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from algoprogress.ablations.refine import most_added, refine
from algoprogress.ablations.spec import Data, RunSpec
from algoprogress.ablations.study import Entry, Study, flatten
from algoprogress.pipeline.corpora.cache import cache_root
from algoprogress.pipeline.data import default_corpus, open_tokens
from algoprogress.pipeline.data import resolve as resolve_corpus
from algoprogress.pipeline.policy import best_dtype
from algoprogress.results import Store, StoreError

DEFAULT_CORPUS = Data.model_fields["corpus"].default
WARM_STEPS, TIMED_STEPS = 2, 5
# Measured steps run alone; a full machine is slower. On two cores the sum of the estimates of the `demo` study was
# within this share of what its runs took (`algoprogress plan demo` against the runs' wall_seconds).
SPREAD = 0.25

# Of torch.compile on a CPU, as `algoprogress bench levers` measures them: how much faster a step is than in torch's
# ways, and what the first step of a shape costs a worker, seconds. The compiled kernels are faster yet.
COMPILE_GAIN, COMPILE_SECONDS = 1.13, 20.0


def resolve(study: Study, warn: Callable[[str], None] | None = None, device: str = "cpu") -> Study:
    """The study with each corpus pinned to its content and each dtype named, which gives its runs their identity.

    A dtype of `auto` becomes what this machine's `device` is best at. Where no package index can be reached, the
    default corpus is replaced by one that needs none, and `warn` is told.

    Raises:
        CorpusError: a corpus that is missing, empty or not text.
        ValueError: a dtype of auto for a device that this machine does not have.
    """
    known: dict[str, str] = {}
    default = default_corpus(warn) if any(e.spec.data.corpus == DEFAULT_CORPUS for _, e in study.entries()) else ""

    def pin_entry(entry: Entry) -> Entry:
        return entry.model_copy(update={"spec": pin(entry.spec)})

    def pin(spec: RunSpec) -> RunSpec:
        if spec.dtype == "auto":
            spec = spec.model_copy(update={"dtype": best_dtype(device)})
        if spec.data.corpus_sha256 is not None:
            return spec
        name = default if spec.data.corpus == DEFAULT_CORPUS else spec.data.corpus
        if name not in known:
            known[name] = resolve_corpus(name).sha256
        data = spec.data.model_copy(update={"corpus": name, "corpus_sha256": known[name]})
        return spec.model_copy(update={"data": data})

    arms = {arm: tuple(map(pin_entry, entries)) for arm, entries in study.arms.items()}
    main = {arm: tuple(map(pin_entry, entries)) for arm, entries in study.main.items()}
    return study.model_copy(update={"arms": arms, "main": main})


def losses(store: Store, study: Study, known: Collection[str] = ()) -> dict[str, float]:
    """run_id -> loss of the study's runs that are in the store; infinite for a diverged one.

    A run whose file is damaged is one that has to be trained: it is left out.

    Args:
        known: run_ids that need not be read again.
    """
    found = {}
    for run_id in (store.run_ids() & study.specs().keys()) - set(known):
        with contextlib.suppress(StoreError):
            record = store.record(run_id)
            found[run_id] = record["loss"] if record["status"] == "done" else math.inf
    return found


def refined(store: Store, study: Study) -> Study:
    """The study with all that its sweep adds, given what the store holds."""
    known: dict[str, float] = {}
    while True:
        study_now = refine(study, known)
        found = losses(store, study_now, known)
        if not found:
            return study_now
        known |= found


@dataclass(frozen=True)
class Plan:
    """One row per (arm, run), and the totals."""

    rows: pd.DataFrame
    slots: int
    may_add: int = 0  # runs that the sweep may still add, at most

    @property
    def pending(self) -> pd.DataFrame:
        """One row per run that is still to be trained."""
        return self.unique[self.unique.state != "done"]

    @property
    def unique(self) -> pd.DataFrame:
        """One row per run; a main run that waits for its rate has no id, and is one of its arm alone."""
        return self.rows[~self.rows.run_id.duplicated() | self.rows.run_id.isna()]

    @property
    def core_seconds(self) -> float:
        return float(self.pending.seconds.sum())

    @property
    def wall_seconds(self) -> float:
        """Longest first on `slots` workers: never less than the longest run."""
        loads = [0.0] * max(1, self.slots)
        for seconds in sorted(self.pending.seconds, reverse=True):
            loads[loads.index(min(loads))] += seconds
        return max(loads)

    def totals(self) -> dict[str, Any]:
        unique = self.unique
        return {
            "runs": len(unique),
            "pending": len(self.pending),
            "compute": float(unique.compute.sum()),
            "pending_compute": float(self.pending.compute.sum()),
            "core_hours": self.core_seconds / 3600,
            "wall_hours": self.wall_seconds / 3600,
            "wall_hours_low": self.wall_seconds * (1 - SPREAD) / 3600,
            "wall_hours_high": self.wall_seconds * (1 + SPREAD) / 3600,
            "slots": self.slots,
            "sweep_may_add": self.may_add,
        }


def plan(
    study: Study, store: Store, slots: int | None = None, seconds: Callable[[RunSpec], float] | None = None
) -> Plan:
    """The runs of a resolved study in its order, each with its size, cost and state.

    Args:
        study: resolved; its sweep's additions that are known by now are included.
        store: says what is done.
        slots: runs at once; the machine's cores by default.
        seconds: time of a run; by default measured on this machine.
    """
    grid = study
    study = refined(store, grid)
    done = losses(store, study).keys()
    failed = set(store.failures().get("run_id", [])) - done
    active = set(store.active().get("run_id", [])) - done
    calibration = Calibration()
    time_of = seconds or calibration.seconds
    rows = []
    for arm, entry, waits in _in_order(study):
        spec, run_id = entry.spec, entry.spec.run_id
        state = (
            "after the sweep"
            if waits
            else "done"
            if run_id in done
            else "running"
            if run_id in active
            else "failed"
            if run_id in failed
            else "to do"
        )
        rows.append(
            {
                "arm": arm,
                "run_id": None if waits else run_id,
                **({"stage": entry.stage} if study.tuning is not None else {}),
                "n_params": spec.n_params,
                "tokens": spec.tokens,
                "learning_rate": math.nan if waits else spec.learning_rate,
                "seed": spec.seed,
                "compute": spec.compute,
                "optimizer_share": spec.flop(optimizer=True) / spec.compute - 1,  # FLOP of its steps, of the model's
                "optimizer_bytes": spec.optimizer_bytes,
                "compute_budget": entry.compute_budget,
                "state": state,
                "seconds": 0.0 if state == "done" else time_of(spec),
            }
        )
    calibration.save()
    may_add = most_added(grid) - (len(rows) - len(list(grid.entries())))
    return Plan(pd.DataFrame(rows), slots or os.cpu_count() or 1, may_add)


def _in_order(study: Study) -> Iterator[tuple[str, Entry, bool]]:
    """(arm, entry, whether it waits for its rate) of each run, arm by arm."""
    for arm, entries in study.arms.items():
        for entry in entries:
            yield arm, entry, False
        for entry in study.main.get(arm, ()):
            yield arm, entry, True


def worth_compiling(specs: Collection[RunSpec], slots: int, device: str = "cpu") -> set[str]:
    """run_ids of the runs whose shape repays torch.compile: each worker compiles a shape once.

    Args:
        specs: runs that are still to be trained, resolved.
        slots: workers that share them.
        device: of the workers; on a GPU every shape is compiled, since its launches then become one graph.
    """
    from algoprogress.pipeline.policy import choose

    if device != "cpu":
        return {spec.run_id for spec in specs}
    calibration, shapes = Calibration(), dict[str, list[RunSpec]]()
    for spec in specs:
        if not choose("cpu", spec.dtype).kernels:
            shapes.setdefault(_shape(spec), []).append(spec)
    seconds = {shape: sum(map(calibration.seconds, of_shape)) for shape, of_shape in shapes.items()}
    calibration.save()
    repaid = {shape for shape, total in seconds.items() if total / slots * (1 - 1 / COMPILE_GAIN) > COMPILE_SECONDS}
    return {spec.run_id for shape in repaid for spec in shapes[shape]}


class Calibration:
    """Seconds per step of each shape of run on this machine, measured once and kept in the cache folder."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._known: dict[str, float] = {}
        self._fresh = False

    def seconds(self, spec: RunSpec) -> float:
        """Estimated wall time of a run on one thread, seconds; an evaluated token costs a third of a trained one."""
        if self._path is None:
            self._load()
        key = _shape(spec)
        if key not in self._known:
            self._known[key] = _measure(spec)
            self._fresh = True
        evaluation = spec.evaluation.tokens * spec.evaluation.times / 3 / spec.batch_tokens
        return self._known[key] * (spec.steps + evaluation)

    def _load(self) -> None:
        import torch

        from algoprogress.pipeline.kernels import kernels

        machine = f"{_cpu()} torch {torch.__version__} kernels {kernels()[1]}"
        self._path = cache_root() / "calibration" / f"{hashlib.sha256(machine.encode()).hexdigest()[:12]}.json"
        if self._path.exists():
            try:
                self._known = json.loads(self._path.read_text())
            except ValueError:
                self._known = {}  # a torn file is measured anew

    def save(self) -> None:
        if not self._fresh or self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(f".{os.getpid()}.tmp")
        part.write_text(json.dumps(self._known, indent=1, sort_keys=True))
        part.replace(self._path)


def _shape(spec: RunSpec) -> str:
    """What a step's time depends on, as text."""
    facts: Mapping[str, Any] = {
        "architecture": spec.architecture.model_dump(),
        "optimizer": spec.optimizer.model_dump(),
        "batch_tokens": spec.batch_tokens,
        "context": spec.data.context,
        "vocab_size": spec.data.vocab_size,
        "dtype": spec.dtype,
    }
    if spec.reparameterization is not None:
        facts = {**facts, "reparameterization": spec.reparameterization.model_dump()}
    return json.dumps(flatten(facts), sort_keys=True)


def _measure(spec: RunSpec) -> float:
    """Median seconds of a step, of a run cut to a few steps of the same shape on the same tokens."""
    from algoprogress.ablations.spec import Evaluation
    from algoprogress.pipeline.policy import choose
    from algoprogress.pipeline.trainer import train

    tokens = open_tokens(spec.data.corpus, spec.data.corpus_sha256, spec.data.tokenizer)
    steps = WARM_STEPS + TIMED_STEPS
    short = spec.model_copy(
        update={
            "tokens": steps * spec.batch_tokens,
            "evaluation": Evaluation(tokens=spec.data.context, state=spec.evaluation.state),
        }
    )
    begun = time.perf_counter()
    curve = train(short, tokens, policy=choose("cpu", spec.dtype)).curve
    seconds = curve.wall_seconds.diff().iloc[WARM_STEPS:] / curve.step.diff().iloc[WARM_STEPS:]
    return statistics.median(seconds) if len(seconds) else (time.perf_counter() - begun) / steps


def _cpu() -> str:
    """The processor's name, as the kernel gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        import platform

        return platform.processor() or platform.machine()
