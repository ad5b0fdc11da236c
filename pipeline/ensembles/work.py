"""Several runs of one shape in a worker process: train them together, publish each as it ends.

What goes wrong for all of them at once, such as too little memory, is no failure of any: each is then trained alone.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from algoprogress.pipeline import provenance
from algoprogress.pipeline.worker import (
    Outcome,
    Task,
    checkpoint,
    failure,
    heartbeat,
    present,
    publish,
    read_spec,
    work_alone,
)
from algoprogress.results import Store, StoreError

if TYPE_CHECKING:
    from algoprogress.pipeline.bookkeeping import Run

OnProgress = Callable[[dict[str, Any]], None]


def work_together(task: Task, on_progress: OnProgress | None) -> Outcome:
    """The outcome of the task, with those of the tasks that were sent with it."""
    store = Store(task.store)
    tasks = [replace(task, together=()), *(Task(**other) for other in task.together)]
    ended: dict[str, Outcome] = {}
    try:
        try:
            for one in tasks:
                if (outcome := present(one, store)) is not None:
                    ended[one.run_id] = outcome
            fresh = [one for one in tasks if one.run_id not in ended]
            if len(fresh) > 1:
                _train_and_publish({one.run_id: one for one in fresh}, store, on_progress, ended)
        except StoreError:
            raise
        except Exception as error:
            warnings.warn(f"{type(error).__name__}: {error}; the ensemble's runs are trained one by one", stacklevel=1)
        for one in tasks:
            if one.run_id not in ended:
                ended[one.run_id] = work_alone(one, on_progress)
    except StoreError as error:
        lost = [one.run_id for one in tasks if one.run_id not in ended]
        ended |= {run_id: Outcome(run_id, "store", None, str(error)) for run_id in lost}
    finally:
        for one in tasks:
            with contextlib.suppress(StoreError):
                store.retire(one.run_id)
    first, *others = (ended[one.run_id] for one in tasks)
    return replace(first, together=tuple(other.plain() for other in others))


def _train_and_publish(
    tasks: dict[str, Task], store: Store, on_progress: OnProgress | None, ended: dict[str, Outcome]
) -> None:
    """Put the outcome of each run into `ended` once it is published; a run that cannot be harms no other."""
    started_at = provenance.now()

    def beat(run_id: str, progress: dict[str, Any]) -> None:
        facts = heartbeat(tasks[run_id], store, started_at, progress)
        if on_progress is not None:
            on_progress(facts)

    for run_id in tasks:
        beat(run_id, {"step": 0, "steps": 0, "tokens": 0, "loss": None, "tokens_per_second": None})
    paths = {one.run_id: path for one in tasks.values() if (path := checkpoint(one)) is not None}
    for run in _runs(list(tasks.values()), beat, paths):
        task = tasks[run.record["run_id"]]
        try:
            ended[task.run_id] = publish(task, store, started_at, run)
            with contextlib.suppress(OSError, KeyError):
                paths[task.run_id].unlink()
        except StoreError as error:
            ended[task.run_id] = Outcome(task.run_id, "store", None, str(error))
        except Exception as error:
            ended[task.run_id] = failure(task, store, error)
        with contextlib.suppress(StoreError):
            store.retire(task.run_id)


def _runs(tasks: list[Task], beat: Callable[[str, dict[str, Any]], None], paths: dict[str, Path]) -> Iterator[Run]:
    from algoprogress.pipeline.data import open_tokens
    from algoprogress.pipeline.device import prepare
    from algoprogress.pipeline.ensembles.train import train_together

    specs, task = [read_spec(one) for one in tasks], tasks[0]
    prepare(task.device)
    data = specs[0].data
    tokens = open_tokens(data.corpus, data.corpus_sha256, data.tokenizer)
    yield from train_together(
        specs,
        tokens,
        device=task.device,
        n_threads=task.n_threads,
        on_progress=beat,
        checkpoint_paths=paths,
        checkpoint_seconds=task.checkpoint_seconds,
    )
