"""Is the store what was written? Every file read in full, every sum compared, every study counted."""

import json
import time
from typing import TYPE_CHECKING, Any

import pandas as pd

from algoprogress.results import frames, index, probefile, runfile
from algoprogress.results.columns import Column
from algoprogress.results.drift import drift
from algoprogress.results.files import Entry
from algoprogress.results.problems import Problem, Unreadable, problem
from algoprogress.results.processes import is_gone
from algoprogress.results.progress import seen_at
from algoprogress.results.studies import study_run_ids

if TYPE_CHECKING:
    from algoprogress.results.store import Store

COLUMNS = [
    Column("kind", "str", "", "damaged, missing, stray, left or drift; drift is worth knowing and no fault"),
    Column("run_id", "str", "", "The run; missing where the problem is not one run's"),
    Column("file", "str", "", "The file, relative to the store"),
    Column("problem", "str", "", "What is wrong"),
    Column("remedy", "str", "", "What to do"),
]
_MOVE = "move it out of that folder"
_CLEAN = "`algoprogress submit` removes what dead processes left"
# Of a process on another host nothing is known but its files; after an hour without a word it is worth a look.
_SILENT_SECONDS = 3600


def verify(store: "Store", study: str | None = None) -> pd.DataFrame:
    """What is wrong with a store, one row per problem; no row when all is well.

    Args:
        store: The store.
        study: Look only at this study's runs and at whether it is complete.

    Returns:
        Columns kind, run_id, file, problem, remedy.
    """
    damaged: list[Problem] = []
    files = store.run_files()
    studies = list(store.readable_studies(damaged)) if study is None else [store.study(study)]
    if study is not None:
        files = {run_id: files[run_id] for run_id in study_run_ids(studies[0]) if run_id in files}
    records = _read_all(store, files, damaged)
    places = [place for kind in probefile.KINDS for place in store.probe_places(kind, None if study is None else files)]
    store.read_probes(places, damaged)
    found = [("damaged", damaged)]
    found += [("missing", _missing_runs(store, one, files)) for one in studies]
    if study is None:
        found += [("stray", _strays(store, files)), ("left", _left_behind(store))]
    found += [("drift", _drift(one, records)) for one in studies]
    return frames.table([{"kind": kind, **row} for kind, rows in found for row in rows], COLUMNS)


def _read_all(store: "Store", files: dict[str, Entry], problems: list[Problem]) -> dict[str, dict[str, Any]]:
    """Run id -> record of every run that is whole."""
    sums = store.from_index(index.file_sums, files, problems)

    def read(data: bytes, run_id: str) -> dict[str, Any]:
        row = runfile.read_index_row(data, run_id)
        if run_id in sums and runfile.sha256(data) != sums[run_id]:
            raise Unreadable("its bytes are not those that were indexed, though record and curve are whole")
        record: dict[str, Any] = json.loads(row["record"])
        return record

    return store.from_files(files, read, problems)


def _drift(study: dict, records: dict[str, dict[str, Any]]) -> list[Problem]:
    ours = [records[run_id] for run_id in study_run_ids(study) if run_id in records]
    return [problem(None, f"studies/{study['name']}.json", what, remedy) for what, remedy in drift(ours)]


def _missing_runs(store: "Store", study: dict, files: dict[str, Entry]) -> list[Problem]:
    expected = study_run_ids(study)
    missing = [run_id for run_id in expected if run_id not in files]
    if not missing:
        return []
    failed = sum(1 for run_id in missing if store.folder.entries(f"failures/{run_id}"))
    what = f"{len(missing)} of {len(expected)} runs are missing, {failed} of them after a failure: "
    what += ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
    remedy = f"run `algoprogress submit {study['name']}`; only missing runs are trained"
    return [problem(None, f"studies/{study['name']}.json", what, remedy)]


def _strays(store: "Store", files: dict[str, Entry]) -> list[Problem]:
    counted = {entry.name for entry in files.values()}
    names = (f"runs/{entry.name}" for entry in store.folder.entries("runs") if entry.name not in counted)
    found = [problem(None, name, "it is not named as a run's file, so no reader counts it", _MOVE) for name in names]
    for kind in probefile.KINDS:
        ours = {place.file for place in store.probe_places(kind)}
        names = (f"{kind}/{entry.name}" for entry in store.folder.entries(kind))
        what = "it is not named as a probe's file, so no reader counts it"
        found += [problem(None, name, what, _MOVE) for name in names if name not in ours]
    return found


def _left_behind(store: "Store") -> list[Problem]:
    """Temporary files, claims and submits of processes that have ended, or that have been silent for long."""
    problems = []
    for name, host, mark, written in store.folder.leftovers():
        if is_gone(host, mark):
            problems.append(problem(None, name, "a temporary file left by a process that has ended", _CLEAN))
        elif time.time() - written > _SILENT_SECONDS:
            what = f"a temporary file of a process on {host}, older than an hour"
            problems.append(problem(None, name, what, f"{_CLEAN} on {host}, or delete the file if that host is gone"))
    for what, table in (("claim", store.active()), ("submit", store.submits())):
        for name, row in zip(table.attrs["names"], table.to_dict("records"), strict=True):
            run_id = row["run_id"] if what == "claim" else None
            if row["stale"]:
                problems.append(problem(run_id, name, f"the {what} of process {row['pid']}, which has ended", _CLEAN))
            elif time.time() - (seen_at(row) or 0.0) > _SILENT_SECONDS:
                said = f"no heartbeat from process {row['pid']} on {row['host']} since {row['at']}"
                problems.append(problem(run_id, name, said, "see whether it still works; if not, delete the file"))
    return problems
