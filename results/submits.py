"""Which submits are at work on a store, and how one is asked to stop: files again, so that any host can ask.

submits/<driver>.json                 a submit, for as long as it lives
submits/<driver>.stop-<nonce>.json    a request to it; it removes the request when it has obeyed
submits/<driver>.probe-<nonce>        what nodes read and write to show that the store is theirs too
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from algoprogress.results import progress
from algoprogress.results.files import Folder
from algoprogress.results.processes import host_name, process_mark
from algoprogress.results.record import check_run_id, is_run_id

FOLDER = "submits"
_DRIVER = re.compile(r"[A-Za-z0-9-]{1,200}")


def new_driver() -> str:
    """A name for this process as a submit: host, process id and some random digits."""
    return f"{host_name()[:100]}-{os.getpid()}-{secrets.token_hex(4)}"


def _check(driver: str) -> str:
    if not _DRIVER.fullmatch(driver):
        raise ValueError(f"A submit's name holds letters, digits and '-', not {driver!r}.")
    return driver


def names(folder: Folder) -> list[str]:
    """The files of all submits."""
    found = [entry.name for entry in folder.entries(FOLDER) if entry.name.endswith(".json")]
    return [f"{FOLDER}/{name}" for name in found if _DRIVER.fullmatch(name.removesuffix(".json"))]


def announce(folder: Folder, driver: str, about: Mapping[str, Any]) -> None:
    """Says that this process submits, and how far it is."""
    who = {"driver": _check(driver), "host": host_name(), "pid": os.getpid(), "process": process_mark()}
    folder.replace(f"{FOLDER}/{driver}.json", progress.encode({**about, **who, "at": progress.now()}), durable=False)


def probe_name(driver: str) -> str:
    """A file by which nodes show that they see the store."""
    return f"{FOLDER}/{_check(driver)}.probe-{secrets.token_hex(6)}"


def leave(folder: Folder, driver: str) -> None:
    """Removes a submit's file and all that belongs to it."""
    for entry in folder.entries(FOLDER):
        if entry.name.startswith(f"{_check(driver)}."):
            folder.remove(f"{FOLDER}/{entry.name}")


def ask_to_stop(folder: Folder, driver: str, run_ids: Sequence[str] | None = None) -> str:
    """Asks a submit to stop these runs, or altogether. Returns the request's name: it is gone once obeyed."""
    wanted = None if run_ids is None else [check_run_id(run_id) for run_id in run_ids]
    name = f"{FOLDER}/{_check(driver)}.stop-{secrets.token_hex(6)}.json"
    folder.create(name, json.dumps({"run_ids": wanted}).encode())
    return name


def _requests(folder: Folder, driver: str) -> list[str]:
    listed = (entry.name for entry in folder.entries(FOLDER))
    return [f"{FOLDER}/{name}" for name in listed if name.startswith(f"{driver}.stop-")]


def asked_to_stop(folder: Folder, driver: str) -> dict[str, list[str] | None]:
    """The open requests to a submit: file name -> run ids, or None for all that it does. Remove what was obeyed."""
    found: dict[str, list[str] | None] = {}
    for name in _requests(folder, driver):
        try:
            wanted = json.loads(folder.read(name))["run_ids"]
            found[name] = None if wanted is None else [run_id for run_id in wanted if is_run_id(run_id)]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            continue  # just obeyed, or not a request
    return found


def orphans(folder: Folder, dead: Sequence[str]) -> list[str]:
    """What belongs to submits that are no more, or whose files are among `dead`."""
    listed = [entry.name for entry in folder.entries(FOLDER)]
    living = {name.removesuffix(".json") for name in listed if f"{FOLDER}/{name}" not in dead}
    found = [name for name in listed if "." in name.removesuffix(".json") and name.split(".")[0] not in living]
    return [f"{FOLDER}/{name}" for name in found]
