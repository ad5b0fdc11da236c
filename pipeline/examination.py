"""Can a node do this submit's work? Asked on the node itself, and once more by each process there before its first run.

A node is fit if it reads what the driver wrote to the store, can write there, has the driver's versions and a GPU that
runs fit on.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from algoprogress.pipeline import memory, provenance
from algoprogress.pipeline.executors import Unfit
from algoprogress.results import Store, StoreError, submits

if TYPE_CHECKING:
    from algoprogress.ablations.spec import RunSpec

PACKAGES = ("algoprogress", "torch", "ray", "numpy", "pyarrow")  # what decides numbers, and what nodes speak
LOOKS = 3  # of a worker at a store that is out of reach, before it says so
LOOK_SECONDS = 1.0  # between two of them
_fit_for: set[str] = set()  # questions that this process has answered well


class Examination:
    """What a submit asks of each node, and what the answers mean.

    Args:
        store: what all nodes must share.
        driver: the submit's name; what is written here is swept away with what else it has left, should it die.
        specs: what is to be trained.
        share: of a GPU for each run.
        say: told what should be doubted.
    """

    def __init__(
        self,
        store: Store,
        driver: str,
        specs: Iterable[RunSpec] = (),
        share: float = 0.0,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.store, self.share, self.say = store, share, say
        neediest = memory.neediest(specs) if 0 < share < 1 else None
        self.specs = [] if neediest is None else [neediest]  # all nodes are asked about the same run
        self.question: dict[str, Any] = {
            "store": store.url,
            "name": submits.probe_name(driver),
            "nonce": secrets.token_hex(8),
            "gpus": 0 < share < 1,
            "versions": versions(),
        }

    def renew(self) -> bool:
        """Writes what nodes have to read, unless it is there. Returns whether it was not.

        Raises:
            StoreError: the store cannot be read or written.
        """
        name, nonce = self.question["name"], self.question["nonce"].encode()
        with contextlib.suppress(FileNotFoundError):
            if self.store.folder.read(name) == nonce:
                return False
        self.store.folder.replace(name, nonce, durable=False)
        return True

    def judge(self, node: str, answer: Mapping[str, Any]) -> None:
        """Whether a node is fit, by what `look_around` found there.

        Raises:
            Unfit: it is not.
            StoreError: the store cannot be read just now.
        """
        seen = False
        if written := answer.get("wrote"):
            seen = self.store.folder.exists(written)
            with contextlib.suppress(StoreError):
                self.store.folder.remove(written)
        if why := fault({**answer, "sees": bool(answer.get("sees")) and seen}, self.question):
            raise Unfit(f"the node {node} {why}")
        if 0 < self.share < 1:
            for doubt in memory.check_share(self.specs, self.share, {f"the node {node}": answer.get("gpu_bytes")}):
                self.say(doubt)


def look_around(question: Mapping[str, Any]) -> dict[str, Any]:
    """On a node: its versions, and whether it reads what the driver wrote to the store and can write there itself."""
    store = Store(question["store"])
    found: dict[str, Any] = {"host": platform.node(), "versions": versions(), "sees": False, "error": ""}
    found["gpu_bytes"] = memory.gpu_bytes() if question.get("gpus") else None
    try:
        with contextlib.suppress(FileNotFoundError):
            found["sees"] = store.folder.read(question["name"]).decode() == question["nonce"]
        if found["sees"]:
            name = f"{question['name']}-{secrets.token_hex(6)}"  # swept away with the driver's
            store.folder.replace(name, question["nonce"].encode(), durable=False)
            found["wrote"] = name
    except StoreError as error:
        found["error"] = str(error)
    return found


def fault(answer: Mapping[str, Any], question: Mapping[str, Any]) -> str:
    """Why a node that answers so is not fit, as what is said of "the node ..."; nothing if it is."""
    if answer.get("error"):
        return f"cannot work: {answer['error']}"
    ours, theirs = question["versions"], answer["versions"]
    for package in sorted(ours.keys() | theirs.keys()):
        here, there = ours.get(package, "none"), theirs.get(package, "none")
        if here != there:
            return (
                f"has {package} {there}, and this machine {here}: install the same versions on every node, or start "
                "the cluster from one image"
            )
    if not answer["sees"]:
        return (
            f"does not see the store {question['store']}: its folder is not the one of this machine. Use a folder that "
            "all nodes share, or object storage, such as --store s3://bucket/runs"
        )
    return ""


def refusal(question: Mapping[str, Any]) -> str:
    """In a worker, before a run: why it may not be trained here, in the words of `fault`. Looks around once only."""
    if question["nonce"] in _fit_for:
        return ""
    answer: dict[str, Any] = {"error": "not asked yet"}
    for attempt in range(LOOKS):
        if attempt:
            time.sleep(LOOK_SECONDS)
        answer = look_around({**question, "gpus": False})
        if not answer["error"]:
            break
    if written := answer.get("wrote"):
        with contextlib.suppress(StoreError):
            Store(question["store"]).folder.remove(written)
    why = fault(answer, question)
    if not why:
        _fit_for.add(question["nonce"])
    return why


def versions() -> dict[str, str]:
    """What must be the same on all machines."""
    found = {"python": ".".join(platform.python_version_tuple()[:2]), "source of algoprogress": provenance.source()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
