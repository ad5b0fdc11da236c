"""Train what a study lacks: longest run first, each once, whatever was interrupted before.

The driver only schedules. Workers claim and publish, so that a driver that dies loses nothing that was finished, and
any number of drivers may work on one store at once.
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from algoprogress.ablations.refine import refine
from algoprogress.ablations.spec import RunSpec
from algoprogress.ablations.study import Study
from algoprogress.pipeline import preflight, provenance
from algoprogress.pipeline.attempts import Attempts
from algoprogress.pipeline.ensembles.executor import bundled
from algoprogress.pipeline.examination import Examination
from algoprogress.pipeline.executors import Executor
from algoprogress.pipeline.executors.scaling import Patience
from algoprogress.pipeline.options import Cancelled, Options, Summary, Then
from algoprogress.pipeline.plan import losses, worth_compiling
from algoprogress.pipeline.progress import Progress
from algoprogress.pipeline.redaction import redact
from algoprogress.pipeline.worker import Outcome, Task
from algoprogress.pipeline.worklog import TAIL_BYTES
from algoprogress.results import CorruptRun, Store, StoreError, UnknownRun, claims, submits
from algoprogress.results.claims import Watch

WINDOW = 3  # tasks in flight per slot: enough to keep workers busy, few enough to reorder what comes later
LOOKING = 0.1  # share of a driver's time for reading claims: the rest is for the runs that end
ENDED = ("done", "diverged", "present")


def submit(
    study: Study,
    store: Store,
    make_executor: Callable[[], Executor],
    progress: Progress,
    then: Then | None = None,
    **options: Any,
) -> Summary:
    """Train every run of a resolved study that the store does not hold, and what its sweep adds as losses come in.

    Args:
        study: resolved, as it was written (the sweep's additions are worked out here).
        store: where runs are published.
        make_executor: called once, and only if there is something to do for it.
        progress: told of everything that happens.
        then: what follows the training, on the same executor.
        options: the fields of `Options`.

    Raises:
        StoreError: the store cannot be written, or is not the same folder on every node.
        Unfit: the disk or the nodes cannot do the work.
        ClusterLost: no node could take a run for `node_seconds`.
    """
    begun = time.monotonic()
    store.writable()
    store.clean()
    for problem in _damaged(store):
        if problem["run_id"] and problem["file"].startswith("runs/"):
            with contextlib.suppress(UnknownRun):  # another submit was faster
                store.set_aside(problem["run_id"], problem["problem"])
            progress.say(f"set aside {problem['file']}: {problem['problem']}; trained again if {study.name} needs it")
    loop = _Loop(study, store, progress, make_executor, Options(**options))
    try:
        try:
            loop.look()
            preflight.check_disk(store, [loop.specs[run_id] for run_id in loop.todo])
            store.save_study(loop.study.stored())
            loop.run()
        finally:
            progress.close()  # a bar that is left open keeps the terminal's cursor
            loop.summary.seconds = time.monotonic() - begun
        if then is not None:
            loop.summary.failed |= then(loop.open, loop.watch)
    except Cancelled:
        loop.summary.cancelled = True
    finally:
        loop.close()
    loop.summary.left = len(loop.todo) + len(loop.running)
    return loop.summary


def _damaged(store: Store) -> list[dict[str, Any]]:
    """What of the store cannot be read; a broken index or study file is simply written anew."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CorruptRun)
        return store.runs(status=None).attrs.get("corrupt", [])


class _Loop:
    """The state of one submit: what is known, what is to do, what is running here and elsewhere."""

    def __init__(
        self, grid: Study, store: Store, progress: Progress, make_executor: Callable[[], Executor], options: Options
    ) -> None:
        self.grid, self.study, self.store, self.progress, self.options = grid, grid, store, progress, options
        self.make_executor = make_executor
        self.place: Executor | None = None  # where tasks run, once it is needed
        self.executor: Executor | None = None  # the same, with runs of one shape bundled
        self.patience = Patience(progress.say, options.node_seconds)
        self.driver = submits.new_driver()
        self.losses: dict[str, float] = {}
        self.specs: dict[str, RunSpec] = {}  # of the study, longest first
        self.arms: dict[str, str] = {}  # run_id -> the first arm that it is in
        # run_id -> the generation of a silent claim that it takes over, or 0; a dict would be slow at its front
        self.todo: OrderedDict[str, int] = OrderedDict()
        self.compiled: set[str] = set()  # runs whose shape repays torch.compile
        self.running: dict[str, Task] = {}
        self.elsewhere: set[str] = set()  # claimed by other submits
        self.started: dict[str, float] = {}  # when a worker began, by our clock
        self.begun: set[str] = set()  # runs that count towards the limit
        self.stopping: dict[str, str] = {}  # run_id -> timeout or cancelled
        self.halted = False
        self.summary = Summary()
        self.attempts = Attempts(store, options.retry_failed)
        self.silence = Watch(store.folder.silent_seconds)
        self.next_look = -math.inf

    def look(self) -> None:
        """Learn losses from the store, add what the sweep asks for, and list what is to do, longest first."""
        while True:
            self.study = refine(self.grid, self.losses)
            found = losses(self.store, self.study, self.losses.keys())
            if not found:
                break
            self.losses |= found
        for arm, tuned in self.study.tuned.items():
            if (doubt := tuned.doubt()) and arm in self.study.main and arm not in self.summary.waiting:
                self.summary.waiting[arm] = (
                    f"{doubt} ({arm}): widen it with other first rates or more extensions; its main runs wait"
                )
                self.progress.say(self.summary.waiting[arm])
        specs = self.study.specs()
        cost = {run_id: spec.compute for run_id, spec in specs.items()}
        self.specs = {run_id: specs[run_id] for run_id in sorted(specs, key=lambda run_id: -cost[run_id])}
        self.arms = {entry.spec.run_id: arm for arm, entry in reversed(list(self.study.entries()))}
        known = self.losses.keys() | self.running.keys() | self.elsewhere | self.summary.failed.keys()
        todo, self.todo = self.todo, OrderedDict()
        for run_id in self.specs:
            if run_id in known:
                continue
            decided = self.attempts.verdict(self.specs[run_id])
            if decided.again:
                self.todo[run_id] = todo.get(run_id, 0)
            else:
                advice = f"see `algoprogress logs {run_id}`, then submit with --retry-failed"
                self.summary.failed[run_id] = f"failed before: {decided.reason}; {advice}"
        if self.options.compile_for and self.todo:
            specs_to_do = [self.specs[run_id] for run_id in self.todo]
            self.compiled |= worth_compiling(specs_to_do, self.options.compile_for, self.options.device)
        self.progress.expect(cost, set(self.losses))

    def run(self) -> None:
        if self.todo or self.elsewhere:
            self.announce()
        while True:
            self.fill()
            waiting = (self.elsewhere or self.todo) and not self.halted and not self.full()
            if not self.running and not waiting:
                return
            if self.executor is not None:
                self.patience.enough(self.executor.slots)
            if self.executor is not None and self.running:
                for outcome in self.executor.wait(1.0):
                    self.settle(outcome)
            else:
                time.sleep(min(1.0, self.store.folder.beat_seconds))
            self.watch()

    def fill(self) -> None:
        """Keep the window full."""
        per_slot = 1 if self.options.fail_fast else WINDOW  # what is queued would still be begun after a failure
        while self.todo and not self.halted and not self.full():
            if self.executor is None:
                self.executor = bundled(self.open(), self.options.device, self.options.together)
            if len(self.running) >= per_slot * self.executor.slots:
                return
            run_id, over = self.todo.popitem(last=False)
            task = self.task(run_id, over)
            self.begun.add(run_id)
            self.running[run_id] = task
            self.executor.start(task)

    def open(self) -> Executor:
        """The one executor of this submit, made and its nodes examined when it is first needed."""
        if self.place is None:
            self.announce()  # or what is written for the nodes would be swept away
            self.place = self.make_executor()
            specs, share = [self.specs[run_id] for run_id in self.todo], self.options.gpus_per_run
            examination = Examination(self.store, self.driver, specs, share, self.progress.say)
            preflight.check_nodes(self.place, examination)
        return self.place

    def full(self) -> bool:
        """Whether the limit allows no further run."""
        limit = self.options.limit
        return limit is not None and len(self.begun) >= limit and next(iter(self.todo), None) not in self.begun

    def task(self, run_id: str, over: int) -> Task:
        return Task(
            run_id,
            self.specs[run_id].model_dump(mode="json"),
            self.store.url,
            self.grid.name,
            self.arms[run_id],
            self.attempts.next(run_id),
            self.options.device,
            torch_compile=run_id in self.compiled,
            checkpoint_seconds=self.options.checkpoint_seconds,
            micro_batches=self.attempts.verdict(self.specs[run_id]).micro_batches,
            code=provenance.code(),
            driver=self.driver,
            over=over,
            gpu_share=self.options.gpus_per_run,
        )

    def settle(self, outcome: Outcome) -> None:
        task = self.running.pop(outcome.run_id)
        if outcome.status == "stopped":
            reason = self.stopping.pop(outcome.run_id, "timeout")
            what = "stopped after its time limit" if reason == "timeout" else "cancelled on request"
            outcome = replace(outcome, status=reason, message=what)
        if outcome.status in ENDED:
            self.learn(outcome)
        elif outcome.status == "elsewhere":
            self.begun.discard(outcome.run_id)
            self.elsewhere.add(outcome.run_id)
            self.started.pop(outcome.run_id, None)
            return
        elif outcome.status == "store":
            raise StoreError(outcome.message)
        else:
            self.failed(task, outcome)
        self.started.pop(outcome.run_id, None)
        self.progress.finished(task, outcome)

    def learn(self, outcome: Outcome) -> None:
        """A run is in the store."""
        run_id = outcome.run_id
        self.summary.trained += outcome.status != "present"
        self.summary.diverged += outcome.status == "diverged"
        self.summary.present += outcome.status == "present"
        if outcome.status == "present":
            self.begun.discard(run_id)
        elif not self.store.has(run_id):
            raise StoreError(
                f"A worker has published run {run_id}, and it is not in {self.store.url}: that folder is not the same "
                "on every machine. Use a shared file system or object storage (--store s3://bucket/runs)."
            )
        self.elsewhere.discard(run_id)
        loss = outcome.loss if outcome.status == "done" else math.inf
        if outcome.status == "present" or loss is None:
            found = losses(self.store, self.study, self.specs.keys() - {run_id})
            loss = found.get(run_id, math.inf)
        self.losses[run_id] = loss
        if self.grid.grows and refine(self.grid, self.losses) != self.study:
            self.look()
            self.store.save_study(self.study.stored())

    def failed(self, task: Task, outcome: Outcome) -> None:
        """An attempt has failed: keep why, and try again or give up."""
        run_id = task.run_id
        if outcome.cause or outcome.status not in ("failed", "oom"):  # a worker that lives has kept its own
            self.note_failure(task, outcome)
        if outcome.status == "infra":
            self.attempts.lose(run_id, outcome.cause or "crash")
        self.attempts.look(run_id)
        if outcome.cause == "node":  # its worker may live on: who holds the claim decides
            if run_id in self.store.claims():
                self.elsewhere.add(run_id)
        else:
            self.store.retire(run_id, self.driver)
        decided = self.attempts.verdict(self.specs[run_id])
        if decided.again:
            parts = f", each batch in {decided.micro_batches} parts" if outcome.status == "oom" else ""
            self.progress.say(f"{run_id} ({task.arm}): {outcome.message}; trying again{parts}")
            if run_id not in self.elsewhere:
                self.todo[run_id] = 0
                self.todo.move_to_end(run_id, last=False)  # begun before, so it is among the longest
        else:
            self.elsewhere.discard(run_id)
            self.summary.failed[run_id] = outcome.message
            self.halted |= self.options.fail_fast

    def note_failure(self, task: Task, outcome: Outcome) -> None:
        log, began = outcome.log, self.started.get(task.run_id)
        if outcome.cause == "crash" and not log and self.executor is not None and (claim := self.claim_of(task)):
            log = redact(self.executor.last_words(int(claim.get("pid", 0)))[-TAIL_BYTES:])
        facts: dict[str, Any] = {
            "class": outcome.status,
            "cause": outcome.cause,
            "message": outcome.message,
            "traceback": "",
            "log": log,
            "seconds": time.monotonic() - began if began is not None else 0.0,
            "micro_batches": task.micro_batches,
            "host": provenance.machine()["host"],
            "study": task.study,
            "arm": task.arm,
            "driver": self.driver,
        }
        self.store.record_failure(task.run_id, facts)

    def claim_of(self, task: Task) -> dict[str, Any] | None:
        """What the worker of a task last said."""
        held = self.store.claims().get(task.run_id)
        said = None if held is None else claims.facts(self.store.folder, held)
        return said if said is not None and said.get("driver") == self.driver else None

    def watch(self) -> None:
        """Look around once a heartbeat, or less often where that takes long: many claims, or a store far away."""
        begun = time.monotonic()
        if begun < self.next_look:
            return
        self.look_at_others()
        took = time.monotonic() - begun
        self.next_look = begun + max(self.store.folder.beat_seconds, took / LOOKING)

    def look_at_others(self) -> None:
        """Show the heartbeats, stop what is over its time, see how runs fare elsewhere, and obey requests."""
        beats: dict[str, Any] = {}
        try:
            beats = {str(beat["run_id"]): beat for beat in self.store.active().to_dict("records")}
            self.follow(beats)
            self.obey()
            self.announce()
        except StoreError as error:  # a store that is out of reach for a moment; what must be written is tried again
            self.progress.say(f"{error}")
        ours = {r: beat for r, beat in beats.items() if beat.get("driver") == self.driver and r in self.running}
        for run_id in ours:
            self.started.setdefault(run_id, time.monotonic())
        self.progress.beats({run_id: {str(k): v for k, v in beat.items()} for run_id, beat in ours.items()})
        limit = self.options.time_limit
        for run_id, since in self.started.items():
            if limit is not None and time.monotonic() - since > limit:
                self.stop(run_id, "timeout")

    def announce(self) -> None:
        facts = {"running": len(self.running), "to_do": len(self.todo), "failed": len(self.summary.failed)}
        slots = 0 if self.executor is None else self.executor.slots
        submits.announce(self.store.folder, self.driver, {"study": self.grid.name, "slots": slots, **facts})

    def follow(self, beats: dict[str, Any]) -> None:
        """What became of the runs that other processes have."""
        held = self.store.claims()
        silent = self.silence.silent(held.values())
        for run_id in sorted(self.elsewhere):
            claim = held.get(run_id)
            if self.store.has(run_id):
                self.learn(Outcome(run_id, "present"))
            elif claim is None or run_id in silent or beats.get(run_id, {}).get("stale"):
                self.elsewhere.discard(run_id)
                self.attempts.look(run_id)
                decided = self.attempts.verdict(self.specs[run_id])
                if decided.again:
                    self.todo[run_id] = 0 if claim is None else claim.generation
                else:
                    self.summary.failed[run_id] = decided.reason

    def obey(self) -> None:
        """Stop what somebody has asked to be stopped."""
        for name, run_ids in submits.asked_to_stop(self.store.folder, self.driver).items():
            if run_ids is None:
                raise Cancelled
            for run_id in run_ids:
                if run_id in self.running:
                    self.stop(run_id, "cancelled")
                elif self.todo.pop(run_id, None) is not None:
                    outcome = Outcome(run_id, "cancelled", None, "cancelled on request")
                    self.failed(self.task(run_id, 0), outcome)
            self.store.folder.remove(name)

    def stop(self, run_id: str, why: str) -> None:
        if run_id not in self.stopping and self.executor is not None:
            self.stopping[run_id] = why
            self.executor.stop(run_id)

    def close(self) -> None:
        """End every worker, and take back what dead workers held."""
        if self.place is not None:
            self.place.close()
        with contextlib.suppress(StoreError):
            for run_id in self.running:
                self.store.retire(run_id, self.driver)
            self.store.clean()
            submits.leave(self.store.folder, self.driver)
