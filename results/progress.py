"""What is not a result: how far a run in training has come, and why an attempt failed. Small JSON files by the runs."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from algoprogress.results.columns import Column
from algoprogress.results.problems import Unreadable
from algoprogress.results.processes import is_gone
from algoprogress.results.runfile import plain

FAILURE_COLUMNS = [
    Column("run_id", "str", "", "The run"),
    Column("attempt", "int64", "", "Which attempt failed, from 1"),
    Column("class", "str", "", "Class of the failure, such as failed, oom, timeout or infra"),
    Column("message", "str", "", "What went wrong, in a line"),
    Column("traceback", "str", "", "Where it went wrong"),
    Column("seconds", "float64", "seconds", "Time the attempt took; 0 where nobody knows"),
    Column("host", "str", "", "Host name"),
    Column("log", "str", "", "What the attempt printed last"),
    Column("micro_batches", "int64", "", "Parts that each batch was split into, to fit in memory"),
    Column("at", "str", "UTC", "When it failed, ISO 8601"),
]
ACTIVE_COLUMNS = [
    Column("run_id", "str", "", "The run"),
    Column("study", "str", "", "Study that it was submitted for"),
    Column("arm", "str", "", "Arm of that study"),
    Column("step", "int64", "steps", "Optimizer steps taken"),
    Column("steps", "int64", "steps", "Optimizer steps to take"),
    Column("tokens", "int64", "tokens", "Tokens trained on so far"),
    Column("loss", "float64", "nats/token", "Latest training loss"),
    Column("tokens_per_second", "float64", "tokens/second", "Training throughput"),
    Column("attempt", "int64", "", "Which attempt it is, from 1"),
    Column("driver", "str", "", "The submit that sent it"),
    Column("host", "str", "", "Host name"),
    Column("pid", "int64", "", "Process id on that host"),
    Column("process", "str", "", "What tells the process from a later one of the same number"),
    Column("generation", "int64", "", "How often the run was claimed; above 1 when it was taken over"),
    Column("at", "str", "UTC", "When the heartbeat was written, ISO 8601"),
    Column("started_at", "str", "UTC", "When training began, ISO 8601"),
]
SUBMIT_COLUMNS = [
    Column("driver", "str", "", "Name of the process that submits"),
    Column("study", "str", "", "The study"),
    Column("slots", "int64", "", "Runs at once"),
    Column("running", "int64", "", "Runs in training"),
    Column("to_do", "int64", "", "Runs that wait for a slot"),
    Column("failed", "int64", "", "Runs that failed for good"),
    Column("host", "str", "", "Host name"),
    Column("pid", "int64", "", "Process id on that host"),
    Column("process", "str", "", "What tells the process from a later one of the same number"),
    Column("at", "str", "UTC", "When it last wrote, ISO 8601"),
]
_FITS: dict[str, tuple[type, ...]] = {"int64": (int, float), "float64": (int, float), "str": (str,), "bool": (bool,)}


def now() -> str:
    """The time, as it is stored: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def encode(facts: dict[str, Any]) -> bytes:
    """The facts as JSON; a number that is not finite becomes null, and an object, such as an exception, its text."""
    return json.dumps(plain(facts, otherwise=str), ensure_ascii=False, allow_nan=False).encode()


def parse(data: bytes, columns: list[Column]) -> dict[str, Any]:
    """The facts in a file's bytes. Raises Unreadable if they do not fit the columns."""
    try:
        facts = json.loads(data)
    except ValueError as error:
        raise Unreadable(f"it is not what was written ({error})", "delete it") from error
    if not isinstance(facts, dict):
        raise Unreadable("it is not what was written (no mapping)", "delete it")
    for column in columns:  # hundreds of claims are read every second: no DataFrame for each
        value = facts.get(column.name)
        if value is not None and not isinstance(value, _FITS[column.dtype]):
            raise Unreadable(f"it is not what was written ({column.name} is {value!r})", "delete it")
    return facts


def attempt(file_name: str) -> int:
    """The attempt that a file failures/<run_id>/<attempt>.json is about; 0 if it is not named so."""
    stem = file_name.removesuffix(".json")
    return int(stem) if stem.isascii() and stem.isdigit() else 0


def seen_at(beat: Mapping[Any, Any]) -> float | None:
    """When a heartbeat was written, in seconds since 1970; None if it does not say."""
    try:
        return datetime.fromisoformat(beat["at"]).timestamp()
    except (TypeError, ValueError):
        return None


def is_stale(beat: Mapping[Any, Any]) -> bool:
    """Whether the process that wrote a heartbeat is known to have ended."""
    return is_gone(beat.get("host"), beat.get("process"))
