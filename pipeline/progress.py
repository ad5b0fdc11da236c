"""What a person sees while a study trains: a live bar in a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from typing import Any

from algoprogress.pipeline.worker import Outcome, Task

PLAIN_SECONDS = 10.0  # between two plain lines that report nothing finished


class Progress:
    """Silent; the base of the two that speak.

    The share done and the time left count compute and not runs: runs differ a hundredfold in length.
    """

    def __init__(self) -> None:
        self.cost: dict[str, float] = {}
        self.done: set[str] = set()
        self.before: float | None = None  # compute that was there when we began
        self.total = self.behind = 0.0  # compute of all runs, and of those that are done: kept, since many runs end
        self.begun = time.monotonic()
        self.active: dict[str, dict[str, Any]] = {}

    def expect(self, cost: dict[str, float], done: set[str]) -> None:
        """The study's runs with their compute in FLOP, and which of them the store holds."""
        self.cost, self.done = cost, done & cost.keys()
        self.total, self.behind = sum(cost.values()), sum(cost[run_id] for run_id in self.done)
        if self.before is None:
            self.before = self.behind
            self.begin()

    def begin(self) -> None:
        """Called once, when it is known what there is to do."""

    def beats(self, active: dict[str, dict[str, Any]]) -> None:
        """The runs in training, by run_id, as their workers last reported them."""
        self.active = active

    def finished(self, task: Task, outcome: Outcome) -> None:
        """A task has ended."""

    def say(self, line: str) -> None:
        """A message that should be read."""

    def close(self) -> None:
        """Nothing more will come."""

    def add(self, run_id: str) -> None:
        """A run is done."""
        if run_id not in self.done:
            self.done.add(run_id)
            self.behind += self.cost.get(run_id, 0.0)

    def compute(self) -> tuple[float, float]:
        """(done, all) FLOP, with the share of each run in training that it has behind it."""
        now = self.behind
        for run_id, beat in self.active.items():
            if run_id not in self.done and beat.get("steps"):
                now += self.cost.get(run_id, 0.0) * beat["step"] / beat["steps"]
        return now, self.total

    def seconds_left(self) -> float | None:
        """From the rate of compute since we began; None while nothing is known."""
        now, total = self.compute()
        fresh, elapsed = now - (self.before or 0.0), time.monotonic() - self.begun
        return (total - now) * elapsed / fresh if fresh > 0 and elapsed > 5 else None

    def counts(self) -> str:
        return f"{len(self.done)}/{len(self.cost)} runs"


def clock(seconds: float | None) -> str:
    """Minutes and seconds, or hours, minutes and seconds."""
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def running(beat: dict[str, Any]) -> str:
    """One run in training, in a line."""
    speed, loss, steps = beat.get("tokens_per_second"), beat.get("loss"), beat.get("steps") or 0
    parts = [f"{beat['run_id'][:8]}", f"{beat.get('arm') or '-':<12}"]
    parts.append(f"{beat['step'] / steps:4.0%}" if steps else "  0%")
    parts.append(f"{speed / 1000:6.1f}k tokens/s" if speed == speed and speed else " " * 15)
    parts.append(f"loss {loss:.3f}" if loss == loss and loss is not None else "")
    return "  ".join(parts)


class PlainProgress(Progress):
    """A line for every run that ends, and one every ten seconds between them."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.last = time.monotonic()

    def begin(self) -> None:
        left = len(self.cost) - len(self.done)
        self.say(f"{self.name}: {left or 'none'} of {len(self.cost)} runs to train")

    def beats(self, active: dict[str, dict[str, Any]]) -> None:
        super().beats(active)
        if active and time.monotonic() - self.last > PLAIN_SECONDS:
            self.say(f"{self._head()}  " + " | ".join(running(beat) for beat in active.values()))

    def finished(self, task: Task, outcome: Outcome) -> None:
        if outcome.loss is not None:
            self.add(task.run_id)
        self.active.pop(task.run_id, None)
        facts = f"{outcome.status:<8} {task.run_id[:8]}  {task.arm:<12}"
        tail = f"loss {outcome.loss:.3f}  {outcome.seconds:.1f} s" if outcome.loss is not None else outcome.message
        self.say(f"{self._head()}  {facts}  {tail}")

    def _head(self) -> str:
        now, total = self.compute()
        share = now / total if total else 1.0
        return f"{self.name}: {self.counts()}, {share:4.0%} of compute, {clock(self.seconds_left())} left"

    def say(self, line: str) -> None:
        self.last = time.monotonic()
        print(line, file=sys.stderr, flush=True)


class LiveProgress(Progress):
    """A bar for the study and a line for each run in training."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__()
        self.name = name
        self.console = Console(stderr=True)
        self.live = Live(console=self.console, get_renderable=self._draw, refresh_per_second=4, transient=True)

    def begin(self) -> None:
        self.live.start()

    def _draw(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        now, total = self.compute()
        head = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=total or 1.0, completed=min(now, total) if total else 1.0, width=32)
        elapsed = clock(time.monotonic() - self.begun)
        share = now / total if total else 1.0
        head.add_row(
            Text(self.name, style="bold"),
            bar,
            f"{share:.0%}",
            self.counts(),
            f"{elapsed} gone, {clock(self.seconds_left())} left",
        )
        return Group(head, *(Text("  " + running(beat)) for beat in self.active.values()))

    def finished(self, task: Task, outcome: Outcome) -> None:
        if outcome.loss is not None:
            self.add(task.run_id)
        self.active.pop(task.run_id, None)
        tail = f"loss {outcome.loss:.3f}  {outcome.seconds:.1f} s" if outcome.loss is not None else outcome.message
        self.say(f"{outcome.status:<8} {task.run_id[:8]}  {task.arm:<12}  {tail}")

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False)

    def close(self) -> None:
        self.live.stop()


def progress(name: str) -> Progress:
    """Live in a terminal, plain lines in a pipe or a file."""
    return LiveProgress(name) if sys.stderr.isatty() else PlainProgress(name)
