"""What does scheduling a run cost? 200 runs that sleep for a second, on two slots, ours beside Ray Tune's.

The overhead of a run is the time that passes on a slot between the end of one run and the beginning of the next. Ours
holds a claim, its heartbeats, a curve and a record in a file that is synced to disk; Tune's is a function that reports
one number, in a new process for each trial, as it comes, or in an actor that goes from trial to trial (`reuse_actors`).
Starting up is timed apart.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from algoprogress.pipeline.worker import OnProgress, Task, read_spec, work_alone

if TYPE_CHECKING:
    from algoprogress.pipeline.bookkeeping import Run

RUNS, SECONDS, SLOTS = 200, 1.0, 2
LIMIT = 0.05  # seconds of overhead: a twentieth of the shortest run that is worth a process of its own


def sleep(log: Path, seconds: float, begun: float) -> None:
    """The rest of a run: notes when it began and ends, by the clock that all processes of this machine share."""
    time.sleep(max(0.0, begun + seconds - time.monotonic()))
    line = f"{begun} {time.monotonic()}\n".encode()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def sleeper(log: Path, seconds: float) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Our worker with a training that sleeps: it claims, beats and publishes as always."""

    def train(task: Task, beat: OnProgress) -> Run:
        from algoprogress.pipeline import synthetic
        from algoprogress.pipeline.bookkeeping import Run

        spec, begun = read_spec(task), time.monotonic()
        run = Run(synthetic.record(spec), synthetic.curve(spec))  # a training's own work, which is in its second
        sleep(log, seconds, begun)
        return run

    def work(task: dict[str, Any]) -> dict[str, Any]:
        return work_alone(Task(**task), None, train).plain()

    return work


def ours(folder: Path, runs: int, seconds: float) -> None:
    from algoprogress.pipeline import synthetic
    from algoprogress.pipeline.executors.ray import RayExecutor
    from algoprogress.pipeline.progress import Progress
    from algoprogress.pipeline.submit import submit
    from algoprogress.results import Store

    work = sleeper(folder / "log", seconds)
    study, store = synthetic.study(runs), Store(folder / "store")
    summary = submit(study, store, lambda: RayExecutor(SLOTS, work=work), Progress(), ensembles=False)
    if summary.trained != runs or len(store.runs(study.name)) != runs:
        raise RuntimeError(f"{summary.trained} of {runs} runs were trained: {summary.failed}")


def tune(folder: Path, runs: int, seconds: float, reuse_actors: bool = False) -> None:
    from algoprogress.pipeline.executors.local_ray import ENVIRONMENT, LocalCluster

    os.environ.update(ENVIRONMENT)
    cluster = LocalCluster(SLOTS)
    import ray
    from ray import tune

    def trial(config: dict[str, Any]) -> None:
        sleep(folder / "log", seconds, time.monotonic())
        tune.report({"loss": float(config["seed"])})

    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **cluster.options)
        tuner = tune.Tuner(
            tune.with_resources(trial, {"cpu": 1}),
            param_space={"seed": tune.grid_search(list(range(runs)))},
            tune_config=tune.TuneConfig(reuse_actors=reuse_actors),
            run_config=tune.RunConfig(storage_path=str(folder / "tune"), verbose=0),
        )
        found = tuner.fit()
        if found.num_errors or len(found) != runs:
            raise RuntimeError(f"Ray Tune has lost some of {runs} trials: {found.errors}")
    finally:
        ray.shutdown()
        cluster.close()


CONTESTANTS: dict[str, Callable[[Path, int, float], None]] = {
    "ours": ours,
    "tune": tune,
    "tune_reusing": partial(tune, reuse_actors=True),
}


def overhead(spans: list[tuple[float, float]], slots: int, seconds: float) -> float:
    """Mean seconds between two runs on a slot, from when each run began and ended.

    All slots together had slots x (last end - first begin) seconds, and spent `seconds` of them on each run; what is
    left is shared by the n - slots pauses between two runs.
    """
    span = max(end for _, end in spans) - min(begin for begin, _ in spans)
    return (slots * span - len(spans) * seconds) / (len(spans) - slots)


def measure(name: str, runs: int, seconds: float) -> tuple[float, float]:
    """(overhead of a run, time until the first run began), in seconds, of a contestant in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", __name__, name, folder, str(runs), str(seconds)]
        begun = time.monotonic()
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{name} ended with code {done.returncode}: {done.stderr.strip()[-800:]}")
        lines = (Path(folder) / "log").read_text().splitlines()
    spans = [(float(begin), float(end)) for begin, end in map(str.split, lines)]
    if len(spans) != runs:
        raise RuntimeError(f"{name} has done {len(spans)} runs, and not {runs}")
    return overhead(spans, SLOTS, seconds), min(begin for begin, _ in spans) - begun


def rows(runs: int = RUNS, seconds: float = SECONDS) -> list[dict[str, Any]]:
    """Ours beside the limit, and beside Tune's in both of its ways."""
    mine, my_start = measure("ours", runs, seconds)
    reusing, its_start = measure("tune_reusing", runs, seconds)
    theirs, their_start = measure("tune", runs, seconds)
    what = f"overhead of a run of {seconds:g} s, {runs} runs on {SLOTS} slots"

    def row(case: str, peer: float, **more: float) -> dict[str, Any]:
        ratio = peer / mine
        facts = {"case": f"{what}; {case}", "ours": 1e3 * mine, "peer": 1e3 * peer, "ratio": ratio, "unit": "ms"}
        return {**facts, "target": 1.0, "holds": ratio >= 1, **more}

    return [
        row("what it may be", LIMIT),
        row("Ray Tune as it comes", theirs, start_seconds=my_start, peer_start_seconds=their_start),
        row("Ray Tune, reusing its actors", reusing, start_seconds=my_start, peer_start_seconds=its_start),
    ]


if __name__ == "__main__":
    CONTESTANTS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
