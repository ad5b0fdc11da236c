"""One persistent single-thread process per core on this machine, without Ray."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from algoprogress.pipeline.worker import Outcome, Task, quiet_threads, work


def _serve(pipe: Connection) -> None:
    """A worker's life: a task in, an outcome out, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what Ctrl-C means
    quiet_threads()
    with contextlib.suppress(EOFError, OSError):
        while True:
            pipe.send(work(pipe.recv()))


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    task: Task | None = None


class ProcessExecutor:
    """Workers are started when they are first needed; one that dies is replaced and its run is an outcome "infra"."""

    def __init__(self, slots: int | None = None) -> None:
        self.slots = slots or os.cpu_count() or 1
        self._context = multiprocessing.get_context("spawn")  # fork would copy the threads of torch
        self._workers: list[_Worker] = []
        self._queue: list[Task] = []
        self._ready: list[Outcome] = []

    def start(self, task: Task) -> None:
        self._queue.append(task)
        self._hand_out()

    def _hand_out(self) -> None:
        while self._queue:
            idle = next((w for w in self._workers if w.task is None), None)
            if idle is None and len(self._workers) < self.slots:
                here, there = self._context.Pipe()
                process = self._context.Process(target=_serve, args=(there,), daemon=True)
                process.start()
                there.close()
                idle = _Worker(process, here)
                self._workers.append(idle)
            if idle is None:
                return
            idle.task = self._queue.pop(0)
            idle.pipe.send(idle.task.plain())

    def wait(self, seconds: float) -> list[Outcome]:
        if not self._ready:
            busy = {w.pipe: w for w in self._workers if w.task is not None}
            for pipe in multiprocessing.connection.wait(list(busy), timeout=seconds):
                self._read(busy[pipe])  # type: ignore[index]
            self._hand_out()
        ready, self._ready = self._ready, []
        return ready

    def _read(self, worker: _Worker) -> None:
        task = worker.task
        assert task is not None
        try:
            self._ready.append(Outcome(**worker.pipe.recv()))
            worker.task = None
        except (EOFError, OSError):
            worker.process.join(5)
            code = worker.process.exitcode
            self._ready.append(Outcome(task.run_id, "infra", None, f"the worker process ended with code {code}"))
            self._discard(worker)

    def _discard(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.process.kill()
        worker.process.join(5)
        worker.pipe.close()

    def stop(self, run_id: str) -> None:
        if any(task.run_id == run_id for task in self._queue):
            self._queue = [task for task in self._queue if task.run_id != run_id]
            self._ready.append(Outcome(run_id, "timeout", None, "stopped before it began"))
        for worker in list(self._workers):
            if worker.task is not None and worker.task.run_id == run_id:
                self._ready.append(Outcome(run_id, "timeout", None, "stopped after its time limit"))
                self._discard(worker)

    def close(self) -> None:
        self._queue.clear()
        for worker in list(self._workers):
            self._discard(worker)
