"""`algoprogress fit`: a scaling law on a stored study or on anybody's runs."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Annotated, Any

import typer

from algoprogress.pipeline.commands.inputs import ArmOption, Target, is_file, read_runs, renamed
from algoprogress.pipeline.output import JsonOption, StoreOption, emit, note

if TYPE_CHECKING:
    import pandas as pd


def fit(
    target: Target,
    law: Annotated[str, typer.Option(help="A registered law.")] = "power",
    arm: ArmOption = None,
    store: StoreOption = None,
    where: Annotated[str | None, typer.Option(help="A pandas query that chooses runs.")] = None,
    bootstrap: Annotated[int, typer.Option(help="Resamples for errors and intervals (laws in size and data).")] = 0,
    cluster: Annotated[
        str | None, typer.Option(help="Resample clusters: a column, or compute_bin (bins of log compute).")
    ] = None,
    level: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of the resampling; 42 draws what Besiroglu et al. 2024 drew.")] = 42,
    huber: Annotated[
        float | None, typer.Option(help="Threshold in log loss; inf for least squares; default: the law's.")
    ] = None,
    n_col: Annotated[str | None, typer.Option(help="Column of a file with the number of parameters.")] = None,
    d_col: Annotated[str | None, typer.Option(help="Column of a file with the number of tokens.")] = None,
    c_col: Annotated[str | None, typer.Option(help="Column of a file with compute in FLOP.")] = None,
    loss_col: Annotated[str | None, typer.Option(help="Column of a file with the loss in nats/token.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit a scaling law: one in compute to the frontier of each arm, one in size and data to all runs of each arm.

    A file without arms gives one result, a stored study or a file with several arms a list of them.
    """
    runs = read_runs(target, arm, store, where, renamed(n_col, d_col, c_col, loss_col))
    rows = []
    for name, part in runs.groupby("arm", sort=False):
        row, notes = _fit_one(part, law, huber, bootstrap, cluster, level, seed)
        rows.append({"arm": name, **row, "warnings": notes})
    if as_json:
        emit(rows[0] if is_file(target) and len(rows) == 1 else rows, True)
        return
    emit([{"arm": r["arm"], "law": r["law"], "n": r["n"], **r["params"]} for r in rows], False)
    for row in rows:
        intervals = [{"parameter": p, "low": low, "high": high} for p, (low, high) in row["intervals"].items()]
        if intervals:
            print(f"\n{level:.0%} intervals of {row['arm']}, {bootstrap:,} resamples")
            emit([{**i, "stderr": row["stderr"][i["parameter"]]} for i in intervals], False)
        for line in row["warnings"]:
            note(f"{row['arm']}: {line}")


def _fit_one(
    runs: pd.DataFrame, law: str, huber: float | None, bootstrap: int, cluster: str | None, level: float, seed: int
) -> tuple[dict[str, Any], list[str]]:
    """What `fit --json` says of one arm, and the warnings on the way."""
    from algoprogress.analysis import LossLaw, frontier, laws

    unfitted = laws[law]() if huber is None else laws[law](huber=huber)  # type: ignore[call-arg]
    in_compute = isinstance(unfitted, LossLaw)
    if in_compute and (bootstrap or cluster):
        raise ValueError(f"--bootstrap is for laws in size and data; for {law} see the intervals of the gains")
    if cluster and not bootstrap:
        raise ValueError("--cluster says what to resample: give --bootstrap 4000 too")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = unfitted.fit(frontier(runs) if in_compute else runs)
        found = fitted.summary.set_index("parameter")
        stderr, intervals = found["stderr"].to_dict(), {}
        if bootstrap:
            table = fitted.intervals("cluster" if cluster else "pairs", cluster, level, bootstrap, seed)
            stderr = dict(zip(table["parameter"], table["stderr"], strict=True))
            intervals = {r.parameter: [r.low, r.high] for r in table.itertuples()}
    row = {
        "law": law,
        "n": len(runs),
        "objective": fitted.diagnostics_["objective"],
        "params": found["estimate"].to_dict(),
        "stderr": stderr,
        "stderr_method": (f"bootstrap by {cluster or 'runs'}" if bootstrap else fitted.stderr_method),
        "intervals": intervals,
        "diagnostics": fitted.diagnostics_,
    }
    return row, list(dict.fromkeys(str(w.message) for w in caught))
