"""One run in a worker process: train, publish, and tell the driver in plain data how it went.

Whatever the executor, this is the code that runs. The worker publishes; the driver only schedules.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from algoprogress.pipeline import provenance
from algoprogress.results import Store, StoreError
from algoprogress.results.schema import SCHEMA_VERSION


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
    torch_compile: bool = False
    checkpoint_seconds: float = 600.0
    code: dict[str, Any] = field(default_factory=dict)
    driver: str = ""  # host:pid of the submit that sent it

    def plain(self) -> dict[str, Any]:
        return asdict(self)


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

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def work(task: dict[str, Any], on_progress: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """Run a task to its end. Errors come back as data, so that no exception has to cross a process boundary."""
    return _work(Task(**task), on_progress).plain()


def _work(task: Task, on_progress: Callable[[dict[str, Any]], None] | None) -> Outcome:
    store = Store(task.store)
    started_at = provenance.now()

    def beat(progress: dict[str, Any]) -> None:
        facts = {"run_id": task.run_id, "study": task.study, "arm": task.arm, "attempt": task.attempt}
        facts["driver"] = task.driver
        store.heartbeat(task.run_id, {**facts, "started_at": started_at, "at": provenance.now(), **progress})
        if on_progress is not None:
            on_progress({**facts, **progress})

    try:
        if store.folder.exists(f"runs/{task.run_id}.parquet"):
            return Outcome(task.run_id, "present", store.record(task.run_id)["loss"])  # another submit was faster
        beat({"step": 0, "steps": 0, "tokens": 0, "loss": None, "tokens_per_second": None})
        run = _train(task, beat)
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
        return Outcome(
            task.run_id, record["status"] if first else "present", record["loss"], "", record["wall_seconds"]
        )
    except StoreError as error:
        return Outcome(task.run_id, "store", None, str(error))
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        with contextlib.suppress(StoreError):
            store.record_failure(
                task.run_id,
                {
                    "class": "failed",
                    "message": message,
                    "traceback": traceback.format_exc(limit=20),
                    "host": provenance.machine()["host"],
                    "at": provenance.now(),
                    "study": task.study,
                    "arm": task.arm,
                },
            )
        return Outcome(task.run_id, "failed", None, message)
    finally:
        with contextlib.suppress(StoreError):
            store.retire(task.run_id)


def _train(task: Task, beat: Callable[[dict[str, Any]], None]) -> Any:
    from algoprogress.ablations.spec import RunSpec
    from algoprogress.pipeline.data import open_tokens
    from algoprogress.pipeline.policy import choose
    from algoprogress.pipeline.trainer import train

    spec = RunSpec.model_validate(task.spec)
    if spec.run_id != task.run_id:
        raise ValueError(
            f"the spec sent as {task.run_id} is {spec.run_id} here: driver and worker have different versions"
        )
    policy = choose(task.device, spec.dtype, task.n_threads)
    tokens = open_tokens(spec.data.corpus, spec.data.corpus_sha256, spec.data.tokenizer)
    return train(
        spec,
        tokens,
        device=task.device,
        n_threads=task.n_threads,
        on_progress=beat,
        checkpoint_path=_checkpoint(task),
        checkpoint_seconds=task.checkpoint_seconds,
        policy=policy.compiling() if task.torch_compile else policy,
    )


def _checkpoint(task: Task) -> Path | None:
    """Checkpoints are local files: a store on object storage has none."""
    if "://" in task.store:
        return None
    return Path(task.store) / "checkpoints" / f"{task.run_id}.safetensors"


def quiet_threads() -> None:
    """One thread for every numeric library of this process; before they are imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
