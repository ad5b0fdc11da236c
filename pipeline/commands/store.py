"""Commands on what is kept: status, logs, runs, verify, compact."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from algoprogress.pipeline.output import (
    RUNS_FAILED,
    JsonOption,
    SomeStudy,
    StoreOption,
    emit,
    note,
    open_store,
)


def status(
    study: SomeStudy = None,
    store: StoreOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until nothing is left to do.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks of --watch.")] = 2.0,
    price: Annotated[float | None, typer.Option(min=0, help="Of a worker's hour, to show the cost so far.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Count the runs of each study and arm: done, diverged, running, failed, to do; speed, time left, hours spent.

    From files alone. The last line of a study counts each of its runs once.
    """
    from algoprogress.pipeline.status import Status

    counts = Status(open_store(store))
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            rows = counts.rows(study)
            if price is not None:
                rows = [{**row, "cost": price * row["hours"]} for row in rows]
            if not rows and not as_json:
                note(f"no study in {counts.store.url} yet: `algoprogress submit demo` trains one")
            elif watch and not as_json:
                redraw(lambda rows=rows: emit(shown(rows), False))  # type: ignore[misc]
            else:
                emit(rows if as_json else shown(rows), as_json)
            if not watch or (rows and not any(row["to_do"] or row["running"] for row in rows)):
                return
            time.sleep(every)


def shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `status` as people read them."""
    from algoprogress.pipeline.progress import clock

    return [
        {
            **{key: value for key, value in row.items() if key not in ("hours", "seconds_left", "submits")},
            "arm": row["arm"] if row["arm"] is not None else "(all)",
            "hours": f"{row['hours']:.3g}",
            "left": "" if row["arm"] is not None else clock(row["seconds_left"]),
            "submits": "" if row["arm"] is not None else row["submits"],
        }
        for row in rows
    ]


def redraw(draw: Callable[[], None]) -> None:
    """In a terminal over what was there; elsewhere below it, with the time."""
    if sys.stdout.isatty():
        print("\x1b[H\x1b[2J", end="")
    else:
        print(time.strftime("%H:%M:%S"))
    draw()
    sys.stdout.flush()


def logs(
    run: Annotated[str, typer.Argument(help="A run_id, or the beginning of one.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is known of one run: how its attempts failed and what they printed, its record and its curve."""
    from algoprogress.pipeline.status import history

    found = history(open_store(store), run)
    if as_json:
        emit(found, True)
        return
    for place in found["places"]:
        print(f"run {found['run_id']}, study {place['study']}, arm {place['arm']}")
    for failure in found["failures"]:
        print(
            f"attempt {failure['attempt']} on {failure.get('host')} at {failure.get('at')}: "
            f"{failure['class']}: {failure['message']}"
        )
        for part in ("traceback", "log"):
            if isinstance(failure.get(part), str) and failure[part].strip():
                print(f"{part}:\n{failure[part].rstrip()}")
    if found["active"]:
        print("in training:")
        emit(found["active"], False)
    if found["record"]:
        for key, value in found["record"].items():
            print(f"{key:<20} {json.dumps(value) if isinstance(value, dict) else value}")
        print()
        emit(found["curve"], False)
    elif not found["active"] and not found["failures"]:
        print("not begun")


def runs(
    study: SomeStudy = None,
    store: StoreOption = None,
    where: Annotated[
        str | None, typer.Option(help="A pandas query, such as 'n_params > 1e5 and arm == \"lstm\"'.")
    ] = None,
    columns: Annotated[str | None, typer.Option(help="Comma-separated columns.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the stored runs, one row per (arm, run)."""
    there = open_store(store)
    table = there.runs(study, status=None)
    if table.empty:
        note(f"no runs in {there.url} yet: `algoprogress submit demo` trains some")
    if where:
        try:
            table = table.query(where)
        except Exception as error:
            raise ValueError(f"--where {where!r} is not a query on the columns of runs: {error}") from None
    default = [
        "study",
        "arm",
        "run_id",
        "status",
        "n_params",
        "tokens",
        "compute",
        "learning_rate",
        "seed",
        "loss",
        "loss_se",
    ]
    chosen = columns.split(",") if columns else list(table.columns) if as_json else default
    missing = [c for c in chosen if c not in table.columns]
    if missing and len(table):
        raise ValueError(f"no column {missing[0]!r}; there are: {', '.join(table.columns)}")
    emit(table[[c for c in chosen if c in table.columns]], as_json)


def verify(
    study: SomeStudy = None,
    store: StoreOption = None,
    set_aside: Annotated[
        bool, typer.Option("--set-aside", help="Move corrupt files to quarantine/, so that submit trains them again.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Read every file in full: checksums, identities, completeness, and whether one code trained all runs of a study.

    Exit code 1 when something is wrong; runs of several versions of the code are only reported.
    """
    from algoprogress.results.probefile import KINDS

    there = open_store(store)
    problems = there.verify(study)
    if not len(problems) and not there.run_ids():
        emit(problems, as_json)
        note(f"no runs in {there.url} yet: `algoprogress submit demo` trains some")
        return
    if set_aside:
        for row in problems[problems["kind"] == "damaged"].drop_duplicates("file").to_dict("records"):
            folder = str(row["file"]).partition("/")[0]
            if folder == "runs":
                there.set_aside(str(row["run_id"]), str(row["problem"]))
            elif folder in KINDS:
                there.set_aside_probe(str(row["file"]), str(row["problem"]))
            else:
                continue
            note(f"set aside {row['file']}: {row['problem']}")
    emit(problems, as_json)
    if (problems["kind"] != "drift").any():
        raise typer.Exit(RUNS_FAILED)
    note(f"{there.url}: {len(there.run_ids())} runs, nothing wrong")


def compact(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Gather the runs' records and curves in an index, for fast reading. Safe to interrupt or delete."""
    there = open_store(store)
    if not there.run_ids():
        raise ValueError(f"no runs in {there.url}, so there is nothing to compact: check --store")
    emit({"store": there.url, "indexed": there.compact()}, as_json)


def copy(
    names: Annotated[list[str], typer.Argument(metavar="STUDY...", help="Studies in the store.")],
    to: Annotated[str, typer.Option(help="The other store: a folder or URL.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy studies, runs and probes into another store, such as one to publish. Safe to interrupt or repeat."""
    from algoprogress.results import Store
    from algoprogress.results.studies import study_run_ids

    there, other = open_store(store), Store(to)
    if there.url == other.url:
        raise ValueError(f"{to} is the store itself: give another with --to")
    stored = [there.study(name) for name in names]
    copied = []
    for study in stored:
        run_ids = [run_id for run_id in study_run_ids(study) if there.has(run_id)]
        new = sum(other.take(there, run_id) for run_id in run_ids)
        probes = other.take_probes(there, run_ids)
        other.save_study({key: value for key, value in study.items() if key != "schema_version"})
        copied.append({"study": study["name"], "runs": len(run_ids), "new": new, "new_probes": probes})
    emit(copied, as_json)
