"""In this process, one run after the other: for tests, debuggers and the smallest machines."""

from __future__ import annotations

from collections import deque
from typing import Any

from algoprogress.pipeline.worker import Outcome, Task, work


class InlineExecutor:
    slots = 1

    def __init__(self) -> None:
        self._queue: deque[Task] = deque()

    def start(self, task: Task) -> None:
        self._queue.append(task)

    def wait(self, seconds: float) -> list[Outcome]:
        return [Outcome(**work(self._queue.popleft().plain()))] if self._queue else []

    def stop(self, run_id: str) -> None:
        """A run in training has the only thread, so nothing can stop it; `submit` refuses a time limit here."""

    def examine(self, examination: Any) -> bool:
        return False

    def only_cpus(self) -> None:
        """A slot is a slot."""

    def last_words(self, pid: int) -> str:
        return ""

    def close(self) -> None:
        self._queue.clear()
