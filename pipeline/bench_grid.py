"""How soon is a small grid done, start-up included? Eight runs of GPT-2 2x64, 200 steps of 4,096 tokens, on two cores.

Ours is the command line, with two workers; the peers train one run after the other on two threads, as a script does.
Wall time, which other work on the machine lengthens, for peers on two threads most of all; the CPU time beside it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from algoprogress.pipeline.bench_train import CONTESTANTS, GPT2, SAID, Case, installed
from algoprogress.pipeline.threads import of

RUNS, STEPS, CORES = 8, 200, 2
RUNS_TIMED = 2  # of a peer's eight, which are all alike
CASE = Case("gpt2", 2, 64, 257, 4096, {"plain": (2.8, 2.8), "trainer": (4.0, 4.0)})


def study() -> str:
    """The grid as a study file: YAML reads JSON."""
    architecture = {"name": "transformer", **GPT2, "n_layers": CASE.n_layers, "width": CASE.width}
    return json.dumps(
        {
            "name": "bench_grid",
            "question": "How soon is a small grid done?",
            "baseline": "gpt2",
            "common": {
                "data": {"corpus": "python", "context": 128},
                "batch_tokens": CASE.batch_tokens,
                "learning_rate": 0.001,
                "dtype": "auto",
                "evaluation": {"tokens": 128},
            },
            "arms": {
                "gpt2": {
                    "architecture": architecture,
                    "tokens": STEPS * CASE.batch_tokens,
                    "cross": {"seed": list(range(RUNS))},
                }
            },
        }
    )


def timed(command: list[str], threads: int) -> tuple[float, float, str]:
    """Wall seconds of a process, CPU seconds of it and its children, and what it printed."""
    environment = {**os.environ, **of(threads), "TRANSFORMERS_VERBOSITY": "error"}
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} ended with code {done.returncode}: {done.stderr.strip()[-500:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def ours() -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "grid.yaml"
        path.write_text(study(), encoding="utf-8")
        command = [sys.executable, "-m", "algoprogress.pipeline.cli", "submit", str(path), "--executor", "process"]
        wall, cpu, _ = timed([*command, "--slots", str(CORES), "--store", str(Path(folder) / "store")], 1)
        return wall, cpu


def peer(name: str) -> tuple[float, float]:
    """Of all eight runs: start-up as it was, the runs that were timed scaled up."""
    wall, cpu, printed = timed([sys.executable, "-m", __name__, name], CORES)
    run = json.loads(printed.splitlines()[-1])
    scale = RUNS / RUNS_TIMED - 1
    return wall + scale * run["wall"], cpu + scale * run["cpu"]


def rows() -> list[dict[str, Any]]:
    """One row per peer, on wall time; `cpu_ratio` is that of all CPU seconds."""
    from algoprogress.pipeline.data import resolve
    from algoprogress.pipeline.policy import best_dtype, choose

    resolve("python")
    dtype = best_dtype()
    choose("cpu", dtype)  # what a machine does once
    wall, cpu = ours()
    found = []
    for name, targets in CASE.targets.items():
        if installed(name):
            their_wall, their_cpu = peer(name)
            target = targets[dtype == "bfloat16"]
            found.append(
                {
                    "case": f"grid of {RUNS} runs, {CASE}, {STEPS} steps, {dtype}, start-up included, {CORES} workers; "
                    f"{SAID[name]}, sequential on {CORES} threads, {RUNS_TIMED} runs timed and scaled up",
                    "ours": wall,
                    "peer": their_wall,
                    "ratio": their_wall / wall,
                    "unit": "wall s",
                    "target": target,
                    "holds": their_wall / wall >= target,
                    "cpu_ratio": their_cpu / cpu,
                }
            )
    return found


def main(name: str) -> None:
    """A peer's script: start up, train, say what the training took."""
    run = CONTESTANTS[name](CASE, "float32")
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(RUNS_TIMED):
        run(STEPS)
    print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}))


if __name__ == "__main__":
    main(*sys.argv[1:])
