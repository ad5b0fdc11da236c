"""Can this machine, or this cluster, do the work at all? Asked before anything is trained, answered in seconds.

Each refusal is one sentence that names what is wrong, where, and what to do about it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import os
import platform
import secrets
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from algoprogress.pipeline import provenance
from algoprogress.results import Store, StoreError, submits

if TYPE_CHECKING:
    from algoprogress.ablations.spec import RunSpec
    from algoprogress.pipeline.executors import Executor

SECONDS = 60.0  # for the slowest node to answer; a new worker process takes two, on a busy machine many more
RUN_BYTES = 64 * 1024  # a run's file is about 12 kB, and with its claim and study entry well below this
STATES = 3  # of each parameter in a checkpoint: weight and two moments of Adam, the optimizer that keeps most
WRITTEN_TWICE = 2  # a checkpoint is replaced in one step, so the old one and the new one are there at once
PACKAGES = ("algoprogress", "torch", "ray", "numpy", "pyarrow")  # what decides numbers, and what nodes speak


class Unfit(ValueError):
    """The disk or the nodes cannot do the work; the message says what to do."""


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
            f"the disk of {store.url} has {size(free)} free, and {count} runs with their checkpoints need "
            f"{size(needed)}: free some space, or choose another store with --store or ALGOPROGRESS_STORE"
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


def size(n_bytes: float) -> str:
    """Bytes as people write them."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def versions() -> dict[str, str]:
    """What must be the same on all machines."""
    found = {"python": ".".join(platform.python_version_tuple()[:2]), "source of algoprogress": provenance.source()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def gpu_bytes() -> int | None:
    """Memory of this machine's smallest GPU, asked of its driver; None where there is none to ask."""
    words = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False).stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = [int(mib) * 2**20 for mib in said if mib.isdigit()]
    return min(found, default=None)


def check_share(specs: Iterable[RunSpec], share: float, gpus: Mapping[str, int | None]) -> list[str]:
    """Whether each run fits its share of a GPU, by the estimate of `memory.estimate`.

    Args:
        specs: the runs, of which one of each shape is looked at.
        share: of a GPU, for one run; a whole one or more is not looked at, since a run that does not fit is trained in
            parts and harms no other.
        gpus: node -> bytes of its smallest GPU, None where that is unknown.

    Returns:
        What should be doubted: nodes that could not be asked.

    Raises:
        Unfit: a run does not fit.
    """
    from algoprogress.pipeline.memory import estimate

    if not 0 < share < 1:
        return []
    shapes = {(spec.architecture, spec.batch_tokens, spec.data.context, spec.dtype): spec for spec in specs}
    needed = {key: estimate(spec) for key, spec in shapes.items()}
    largest = max(needed, key=lambda key: needed[key], default=None)
    doubts = []
    for node, has in gpus.items():
        if has is None or largest is None:
            doubts.append(f"{node} does not tell the memory of its GPUs: {share:g} of one may be too little for a run")
        elif needed[largest] > share * has:
            wanted = needed[largest] / has
            advice = f"ask for --gpus-per-run {math.ceil(20 * wanted) / 20:g}" if wanted <= 1 else "use a larger GPU"
            raise Unfit(
                f"a run of {shapes[largest].n_params_total:,} parameters takes about {size(needed[largest])}, and "
                f"{share:g} of a GPU of {node} is {size(share * has)}: {advice}, or smaller batches"
            )
    return doubts


def look_around(probe: dict[str, Any]) -> dict[str, Any]:
    """On a node: its versions, and whether it reads what the driver wrote to the store and can write there itself."""
    store = Store(probe["store"])
    found: dict[str, Any] = {"host": platform.node(), "versions": versions(), "sees": False, "error": ""}
    found["gpu_bytes"] = gpu_bytes() if probe.get("gpus") else None
    try:
        with contextlib.suppress(FileNotFoundError):
            found["sees"] = store.folder.read(probe["name"]).decode() == probe["nonce"]
        if found["sees"]:
            name = f"{probe['name']}-{secrets.token_hex(6)}"  # swept away with the driver's
            store.folder.replace(name, probe["nonce"].encode(), durable=False)
            found["wrote"] = name
    except StoreError as error:
        found["error"] = str(error)
    return found


def check_nodes(
    executor: Executor, store: Store, driver: str, specs: Iterable[RunSpec] = (), share: float = 0.0
) -> list[str]:
    """Whether every node sees the store, can write it, has the driver's versions, and GPUs that runs fit on.

    Args:
        executor: where the nodes are.
        store: what they must share.
        driver: the submit's name, under which the probes are swept away if it dies.
        specs: what is to be trained.
        share: of a GPU for each run.

    Returns:
        What should be doubted, in sentences.

    Raises:
        Unfit: a node does not.
    """
    nonce = secrets.token_hex(8)
    name = submits.probe_name(driver)
    probe: dict[str, Any] = {"store": store.url, "name": name, "nonce": nonce, "gpus": 0 < share < 1}
    gpus: dict[str, int | None] = {}
    written = [probe["name"]]
    store.folder.replace(probe["name"], nonce.encode(), durable=False)
    try:
        for node, answer in executor.on_every_node(look_around, probe, SECONDS):
            if answer.get("wrote"):
                written.append(answer["wrote"])
                answer["seen"] = store.folder.exists(answer["wrote"])
            _check_node(node, answer, store)
            gpus[f"the node {node}"] = answer.get("gpu_bytes")
    finally:
        for name in written:
            with contextlib.suppress(StoreError):
                store.folder.remove(name)
    return check_share(specs, share, gpus or {"this machine": gpu_bytes() if probe["gpus"] else None})


def _check_node(node: str, answer: dict[str, Any], store: Store) -> None:
    if answer.get("error"):
        raise Unfit(f"the node {node} cannot work: {answer['error']}")
    ours = versions()
    for package in ours.keys() | answer["versions"].keys():
        here, there = ours.get(package, "none"), answer["versions"].get(package, "none")
        if here != there:
            raise Unfit(
                f"the node {node} has {package} {there}, and this machine {here}: install the same versions on every "
                "node, or start the cluster from one image"
            )
    if not answer["sees"] or not answer.get("seen"):
        raise Unfit(
            f"the node {node} does not see the store {store.url}: its folder is not the one of this machine. Use a "
            "folder that all nodes share, or object storage, such as --store s3://bucket/runs"
        )
