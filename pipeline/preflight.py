"""Can this machine, or this cluster, do the work at all? Asked before anything is trained, answered in seconds.

Each refusal is one sentence that names what is wrong, where, and what to do about it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from typing import TYPE_CHECKING

from algoprogress.pipeline import memory
from algoprogress.pipeline.executors import Unfit
from algoprogress.results import Store

if TYPE_CHECKING:
    from algoprogress.ablations.spec import RunSpec
    from algoprogress.pipeline.examination import Examination
    from algoprogress.pipeline.executors import Executor

RUN_BYTES = 64 * 1024  # a run's file is about 12 kB, and with its claim and study entry well below this
STATES = 3  # of each parameter in a checkpoint: weight and two moments of Adam, the optimizer that keeps most
WRITTEN_TWICE = 2  # a checkpoint is replaced in one step, so the old one and the new one are there at once


def check_disk(store: Store, specs: Iterable[RunSpec]) -> None:
    """Whether what a study adds to a store in a folder fits its disk.

    Raises:
        Unfit: it does not.
    """
    free = free_bytes(store)
    if free is None:
        return
    count, largest = 0, 0
    for spec in specs:
        count += 1
        largest = max(largest, spec.n_params_total * (8 if spec.dtype == "float64" else 4))
    needed = count * RUN_BYTES + largest * STATES * WRITTEN_TWICE
    if needed > free:
        raise Unfit(
            f"the disk of {store.url} has {memory.size(free)} free, and {count} runs with their checkpoints need "
            f"{memory.size(needed)}: free some space, or choose another store with --store or ALGOPROGRESS_STORE"
        )


def free_bytes(store: Store) -> int | None:
    """Free bytes of the file system of a store in a folder; None for object storage."""
    if "://" in store.url:
        return None
    folder = store.url
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def check_nodes(executor: Executor, examination: Examination) -> None:
    """Whether the nodes that are there can do the work; those that come later are examined when they do.

    Args:
        executor: where the nodes are.
        examination: what is asked of them, or of this machine where there are none.

    Raises:
        Unfit: a node cannot.
    """
    if not executor.examine(examination) and 0 < examination.share < 1:
        here = {"this machine": memory.gpu_bytes()}
        for doubt in memory.check_share(examination.specs, examination.share, here):
            examination.say(doubt)
