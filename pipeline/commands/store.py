"""Commands on what is kept: status, logs, runs, verify, compact."""

from __future__ import annotations

import json
from typing import Annotated

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
    as_json: JsonOption = False,
) -> None:
    """Count the runs of each study and arm: done, diverged, running, failed, to do. From files alone."""
    from algoprogress.pipeline.status import status as count

    there = open_store(store)
    rows = count(there, study)
    if not rows and not as_json:
        note(f"no study in {there.url} yet: `algoprogress submit demo` trains one")
        return
    emit(rows, as_json)


def logs(
    run: Annotated[str, typer.Argument(help="A run_id, or the beginning of one.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is known of one run: its record and curve, or how it failed."""
    from algoprogress.pipeline.status import history

    found = history(open_store(store), run)
    if as_json:
        emit(found, True)
        return
    for failure in found["failures"]:
        print(
            f"attempt {failure['attempt']} on {failure.get('host')} at {failure.get('at')}: "
            f"{failure['class']}: {failure['message']}"
        )
        print(failure.get("traceback") or "")
    if found["active"]:
        print(f"in training: {found['active']}")
    if found["record"]:
        for key, value in found["record"].items():
            print(f"{key:<20} {json.dumps(value) if isinstance(value, dict) else value}")
        print()
        emit(found["curve"], False)


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
    """Read every file in full: checksums, identities, completeness. Exit code 1 when something is wrong."""
    there = open_store(store)
    problems = there.verify(study)
    if not len(problems) and not there.run_ids():
        emit(problems, as_json)
        note(f"no runs in {there.url} yet: `algoprogress submit demo` trains some")
        return
    if set_aside:
        corrupt = problems[problems.file.str.startswith("runs/")] if len(problems) else problems
        for row in corrupt.drop_duplicates("file").to_dict("records"):
            there.set_aside(str(row["run_id"]), str(row["problem"]))
            note(f"set aside {row['file']}: {row['problem']}")
    emit(problems, as_json)
    if len(problems):
        raise typer.Exit(RUNS_FAILED)
    note(f"{there.url}: {len(there.run_ids())} runs, nothing wrong")


def compact(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Gather the runs' records and curves in an index, for fast reading. Safe to interrupt or delete."""
    there = open_store(store)
    if not there.run_ids():
        raise ValueError(f"no runs in {there.url}, so there is nothing to compact: check --store")
    emit({"store": there.url, "indexed": there.compact()}, as_json)
