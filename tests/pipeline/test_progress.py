"""What a person is told while a study trains."""

from __future__ import annotations

import io
import time

import pytest

from algoprogress.pipeline.progress import LiveProgress, PlainProgress, clock, progress, running
from algoprogress.pipeline.worker import Outcome, Task

BEAT = {"run_id": "a" * 20, "arm": "lstm", "step": 50, "steps": 100, "tokens_per_second": 12_345.0, "loss": 2.5}


def task(run_id: str) -> Task:
    return Task(run_id, {}, "store", "demo", "lstm")


def test_a_line_names_run_arm_share_speed_and_loss():
    line = running(BEAT)
    for part in ("aaaaaaaa", "lstm", "50%", "12.3k tokens/s", "loss 2.500"):
        assert part in line


def test_a_run_that_has_not_begun_has_no_speed_and_no_loss():
    assert "0%" in running({**BEAT, "step": 0, "steps": 0, "tokens_per_second": None, "loss": None})


def test_time_left_counts_compute_and_not_runs(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    bar = PlainProgress("demo")
    bar.expect({"a": 3e12, "b": 1e12, "c": 1e12}, done={"c"})  # c was there before: it says nothing of our speed
    now[0] += 60
    bar.finished(task("a"), Outcome("a", "done", 2.0, "", 60.0))
    assert bar.seconds_left() == pytest.approx(20)  # 3e12 in 60 s, so 1e12 in 20 s
    bar.beats({"b": {**BEAT, "run_id": "b"}})
    assert bar.seconds_left() == pytest.approx(60 * 0.5 / 3.5)


def test_without_a_terminal_there_are_plain_lines_on_stderr(capsys):
    bar = progress("demo")
    bar.expect({"a": 1.0}, done=set())
    bar.finished(task("a"), Outcome("a", "done", 2.0, "", 1.0))
    bar.say("something to be read")
    bar.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 3
    assert "\x1b" not in err


def test_in_a_terminal_there_is_a_bar(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    bar = LiveProgress("demo")
    bar.console.file = screen
    bar.expect({"a": 1.0, "b": 1.0}, done=set())
    bar.beats({"a": {**BEAT, "run_id": "a" * 20}})
    bar.console.print(bar._draw())
    bar.finished(task("a"), Outcome("a", "done", 2.0, "", 1.0))
    bar.close()
    assert "0/2 runs" in screen.getvalue()
    assert "12.3k tokens/s" in screen.getvalue()


@pytest.mark.parametrize(("seconds", "shown"), [(None, "-:--"), (5, "0:05"), (65, "1:05"), (3665, "1:01:05")])
def test_clocks_read_as_people_write_them(seconds, shown):
    assert clock(seconds) == shown
