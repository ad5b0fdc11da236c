"""Several runs of one shape in a worker process: train them together, publish each as it ends.

What goes wrong for all of them at once, such as too little memory, is no failure of any: each is then trained alone.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from algoprogress.pipeline.worker import (
    BEGINNING,
    OnProgress,
    Outcome,
    Task,
    checkpoint_url,
    failure,
    publish,
    read_spec,
    take,
    tell,
    unwritable,
    work_alone,
)
from algoprogress.pipeline.worklog import Worklog
from algoprogress.results import Store, StoreError
from algoprogress.results.claims import Claim, beating

if TYPE_CHECKING:
    from algoprogress.pipeline.bookkeeping import Run


def work_together(task: Task, on_progress: OnProgress | None) -> Outcome:
    """The outcome of the task, with those of the tasks that were sent with it."""
    store = Store(task.store)
    tasks = {one.run_id: one for one in [replace(task, together=[]), *(Task(**other) for other in task.together)]}
    ended: dict[str, Outcome] = {}
    claims: dict[str, Claim] = {}
    try:
        for run_id, one in tasks.items():
            taken = take(one, store)
            if isinstance(taken, Outcome):
                ended[run_id] = taken
            else:
                claims[run_id] = taken
        if len(claims) > 1:
            with beating(list(claims.values())):
                _train_and_publish({run_id: tasks[run_id] for run_id in claims}, store, claims, on_progress, ended)
    except StoreError as error:
        ended |= {run_id: unwritable(one, error) for run_id, one in tasks.items() if run_id not in ended}
    except Exception as error:
        warnings.warn(f"{type(error).__name__}: {error}; the ensemble's runs are trained one by one", stacklevel=1)
    finally:
        for claim in claims.values():
            with contextlib.suppress(StoreError):
                claim.release()
    for run_id, one in tasks.items():
        if run_id not in ended:
            ended[run_id] = work_alone(one, on_progress)
    first, *others = (ended[run_id] for run_id in tasks)
    return replace(first, together=[other.plain() for other in others])


def _train_and_publish(
    tasks: dict[str, Task],
    store: Store,
    claims: dict[str, Claim],
    on_progress: OnProgress | None,
    ended: dict[str, Outcome],
) -> None:
    """Put the outcome of each run into `ended` once it is published; a run that cannot be harms no other.

    A member that was taken over trains on with the others: it costs next to nothing, and loses the race quietly.
    """
    log, began = Worklog(), time.monotonic()

    def beat(run_id: str, progress: dict[str, Any]) -> None:
        tell(claims[run_id], progress, on_progress)

    for run_id in tasks:
        beat(run_id, BEGINNING)
    for run in _runs(list(tasks.values()), beat):
        task = tasks[run.record["run_id"]]
        try:
            ended[task.run_id] = publish(task, store, claims[task.run_id], run)
        except StoreError as error:
            ended[task.run_id] = unwritable(task, error)
        except Exception as error:
            ended[task.run_id] = failure(task, store, error, log, began)
        with contextlib.suppress(StoreError):
            claims[task.run_id].release()


def _runs(tasks: list[Task], beat: Callable[[str, dict[str, Any]], None]) -> Iterator[Run]:
    from algoprogress.pipeline.data import open_tokens
    from algoprogress.pipeline.ensembles.train import train_together
    from algoprogress.pipeline.policy import choose

    specs, task = [read_spec(one) for one in tasks], tasks[0]
    data = specs[0].data
    tokens = open_tokens(data.corpus, data.corpus_sha256, data.tokenizer)
    yield from train_together(
        specs,
        tokens,
        device=task.device,
        n_threads=task.n_threads,
        on_progress=beat,
        checkpoint_paths={one.run_id: checkpoint_url(one) for one in tasks},
        checkpoint_seconds=task.checkpoint_seconds,
        policy=choose(task.device, specs[0].dtype, task.n_threads),
    )
