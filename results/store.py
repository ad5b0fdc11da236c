"""The store: what was trained, kept so that any table can be made again without training, torch or Ray.

A store is a folder or a fsspec URL:

    runs/<run_id>.parquet               one immutable file per run: curve as rows, record in the footer
    studies/<name>.json                 a study's arms and baseline, and which runs belong to them
    spectra/, sharpness/                curvature of the weights of runs: see `probes`
    failures/<run_id>/<attempt>.json    why an attempt failed
    active/<run_id>.<generation>.json   who trains a run, and how far it has come
    submits/<driver>.json               who submits a study
    index/                              a copy for fast reading, deletable at any time
    quarantine/                         damaged files that were set aside, each with a .txt that says why
    checkpoints/<run_id>.safetensors    where a long run in training can go on
"""

import functools
import gc
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from algoprogress.results import flat, frames, index, progress, runfile, studies
from algoprogress.results.files import Entry, StoreError, open_folder
from algoprogress.results.journal import Journal
from algoprogress.results.probes import Probes
from algoprogress.results.problems import CorruptRun, Problem, UnknownRun, Unreadable, problem, warn
from algoprogress.results.record import STATUSES, check_run_id, row
from algoprogress.results.runfile import Curve
from algoprogress.results.verify import verify

__all__ = ["CorruptRun", "Store", "StoreError", "UnknownRun"]

DEFAULT_URL = "results/data"
_READERS = 8  # files read at once: hides the latency of network storage, which one thread would wait for
_BATCH = 64
_PACKED = 4096  # records that are turned into a table at a time
_FEW = 256  # that many curves are read sooner from their own files than from an index of thousands
_PROBE_BYTES = 1 << 20  # room for a few dozen runs' files
_FILE = re.compile(r"[0-9a-f]{20}\.parquet")
P = ParamSpec("P")
T = TypeVar("T")


def uncollected(read: Callable[P, T]) -> Callable[P, T]:
    """Without looking for garbage meanwhile: of 100,000 runs a million objects are made and kept, and each look goes
    through all of them."""

    @functools.wraps(read)
    def reading(*args: P.args, **kwargs: P.kwargs) -> T:
        before = gc.isenabled()
        gc.disable()
        try:
            return read(*args, **kwargs)
        finally:
            if before:
                gc.enable()

    return reading


class Store(Journal, Probes):
    """Runs, studies and probes as DataFrames. Any number of processes may read and publish at once.

    Args:
        url: A folder, or a URL that fsspec can open. Without it, $ALGOPROGRESS_STORE, or else results/data.
    """

    def __init__(self, url: str | Path | None = None):
        self.folder = open_folder(url or os.environ.get("ALGOPROGRESS_STORE") or DEFAULT_URL)

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    @property
    def url(self) -> str:
        """Where the store is: an absolute path, or the URL."""
        return self.folder.url

    def publish(self, record: dict[str, Any], curve: pd.DataFrame) -> bool:
        """Stores a finished run, for good. The first process to publish a run wins.

        Args:
            record: The run's record, as docs/schema.md says.
            curve: Its training curve, one row per logged step.

        Returns:
            False if the run was already there, and nothing was written.

        Raises:
            ValueError: If the record or the curve does not fit the schema.
            StoreError: If the store can not be written. Nothing half-written is left.
        """
        data = runfile.encode(record, curve)
        return self.folder.create(_run_file(record["run_id"]), data)

    def take(self, other: "Store", run_id: str) -> bool:
        """Stores a run of another store, byte for byte. False if it is here already.

        Raises:
            StoreError: If the file there is damaged, or this store can not be written.
        """
        other.record(run_id)
        return self.folder.create(_run_file(run_id), other.folder.read(_run_file(run_id)))

    def has(self, run_id: str) -> bool:
        """Whether a run is stored, be it damaged or not."""
        return self.folder.exists(_run_file(run_id))

    def run_ids(self) -> set[str]:
        """The ids of all stored runs, damaged ones included."""
        return set(self.run_files())

    def run_files(self) -> dict[str, Entry]:
        """Run id -> the listing of its file."""
        match = _FILE.fullmatch
        return {entry[0][:20]: entry for entry in self.folder.entries("runs") if match(entry[0])}

    def record(self, run_id: str) -> dict[str, Any]:
        """The record of one run. Raises UnknownRun (a KeyError) if there is none, StoreError if its file is damaged."""
        name = _run_file(run_id)
        try:
            return runfile.read_record(self.folder.read(name), run_id)
        except FileNotFoundError as error:
            raise UnknownRun(
                f"The store {self.url} has no run {run_id}: submit its study, or look elsewhere with --store."
            ) from error
        except Unreadable as error:
            raise StoreError(f"{self.url}/{name} can not be used: {error.problem}; {error.remedy}.") from error

    @uncollected
    def runs(self, study: str | None = None, status: str | None = "done") -> pd.DataFrame:
        """One row per (study, arm, run), with the columns of docs/schema.md.

        Args:
            study: One study. Without it, every study, and after them the runs that belong to none.
            status: "done", "diverged", or None for both.

        Returns:
            Studies by name, arms in their study's order, then by compute_budget and compute. Damaged files are left
            out, each with a warning (CorruptRun), and listed in `.attrs["corrupt"]`.

        Raises:
            ValueError: If the study or the status is unknown.
        """
        if status is not None and status not in STATUSES:
            raise ValueError(f"status must be one of {', '.join(STATUSES)}, or None for all; it is {status!r}.")
        problems: list[Problem] = []
        found = list(self.readable_studies(problems)) if study is None else [self.study(study)]
        rows = self._rows(None if study is None else set(studies.study_run_ids(found[0])), problems)
        if status is not None and len(rows):
            asked = pc.equal(rows.column("str:status"), status)
            rows = rows if pc.all(asked).as_py() else rows.filter(asked)
        table = frames.runs_table(flat.frame(rows, frames.FACTS), found, with_loose=study is None)
        table.attrs["corrupt"] = warn(problems)
        return table

    def curves(self, study: str | None = None, run_ids: Iterable[str] | None = None) -> pd.DataFrame:
        """The training curves: run_id and the curve's columns, one row per logged step.

        Args:
            study: Only the runs of this study, in its order.
            run_ids: Only these runs, in this order.

        Returns:
            Damaged files are left out, each with a warning (CorruptRun), and listed in `.attrs["corrupt"]`.

        Raises:
            ValueError: If the study is unknown.
            UnknownRun: If one of `run_ids` is not in the store.
        """
        files = self.run_files()
        order = list(files)
        if run_ids is not None:
            order = [check_run_id(run_id) for run_id in run_ids]
            if absent := [run_id for run_id in order if run_id not in files]:
                raise UnknownRun(
                    f"The store {self.url} has no run {', '.join(absent[:5])}: look at its runs with Store.runs()."
                )
        if study is not None:
            members = studies.study_run_ids(self.study(study))
            order = members if run_ids is None else [run_id for run_id in order if run_id in set(members)]
        wanted = {run_id: files[run_id] for run_id in order if run_id in files}
        problems: list[Problem] = []
        found: dict[str, Curve] = self.from_index(index.curves, wanted, problems) if len(wanted) > _FEW else {}
        found |= self.from_files(wanted.keys() - found.keys(), runfile.read_curve, problems)
        table = frames.curves_table({run_id: found[run_id] for run_id in wanted if run_id in found})
        table.attrs["corrupt"] = warn(problems)
        return table

    def records(self, run_ids: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
        """Run id -> record, of all runs or of those of `run_ids` that are stored. Damaged ones are left out and warned
        of."""
        problems: list[Problem] = []
        found = self._records(None if run_ids is None else {check_run_id(run_id) for run_id in run_ids}, problems)
        warn(problems)
        return found

    def _records(self, run_ids: set[str] | None, problems: list[Problem]) -> dict[str, dict[str, Any]]:
        files = self._files(run_ids)
        found = self.from_index(index.records, files, problems)
        return found | self.from_files(files.keys() - found.keys(), runfile.read_record, problems)

    @uncollected
    def everything(self) -> tuple[pd.DataFrame, dict[str, dict[str, Any]], dict[str, Curve]]:
        """All runs of every status, their records, and their curves, each file read once.

        Returns:
            As `runs(status=None)` and `records()`; and run id -> column of its curve -> its numbers. What is damaged is
            left out, each with a warning (CorruptRun).
        """
        problems: list[Problem] = []
        files = self.run_files()
        records = self.from_index(index.records, files, problems)
        curves: dict[str, Curve] = self.from_index(index.curves, files, problems)
        both = self.from_files(files.keys() - (records.keys() & curves.keys()), runfile.read_run, problems)
        records |= {run_id: record for run_id, (record, _) in both.items()}
        curves |= {run_id: curve for run_id, (_, curve) in both.items()}
        records |= self.from_files(files.keys() - records.keys(), runfile.read_record, [])  # a curve alone is damaged
        ordered = sorted(records)
        rows = flat.pack([row(records[run_id]) for run_id in ordered])
        found = list(self.readable_studies(problems))
        table = frames.runs_table(flat.frame(rows, frames.FACTS), found, with_loose=True)
        table.attrs["corrupt"] = warn(problems)
        return table, {run_id: records[run_id] for run_id in ordered}, {r: curves[r] for r in ordered if r in curves}

    @uncollected
    def outcomes(self, run_ids: Iterable[str]) -> pd.DataFrame:
        """Of those of these runs that are stored and whole: run_id, status, compute and wall_seconds."""
        problems: list[Problem] = []
        rows = self._rows(set(run_ids), problems)
        warn(problems)
        wanted = ("run_id", "status", "compute", "wall_seconds")
        columns = [column for column in frames.FACTS if column.name in wanted]
        return flat.frame(rows, columns, only=True)[list(wanted)]

    def _rows(self, run_ids: set[str] | None, problems: list[Problem]) -> pa.Table:
        """A row of facts for each run, by run_id; of all runs or of those of `run_ids` that are stored."""
        files = self._files(run_ids)
        try:
            known = index.facts(self.folder, files)
        except Unreadable as error:
            problems.append(problem(None, "index/", error.problem, error.remedy))
            known = flat.pack([])
        there = set(known.column("str:run_id").to_pylist()) if len(known) else set()
        fresh = self.from_files(files.keys() - there, runfile.read_record, problems)
        if not fresh:
            return known
        ordered = sorted(fresh)
        groups = (ordered[i : i + _PACKED] for i in range(0, len(ordered), _PACKED))
        rows = flat.join([known, *(flat.pack([row(fresh.pop(run_id)) for run_id in group]) for group in groups)])
        return rows.sort_by("str:run_id") if there else rows

    def _files(self, run_ids: set[str] | None) -> dict[str, Entry]:
        files = self.run_files()
        if run_ids is None:
            return files
        return {run_id: files[run_id] for run_id in files if run_id in run_ids}

    def from_index(
        self, read: Callable[..., dict[str, T]], files: dict[str, Entry], problems: list[Problem]
    ) -> dict[str, T]:
        """What `read` finds in the index; if that is damaged, nothing and a line in `problems`."""
        try:
            return read(self.folder, files)
        except Unreadable as error:
            problems.append(problem(None, "index/", error.problem, error.remedy))
            return {}

    def from_files(
        self, run_ids: Iterable[str], read: Callable[[bytes, str], T], problems: list[Problem]
    ) -> dict[str, T]:
        """Run id -> what `read` makes of the run's file. Damaged ones go to `problems`, removed ones are skipped."""

        def read_batch(batch: list[str]) -> list[tuple[str, T | Unreadable]]:
            results: list[tuple[str, T | Unreadable]] = []
            for run_id in batch:
                try:
                    results.append((run_id, read(self.folder.read(_run_file(run_id)), run_id)))
                except FileNotFoundError:
                    continue
                except Unreadable as error:
                    results.append((run_id, error))
                except StoreError as error:
                    results.append((run_id, Unreadable(str(error).rstrip("."), "see that the file can be read")))
            return results

        found: dict[str, T] = {}
        ordered = sorted(run_ids)
        with ThreadPoolExecutor(_READERS) as readers:
            batches = readers.map(read_batch, (ordered[i : i + _BATCH] for i in range(0, len(ordered), _BATCH)))
            for run_id, result in (pair for batch in batches for pair in batch):
                if isinstance(result, Unreadable):
                    problems.append(problem(run_id, _run_file(run_id), result.problem, result.remedy))
                else:
                    found[run_id] = result
        return found

    def save_study(self, study: dict[str, Any]) -> None:
        """Stores a study's arms and baseline, replacing an earlier version in one step.

        Args:
            study: name, baseline and arms (arm -> list of {"run_id", "compute_budget"}), and what else describes it.

        Raises:
            ValueError: If the name, a run id or the baseline is not valid.
            StoreError: If the store can not be written. The earlier version is then left as it was.
        """
        data = studies.encode(study)
        self.folder.replace(_study_file(study["name"]), data)

    def study(self, name: str) -> dict[str, Any]:
        """A study as stored. Raises ValueError, listing those there are, if it is unknown."""
        file = _study_file(name)
        try:
            return studies.parse(self.folder.read(file), name)
        except FileNotFoundError as error:
            known = ", ".join(self.studies()) or "none yet"
            raise ValueError(
                f"The store {self.url} has no study {name!r} (known: {known}): run `algoprogress submit {name}` first, "
                "or choose another store with --store."
            ) from error
        except Unreadable as error:
            raise StoreError(f"{self.url}/{file} can not be used: {error.problem}; {error.remedy}.") from error

    def studies(self) -> list[str]:
        """The names of the stored studies, sorted."""
        files = (entry.name for entry in self.folder.entries("studies") if entry.name.endswith(".json"))
        return sorted(filter(studies.is_study_name, (name.removesuffix(".json") for name in files)))

    def readable_studies(self, problems: list[Problem]) -> Iterator[dict[str, Any]]:
        """Every study as stored; those that are damaged go to `problems` instead."""
        for name in self.studies():
            try:
                yield studies.parse(self.folder.read(_study_file(name)), name)
            except FileNotFoundError:
                continue
            except Unreadable as error:
                problems.append(problem(None, _study_file(name), error.problem, error.remedy))

    def verify(self, study: str | None = None) -> pd.DataFrame:
        """Reads every file in full and compares every sum. One row per problem: run_id, file, problem, remedy."""
        return verify(self, study)

    def set_aside(self, run_id: str, reason: str) -> None:
        """Moves a run's file to quarantine/, with a .txt that says why; the run can then be trained again."""
        source = _run_file(run_id)
        if not self.folder.exists(source):
            raise UnknownRun(f"The store {self.url} has no run {run_id} to set aside.")
        note = f"{progress.now()} {source} was set aside: {reason}\n".encode()
        kept = 1
        while not self.folder.create(f"quarantine/{run_id}.{kept}.txt", note):
            kept += 1
        self.folder.move(source, f"quarantine/{run_id}.{kept}.parquet")

    def compact(self) -> int:
        """Makes the index of all undamaged runs anew. Returns how many there are in it."""
        problems: list[Problem] = []

        def read_rows(run_ids: list[str]) -> Iterable[dict[str, Any]]:
            return self.from_files(run_ids, runfile.read_index_row, problems).values()

        count = index.write(self.folder, self.run_files(), read_rows)
        warn(problems)
        return count

    def writable(self) -> None:
        """Raises StoreError, naming the path and what to do, when the store can not be written."""
        self.folder.probe(os.urandom(_PROBE_BYTES))


def _run_file(run_id: str) -> str:
    return f"runs/{check_run_id(run_id)}.parquet"


def _study_file(name: str) -> str:
    return f"studies/{studies.check_study_name(name)}.json"
