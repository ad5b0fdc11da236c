"""Train what a study lacks: longest run first, each once, whatever was interrupted before.

The driver only schedules. Workers publish to the store, so that a driver that dies loses nothing that was finished.
"""

from __future__ import annotations

import os
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from algoprogress.ablations.study import Study, refine
from algoprogress.pipeline import provenance
from algoprogress.pipeline.executors import Executor
from algoprogress.pipeline.plan import losses, worth_compiling
from algoprogress.pipeline.progress import Progress
from algoprogress.pipeline.worker import Outcome, Task
from algoprogress.results import CorruptRun, Store, StoreError

WINDOW = 3  # tasks in flight per slot: enough to keep workers busy, few enough to reorder what comes later
LOST_WORKER_RETRIES = 2  # of a run whose worker was lost; an error of the code is never retried


@dataclass
class Summary:
    """What a submit did."""

    trained: int = 0
    diverged: int = 0
    present: int = 0
    failed: dict[str, str] = field(default_factory=dict)  # run_id -> message
    seconds: float = 0.0


def submit(
    study: Study,
    store: Store,
    make_executor: Callable[[], Executor],
    progress: Progress,
    *,
    time_limit: float | None = None,
    retry_failed: bool = False,
    device: str = "cpu",
    compile_for: int = 0,
) -> Summary:
    """Train every run of a resolved study that the store does not hold, and what its sweep adds as losses come in.

    Args:
        study: resolved, as it was written (the sweep's additions are worked out here).
        store: where runs are published.
        make_executor: called once, and only if there is something to train.
        progress: told of everything that happens.
        time_limit: seconds after which a run is stopped by force; None: no limit.
        retry_failed: train again what has failed before.
        device: the workers' torch device.
        compile_for: workers among which torch.compile has to repay its cost, shape by shape; 0: it is not used.

    Raises:
        StoreError: the store cannot be written.
    """
    begun = time.monotonic()
    store.writable()
    store.clean()
    for problem in _damaged(store):
        if problem["run_id"] and problem["file"].startswith("runs/"):
            store.set_aside(problem["run_id"], problem["problem"])
            progress.say(f"set aside {problem['file']}: {problem['problem']}; trained again if {study.name} needs it")
    loop = _Loop(study, store, progress, time_limit, retry_failed, device, compile_for)
    try:
        loop.look()
        store.save_study(loop.study.stored())
        if loop.todo:
            executor = make_executor()
            try:
                loop.run(executor)
            finally:
                executor.close()
                store.clean()
    finally:
        progress.close()  # a bar that is left open keeps the terminal's cursor
    loop.summary.seconds = time.monotonic() - begun
    return loop.summary


def _damaged(store: Store) -> list[dict[str, Any]]:
    """What of the store cannot be read; a broken index or study file is simply written anew."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CorruptRun)
        return store.runs(status=None).attrs.get("corrupt", [])


class _Loop:
    """The state of one submit: what is known, what is to do, what is running."""

    def __init__(
        self,
        grid: Study,
        store: Store,
        progress: Progress,
        time_limit: float | None,
        retry_failed: bool,
        device: str,
        compile_for: int,
    ) -> None:
        self.grid, self.study, self.store, self.progress = grid, grid, store, progress
        self.time_limit, self.device, self.compile_for = time_limit, device, compile_for
        self.driver = f"{provenance.machine()['host']}:{os.getpid()}"
        self.losses: dict[str, float] = {}
        self.todo: dict[str, Task] = {}
        self.running: dict[str, Task] = {}
        self.started: dict[str, float] = {}  # when a worker began, by our clock
        self.attempts: Counter[str] = Counter()
        self.stopping: set[str] = set()
        self.summary = Summary()
        self.before: set[str] = set() if retry_failed else set(store.failures().get("run_id", []))

    def look(self) -> None:
        """Learn losses from the store, add what the sweep asks for, and list what is to do, longest first."""
        while True:
            self.study = refine(self.grid, self.losses)
            found = losses(self.store, self.study, self.losses.keys())
            if not found:
                break
            self.losses |= found
        skip = self.losses.keys() | self.running.keys() | self.summary.failed.keys()
        tasks: dict[str, Task] = {}
        for arm, entry in self.study.entries():
            run_id = entry.spec.run_id
            if run_id in skip or run_id in tasks:
                continue
            if run_id in self.before:
                self.summary.failed[run_id] = "failed before: see `algoprogress logs`, then submit with --retry-failed"
                continue
            tasks[run_id] = Task(
                run_id,
                entry.spec.model_dump(mode="json"),
                self.store.url,
                self.grid.name,
                arm,
                self.attempts[run_id] + 1,
                self.device,
                code=provenance.code(),
                driver=self.driver,
            )
        if self.compile_for and tasks:
            todo = [entry.spec for _, entry in self.study.entries() if entry.spec.run_id in tasks]
            for run_id in worth_compiling(todo, self.compile_for, self.device):
                tasks[run_id] = replace(tasks[run_id], torch_compile=True)
        cost = {run_id: spec.compute for run_id, spec in self.study.specs().items()}
        self.todo = dict(sorted(tasks.items(), key=lambda item: -cost[item[0]]))
        self.progress.expect(cost, set(self.losses))

    def run(self, executor: Executor) -> None:
        while self.todo or self.running:
            while self.todo and len(self.running) < WINDOW * executor.slots:
                run_id = next(iter(self.todo))
                task = self.todo.pop(run_id)
                self.attempts[run_id] += 1
                self.running[run_id] = task
                executor.start(task)
            news = executor.wait(1.0)
            for outcome in news:
                self.settle(outcome)
            if any(outcome.status in ("done", "diverged", "present") for outcome in news):
                known = self.study
                self.look()
                if self.study != known:
                    self.store.save_study(self.study.stored())
            self.watch(executor)

    def settle(self, outcome: Outcome) -> None:
        task = self.running.pop(outcome.run_id)
        self.started.pop(outcome.run_id, None)
        if outcome.status in ("done", "diverged", "present"):
            self.summary.trained += outcome.status != "present"
            self.summary.diverged += outcome.status == "diverged"
            self.summary.present += outcome.status == "present"
        elif outcome.status == "store":
            raise StoreError(outcome.message)
        elif outcome.status == "infra" and self.attempts[outcome.run_id] <= LOST_WORKER_RETRIES:
            self.note_failure(task, outcome)
            self.progress.say(f"{task.run_id} ({task.arm}): {outcome.message}; trying again")
        else:
            if outcome.status != "failed":  # the worker has noted its own
                self.note_failure(task, outcome)
            self.summary.failed[outcome.run_id] = outcome.message
        self.progress.finished(task, outcome)
        if outcome.status == "infra" and outcome.run_id not in self.summary.failed:
            self.look()

    def note_failure(self, task: Task, outcome: Outcome) -> None:
        facts: dict[str, Any] = {
            "class": outcome.status,
            "message": outcome.message,
            "traceback": "",
            "host": provenance.machine()["host"],
            "at": provenance.now(),
            "study": task.study,
            "arm": task.arm,
        }
        self.store.record_failure(task.run_id, facts)
        self.store.retire(task.run_id)

    def watch(self, executor: Executor) -> None:
        """Show the heartbeats, and stop what is over its time."""
        beats = {str(b["run_id"]): b for b in self.store.active().to_dict("records") if b.get("driver") == self.driver}
        beats = {run_id: beat for run_id, beat in beats.items() if run_id in self.running}
        for run_id in beats:
            self.started.setdefault(run_id, time.monotonic())
        self.progress.beats(beats)
        for run_id, since in list(self.started.items()):
            late = self.time_limit is not None and time.monotonic() - since > self.time_limit
            if late and run_id not in self.stopping:
                self.stopping.add(run_id)
                executor.stop(run_id)
