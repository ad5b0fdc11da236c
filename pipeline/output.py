"""What every command prints and how: tables for people, one JSON document for programs, notes on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

    from algoprogress.results import Store

StoreOption = Annotated[
    str | None, typer.Option("--store", help="Folder or URL of the runs; default $ALGOPROGRESS_STORE or results/data.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else there.")]
StoredStudy = Annotated[str, typer.Argument(help="A study in the store.")]
SomeStudy = Annotated[str | None, typer.Argument(help="A study in the store; default: all.")]

RUNS_FAILED = 1


class Refused(Exception):
    """What was asked is over a cap, or more than there is."""


def open_store(url: str | None) -> Store:
    from algoprogress.results import Store

    return Store(url)


def given_store(url: str | None) -> str:
    """The folder or URL as it was given, which `open_store` would make a path of this machine."""
    from algoprogress.results.store import DEFAULT_URL

    return url or os.environ.get("ALGOPROGRESS_STORE") or DEFAULT_URL


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [plain(row) for row in table.to_dict("records")]


def plain(value: Any) -> Any:
    """The value as JSON has it: NaN is null, numpy numbers are numbers."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def emit(data: Any, as_json: bool) -> None:
    """Print a DataFrame, a list of mappings or a mapping: as a table for people, or as one JSON document."""
    if hasattr(data, "to_dict"):
        data = records(data)
    if as_json:
        print(json.dumps(plain(data), indent=1, ensure_ascii=False))
    elif isinstance(data, dict):
        for key, value in data.items():
            print(f"{key}: {json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value}")
    elif data:
        columns = list(dict.fromkeys(key for row in data for key in row))
        cells = [[text(row.get(c)) for c in columns] for row in data]
        widths = [max(len(c), *(len(row[i]) for row in cells)) for i, c in enumerate(columns)]
        right = [all(isinstance(row.get(c), int | float | None) for row in data) for c in columns]
        for row in [columns, *cells]:
            line = "  ".join(
                cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True)
            )
            print(line.rstrip())


def text(value: Any) -> str:
    if isinstance(value, float) and math.isinf(value):  # the open end of an interval
        return "∞" if value > 0 else "-∞"
    value = plain(value)
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if value == int(value) and abs(value) < 1e7 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def values(found: Sequence[Any]) -> str:
    """Values of a field over an arm's runs: one, a few, or a range."""
    if not found:
        return "(none)"
    if len(found) <= 4 or not all(isinstance(v, int | float) for v in found):
        return ", ".join(map(text, found))
    return f"{text(min(found))} … {text(max(found))} ({len(found)} values)"


def duration(seconds: float) -> str:
    from algoprogress.pipeline.progress import clock

    return f"{seconds:.1f} s" if seconds < 60 else f"{clock(seconds)} min" if seconds < 3600 else f"{clock(seconds)} h"


def note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
