"""One run's record: is it whole, what does an older one mean today, and which row of the table of runs does it make?"""

import math
import re
from collections.abc import Callable
from typing import Any

from algoprogress.results.columns import RECORD_COLUMNS, SCHEMA_VERSION

STATUSES = ("done", "diverged")
# Facts without which a row could not be counted at all; any other may be null (a diverged run has no bits_per_byte).
REQUIRED = ("run_id", "configuration_id", "status", "schema_version")
_KINDS: dict[str, tuple[type, ...]] = {"int64": (int,), "float64": (int, float), "str": (str,), "bool": (bool,)}
_RECORD_KINDS = {column.name: _KINDS[column.dtype] for column in RECORD_COLUMNS} | {"git_dirty": (str, bool)}
_RUN_ID = re.compile(r"[0-9a-f]{20}")


def is_run_id(text: object) -> bool:
    """Whether `text` can be a run's id: 20 hex digits, and so never a way out of the store's folder."""
    return isinstance(text, str) and _RUN_ID.fullmatch(text) is not None


def check_run_id(run_id: str) -> str:
    """Returns `run_id`, or raises ValueError if it is not 20 hex digits."""
    if not is_run_id(run_id):
        raise ValueError(
            f"A run id is 20 hex digits (0-9, a-f), not {run_id!r}: copy it from the run_id column of a table."
        )
    return run_id


def faults(record: dict[str, Any]) -> list[str]:
    """What is wrong with a record of the present schema version, one phrase each; empty when it is whole."""
    found = [f"no field {name}" for name in [*_RECORD_KINDS, "spec"] if name not in record]
    for name, value in record.items():
        kinds = _RECORD_KINDS.get(name)
        if name == "spec":
            if not isinstance(value, dict):
                found.append(f"spec is {value!r}, not a mapping")
        elif kinds is None:
            found.append(f"field {name} is not in the schema (describe it in results/columns.py)")
        elif value is None:
            if name in REQUIRED:
                found.append(f"{name} is null")
        elif not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            found.append(f"{name} is {value!r}, not {kinds[-1].__name__}")
    if found:
        return found
    for name in ("run_id", "configuration_id"):
        if not is_run_id(record[name]):
            found.append(f"{name} is {record[name]!r}, not 20 hex digits")
    if record["status"] not in STATUSES:
        found.append(f"status is {record['status']!r}, not one of {', '.join(STATUSES)}")
    elif record["status"] == "done" and not _is_finite(record["loss"]):
        found.append(f"the run is done but its loss is {record['loss']}, not a finite number")
    return found


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


# A record of version v becomes one of version v + 1. When a column changes its name, unit or meaning: raise
# SCHEMA_VERSION, add the step here, and keep a file of the old version in the tests. Stored files are never rewritten.
UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: lambda record: {
        **record,
        "micro_batches": 1,  # before version 2 no batch was ever split
        **dict.fromkeys(("gemm_flop_per_second", "gemm_fraction", "matmul", "attention", "kernels", "torch_compile")),
    },
}


def upgrade(
    record: dict[str, Any],
    upgrades: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = UPGRADES,
    to_version: int = SCHEMA_VERSION,
) -> dict[str, Any]:
    """Brings a record of an older schema version to the present one, a version at a time. The argument stays as it is.

    Args:
        record: A record as stored.
        upgrades: Version -> function from a record of that version to one of the next.
        to_version: The version to reach.

    Raises:
        ValueError: If the record's version is newer than `to_version`, or there is no way from it.
    """
    version = record.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise ValueError(f"its schema_version is {version!r}, not an integer")
    if version > to_version:
        raise ValueError(f"it was written with schema version {version}, and this package reads up to {to_version}")
    for step in range(version, to_version):
        if step not in upgrades:
            raise ValueError(f"its schema version is {version}, and nothing here reads version {step}")
        record = {**upgrades[step](dict(record)), "schema_version": step + 1}
    return record


def row(record: dict[str, Any]) -> dict[str, Any]:
    """One flat row: the record's facts beside its spec, flattened.

    A nested configuration `{"name": "lstm", "width": 8}` under `architecture` gives `architecture` = "lstm" and
    `architecture_width` = 8. Where a field of the spec and a fact share a name, the fact is kept: what was trained, not
    what was asked for.
    """
    flat: dict[str, Any] = {}
    _flatten(record["spec"], "", flat)
    flat.update(record)
    del flat["spec"]
    return flat


def _flatten(config: dict[str, Any], prefix: str, into: dict[str, Any]) -> None:
    for key, value in config.items():
        name = prefix[:-1] if key == "name" and prefix else prefix + key
        if isinstance(value, dict):
            _flatten(value, name + "_", into)
        else:
            into[name] = tuple(value) if isinstance(value, list) else value  # a tuple, so that groupby can hash it
