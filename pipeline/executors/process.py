"""One persistent single-thread process per core on this machine, without Ray."""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import multiprocessing.connection
import os
import signal
import tempfile
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import DupFd
from typing import IO, Any

from algoprogress.pipeline import threads
from algoprogress.pipeline.redaction import redact
from algoprogress.pipeline.worker import Outcome, Task, work
from algoprogress.pipeline.worklog import TAIL_BYTES


def _serve(pipe: Connection, output: _Shared) -> None:
    """A worker's life: a task in, an outcome out, until the pipe closes or the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what Ctrl-C means
    for stream in (1, 2):
        os.dup2(output.descriptor, stream)
    faulthandler.enable()  # where a crash in a library happened
    threading.Thread(target=_end_with_driver, daemon=True).start()
    os.environ.update(threads.of(1))
    with contextlib.suppress(EOFError, OSError):
        while True:
            task = pipe.recv()
            os.ftruncate(output.descriptor, 0)
            os.lseek(output.descriptor, 0, os.SEEK_SET)
            pipe.send(work(task))


class _Shared:
    """An open file that a process is given when it is spawned."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __getstate__(self) -> Any:
        return DupFd(self.descriptor)  # only while a child is being spawned is there somewhere to send it

    def __setstate__(self, state: Any) -> None:
        self.descriptor = state.detach()


def _end_with_driver() -> None:
    """A run whose driver was killed goes on from its checkpoint when the study is submitted again."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    output: IO[bytes]  # its streams: a file without a name, which nothing can leave behind
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
                idle = self._hire()
            if idle is None:
                return
            idle.task = self._queue.pop(0)
            with contextlib.suppress(OSError):  # it has died while it was idle: `wait` will see that
                idle.pipe.send(idle.task.plain())

    def _hire(self) -> _Worker:
        here, there = self._context.Pipe()
        output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        process = self._context.Process(target=_serve, args=(there, _Shared(output.fileno())), daemon=True)
        process.start()
        there.close()
        worker = _Worker(process, here, output)
        self._workers.append(worker)
        return worker

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
            worker.output.seek(0)
            log = redact(worker.output.read()[-TAIL_BYTES:].decode("utf-8", "replace"))
            why = f"the worker process ended {_how(worker.process.exitcode)}"
            self._ready.append(Outcome(task.run_id, "infra", None, why, log=log, cause="crash"))
            self._discard(worker)

    def _discard(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.process.kill()
        worker.process.join(5)
        worker.pipe.close()
        worker.output.close()

    def stop(self, run_id: str) -> None:
        if any(task.run_id == run_id for task in self._queue):
            self._queue = [task for task in self._queue if task.run_id != run_id]
            self._ready.append(Outcome(run_id, "stopped"))
        for worker in list(self._workers):
            if worker.task is not None and worker.task.run_id == run_id:
                self._ready.append(Outcome(run_id, "stopped"))
                self._discard(worker)

    def examine(self, examination: Any) -> bool:
        return False

    def only_cpus(self) -> None:
        """A slot is a slot."""

    def last_words(self, pid: int) -> str:
        return ""  # an outcome brings them along

    def close(self) -> None:
        self._queue.clear()
        for worker in list(self._workers):
            self._discard(worker)


def _how(code: int | None) -> str:
    if code is None or code >= 0:
        return f"with code {code}"
    with contextlib.suppress(ValueError):
        return f"by {signal.Signals(-code).name}"
    return f"by signal {-code}"
