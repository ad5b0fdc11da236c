"""What a store says of its studies and runs, from files alone: no Ray, no torch, no study code."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from algoprogress.pipeline.failures import verdict
from algoprogress.results import Store
from algoprogress.results.studies import study_run_ids

# Seconds without a heartbeat after which a run on another machine is not shown as running. No process waits for this:
# it compares two machines' clocks, which a claim never does, and so it is longer than clocks are wrong by.
SILENT = 3600.0


class Status:
    """Counts that are kept between two looks: a finished run never changes, so its file is read once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._runs: dict[str, tuple[str, float, float]] = {}  # of finished runs: status, FLOP, seconds

    def rows(self, study: str | None = None) -> list[dict[str, Any]]:
        """One row per (study, arm), and after them one for the study, whose arm is None, with each run counted once.

        Columns: counts of runs by state; compute_done in FLOP; tokens_per_second of what is in training; hours that
        workers have spent, failed attempts included; seconds_left at the present speed and submits at work (both of the
        whole study; None where unknown).
        """
        stored = [self.store.study(name) for name in ([study] if study is not None else self.store.studies())]
        self._learn({run_id for found in stored for run_id in study_run_ids(found)})
        active = {str(row["run_id"]): row for row in self.store.active().to_dict("records")}
        for beat in active.values():
            beat["stale"] = bool(beat["stale"]) or _silence(beat) > SILENT
        failures: dict[str, list[dict[Any, Any]]] = {}
        for failure in self.store.failures().to_dict("records"):
            failures.setdefault(failure["run_id"], []).append(failure)
        submitting = self.store.submits()
        rows = []
        for found in stored:
            cost = {e["run_id"]: _cost(e) for entries in found["arms"].values() for e in entries}
            alive = submitting[(submitting["study"] == found["name"]) & ~submitting["stale"]]
            at_work = len(alive) > 0
            for arm, entries in found["arms"].items():
                counted = self._count(_ids(entries), active, failures, at_work)
                rows.append({"study": found["name"], "arm": arm} | counted)
            whole = self._count(study_run_ids(found), active, failures, at_work)
            whole["seconds_left"] = self._seconds_left(cost, active)
            rows.append({"study": found["name"], "arm": None} | whole | {"submits": len(alive)})
        return rows

    def _learn(self, run_ids: set[str]) -> None:
        new = run_ids - self._runs.keys()
        if new:
            table = self.store.outcomes(new).fillna({"compute": 0.0, "wall_seconds": 0.0})
            columns = (table[name].tolist() for name in ("run_id", "status", "compute", "wall_seconds"))
            run_ids, *facts = columns
            self._runs.update(zip(run_ids, zip(*facts, strict=True), strict=True))

    def _count(
        self,
        ids: list[str],
        active: dict[str, dict[Any, Any]],
        failures: dict[str, list[dict[Any, Any]]],
        at_work: bool,
    ) -> dict[str, Any]:
        done, diverged, compute, spent = 0, 0, 0.0, 0.0
        open_ = []
        for run_id in ids:  # one pass: there may be a hundred thousand
            found = self._runs.get(run_id)
            if found is None:
                open_.append(run_id)
                continue
            status, flop, seconds = found
            done += 1
            diverged += status == "diverged"
            compute += flop
            spent += seconds
        running = [run_id for run_id in open_ if run_id in active and not active[run_id]["stale"]]
        failed = [
            run_id
            for run_id in open_
            if run_id in failures and run_id not in running and not (at_work and _tried_again(failures[run_id]))
        ]
        if failures:
            spent += sum(_number(failure["seconds"]) for run_id in ids for failure in failures.get(run_id, ()))
        spent += sum(_elapsed(active[run_id]) for run_id in running)
        return {
            "runs": len(ids),
            "done": done - diverged,
            "diverged": diverged,
            "running": len(running),
            "failed": len(failed),
            "to_do": len(open_) - len(running) - len(failed),
            "compute_done": compute,
            "tokens_per_second": sum(_number(active[run_id].get("tokens_per_second")) for run_id in running),
            "hours": spent / 3600,
            "seconds_left": None,
            "submits": None,
        }

    def _seconds_left(self, cost: dict[str, float | None], active: dict[str, dict[Any, Any]]) -> float | None:
        """What is left of the compute, by the compute per second of what is in training."""
        left, speed = 0.0, 0.0
        for run_id, compute in cost.items():
            if run_id in self._runs:
                continue
            if compute is None:
                return None
            beat = active.get(run_id, {})
            step, steps, tokens = (_number(beat.get(key)) for key in ("step", "steps", "tokens"))
            left += compute * (1 - step / steps if steps else 1.0)
            if step and tokens:
                speed += compute * _number(beat.get("tokens_per_second")) / (tokens * steps / step)
        return 0.0 if not left else left / speed if speed else None


def status(store: Store, study: str | None = None) -> list[dict[str, Any]]:
    """What `Status.rows` says, once."""
    return Status(store).rows(study)


def _ids(entries: Iterable[dict[str, Any]]) -> list[str]:
    return [entry["run_id"] for entry in entries]


def _cost(entry: dict[str, Any]) -> float | None:
    """FLOP of a run that is perhaps not there yet, as its study says."""
    return entry.get("compute") or entry.get("compute_budget")


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0


def _tried_again(failures: list[dict[Any, Any]]) -> bool:
    """Whether a submit that is at work trains the run again by itself."""
    return verdict(failures, rows=2**31).again


def _silence(beat: dict[Any, Any]) -> float:
    """Seconds since a heartbeat, by two clocks; 0 where it does not say."""
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(beat["at"])).total_seconds()
    except (TypeError, ValueError):
        return 0.0


def _elapsed(beat: dict[Any, Any]) -> float:
    """Seconds of an attempt so far; both times are its own host's."""
    try:
        began, now = (datetime.fromisoformat(beat[key]) for key in ("started_at", "at"))
    except (TypeError, ValueError):
        return 0.0
    return max(0.0, (now - began).total_seconds())


def history(store: Store, run: str) -> dict[str, Any]:
    """All that is known of one run: where it belongs, record, curve, claim and failed attempts.

    Raises:
        ValueError: no run, or several, begin with what was given.
    """
    failures = store.failures()
    active = {str(row["run_id"]): row for row in store.active().to_dict("records")}
    kept = store.run_ids()
    places: dict[str, list[dict[str, str]]] = {}
    for study in store.readable_studies([]):
        for arm, entries in study["arms"].items():
            for run_id in _ids(entries):
                places.setdefault(run_id, []).append({"study": study["name"], "arm": arm})
    known = kept | set(active) | set(failures.get("run_id", [])) | set(places)
    found = sorted(run_id for run_id in known if run_id.startswith(run))
    if len(found) != 1:
        several = (
            f"{len(found)} runs begin with {run!r}: give more digits" if found else f"no run {run!r} in {store.url}"
        )
        raise ValueError(f"{several}; `algoprogress runs` lists them")
    run_id = found[0]
    mine = failures[failures.run_id == run_id].to_dict("records") if len(failures) else []
    return {
        "run_id": run_id,
        "places": places.get(run_id, []),
        "record": store.record(run_id) if run_id in kept else None,
        "curve": store.curves(run_ids=[run_id]).to_dict("records") if run_id in kept else [],
        "active": active.get(run_id),
        "failures": mine,
    }
