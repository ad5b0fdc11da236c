"""What goes on around the runs of a store: who trains which, who submits, and why attempts failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from algoprogress.results import claims, frames, progress, submits
from algoprogress.results.columns import Column
from algoprogress.results.files import Folder
from algoprogress.results.problems import Problem, Unreadable, problem, warn
from algoprogress.results.processes import host_name, is_gone
from algoprogress.results.record import check_run_id, is_run_id


class Journal:
    """Claims, submits and failures of the store in `folder`."""

    folder: Folder

    def claim(self, run_id: str, about: Mapping[str, Any], over: int = 0) -> claims.Claim | None:
        """Claims a run for this process, as `claims.take` does; None when somebody else has it."""
        return claims.take(self.folder, run_id, about, over)

    def claims(self) -> dict[str, claims.Held]:
        """Run id -> the newest claim on it. One listing, no file is read."""
        return claims.held(self.folder)

    def active(self) -> pd.DataFrame:
        """One row per claimed run, by its heartbeat; `stale` marks those whose process is known to have ended."""
        newest = {claims.path(claim.run_id, claim.generation): claim for claim in self.claims().values()}
        table = self._facts(list(newest), progress.ACTIVE_COLUMNS)
        # what a file says of itself is not believed: its name is what was listed
        table["run_id"] = pd.Series([newest[name].run_id for name in table.attrs["names"]], dtype=frames.TEXT)
        return self._with_stale(table)

    def retire(self, run_id: str, driver: str | None = None) -> None:
        """Removes the claim on a run, whose process is known to be dead; with `driver`, only if that submit sent it."""
        claim = self.claims().get(check_run_id(run_id))
        if claim is None:
            return
        if driver is None or (claims.facts(self.folder, claim) or {}).get("driver") == driver:
            self.folder.remove(claims.path(run_id, claim.generation))

    def submits(self) -> pd.DataFrame:
        """One row per submit at work; `stale` marks those whose process is known to have ended."""
        return self._with_stale(self._facts(submits.names(self.folder), progress.SUBMIT_COLUMNS))

    def record_failure(self, run_id: str, failure: dict[str, Any]) -> int:
        """Keeps why an attempt failed: class, message, traceback, host, log. Returns its number, from 1."""
        folder = f"failures/{check_run_id(run_id)}"
        facts = {"host": host_name(), "at": progress.now(), **failure, "run_id": run_id}
        attempt = 1 + self.failed_attempts(run_id)
        while not self.folder.create(f"{folder}/{attempt}.json", progress.encode({**facts, "attempt": attempt})):
            attempt += 1
        return attempt

    def failed_attempts(self, run_id: str) -> int:
        """The number of the run's last attempt that failed; 0 if none did."""
        entries = self.folder.entries(f"failures/{check_run_id(run_id)}")
        return max((progress.attempt(entry.name) for entry in entries), default=0)

    def failures(self, run_id: str | None = None) -> pd.DataFrame:
        """One row per failed attempt, of one run or of all."""
        run_ids = [check_run_id(run_id)] if run_id is not None else filter(is_run_id, self.folder.folders("failures"))
        names = []
        for folder in (f"failures/{found}" for found in run_ids):
            attempts = filter(progress.attempt, (entry.name for entry in self.folder.entries(folder)))
            names += [f"{folder}/{name}" for name in sorted(attempts, key=progress.attempt)]
        return self._facts(names, progress.FAILURE_COLUMNS)

    def clean(self) -> list[str]:
        """Removes what nobody needs: temporary files, claims and submits that dead processes of this host left, and
        checkpoints of runs that are stored. Returns their names.
        """
        removed = [name for name, host, mark, _ in self.folder.leftovers() if is_gone(host, mark)]
        for table in (self.active(), self.submits()):
            removed += [name for name, stale in zip(table.attrs["names"], table["stale"], strict=True) if stale]
        removed += submits.orphans(self.folder, removed)
        for entry in self.folder.entries("checkpoints"):
            if self.folder.exists(f"runs/{entry.name.partition('.')[0]}.parquet"):
                removed.append(f"checkpoints/{entry.name}")
        for name in removed:
            self.folder.remove(name)
        return removed

    @staticmethod
    def _with_stale(table: pd.DataFrame) -> pd.DataFrame:
        table["stale"] = pd.Series([progress.is_stale(beat) for beat in table.to_dict("records")], dtype=bool)
        return table

    def _facts(self, names: list[str], columns: list[Column]) -> pd.DataFrame:
        rows, found, problems = [], list[str](), list[Problem]()
        for name in names:
            try:
                rows.append(progress.parse(self.folder.read(name), columns))
                found.append(name)
            except FileNotFoundError:
                continue
            except Unreadable as error:
                problems.append(problem(None, name, error.problem, error.remedy))
        table = frames.table(rows, columns)
        table.attrs["corrupt"] = warn(problems)
        table.attrs["names"] = found
        return table
