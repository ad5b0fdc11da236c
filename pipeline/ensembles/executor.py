"""Sends runs of one shape as one task to wherever tasks run, and gives back the outcome of each.

It stands between `submit`, which knows single runs alone, and an executor, which knows single tasks alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from algoprogress.ablations.spec import RunSpec
from algoprogress.pipeline.ensembles.choice import Choice, shape
from algoprogress.pipeline.executors import Executor
from algoprogress.pipeline.worker import Outcome, Task

if TYPE_CHECKING:
    from algoprogress.pipeline.examination import Examination

QUEUED = 2  # tasks per slot that the executor has: one in work and one to go on with; the rest may still be bundled


def bundled(executor: Executor, device: str, ensembles: bool | None) -> Executor:
    """The executor, with runs of one shape trained together.

    Args:
        executor: where tasks run.
        device: the workers' torch device.
        ensembles: True: wherever it is possible; False: nowhere; None: where it pays.
    """
    if ensembles is False:
        return executor
    return EnsembleExecutor(executor, Choice.always(device) if ensembles else Choice.where_it_pays(device))


@dataclass(frozen=True)
class _Waiting:
    task: Task
    shape: str | None  # None: to be trained alone
    least: int  # of that shape, to be trained together
    compute: float


class EnsembleExecutor:
    """An executor whose tasks are bundled.

    Args:
        inner: where tasks run.
        choice: which runs are trained together, and how many at once.
    """

    def __init__(self, inner: Executor, choice: Choice) -> None:
        self.inner, self.choice = inner, choice
        self._waiting: dict[str, _Waiting] = {}
        self._sent: dict[str, list[_Waiting]] = {}  # first run_id -> what was sent together
        self._stopped: set[str] = set()
        self._ready: list[Outcome] = []

    @property
    def slots(self) -> int:
        """Runs at once, if all of them are trained together."""
        return self.inner.slots * self.choice.most

    def start(self, task: Task) -> None:
        spec = RunSpec.model_validate(task.spec)
        # a run that has lost its worker, or its ensemble, once goes alone: it can do no more harm to others
        together = task.attempt == 1 and not task.torch_compile
        least = self.choice.least(spec) if together else None
        kind = None if least is None else shape(spec)
        self._waiting[task.run_id] = _Waiting(task, kind, least or 1, spec.compute)

    def wait(self, seconds: float) -> list[Outcome]:
        self._hand_out()
        if not self._ready:
            for outcome in self.inner.wait(seconds):
                self._ready += self._apart(outcome)
            self._hand_out()
        ready, self._ready = self._ready, []
        return ready

    def stop(self, run_id: str) -> None:
        """End a run by force, and with it the runs that train together with it; those are tried again."""
        self._stopped.add(run_id)
        if (waiting := self._waiting.pop(run_id, None)) is not None:
            self._sent[run_id] = [waiting]
            self._ready += self._apart(Outcome(run_id, "stopped"))
        for first, sent in list(self._sent.items()):
            if any(w.task.run_id == run_id for w in sent):
                self.inner.stop(first)

    def examine(self, examination: Examination) -> bool:
        return self.inner.examine(examination)

    def only_cpus(self) -> None:
        self.inner.only_cpus()

    def last_words(self, pid: int) -> str:
        return self.inner.last_words(pid)

    def close(self) -> None:
        self.inner.close()

    def _hand_out(self) -> None:
        while self._waiting and len(self._sent) < QUEUED * self.inner.slots:
            bundle = self._next()
            for waiting in bundle:
                del self._waiting[waiting.task.run_id]
            first, *others = (waiting.task for waiting in bundle)
            self._sent[first.run_id] = bundle
            self.inner.start(replace(first, together=[other.plain() for other in others]))

    def _next(self) -> list[_Waiting]:
        """The longest run that waits with others of its shape, no more of them than are a slot's share of all work."""
        longest = max(self._waiting.values(), key=lambda waiting: waiting.compute)
        mates = [waiting for waiting in self._waiting.values() if waiting.shape == longest.shape]
        if longest.shape is None or len(mates) < longest.least:
            return [longest]
        known = [*self._waiting.values(), *(waiting for sent in self._sent.values() for waiting in sent)]
        share = sum(waiting.compute for waiting in known) / max(1, self.inner.slots)  # a node may just have gone
        n = min(self.choice.most, math.ceil(share / longest.compute))
        return mates[:n] if n >= longest.least else [longest]

    def _apart(self, outcome: Outcome) -> list[Outcome]:
        run_ids = [waiting.task.run_id for waiting in self._sent.pop(outcome.run_id)]
        if outcome.together:
            return [replace(outcome, together=[]), *(Outcome(**other) for other in outcome.together)]
        found = [replace(outcome, run_id=run_id) for run_id in run_ids]
        if self._stopped & set(run_ids):
            others = "a run that was trained together with this one was stopped"
            lost = {"status": "infra", "message": others, "cause": "crash"}
            found = [o if o.run_id in self._stopped else replace(o, **lost) for o in found]  # type: ignore[arg-type]
            self._stopped -= set(run_ids)
        return found
