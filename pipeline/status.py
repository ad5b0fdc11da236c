"""What a store says of its studies and runs, from files alone: no Ray, no torch, no study code."""

from __future__ import annotations

from typing import Any

from algoprogress.results import Store


def status(store: Store, study: str | None = None) -> list[dict[str, Any]]:
    """One row per (study, arm): counts of runs by state, compute done in FLOP, tokens/s of what is in training."""
    names = [study] if study is not None else store.studies()
    runs = store.runs(status=None)
    facts = (
        {} if runs.empty else runs.drop_duplicates("run_id").set_index("run_id")[["status", "compute"]].to_dict("index")
    )
    active = {str(row["run_id"]): row for row in store.active().to_dict("records")}
    failed = set(store.failures().get("run_id", []))
    rows = []
    for name in names:
        for arm, entries in store.study(name)["arms"].items():
            ids = [entry["run_id"] for entry in entries]
            kept = [run_id for run_id in ids if run_id in facts]
            running = [run_id for run_id in ids if run_id in active and run_id not in facts]
            lost = [run_id for run_id in ids if run_id in failed and run_id not in facts and run_id not in active]
            diverged = sum(facts[run_id]["status"] == "diverged" for run_id in kept)
            rows.append(
                {
                    "study": name,
                    "arm": arm,
                    "runs": len(ids),
                    "done": len(kept) - diverged,
                    "diverged": diverged,
                    "running": len(running),
                    "failed": len(lost),
                    "to_do": len(ids) - len(kept) - len(running) - len(lost),
                    "compute_done": sum(facts[run_id]["compute"] for run_id in kept),
                    "tokens_per_second": sum(active[r].get("tokens_per_second") or 0.0 for r in running),
                }
            )
    return rows


def history(store: Store, run: str) -> dict[str, Any]:
    """All that is known of one run: record, curve, heartbeat and failures.

    Raises:
        ValueError: no run, or several, begin with what was given.
    """
    failures = store.failures()
    active = {str(row["run_id"]): row for row in store.active().to_dict("records")}
    kept = store.run_ids()
    known = kept | set(active) | set(failures.get("run_id", []))
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
        "record": store.record(run_id) if run_id in kept else None,
        "curve": store.curves(run_ids=[run_id]).to_dict("records") if run_id in kept else [],
        "active": active.get(run_id),
        "failures": mine,
    }
