"""Probes of a store: curvature measured of the weights of runs, one immutable file for each run, step and way.

spectra/<run_id>.<probe_id>.parquet      Lanczos quadratures of the blocks of a Hessian
sharpness/<run_id>.<probe_id>.parquet    sharpness along the updates of optimizers
unfinished/<probe_id>.<part>.parquet     parts of a long probe, from which it goes on; gone when it is whole
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from algoprogress.results import frames, probefile
from algoprogress.results.columns import PROBE_COLUMNS, Column
from algoprogress.results.files import Folder
from algoprogress.results.problems import Problem, Unreadable, problem, warn
from algoprogress.results.progress import now
from algoprogress.results.record import check_run_id

_NAME = re.compile(r"([0-9a-f]{20})\.([0-9a-f]{20})\.parquet")
_PART = re.compile(r"([0-9a-f]{20})\.(\d+)\.parquet")


class Place(NamedTuple):
    """Which probe a file is, by its name."""

    kind: str
    run_id: str
    probe_id: str

    @property
    def file(self) -> str:
        return f"{self.kind}/{check_run_id(self.run_id)}.{check_run_id(self.probe_id)}.parquet"


class Probes:
    """Probes of the store in `folder`."""

    folder: Folder
    study: Callable[[str], dict[str, Any]]

    def publish_probe(self, probe: Mapping[str, Any], rows: pd.DataFrame) -> bool:
        """Stores a probe for good; the first process wins. Its unfinished parts are no longer needed.

        Args:
            probe: as `probefile.encode` takes it.
            rows: the columns of its kind, as docs/schema.md says.

        Returns:
            False if it was there already, and nothing was written.

        Raises:
            ValueError: probe or rows do not fit the schema.
            StoreError: the store can not be written.
        """
        data = probefile.encode(probe, rows)
        which = probefile.probe_id(probe["kind"], probe["run_id"], probe["step"], probe["how"])
        first = self.folder.create(Place(probe["kind"], probe["run_id"], which).file, data)
        for name in self._parts(which).values():
            self.folder.remove(name)
        return first

    def has_probe(self, kind: str, run_id: str, step: int, how: Mapping[str, Any]) -> bool:
        """Whether that has been measured, be its file damaged or not."""
        return self.folder.exists(Place(kind, run_id, probefile.probe_id(kind, run_id, step, how)).file)

    def probe(self, kind: str, run_id: str, step: int, how: Mapping[str, Any]) -> tuple[dict[str, Any], pd.DataFrame]:
        """The record and the rows of one probe.

        Raises:
            ValueError: there is none, or its file is damaged.
        """
        place = Place(kind, run_id, probefile.probe_id(kind, run_id, step, how))
        try:
            return probefile.read(self.folder.read(place.file), kind, place.probe_id)
        except FileNotFoundError:
            raise ValueError(f"{self.folder.url} has no {kind} of run {run_id} at step {step} like that") from None
        except Unreadable as error:
            raise ValueError(
                f"{self.folder.url}/{place.file} can not be used: {error.problem}; {error.remedy}"
            ) from error

    def probe_places(self, kind: str, run_ids: Iterable[str] | None = None) -> list[Place]:
        """The probes of a kind, of all runs or of these; one listing, no file is read."""
        probefile.schema_of(kind)
        wanted = None if run_ids is None else set(run_ids)
        matches = (_NAME.fullmatch(entry.name) for entry in self.folder.entries(kind))
        found = [Place(kind, match[1], match[2]) for match in matches if match is not None]
        return [place for place in found if wanted is None or place.run_id in wanted]

    def spectra(self, study: str | None = None, run_ids: Iterable[str] | None = None) -> pd.DataFrame:
        """One row for each node of each quadrature, with the columns of docs/schema.md.

        Args:
            study: only of the runs of this study.
            run_ids: only of these runs.

        Returns:
            By run and step; how it was measured is in columns `how_...`. Damaged files are left out, each with a
            warning (CorruptRun), and listed in `.attrs["corrupt"]`.

        Raises:
            ValueError: the study is unknown.
        """
        return self._probes("spectra", study, run_ids)

    def sharpness(self, study: str | None = None, run_ids: Iterable[str] | None = None) -> pd.DataFrame:
        """One row for each update that was looked along; see `spectra`."""
        return self._probes("sharpness", study, run_ids)

    def _probes(self, kind: str, study: str | None, run_ids: Iterable[str] | None) -> pd.DataFrame:
        from algoprogress.results.studies import study_run_ids

        chosen = None if run_ids is None else {check_run_id(run_id) for run_id in run_ids}
        if study is not None:
            members = set(study_run_ids(self.study(study)))
            chosen = members if chosen is None else chosen & members
        problems: list[Problem] = []
        found = self.read_probes(self.probe_places(kind, chosen), problems)
        parts = [rows.assign(**_facts(record)) for record, rows in found]
        own = probefile.KINDS[kind]
        table = _together(parts, own) if parts else frames.table([], [*PROBE_COLUMNS, *_scalars(own)])
        table.attrs["corrupt"] = warn(problems)
        return table

    def read_probes(
        self, places: Iterable[Place], problems: list[Problem]
    ) -> list[tuple[dict[str, Any], pd.DataFrame]]:
        """(record, rows) of each, by run and step; those that are damaged go to `problems`."""
        found = []
        for place in places:
            try:
                found.append(probefile.read(self.folder.read(place.file), place.kind, place.probe_id))
            except FileNotFoundError:
                continue
            except Unreadable as error:
                problems.append(problem(place.run_id, place.file, error.problem, error.remedy))
        return sorted(found, key=lambda one: (one[0]["run_id"], one[0]["step"], one[0]["probe_id"]))

    def keep_part(self, kind: str, whole: str, part: int, rows: pd.DataFrame) -> None:
        """Keeps a part of a probe that is not whole yet: its rows, in the columns of its kind."""
        record = {"kind": kind, "run_id": whole, "step": part, "how": {}, "spec": {}, "loss": None, "seconds": None}
        self.folder.replace(_part_file(whole, part), probefile.encode(record, rows), durable=False)

    def part(self, kind: str, whole: str, part: int) -> pd.DataFrame | None:
        """A part that was kept; None if there is none that can be believed."""
        try:
            data = self.folder.read(_part_file(whole, part))
            return probefile.read(data, kind, probefile.probe_id(kind, whole, part, {}))[1]
        except (FileNotFoundError, Unreadable):
            return None

    def _parts(self, whole: str) -> dict[int, str]:
        names = (entry.name for entry in self.folder.entries("unfinished"))
        matches = (match for match in map(_PART.fullmatch, names) if match is not None)
        return {int(match[2]): f"unfinished/{match[0]}" for match in matches if match[1] == whole}

    def take_probes(self, other: Probes, run_ids: Iterable[str]) -> int:
        """Stores the probes of these runs in another store here, byte for byte. Returns how many were new."""
        taken = 0
        for kind in probefile.KINDS:
            for place in other.probe_places(kind, run_ids):
                data = other.folder.read(place.file)
                try:
                    probefile.read(data, kind, place.probe_id)
                except Unreadable as error:
                    what = f"{other.folder.url}/{place.file} can not be copied: {error.problem}; {error.remedy}"
                    raise ValueError(what) from error
                taken += self.folder.create(place.file, data)
        return taken

    def set_aside_probe(self, file: str, reason: str) -> None:
        """Moves a damaged probe to quarantine/, with a .txt that says why; it can then be measured again.

        Raises:
            ValueError: that is no probe's file.
        """
        kind, _, name = file.partition("/")
        if kind not in probefile.KINDS or _NAME.fullmatch(name) is None:
            raise ValueError(f"{file!r} is not the file of a probe: take it from the column file of `verify`")
        stem, kept = name.removesuffix(".parquet"), 1
        note = f"{now()} {file} was set aside: {reason}\n".encode()
        while not self.folder.create(f"quarantine/{stem}.{kept}.txt", note):
            kept += 1
        self.folder.move(file, f"quarantine/{stem}.{kept}.parquet")


def _part_file(whole: str, part: int) -> str:
    return f"unfinished/{check_run_id(whole)}.{part}.parquet"


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that are the same in all rows of a probe."""
    spec = record["spec"]
    named = {name: (spec.get(name) or {}).get("name") for name in ("architecture", "optimizer")}
    how = {f"how_{k}": ", ".join(map(str, v)) if isinstance(v, list) else v for k, v in record["how"].items()}
    facts = {"probe_loss": record["loss"], "probe_seconds": record["seconds"], "seed": spec.get("seed", 0)}
    return {"probe_id": record["probe_id"], "run_id": record["run_id"], "step": record["step"], **named, **facts, **how}


def _together(parts: list[pd.DataFrame], own: list[Column]) -> pd.DataFrame:
    table = pd.concat(parts, ignore_index=True)
    first = [column.name for column in [*PROBE_COLUMNS, *own]]
    return table[[*first, *sorted(set(table.columns) - set(first))]]


def _scalars(columns: list[Column]) -> list[Column]:
    return [column._replace(dtype="str") if column.dtype == "list" else column for column in columns]
