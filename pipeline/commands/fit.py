"""`algoprogress fit`: a scaling law on a stored study or on anybody's runs."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from algoprogress.pipeline.commands.inputs import ArmOption, FigureOption, Target, draw_to, is_file, read_runs, renamed
from algoprogress.pipeline.output import JsonOption, StoreOption, emit, note

if TYPE_CHECKING:
    import pandas as pd

    from algoprogress.analysis import Law

RESAMPLES = 4000  # where a method of resampling is named without a number: as Besiroglu et al. 2024


def fit(
    target: Target,
    law: Annotated[str, typer.Option(help="A registered law.")] = "power",
    arm: ArmOption = None,
    store: StoreOption = None,
    where: Annotated[str | None, typer.Option(help="A pandas query that chooses runs.")] = None,
    share: Annotated[
        str | None,
        typer.Option(
            help="Fit all arms jointly with these parameters shared, such as E,alpha; or rescaled: arms differ in one "
            "compute multiplier only."
        ),
    ] = None,
    bootstrap: Annotated[int, typer.Option(help="Resamples for errors and intervals.")] = 0,
    method: Annotated[
        str | None,
        typer.Option(help="Of the intervals: pairs, cluster, wild-cluster, jackknife, sandwich or profile."),
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Clusters of runs: a column, or compute_bin (bins of log compute).")
    ] = None,
    level: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of the resampling; 42 draws what Besiroglu et al. 2024 drew.")] = 42,
    huber: Annotated[
        float | None, typer.Option(help="Threshold in log loss; inf for least squares; default: the law's.")
    ] = None,
    n_col: Annotated[str | None, typer.Option(help="Column of a file with the number of parameters.")] = None,
    d_col: Annotated[str | None, typer.Option(help="Column of a file with the number of tokens.")] = None,
    u_col: Annotated[str | None, typer.Option(help="Column of a file with the number of unique tokens.")] = None,
    c_col: Annotated[str | None, typer.Option(help="Column of a file with compute in FLOP.")] = None,
    loss_col: Annotated[str | None, typer.Option(help="Column of a file with the loss in nats/token.")] = None,
    figure: FigureOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit a scaling law: one in compute to the frontier of each arm, one in size and data to all runs of each arm.

    A file without arms gives one result, a stored study or a file with several arms a list of them.
    """
    columns = renamed(n_col, d_col, c_col, loss_col) | ({} if u_col is None else {"unique_tokens": u_col})
    runs = read_runs(target, arm, store, where, columns)
    chosen = _method(method, bootstrap, cluster)
    options = (law, huber, chosen, cluster, level, bootstrap or RESAMPLES, seed)
    parts = [part for _, part in runs.groupby("arm", sort=False)] if share is None else [runs]
    shared = share if share is None or share == "rescaled" else dict.fromkeys(share.split(","), "all")
    rows, drawn = [], []
    for part in parts:
        fitted, data, more = _fitted(part, shared, *options)
        rows += more
        drawn.append((fitted, data))
    if figure is not None:
        _draw(drawn, level, figure)
    if as_json:
        emit(rows[0] if is_file(target) and len(rows) == 1 else rows, True)
        return
    emit([{"arm": r["arm"], "law": r["law"], "n": r["n"], **r["params"]} for r in rows], False)
    for row in rows:
        intervals = [{"parameter": p, "low": low, "high": high} for p, (low, high) in row["intervals"].items()]
        if intervals:
            resamples = f", {row['n_resamples']:,} resamples" if row["n_resamples"] else ""
            print(f"\n{level:.0%} intervals of {row['arm']}, {row['stderr_method']}{resamples}")
            emit([{**i, "stderr": row["stderr"][i["parameter"]]} for i in intervals], False)
    for line in dict.fromkeys(f"{r['arm'] if share is None else 'all arms'}: {w}" for r in rows for w in r["warnings"]):
        note(line)


def _method(method: str | None, bootstrap: int, cluster: str | None) -> str | None:
    """The method of the intervals that the options ask for; None for no intervals."""
    if method is not None:
        return method
    if cluster and not bootstrap:
        raise ValueError("--cluster says what to resample: give --bootstrap 4000 too, or a --method")
    return ("cluster" if cluster else "pairs") if bootstrap else None


def _fitted(
    runs: pd.DataFrame,
    share: str | dict[str, str] | None,
    law: str,
    huber: float | None,
    method: str | None,
    cluster: str | None,
    level: float,
    n: int,
    seed: int,
) -> tuple[Law, pd.DataFrame, list[dict[str, Any]]]:
    """One fit, what it was fitted to, and what `fit --json` says of each of its arms, with the warnings on the way."""
    from algoprogress.analysis import LossLaw, frontier, laws
    from algoprogress.analysis.runs import usable_runs

    unfitted = laws[law](huber=huber)
    if missing := [c for c in unfitted.inputs if c not in runs]:
        there = ", ".join(map(str, runs.columns))
        raise ValueError(f"{unfitted.name} needs a column {', '.join(missing)}; the runs have {there}.")
    epochs = math.inf if "unique_tokens" in unfitted.inputs else 1.0  # such a law is of what repetition costs
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        used = usable_runs(runs, epochs)
        data = frontier(runs) if isinstance(unfitted, LossLaw) else used
        fitted = unfitted.fit(data, share)  # type: ignore[arg-type]
        table = None if method is None else fitted.intervals(method, cluster, level, n, seed)
    notes = list(dict.fromkeys(str(w.message) for w in caught))
    if len(used) < len(runs):
        notes.append(
            f"{len(runs) - len(used)} of {len(runs)} rows are left out: diverged, over one epoch, or counted already"
        )
    if table is not None and len(data) < len(used):
        notes.append(
            f"the intervals rest on {len(data)} points of the frontier and take as known which of the {len(used)} runs "
            "are best; the intervals of the gains do not"
        )
    return fitted, data, [_row(fitted, str(arm), used, table, notes, share) for arm in fitted.arms_]


def _draw(drawn: list[tuple[Law, pd.DataFrame]], level: float, figure: Path) -> None:
    """What was fitted as points over compute, and the best loss by the law with its band."""
    import pandas as pd

    from algoprogress.analysis.bands import fitted_curves
    from algoprogress.analysis.figures import fit_with_band

    points = pd.concat([data for _, data in drawn], ignore_index=True)
    curves = pd.concat([fitted_curves(law, data, level) for law, data in drawn], ignore_index=True)
    draw_to(figure, fit_with_band, points, curves, [str(a) for a in pd.unique(points["arm"])])


def _row(
    fitted: Law,
    arm: str,
    runs: pd.DataFrame,
    table: pd.DataFrame | None,
    notes: list[str],
    share: str | dict[str, str] | None,
) -> dict[str, Any]:
    own = fitted.summary[fitted.summary["arm"].astype(str) == arm].set_index("parameter")
    row = {
        "arm": arm,
        "law": fitted.name,
        "n": int((runs["arm"].astype(str) == arm).sum()),
        "objective": fitted.diagnostics_["objective"],
        "params": own["estimate"].to_dict(),
        "stderr": own["stderr"].to_dict(),
        "stderr_method": fitted.stderr_method,
        "intervals": {},
        "diagnostics": fitted.diagnostics_ | {"aic": fitted.aic, "aicc": fitted.aicc, "bic": fitted.bic},
        "warnings": notes,
    }
    if share is not None:
        row["share"] = share
    if table is not None:
        part = table[table["arm"].astype(str) == arm]
        method, n = part["method"].iloc[0], part["n_resamples"].iloc[0]
        method = {"pairs": "bootstrap by runs"}.get(method, method.replace("cluster by", "bootstrap by", 1))
        row["stderr"] = dict(zip(part["parameter"], part["stderr"], strict=True))
        row["intervals"] = {r.parameter: [r.low, r.high] for r in part.itertuples()}
        row["stderr_method"], row["n_resamples"] = method, int(n)
    return row
