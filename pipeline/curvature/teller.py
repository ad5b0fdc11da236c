"""What a person sees while curvature is measured: a bar in a terminal, lines elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType

PLAIN_SECONDS = 10.0  # between two lines of one block


class Teller:
    """Silent; the base of the two that speak. `place` is put before everything that is said."""

    place = ""

    def begin(self, what: str) -> None:
        """Something begins to be measured."""

    def share(self, done: float) -> None:
        """So much of it is done."""

    def close(self) -> None:
        """Nothing more will come."""

    def __enter__(self) -> Teller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Lines(Teller):
    """A line for each thing, and one every ten seconds of a long one."""

    def __init__(self) -> None:
        self.what, self.last = "", time.monotonic()

    def begin(self, what: str) -> None:
        self.what, self.last = self.place + what, time.monotonic()
        print(self.what, file=sys.stderr, flush=True)

    def share(self, done: float) -> None:
        if time.monotonic() - self.last > PLAIN_SECONDS:
            self.last = time.monotonic()
            print(f"{self.what}: {done:.0%}", file=sys.stderr, flush=True)


class Bar(Teller):
    """One bar, of the block that is measured."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
        self.bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
        self.task = self.bar.add_task("", total=1.0)
        self.bar.start()

    def begin(self, what: str) -> None:
        self.bar.reset(self.task, total=1.0, description=self.place + what)

    def share(self, done: float) -> None:
        self.bar.update(self.task, completed=done)

    def close(self) -> None:
        self.bar.stop()


def teller() -> Teller:
    """A bar in a terminal, lines in a pipe or a file."""
    return Bar() if sys.stderr.isatty() else Lines()
