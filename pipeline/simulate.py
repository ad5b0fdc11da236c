"""How would a study fare on many GPUs? The real scheduler on runs that take their time in thought alone.

    python -m algoprogress.pipeline.simulate flat [RUNS]     does the driver stay as small and as fast as it begins?
    python -m algoprogress.pipeline.simulate paper           a study of paper scale on 8, 64 and 512 GPUs

`submit` runs as always, with its window, claims and messages; only the executor is another one, with a clock of its
own. What the driver takes for its work passes on that clock too, so a driver that is too slow leaves slots idle here
as it would on a cluster.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil

from algoprogress.ablations.allocation import isoflop
from algoprogress.ablations.architectures import ArchitectureConfig
from algoprogress.ablations.architectures.lstm import LSTM
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.spec import Data, RunSpec
from algoprogress.ablations.study import Entry, Study
from algoprogress.pipeline import synthetic
from algoprogress.pipeline.output import emit, note
from algoprogress.pipeline.progress import PlainProgress
from algoprogress.pipeline.submit import submit
from algoprogress.pipeline.worker import Outcome, Task
from algoprogress.results import Store, claims, progress

PAUSE = 0.025  # seconds between two runs on a slot: `algoprogress bench schedule`, on a busy machine
RUNS, SLOTS, SHORT = 100_000, 64, 1.0  # of the study that shows whether a driver stays as it is
PARTS = 10

PEAK = 989e12  # FLOP/s of an H100 SXM in bfloat16 without sparsity: NVIDIA H100 Tensor Core GPU datasheet
UTILISATION = 0.2  # of the peak: our assumption for models of 1e6 to 1e8 parameters, which do not fill such a GPU
BEGIN = 20.0  # seconds to open a corpus, build and warm up on a GPU, and to validate: our assumption
GPUS = (8, 64, 512)
ARMS = 20  # a baseline, eighteen innovations and the LSTM
BUDGETS = (1e14, 3e14, 1e15, 3e15, 1e16, 3e16, 1e17)  # up to 1e17 FLOP, as in Gundlach et al. 2025
RATES = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the middle, at every budget up to SWEPT; the middle alone above
SWEPT = 1e16
SEEDS = 3


class SimulatedExecutor:
    """Slots whose runs end on a clock of this executor's, in the order in which real ones would.

    A store of names alone is kept: an empty file for each run that has ended, and a claim for each that has not.

    Args:
        store: A folder of this simulation's own.
        slots: Runs at once.
        seconds: What a run takes.
    """

    def __init__(self, store: Store, slots: int, seconds: Callable[[RunSpec], float]) -> None:
        self.store, self.slots, self.seconds = store, slots, seconds
        self.clock = self.busy = self.last = 0.0
        self.working = 0.0  # seconds that the driver was at work
        self._queue: deque[Task] = deque()
        self._ends: list[tuple[float, str]] = []
        self._idle = [0.0] * slots  # since when each idle slot is ready
        self._since: float | None = None  # when the driver went to work
        Path(store.url, "runs").mkdir(parents=True, exist_ok=True)
        Path(store.url, claims.FOLDER).mkdir(exist_ok=True)

    def start(self, task: Task) -> None:
        self._queue.append(task)

    def _hand_out(self) -> None:
        while self._queue and self._idle:
            task, ready = self._queue.popleft(), heapq.heappop(self._idle)
            duration = self.seconds(RunSpec.model_validate(task.spec))
            begin = max(ready, self.clock)
            heapq.heappush(self._ends, (begin + duration, task.run_id))
            self.busy += duration
            about = {"study": task.study, "arm": task.arm, "driver": task.driver, "step": 1, "steps": 2, "tokens": 1}
            data = progress.encode({**about, "at": progress.now()})
            Path(self.store.url, claims.path(task.run_id, 1)).write_bytes(data)

    def _end(self) -> Outcome:
        """The run that ends next; its slot goes on with what is queued, whatever the driver does meanwhile."""
        end, run_id = heapq.heappop(self._ends)
        self.last = max(self.last, end)
        heapq.heappush(self._idle, end + PAUSE)
        Path(self.store.url, "runs", f"{run_id}.parquet").touch()
        Path(self.store.url, claims.path(run_id, 1)).unlink()
        self._hand_out_at(end)
        return Outcome(run_id, "done", 3.0, "", SHORT)

    def _hand_out_at(self, moment: float) -> None:
        now, self.clock = self.clock, moment
        self._hand_out()
        self.clock = now

    def wait(self, seconds: float) -> list[Outcome]:
        if self._since is not None:
            spent = time.process_time() - self._since
            self.working += spent
            self.clock += spent
        self._hand_out()
        if self._ends and self._ends[0][0] > self.clock:
            self.clock = self._ends[0][0]
        found = []
        while self._ends and self._ends[0][0] <= self.clock:
            found.append(self._end())
        self._since = time.process_time()
        return found

    def stop(self, run_id: str) -> None:
        raise NotImplementedError("a simulated run is not stopped")

    def examine(self, examination: Any) -> bool:
        return False

    def only_cpus(self) -> None:
        """A slot is a slot."""

    def last_words(self, pid: int) -> str:
        return ""

    def close(self) -> None:
        pass


class Watched(PlainProgress):
    """Tells nobody, and looks at the driver each time another tenth of the runs has ended."""

    def __init__(self, name: str, runs: int, look: Callable[[int], None]) -> None:
        super().__init__(name)
        self.every, self.look, self.ended = max(1, runs // PARTS), look, 0

    def finished(self, task: Task, outcome: Outcome) -> None:
        super().finished(task, outcome)
        self.ended += 1
        if self.ended % self.every == 0:
            self.look(self.ended)


def simulate(
    study: Study, slots: int, seconds: Callable[[RunSpec], float], look: Callable[[SimulatedExecutor, int], None]
) -> SimulatedExecutor:
    """Submit a study to slots that do not exist; `look` is called at every tenth of it."""
    made: list[SimulatedExecutor] = []
    runs = len(study.specs())
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        store = Store(Path(folder) / "store")

        def make() -> SimulatedExecutor:
            made.append(SimulatedExecutor(store, slots, seconds))
            return made[0]

        watched = Watched(study.name, runs, lambda ended: look(made[0], ended))
        summary = submit(study, store, make, watched, ensembles=False)
    if summary.trained != runs:
        raise RuntimeError(f"{summary.trained} of {runs} runs were trained: {summary.failed}")
    return made[0]


def flat(runs: int = RUNS, slots: int = SLOTS) -> list[dict[str, Any]]:
    """Memory of the driver, and its work for a run, at each tenth of a study of runs of one second."""
    rows: list[dict[str, Any]] = []
    before = [0.0]

    def look(executor: SimulatedExecutor, ended: int) -> None:
        spent, before[0] = executor.working - before[0], executor.working
        each = max(1, runs // PARTS)
        memory = psutil.Process().memory_info().rss / 2**20
        rows.append({"runs": ended, "memory_mib": round(memory), "driver_ms_per_run": round(1e3 * spent / each, 3)})

    simulate(synthetic.study(runs), slots, lambda spec: SHORT, look)
    return rows


def paper_scale() -> Study:
    """Arms of one shape of ladder: what an arm changes matters to its loss, and not to how it is scheduled."""
    data = Data(corpus="any", corpus_sha256="0" * 64, tokenizer="bpe-8192", context=256)
    ladder: Iterable[ArchitectureConfig] = [
        Transformer.preset("modern", width=width, n_layers=max(2, width // 64)) for width in (128, 256, 384, 512)
    ]
    lstms: Iterable[ArchitectureConfig] = [LSTM(width=width) for width in (256, 512, 768, 1024)]
    arms: dict[str, tuple[Entry, ...]] = {}
    for k in range(ARMS):
        models = list(lstms if k == 1 else ladder)
        entries = []
        for i, budget in enumerate(BUDGETS):
            (row,) = isoflop(budget, [models[i // 2]], data.vocab_size, data.context, 65_536)
            for rate in RATES if budget <= SWEPT else (1.0,):
                for seed in range(SEEDS if rate == 1.0 else 1):
                    spec = RunSpec(
                        architecture=row.architecture,
                        tokens=row.tokens,
                        batch_tokens=65_536,
                        learning_rate=0.002 * rate * (1 + k / 1000),  # so that no two arms have a run in common
                        seed=seed,
                        data=data,
                        dtype="bfloat16",
                    )
                    entries.append(Entry(spec=spec, compute_budget=budget))
        arms["baseline" if k == 0 else "lstm" if k == 1 else f"innovation_{k}"] = tuple(entries)
    return Study(name="paper-scale", question="What of a decade is worth what?", baseline="baseline", arms=arms)


def paper(gpus: Iterable[int] = GPUS) -> list[dict[str, Any]]:
    """Makespan and idle share of the study of paper scale, beside what no schedule can beat."""
    study = paper_scale()
    specs = study.specs().values()

    def seconds(spec: RunSpec) -> float:
        return BEGIN + spec.compute / (PEAK * UTILISATION)

    total, longest = sum(map(seconds, specs)), max(map(seconds, specs))
    rows = []
    for slots in gpus:
        done = simulate(study, slots, seconds, lambda executor, ended: None)
        rows.append(
            {
                "gpus": slots,
                "runs": len(specs),
                "gpu_hours": round(total / 3600, 2),
                "makespan_minutes": round(done.last / 60, 1),
                "at_least_minutes": round(max(longest, total / slots) / 60, 1),
                "idle_share": round(1 - done.busy / (slots * done.last), 3),
                "driver_seconds": round(done.working, 1),
                "saturates_at_gpus": round(total / longest),
            }
        )
    return rows


def main(what: str = "", *numbers: str) -> None:
    if what not in ("flat", "paper"):
        sys.exit("say `flat`, with a number of runs if you like, or `paper`, with numbers of GPUs")
    note("simulating ...")
    wanted = [int(number) for number in numbers]
    emit(flat(*wanted[:1]) if what == "flat" else paper(wanted or GPUS), False)


if __name__ == "__main__":
    main(*sys.argv[1:])
