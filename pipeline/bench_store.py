"""How soon is a store read? Beside pandas on a folder of one-row files, and beside limits at a hundred thousand runs.

The limits are what a person waits for: two seconds for a table or a status, a minute where nothing was compacted.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from algoprogress.pipeline import synthetic
from algoprogress.results import Store

RUNS = 100_000
PEER_RUNS = 500  # a folder of 10,000 one-row files takes pandas more than a minute
BLOCK = 500  # runs that a writer publishes at a time
PAUSE = 0.05  # seconds that a compaction is given, and as many more each time, before it is killed
KILLS = 3
GIB = 2**30


def publish(url: str, first: int, last: int) -> None:
    """Runs of these seeds, as workers publish them: each file synced to the disk before its name is there."""
    store = Store(url)
    for seed in range(first, last):
        spec = synthetic.base().model_copy(update={"seed": seed})
        store.publish(synthetic.record(spec), synthetic.curve(spec))


def fill(url: str, runs: int) -> None:
    """A store of so many runs of one study, written by a process for each core."""
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as writers:
        parts = [(url, first, min(first + BLOCK, runs)) for first in range(0, runs, BLOCK)]
        list(writers.map(publish, *zip(*parts, strict=True)))
    Store(url).save_study(synthetic.study(runs).stored())


def runs(store: Store) -> int:
    return len(store.runs())


def status(store: Store) -> int:
    from algoprogress.pipeline.status import status

    return int(status(store, "synthetic")[-1]["done"])


def compact(store: Store) -> int:
    return store.compact()


ACTS: dict[str, Callable[[Store], int]] = {"runs": runs, "status": status, "compact": compact}


def measured(act: str, url: str) -> dict[str, float]:
    """Seconds, CPU seconds and peak memory of one act, in a process that has done nothing else."""
    done = subprocess.run([sys.executable, "-m", __name__, act, url], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{act} ended with code {done.returncode}: {done.stderr.strip()[-500:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def kill_compactions(url: str) -> None:
    """Compactions that are killed sooner or later; each must leave every table as it was."""
    for kill in range(1, KILLS + 1):
        started = subprocess.Popen([sys.executable, "-m", __name__, "compact", url], stdout=subprocess.DEVNULL)
        try:
            started.wait(10 ** (kill - 1) * PAUSE)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def limits(n_runs: int = RUNS) -> list[dict[str, Any]]:
    """What `n_runs` runs cost, each beside its limit; `holds` also says that nothing was missing."""
    with tempfile.TemporaryDirectory() as folder:
        url, begun = str(Path(folder) / "store"), time.perf_counter()
        fill(url, n_runs)
        written = (time.perf_counter() - begun) / n_runs
        raw = measured("runs", url)
        kill_compactions(url)
        between = measured("runs", url)
        Store(url).clean()
        compacted = measured("compact", url)
        after, state = measured("runs", url), measured("status", url)
    whole = {each["runs"] for each in (raw, between, compacted, after, state)} == {float(n_runs)}
    what = f"of {n_runs:,} runs"

    def row(case: str, ours: float, limit: float, unit: str, **more: float) -> dict[str, Any]:
        facts = {"case": f"{case}; peer: the limit", "ours": ours, "peer": limit, "ratio": limit / ours, "unit": unit}
        return {**facts, "target": 1.0, "holds": whole and ours <= limit, **more}

    return [
        row(f"publishing {what}, each", 1e3 * written, 50.0, "wall ms"),
        row(f"Store.runs() {what} from raw files", raw["wall"], 60.0, "wall s", cpu_seconds=raw["cpu"]),
        row(
            f"Store.runs() {what} after {KILLS} compactions that were killed",
            between["wall"],
            60.0,
            "wall s",
            cpu_seconds=between["cpu"],
        ),
        row(f"Store.runs() {what} after compaction", after["wall"], 2.0, "wall s", cpu_seconds=after["cpu"]),
        row(f"memory of Store.runs() {what} after compaction", after["bytes"] / GIB, 1.0, "GiB"),
        row(f"status {what} after compaction", state["wall"], 2.0, "wall s", cpu_seconds=state["cpu"]),
    ]


def beside_pandas(n_runs: int = PEER_RUNS) -> list[dict[str, Any]]:
    """Ours and pandas on one-row files, in turn in this process."""
    import pandas as pd

    from algoprogress.pipeline.bench import compare

    with tempfile.TemporaryDirectory() as folder:
        kept, flat = Store(Path(folder) / "store"), Path(folder) / "flat"
        flat.mkdir()
        publish(kept.url, 0, n_runs)
        table = kept.runs()
        for i in range(len(table)):
            table.iloc[[i]].to_parquet(flat / f"{i}.parquet")

        def peer() -> pd.DataFrame:
            return pd.read_parquet(flat)

        raw = compare(f"records of {n_runs} runs from raw files; pandas", kept.runs, peer, 2.0)
        kept.compact()
        return [raw, compare(f"records of {n_runs} runs after compaction; pandas", kept.runs, peer, 10.0)]


def rows() -> list[dict[str, Any]]:
    return beside_pandas(PEER_RUNS) + limits(RUNS)


def main(act: str, url: str) -> None:
    """Does an act once and says what it took: the imports are in neither time."""
    import pyarrow.compute
    import pyarrow.parquet  # noqa: F401

    store = Store(url)
    wall, cpu = time.perf_counter(), time.process_time()
    found = ACTS[act](store)
    facts = {"runs": found, "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    print(json.dumps({**facts, "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


if __name__ == "__main__":
    main(*sys.argv[1:])
