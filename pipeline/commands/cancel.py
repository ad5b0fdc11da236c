"""Stop a submit, or one run of it, from anywhere that sees the store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from algoprogress.pipeline.output import RUNS_FAILED, JsonOption, StoreOption, emit, note, open_store

if TYPE_CHECKING:
    from algoprogress.results import Store


def cancel(
    target: Annotated[str, typer.Argument(help="A study, or a run by its run_id or the beginning of one.")],
    store: StoreOption = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the submits to obey.")] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Stop the submits of a study, or one run. What is finished stays; a stopped study goes on when submitted again."""
    from algoprogress.results import submits

    there = open_store(store)
    run_id, drivers = _find(there, target)
    requests = {submits.ask_to_stop(there.folder, d, None if run_id is None else [run_id]): d for d in drivers}
    deadline = time.monotonic() + wait
    while (open_ := [name for name in requests if there.folder.exists(name)]) and time.monotonic() < deadline:
        time.sleep(0.2)
    silent = [requests[name] for name in open_]
    emit({"cancelled": run_id or target, "submits": drivers, "silent": silent}, as_json)
    if silent:
        note(
            f"{', '.join(silent)} did not answer within {wait:g} s; a submit that trains in its own process (inline) "
            "stops after the run that it is at, and a dead one is swept away by the next submit"
        )
        raise typer.Exit(RUNS_FAILED)


def _find(store: Store, target: str) -> tuple[str | None, list[str]]:
    """(run id, or None for a whole study, and the submits that may be at it)."""
    from algoprogress.pipeline.status import history

    table = store.submits()
    alive = table[~table["stale"]]
    if target in store.studies() or target in set(alive["study"]):
        run_id, drivers = None, alive.loc[alive["study"] == target, "driver"]
    else:
        found = history(store, target)
        if found["record"] is not None:
            raise ValueError(f"run {found['run_id']} is finished: there is nothing to cancel")
        run_id = found["run_id"]
        drivers = alive.loc[alive["study"].isin([place["study"] for place in found["places"]]), "driver"]
    if drivers.empty:
        raise ValueError(f"no submit is at work on {target} in {store.url}, so there is nothing to cancel")
    return run_id, [str(driver) for driver in drivers]
