"""Drivers die, race, and have wrong clocks; the study is trained all the same, each run once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from harness import check_whole, replace_training, run, until

from algoprogress.pipeline import checkpoint
from algoprogress.pipeline.worker import Task, checkpoint_name, work
from algoprogress.results import Store

SIGNALS = [signal.SIGKILL, signal.SIGINT, signal.SIGTERM]
PROCESS = ["--executor", "process", "--slots", "2"]

COUNT = """
line = f"{args[0].run_id} {os.getpid()}\\n"
descriptor = os.open(os.environ["TRAININGS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(descriptor, line.encode())
os.close(descriptor)
"""
HOLD = """
while line in open(os.environ["TRAININGS"]).readlines()[2:]:
    time.sleep(0.05)  # two trainings end; those that begin after them wait to be killed
"""
TRAIN = "return real(*args, **options)"


@pytest.mark.fault(7, "`kill -9`, Ctrl-C and SIGTERM of the driver")
@pytest.mark.parametrize(
    ("how", "executor"),
    [
        (signal.SIGKILL, "process"),
        *[pytest.param(how, "process", marks=pytest.mark.slow) for how in SIGNALS[1:]],
        *[pytest.param(how, "ray", marks=pytest.mark.slow) for how in SIGNALS],
    ],
)
def test_a_driver_that_is_killed_loses_only_what_was_in_training(
    study_file, undisturbed, store, submitted, tmp_path, monkeypatch, how, executor, outcome
):
    monkeypatch.setenv("TRAININGS", str(tmp_path / "trainings"))
    replace_training(tmp_path, monkeypatch, COUNT + HOLD + TRAIN)
    options = ["--executor", executor, "--slots", "2"]
    first = submitted(study_file(), store, *options)
    until(lambda: len(store.run_ids()) >= 2, "nothing is trained")
    first.kill(how)
    assert first.wait() != 0
    done = store.run_ids()
    assert len(done) == 2
    if how != signal.SIGKILL:
        assert store.active().empty, "a driver that can clean up does"
    monkeypatch.setenv("TRAININGS", os.devnull)
    second = submitted(study_file(), store, *options).facts()
    assert second["trained"] == 6
    check_whole(store, undisturbed())
    outcome("finished runs kept, only the others trained by the next submit, nothing twice")


def trainings(path: Path) -> list[str]:
    return [line.split()[0] for line in path.read_text().splitlines()]


@pytest.mark.fault(8, "two drivers on one store at once")
@pytest.mark.parametrize("where", ["folder", pytest.param("s3", marks=pytest.mark.slow)])
def test_two_drivers_share_the_work_and_do_nothing_twice(
    study_file, undisturbed, tmp_path, s3_url, submitted, monkeypatch, where, outcome
):
    store = Store(tmp_path / "store" if where == "folder" else s3_url)
    monkeypatch.setenv("TRAININGS", str(tmp_path / "trainings"))
    replace_training(tmp_path, monkeypatch, COUNT + TRAIN)
    drivers = [submitted(study_file(), store, "--executor", "process", "--slots", "1") for _ in range(2)]
    facts = [driver.facts() for driver in drivers]
    assert sum(f["trained"] for f in facts) == 8
    assert [f["failed"] for f in facts] == [[], []]
    begun = trainings(tmp_path / "trainings")
    assert sorted(begun) == sorted(store.run_ids())
    check_whole(store, undisturbed())
    outcome(f"8 runs, 8 trainings begun, 8 records ({where})")


@pytest.mark.slow
@pytest.mark.fault(8, "two drivers on one store, and one of them is killed")
def test_what_a_dead_driver_had_begun_is_taken_over_by_the_other(
    study_file, undisturbed, store, submitted, tmp_path, outcome
):
    first = submitted(study_file(), store, "--executor", "process", "--slots", "1")
    until(lambda: not store.active().empty, "the first driver trains nothing")
    second = submitted(study_file(), store, "--executor", "process", "--slots", "1")
    until(lambda: len(store.run_ids()) >= 2, "nothing is trained")
    first.kill()
    facts = second.facts()
    assert facts["failed"] == []
    check_whole(store, undisturbed())
    outcome("the other driver trained what was left, at once on the same machine, after 30 s of silence from another")


@pytest.fixture
def shifted_clock(tmp_path: Path):
    """`shifted_clock(seconds)`: an environment in which every clock of the day is wrong by so much, C libraries'
    too."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler for a clock that is wrong for one process")
    source = tmp_path / "clock.c"
    source.write_text(
        """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long shift(void) {
    long seconds = 0;
    FILE *file = fopen(getenv("CLOCK_SHIFT"), "r");
    if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
    return seconds;
}
int clock_gettime(clockid_t clock, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(clock, at);
    if (clock == CLOCK_REALTIME) at->tv_sec += shift();
    return code;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""
    )
    library = tmp_path / "clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)

    def shift(name: str, seconds: int) -> dict[str, str]:
        file = tmp_path / f"{name}.shift"
        part = file.with_suffix(".part")
        part.write_text(str(seconds))
        part.replace(file)
        return {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(file)}

    return shift


def hour_in(environment: dict[str, str]) -> float:
    code = "import time; print(time.time())"
    done = subprocess.run(
        ["python3", "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


@pytest.mark.slow
@pytest.mark.fault(15, "two drivers whose clocks are two hours apart, and one clock that jumps back meanwhile")
def test_clocks_that_are_wrong_and_jump_neither_steal_nor_repeat_a_run(
    study_file, undisturbed, store, submitted, tmp_path, monkeypatch, shifted_clock, outcome
):
    monkeypatch.setenv("TRAININGS", str(tmp_path / "trainings"))
    replace_training(tmp_path, monkeypatch, COUNT + TRAIN)
    early, late = shifted_clock("early", -3600), shifted_clock("late", 3600)
    assert hour_in(late) - hour_in(early) > 7000  # the clocks are wrong indeed
    options = ["--executor", "process", "--slots", "1"]
    drivers = [submitted(study_file(), store, *options, **clock) for clock in (early, late)]
    until(lambda: len(store.run_ids()) >= 2, "nothing is trained")
    shifted_clock("late", -7200)
    facts = [driver.facts() for driver in drivers]
    assert sum(f["trained"] for f in facts) == 8
    assert sorted(trainings(tmp_path / "trainings")) == sorted(store.run_ids())
    check_whole(store, undisturbed())
    outcome("8 runs, 8 trainings begun, 8 records: no claim is judged by a clock that can be set")


@pytest.mark.slow
@pytest.mark.fault(20, "a study file that is edited while it trains")
def test_an_edited_study_file_changes_no_run_that_is_there(
    study_file, undisturbed, store, submitted, tmp_path, outcome
):
    path = tmp_path / "study.yaml"
    text = study_file().read_text()
    path.write_text(text)
    first = submitted(path, store, *PROCESS)
    until(lambda: not store.active().empty, "nothing trains")
    wider = text.replace("seed: [0, 1]", "seed: [0, 1, 2]").replace("question: What", "question: And what")
    path.write_text(wider.replace("  learning_rate: 0.02\n", "  learning_rate: 0.02\n  clip: 1.0\n"))  # the default
    assert first.facts()["trained"] == 8
    assert store.run_ids() == set(undisturbed().index)
    assert submitted(path, store, *PROCESS).facts()["trained"] == 4
    assert len(store.runs("faulty")) == 12
    old = store.runs("faulty").query("seed < 2").set_index("run_id")["loss"].sort_index()
    pd.testing.assert_series_equal(old, undisturbed()["loss"], check_exact=True)
    outcome("the submit went on with what it had read; the next trained the 4 new runs and none of the old")


PREEMPTED = """
import json, os, signal, sys
from algoprogress.pipeline import checkpoint
from algoprogress.pipeline.worker import work

write, written = checkpoint.write, []
def write_and_die(*args):
    write(*args)
    written.append(args)
    if len(written) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint.write = write_and_die
work(json.loads(sys.argv[1]))
"""


def train_until_a_checkpoint(task: dict) -> None:
    """A worker that is killed as soon as it has written three checkpoints."""
    ended = subprocess.run([sys.executable, "-c", PREEMPTED, json.dumps(task)], check=False)
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.fault(21, "a pre-empted long run: driver and worker killed between two checkpoints")
@pytest.mark.parametrize("where", ["folder", pytest.param("s3", marks=pytest.mark.slow)])
def test_a_run_goes_on_from_its_checkpoint_bit_for_bit(
    study_file, tmp_path, s3_url, monkeypatch, where, outcome, submitted
):
    from algoprogress.ablations.study_file import load
    from algoprogress.pipeline.plan import resolve

    store = Store(tmp_path / "store" if where == "folder" else s3_url)
    spec = resolve(load(study_file([4e9], seeds=1))).arms["lstm"][0].spec
    whole = Store(tmp_path / "whole")
    task = Task(spec.run_id, spec.model_dump(mode="json"), whole.url, checkpoint_seconds=1e9)
    assert work(task.plain())["status"] == "done"

    plain = {**task.plain(), "store": store.url, "checkpoint_seconds": 0.0}
    path = f"{store.url}/{checkpoint_name(spec.run_id)}"
    steps = []
    for _ in range(2):  # killed twice, further on each time
        train_until_a_checkpoint(plain)
        assert not store.has(spec.run_id)
        steps.append(_step(store, spec.run_id))
    assert 0 < steps[0] < steps[1] < spec.steps
    assert work({**plain, "checkpoint_seconds": 1e9})["status"] == "done"
    a, b = (s.curves(run_ids=[spec.run_id]).drop(columns="wall_seconds") for s in (store, whole))
    pd.testing.assert_frame_equal(a, b, check_exact=True)
    facts = ["loss", "loss_se", "bits_per_byte", "train_loss"]
    assert [store.record(spec.run_id)[f] for f in facts] == [whole.record(spec.run_id)[f] for f in facts]
    assert not checkpoint.exists(path)
    assert store.active().empty
    outcome(f"its curve and its loss are those of an uninterrupted run, to the last bit ({where})")


def _step(store: Store, run_id: str) -> int:
    data = store.folder.read(checkpoint_name(run_id))
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return json.loads(header["__metadata__"]["progress"])["step"]


@pytest.mark.fault(21, "a checkpoint with a flipped bit")
def test_a_damaged_checkpoint_is_not_believed(study_file, store, undisturbed, outcome, tmp_path):
    from algoprogress.ablations.study_file import load
    from algoprogress.pipeline.plan import resolve

    expected = undisturbed()
    spec = resolve(load(study_file())).specs()[expected.index[0]]
    task = Task(spec.run_id, spec.model_dump(mode="json"), store.url, checkpoint_seconds=0.0).plain()
    path = f"{store.url}/{checkpoint_name(spec.run_id)}"
    train_until_a_checkpoint(task)
    damaged = bytearray(Path(path).read_bytes())
    damaged[len(damaged) * 2 // 3] ^= 1
    Path(path).write_bytes(bytes(damaged))
    with pytest.warns(UserWarning, match="SHA-256.*begins again"):
        assert work({**task, "checkpoint_seconds": 1e9})["status"] == "done"
    assert store.record(spec.run_id)["loss"] == expected["loss"].iloc[0]
    outcome("found by its SHA-256; the run began again")


@pytest.mark.fault(8, "a worker that sleeps until its run is taken over, and then wakes up")
@pytest.mark.slow
def test_a_late_finisher_loses_quietly(study_file, undisturbed, store, submitted, monkeypatch, outcome):
    """Stopped, and silent for as long as it takes: the other driver does not wait for ever."""
    first = submitted(study_file(), store, "--executor", "process", "--slots", "1")
    row = until(lambda: store.active().to_dict("records"), "nothing trains")[0]
    os.kill(int(row["pid"]), signal.SIGSTOP)
    try:
        second = submitted(study_file(), store, "--executor", "process", "--slots", "1")
        until(lambda: len(store.run_ids()) == 8, "the run of a sleeping worker is not taken over")
        there = second.facts()
        assert there["failed"] == []
    finally:
        os.kill(int(row["pid"]), signal.SIGCONT)
    late = first.facts()
    assert late["failed"] == []
    assert late["trained"] + there["trained"] == 8
    check_whole(store, undisturbed())
    assert run(study_file(), store).trained == 0
    outcome("taken over after 30 s without a heartbeat; the late one found that out, stopped, and reported no failure")
