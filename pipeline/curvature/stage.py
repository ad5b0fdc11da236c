"""The probes of a study, as tasks after its training: what the store lacks is measured, a run's probes on one walk."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from algoprogress.ablations.best import probed
from algoprogress.ablations.spec import RunSpec
from algoprogress.ablations.study import Study
from algoprogress.pipeline.executors.scaling import Patience
from algoprogress.pipeline.plan import losses as losses_of
from algoprogress.pipeline.plan import refined
from algoprogress.pipeline.worker import Outcome, Task
from algoprogress.results import Store, StoreError

if TYPE_CHECKING:
    from algoprogress.pipeline.curvature.observe import Wanted
    from algoprogress.pipeline.executors import Executor

QUEUED = 2  # tasks per slot that the executor has: one in work and one to go on with


@dataclass(frozen=True)
class Todo:
    """A run, and the probes of it that the store lacks."""

    arm: str
    spec: RunSpec
    wanted: Wanted

    @property
    def n_probes(self) -> int:
        return sum(len(steps) for _, steps in self.wanted)


def todo(study: Study, store: Store) -> list[Todo]:
    """What is still to be measured of the runs that are there, those of the lowest seed first.

    Args:
        study: resolved, as it was written.
        store: says what is there.

    Raises:
        ValueError: a run is too short for a step that is asked for.
    """
    return [one for one in _all(study, store) if one.wanted]


def table(study: Study, store: Store) -> pd.DataFrame:
    """[arm, run_id, kind, steps, state], a row for each probe of each run that is there: what `plan` shows."""
    missing = {(one.spec.run_id, probe): len(steps) for one in todo(study, store) for probe, steps in one.wanted}
    rows = []
    study, known = _known(study, store)
    for arm, entry, probing in probed(study, known):
        run_id, probe, steps = entry.spec.run_id, probing.probe, probing.steps(entry.spec.steps)
        state = f"{missing[run_id, probe]} to do" if (run_id, probe) in missing else "done"
        shown = ", ".join(map(str, steps))
        rows.append({"arm": arm, "run_id": run_id, "probe": probe.kind, "steps": shown, "state": state})
    return pd.DataFrame(rows, columns=["arm", "run_id", "probe", "steps", "state"])


def _known(study: Study, store: Store) -> tuple[Study, Mapping[str, float]]:
    study = refined(store, study)
    return study, losses_of(store, study)


def _all(study: Study, store: Store) -> list[Todo]:
    study, known = _known(study, store)
    found: dict[str, Todo] = {}
    for arm, entry, probing in probed(study, known):
        spec, how = entry.spec, probing.probe.how()
        steps = [
            step
            for step in probing.steps(spec.steps)
            if not store.has_probe(probing.probe.kind, spec.run_id, step, how)
        ]
        before = found.get(spec.run_id, Todo(arm, spec, ()))
        more = [(probing.probe, steps)] if steps else []
        found[spec.run_id] = Todo(before.arm, spec, [*before.wanted, *more])
    return sorted(found.values(), key=lambda one: one.spec.seed)  # so that an interrupted stage has some of every arm


def run(
    study: Study,
    store: Store,
    open_executor: Callable[[], Executor],
    say: Callable[[str], None],
    watch: Callable[[], None] = lambda: None,
) -> dict[str, str]:
    """Measures what is missing, as many runs at once as there are slots.

    Args:
        study: resolved, as it was written.
        store: where probes are published, by the workers.
        open_executor: called only if there is something to measure; whoever has made the executor closes it.
        say: told of each run that is done.
        watch: called all the while; what it raises ends the stage.

    Returns:
        run_id -> message of those that failed.

    Raises:
        StoreError: the store cannot be written.
    """
    waiting = todo(study, store)
    if not waiting:
        return {}
    total, finished, failed = len(waiting), 0, dict[str, str]()
    arms = {one.spec.run_id: one.arm for one in waiting}
    say(f"{study.name}: {sum(one.n_probes for one in waiting)} probes of {total} runs to measure")
    executor, running, begun, patience = open_executor(), 0, time.monotonic(), Patience(say)
    executor.only_cpus()
    while waiting or running:
        patience.enough(executor.slots)
        while waiting and running < QUEUED * executor.slots:
            executor.start(_task(waiting.pop(0), store, study.name))
            running += 1
        for outcome in executor.wait(1.0):
            running, finished = running - 1, finished + 1
            if outcome.status == "store":
                raise StoreError(outcome.message)
            if outcome.status != "done":
                failed[outcome.run_id] = outcome.message
            left = (time.monotonic() - begun) / finished * (total - finished)
            tail = outcome.message if outcome.status != "done" else f"{outcome.seconds:.1f} s"
            say(
                f"{study.name}: probed {finished}/{total} runs, about {left:.0f} s left  {outcome.run_id[:8]}  "
                f"{arms[outcome.run_id]}  {tail}"
            )
        watch()
    return failed


def _task(one: Todo, store: Store, study: str) -> Task:
    probes = [{"probe": probe.model_dump(mode="json"), "steps": list(steps)} for probe, steps in one.wanted]
    spec = one.spec.model_dump(mode="json")
    return Task(one.spec.run_id, spec, store.url, study, one.arm, probes=probes)


def measure(task: Task) -> Outcome:
    """A worker's part: the probes of one run, each published as it is done."""
    from pydantic import TypeAdapter

    from algoprogress.ablations.probes import Probe
    from algoprogress.pipeline.curvature.observe import observe
    from algoprogress.pipeline.curvature.teller import Teller
    from algoprogress.pipeline.data import open_tokens
    from algoprogress.pipeline.policy import choose
    from algoprogress.pipeline.redaction import redact
    from algoprogress.pipeline.worker import read_spec

    begun = time.monotonic()
    try:
        spec = read_spec(task)
        adapter: TypeAdapter[Probe] = TypeAdapter(Probe)
        wanted = [(adapter.validate_python(one["probe"]), one["steps"]) for one in task.probes]
        data = spec.data
        observe(
            spec,
            wanted,
            lambda: open_tokens(data.corpus, data.corpus_sha256, data.tokenizer),
            choose("cpu", spec.dtype),
            Teller(),
            Store(task.store),
        )
    except StoreError as error:
        return Outcome(task.run_id, "store", None, redact(str(error)))
    except Exception as error:  # one run that cannot be measured must not end the others
        return Outcome(task.run_id, "failed", None, redact(f"{type(error).__name__}: {error}"), math.nan)
    return Outcome(task.run_id, "done", None, "", time.monotonic() - begun)
