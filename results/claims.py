"""Who trains a run, and is it still at it? A claim is a file that one process can create and that it keeps changing.

    active/<run_id>.<generation>.json

The first of any number of processes to create a generation has the run. It changes the file with every heartbeat. A
claim that an observer has not seen change for `silent_seconds` of its own monotonic clock is silent, and may be taken
over by creating the next generation, which again only one can do. No two clocks are ever compared, so a clock that
jumps, or a host whose clock is wrong, neither loses a run nor has one trained twice.

Nothing depends on a claim being right: results are published first-wins. A process that wakes up after its run was
taken over finds the later generation and stops; if it finishes first, the other one stops.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from algoprogress.results import progress
from algoprogress.results.files import Folder, StoreError
from algoprogress.results.processes import host_name, is_gone, process_mark
from algoprogress.results.record import check_run_id, is_run_id

FOLDER = "active"
_NAME = re.compile(r"([0-9a-f]{20})\.([1-9][0-9]{0,8})\.json")


class Held(NamedTuple):
    """A claim as a listing shows it. `tag` is another one after each heartbeat."""

    run_id: str
    generation: int
    tag: Hashable


def path(run_id: str, generation: int) -> str:
    """The name of a claim's file in the store."""
    return f"{FOLDER}/{check_run_id(run_id)}.{generation}.json"


def held(folder: Folder) -> dict[str, Held]:
    """Run id -> its newest claim. One listing, no file is read."""
    found: dict[str, Held] = {}
    for entry in folder.entries(FOLDER):
        match = _NAME.fullmatch(entry.name)
        if match is None or not is_run_id(match[1]):
            continue
        claim = Held(match[1], int(match[2]), (entry.size, entry.modified))
        if claim.run_id not in found or found[claim.run_id].generation < claim.generation:
            found[claim.run_id] = claim
    return found


def facts(folder: Folder, claim: Held) -> dict[str, Any] | None:
    """What the holder last said, with its generation; None when the claim has gone or is torn."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        found = json.loads(folder.read(path(claim.run_id, claim.generation)))
        if isinstance(found, dict):
            return {**found, "run_id": claim.run_id, "generation": claim.generation}
    return None


def take(folder: Folder, run_id: str, about: Mapping[str, Any], over: int = 0) -> Claim | None:
    """Claims a run for this process; None when somebody else has it.

    Args:
        folder: The store's folder.
        run_id: The run.
        about: What the claim says besides who holds it: study, arm, attempt, ...
        over: The generation that was found silent and may be taken over; one whose process of this host has ended
            may always be.

    Raises:
        StoreError: If the store can not be written.
    """
    newest = held(folder).get(check_run_id(run_id))
    if newest is not None and newest.generation > over and not _ended(folder, newest):
        return None
    generation = 1 if newest is None else newest.generation + 1
    claim = Claim(folder, run_id, generation, about)
    if not folder.create(claim.path, claim.encode(), durable=False):  # a power cut ends its holder too
        return None
    if newest is not None:
        folder.remove(path(run_id, newest.generation))
    return claim


def _ended(folder: Folder, claim: Held) -> bool:
    said = facts(folder, claim)
    return said is not None and is_gone(said.get("host"), said.get("process"))


class Claim:
    """A run that this process has the right to train, until it is released or taken over. Made by `take`."""

    def __init__(self, folder: Folder, run_id: str, generation: int, about: Mapping[str, Any]):
        self.folder, self.run_id, self.generation = folder, run_id, generation
        self.path = path(run_id, generation)
        self.lost = False
        self._nonce = secrets.token_hex(8)
        self._beats = 0
        self._said: dict[str, Any] = {
            **about,
            "run_id": run_id,
            "host": host_name(),
            "pid": os.getpid(),
            "process": process_mark(),
            "nonce": self._nonce,
        }

    def encode(self) -> bytes:
        """The claim's file: who holds it, how far the run is, and a counter that makes each heartbeat another one."""
        self._beats += 1
        return progress.encode({**self._said, "beat": self._beats, "at": progress.now()})

    @property
    def said(self) -> dict[str, Any]:
        """What the next heartbeat tells."""
        return dict(self._said)

    def say(self, how_far: Mapping[str, Any]) -> None:
        """What the next heartbeat tells: step, steps, tokens, loss, ..."""
        self._said = {**self._said, **how_far}

    def beat(self) -> bool:
        """Writes a heartbeat. False, now and ever after, once the run is another's.

        Raises:
            StoreError: If the store can not be reached; the claim is then as it was.
        """
        if not self.lost:
            self.lost = self.folder.exists(path(self.run_id, self.generation + 1))
        if self.lost:
            return False
        try:
            mine = json.loads(self.folder.read(self.path)).get("nonce") == self._nonce
        except FileNotFoundError:  # the store was emptied, or somebody took over, ended and left
            mine = not self.folder.exists(f"runs/{self.run_id}.parquet") and self.folder.create(
                self.path, self.encode(), durable=False
            )
        except ValueError:
            mine = True  # a torn file: the next heartbeat mends it
        if mine:
            self.folder.replace(self.path, self.encode(), durable=False)
        self.lost = not mine
        return mine

    def release(self) -> None:
        """Ends the claim, if it is still this process's."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            if json.loads(self.folder.read(self.path)).get("nonce") == self._nonce:
                self.folder.remove(self.path)


@contextlib.contextmanager
def beating(claims: Sequence[Claim]) -> Iterator[None]:
    """Heartbeats from a thread while the block runs, however long a step takes. Watch `lost` meanwhile."""
    ended, at_work = threading.Event(), threading.Lock()
    seconds = min((claim.folder.beat_seconds for claim in claims), default=0.0)

    def go_on() -> None:
        while not ended.wait(seconds):
            with at_work:
                for claim in claims if not ended.is_set() else ():
                    with contextlib.suppress(StoreError):  # a store that cannot be reached now may be in a moment
                        claim.beat()

    thread = threading.Thread(target=go_on, name="heartbeats", daemon=True)
    if claims:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        with at_work:  # no beat comes after this; the thread ends by itself, which need not be waited for
            pass


class Watch:
    """Finds silent claims, by the clock of the process that looks.

    Args:
        silent_seconds: A claim that has not changed for so long is silent.
        clock: Seconds that only ever go forward.
    """

    def __init__(self, silent_seconds: float, clock: Callable[[], float] = time.monotonic):
        self.silent_seconds, self.clock = silent_seconds, clock
        self._seen: dict[str, tuple[Held, float]] = {}

    def silent(self, claims: Iterable[Held]) -> set[str]:
        """The run ids of those claims that have been silent for too long, given all that are held now."""
        now = self.clock()
        before, self._seen = self._seen, {}
        for claim in claims:
            seen, since = before.get(claim.run_id, (None, now))
            self._seen[claim.run_id] = (claim, since if seen == claim else now)
        return {run_id for run_id, (_, since) in self._seen.items() if now - since > self.silent_seconds}
