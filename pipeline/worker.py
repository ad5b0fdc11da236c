"""One run in a worker process: claim it, train, publish, and tell the driver in plain data how it went.

Whatever the executor, this is the code that runs. The worker publishes; the driver only schedules.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from algoprogress.pipeline import provenance
from algoprogress.pipeline.failures import classify
from algoprogress.pipeline.redaction import redact
from algoprogress.pipeline.worklog import Worklog
from algoprogress.results import Store, StoreError
from algoprogress.results.claims import Claim, beating
from algoprogress.results.record import check_run_id
from algoprogress.results.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from algoprogress.ablations.spec import RunSpec
    from algoprogress.pipeline.bookkeeping import Run

OnProgress = Callable[[dict[str, Any]], None]
BEGINNING = {"step": 0, "steps": 0, "tokens": 0, "loss": None, "tokens_per_second": None}
PUBLISH_ATTEMPTS = 4  # over 3.5 s: a store that is out of reach for a moment must not cost a trained run


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
    micro_batches: int = 1
    code: dict[str, Any] = field(default_factory=dict)
    driver: str = ""  # the submit that sent it
    together: list[dict[str, Any]] = field(default_factory=list)  # tasks of runs of one shape, to be trained with it
    over: int = 0  # the generation of the claim that this driver found silent, and that may be taken over
    gpu_share: float = 0.0  # of the GPU's memory; below 1, the others on that GPU have the rest
    probes: list[dict[str, Any]] = field(default_factory=list)  # what to measure of the run, in place of training it

    def plain(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    `status`: done, diverged (both published), present (somebody else had published it), elsewhere (somebody else has
    it, or has tried it since the task was sent), failed (an error of the code or of the data: trying again would fail
    again), oom, store (the store could not be written), infra (the worker was lost), timeout, cancelled.
    """

    run_id: str
    status: str
    loss: float | None = None
    message: str = ""
    seconds: float = 0.0
    log: str = ""  # of infra: what the worker printed last, where that is known
    cause: str = ""  # of infra: "crash" of the worker, which is dead, or loss of its "node", where it may live on
    together: list[dict[str, Any]] = field(default_factory=list)  # how the tasks ended that were sent with this one

    def plain(self) -> dict[str, Any]:
        return asdict(self)


class TakenOver(Exception):
    """Another process has the run now."""


def work(task: dict[str, Any], on_progress: OnProgress | None = None) -> dict[str, Any]:
    """Run a task to its end. Errors come back as data, so that no exception has to cross a process boundary."""
    if task.get("together"):
        from algoprogress.pipeline.ensembles.work import work_together

        return work_together(Task(**task), on_progress).plain()
    if task.get("probes"):
        from algoprogress.pipeline.curvature.stage import measure

        return measure(Task(**task)).plain()
    return work_alone(Task(**task), on_progress).plain()


def work_alone(
    task: Task, on_progress: OnProgress | None = None, train: Callable[[Task, OnProgress], Run] | None = None
) -> Outcome:
    """One run by itself; `train` stands in for a training where what is around it is measured."""
    store = Store(task.store)
    try:
        claim = take(task, store)
    except StoreError as error:
        return unwritable(task, error)
    if isinstance(claim, Outcome):
        return claim
    log, began = Worklog(), time.monotonic()

    def beat(progress: dict[str, Any]) -> None:
        if claim.lost:
            raise TakenOver
        tell(claim, progress, on_progress)

    try:
        with beating([claim]):
            return publish(task, store, claim, (train or _train)(task, beat))
    except TakenOver:
        return Outcome(task.run_id, "elsewhere")
    except StoreError as error:
        return unwritable(task, error)
    except Exception as error:
        return failure(task, store, error, log, began)
    finally:
        with contextlib.suppress(StoreError):
            claim.release()


def take(task: Task, store: Store) -> Claim | Outcome:
    """A claim on the task's run, or the outcome of a task that there is nothing to do for.

    Raises:
        StoreError: the store cannot be read or written.
    """
    if (outcome := _present(task, store)) is not None:
        return outcome
    about = {"study": task.study, "arm": task.arm, "attempt": task.attempt, "driver": task.driver}
    about |= {"started_at": provenance.now(), **BEGINNING}
    claim = store.claim(task.run_id, about, task.over)
    if claim is None:
        return Outcome(task.run_id, "elsewhere")
    outcome = _present(task, store)  # published between the first look and the claim
    if outcome is None and store.failed_attempts(task.run_id) >= task.attempt:
        outcome = Outcome(task.run_id, "elsewhere")  # it has failed since the driver looked, which decides anew
    if outcome is None:
        return claim
    claim.release()
    return outcome


def _present(task: Task, store: Store) -> Outcome | None:
    """The outcome of a run that another process was faster with; None if there is no such run."""
    return Outcome(task.run_id, "present", store.record(task.run_id)["loss"]) if store.has(task.run_id) else None


def tell(claim: Claim, progress: dict[str, Any], on_progress: OnProgress | None) -> None:
    """What the next heartbeat says, and whoever else listens."""
    claim.say(progress)
    if on_progress is not None:
        on_progress(claim.said)


def publish(task: Task, store: Store, claim: Claim, run: Run) -> Outcome:
    """Put a trained run into the store; its checkpoint is no longer needed.

    Raises:
        StoreError: the store cannot be written, several times in a row.
    """
    record = {
        "schema_version": SCHEMA_VERSION,
        **run.record,
        **provenance.machine(),
        "micro_batches": task.micro_batches,
        "git_sha": task.code.get("git_sha"),
        "git_dirty": task.code.get("git_dirty"),
        "started_at": claim.said["started_at"],
        "ended_at": provenance.now(),
        "attempt": task.attempt,
    }
    first = _publish_patiently(store, record, run)
    with contextlib.suppress(StoreError):
        store.folder.remove(checkpoint_name(task.run_id))
    return Outcome(task.run_id, record["status"] if first else "present", record["loss"], "", record["wall_seconds"])


def _publish_patiently(store: Store, record: dict[str, Any], run: Run) -> bool:
    for attempt in range(PUBLISH_ATTEMPTS):
        try:
            return store.publish(record, run.curve)
        except StoreError:
            if attempt == PUBLISH_ATTEMPTS - 1:
                raise
            time.sleep(0.5 * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


def unwritable(task: Task, error: StoreError) -> Outcome:
    """The store cannot be read or written: that ends the submit and is no failure of the run."""
    return Outcome(task.run_id, "store", None, redact(str(error)))


def failure(task: Task, store: Store, error: Exception, log: Worklog, began: float) -> Outcome:
    """Keep an error of the code or of the data while the claim is still held: whoever claims the run next knows it."""
    outcome = Outcome(task.run_id, classify(error), None, redact(f"{type(error).__name__}: {error}"))
    facts = {
        "class": outcome.status,
        "message": outcome.message,
        "traceback": redact("".join(traceback.format_exception(error, limit=20))),
        "log": redact(log.tail()),
        "micro_batches": task.micro_batches,
        "seconds": time.monotonic() - began,
        "host": provenance.machine()["host"],
        "study": task.study,
        "arm": task.arm,
        "driver": task.driver,
    }
    with contextlib.suppress(StoreError):
        store.record_failure(task.run_id, facts)
    return outcome


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


def _train(task: Task, beat: OnProgress) -> Run:
    from algoprogress.pipeline.data import open_tokens
    from algoprogress.pipeline.policy import choose
    from algoprogress.pipeline.trainer import train

    spec = read_spec(task)
    keep_to_share(task)
    policy = choose(task.device, spec.dtype, task.n_threads)
    tokens = open_tokens(spec.data.corpus, spec.data.corpus_sha256, spec.data.tokenizer)
    return train(
        spec,
        tokens,
        device=task.device,
        n_threads=task.n_threads,
        on_progress=beat,
        checkpoint_path=checkpoint_url(task),
        checkpoint_seconds=task.checkpoint_seconds,
        micro_batches=task.micro_batches,
        policy=policy.compiling() if task.torch_compile else policy,
    )


def keep_to_share(task: Task) -> None:
    """A run that needs more than its share of a GPU runs out of memory itself, and not its neighbours."""
    if task.device != "cpu" and 0 < task.gpu_share < 1:
        import torch

        torch.cuda.set_per_process_memory_fraction(task.gpu_share)


def checkpoint_name(run_id: str) -> str:
    """Where in a store an unfinished run is kept."""
    return f"checkpoints/{check_run_id(run_id)}.safetensors"


def checkpoint_url(task: Task) -> str:
    """Path or URL of the same."""
    return f"{task.store}/{checkpoint_name(task.run_id)}"
