"""One run in a worker process: train, publish, and tell the driver in plain data how it went.

Whatever the executor, this is the code that runs. The worker publishes; the driver only schedules.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from algoprogress.pipeline import provenance
from algoprogress.results import Store, StoreError
from algoprogress.results.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from algoprogress.ablations.spec import RunSpec
    from algoprogress.pipeline.bookkeeping import Run


@dataclass(frozen=True)
class Task:
    """A run to be done, as plain data that any process can be sent."""

    run_id: str
    spec: dict[str, Any]
    store: str
    study: str = ""
    arm: str = ""
    attempt: int = 1
    device: str = "cpu"
    n_threads: int = 1
    checkpoint_seconds: float = 600.0
    code: dict[str, Any] = field(default_factory=dict)
    driver: str = ""  # host:pid of the submit that sent it
    together: Sequence[dict[str, Any]] = ()  # tasks of runs of the same shape, to be trained with this one

    def plain(self) -> dict[str, Any]:
        return asdict(self) | {"together": list(self.together)}


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    `status`: done, diverged (both published), present (somebody else had published it), failed (an error of the code or
    of the data: trying again would fail again), store (the store could not be written), infra (the worker was lost),
    timeout.
    """

    run_id: str
    status: str
    loss: float | None = None
    message: str = ""
    seconds: float = 0.0
    together: Sequence[dict[str, Any]] = ()  # how the tasks ended that were sent with this one

    def plain(self) -> dict[str, Any]:
        return asdict(self) | {"together": list(self.together)}


def work(task: dict[str, Any], on_progress: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """Run a task to its end. Errors come back as data, so that no exception has to cross a process boundary."""
    if task.get("together"):
        from algoprogress.pipeline.ensembles.work import work_together

        return work_together(Task(**task), on_progress).plain()
    return work_alone(Task(**task), on_progress).plain()


def work_alone(task: Task, on_progress: Callable[[dict[str, Any]], None] | None) -> Outcome:
    """One run by itself."""
    store = Store(task.store)
    started_at = provenance.now()

    def beat(progress: dict[str, Any]) -> None:
        facts = heartbeat(task, store, started_at, progress)
        if on_progress is not None:
            on_progress(facts)

    try:
        if (outcome := present(task, store)) is not None:
            return outcome
        beat({"step": 0, "steps": 0, "tokens": 0, "loss": None, "tokens_per_second": None})
        return publish(task, store, started_at, _train(task, beat))
    except StoreError as error:
        return Outcome(task.run_id, "store", None, str(error))
    except Exception as error:
        return failure(task, store, error)
    finally:
        with contextlib.suppress(StoreError):
            store.retire(task.run_id)


def present(task: Task, store: Store) -> Outcome | None:
    """The outcome of a run that another submit was faster with; None if there is no such run."""
    if not store.folder.exists(f"runs/{task.run_id}.parquet"):
        return None
    return Outcome(task.run_id, "present", store.record(task.run_id)["loss"])


def heartbeat(task: Task, store: Store, started_at: str, progress: dict[str, Any]) -> dict[str, Any]:
    """Write how far a run is, and return what concerns others of it."""
    facts = {"run_id": task.run_id, "study": task.study, "arm": task.arm, "attempt": task.attempt}
    facts["driver"] = task.driver
    store.heartbeat(task.run_id, {**facts, "started_at": started_at, "at": provenance.now(), **progress})
    return {**facts, **progress}


def publish(task: Task, store: Store, started_at: str, run: Run) -> Outcome:
    """Put a trained run into the store."""
    record = {
        "schema_version": SCHEMA_VERSION,
        **run.record,
        **provenance.machine(),
        "git_sha": task.code.get("git_sha"),
        "git_dirty": task.code.get("git_dirty"),
        "started_at": started_at,
        "ended_at": provenance.now(),
        "attempt": task.attempt,
    }
    first = store.publish(record, run.curve)
    return Outcome(task.run_id, record["status"] if first else "present", record["loss"], "", record["wall_seconds"])


def failure(task: Task, store: Store, error: Exception) -> Outcome:
    """Note an error of the code or of the data, with its traceback."""
    message = f"{type(error).__name__}: {error}"
    facts = {
        "class": "failed",
        "message": message,
        "traceback": "".join(traceback.format_exception(error, limit=20)),
        "host": provenance.machine()["host"],
        "at": provenance.now(),
        "study": task.study,
        "arm": task.arm,
    }
    with contextlib.suppress(StoreError):
        store.record_failure(task.run_id, facts)
    return Outcome(task.run_id, "failed", None, message)


def read_spec(task: Task) -> RunSpec:
    """The run that a task is about.

    Raises:
        ValueError: it has another run_id here.
    """
    from algoprogress.ablations.spec import RunSpec

    spec = RunSpec.model_validate(task.spec)
    if spec.run_id != task.run_id:
        raise ValueError(
            f"the spec sent as {task.run_id} is {spec.run_id} here: driver and worker have different versions"
        )
    return spec


def _train(task: Task, beat: Callable[[dict[str, Any]], None]) -> Run:
    from algoprogress.pipeline.data import open_tokens
    from algoprogress.pipeline.device import prepare
    from algoprogress.pipeline.trainer import train

    spec = read_spec(task)
    prepare(task.device)
    tokens = open_tokens(spec.data.corpus, spec.data.corpus_sha256, spec.data.tokenizer)
    return train(
        spec,
        tokens,
        device=task.device,
        n_threads=task.n_threads,
        on_progress=beat,
        checkpoint_path=checkpoint(task),
        checkpoint_seconds=task.checkpoint_seconds,
    )


def checkpoint(task: Task) -> Path | None:
    """Checkpoints are local files: a store on object storage has none."""
    if "://" in task.store:
        return None
    return Path(task.store) / "checkpoints" / f"{task.run_id}.safetensors"


def quiet_threads() -> None:
    """One thread for every numeric library of this process; before they are imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
