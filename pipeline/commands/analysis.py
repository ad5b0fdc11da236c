"""Commands on what is concluded: tables, figures, report, fit, gains."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from algoprogress.pipeline.output import JsonOption, StoredStudy, StoreOption, emit, note, open_store, records

if TYPE_CHECKING:
    import pandas as pd

    from algoprogress.analysis import StudyTables

OutOption = Annotated[Path | None, typer.Option(help="Folder to write to; default: reports/STUDY.")]
Target = Annotated[str, typer.Argument(help="A study in the store, or a CSV or Parquet file with a row per run.")]
ArmOption = Annotated[
    str | None, typer.Option(help="Column of a file that names the arm, or several with commas between.")
]


def tables(
    study: StoredStudy,
    store: StoreOption = None,
    out: Annotated[Path | None, typer.Option(help="Also write each table there, as CSV and Markdown.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute a study's tables from its runs: efficiency, scale dependence, frontier, laws, arms, counts."""
    made, _ = _tables(study, store)
    from algoprogress.analysis.tables import as_text, write

    if out is not None:
        with _writing(out):
            for path in write(made, out):
                note(f"wrote {path}")
    if as_json:
        emit({**{name: records(table) for name, table in made.items()}, "warnings": made.warnings}, True)
    else:
        print(as_text(made))


def figures(study: StoredStudy, store: StoreOption = None, out: OutOption = None, as_json: JsonOption = False) -> None:
    """Draw a study's figures from its tables, as PNG and SVG."""
    made, runs = _tables(study, store)
    from algoprogress.analysis.report import make_figures

    folder = out or Path("reports") / study
    with _writing(folder):
        paths = make_figures(made, runs, open_store(store).curves(study), folder)
    found = {name: [str(path.with_suffix(".png")), str(path)] for name, path in paths.items()}
    if as_json:
        emit(found, True)
    else:
        print("\n".join(path for pair in found.values() for path in pair))


def report(study: StoredStudy, store: StoreOption = None, out: OutOption = None, as_json: JsonOption = False) -> None:
    """Write one self-contained HTML page with all there is to say of a study, and print its answer."""
    made, runs = _tables(study, store)
    from algoprogress.analysis.report import write_report

    folder = out or Path("reports") / study
    with _writing(folder):
        path = write_report(made.study, runs, open_store(store).curves(study), folder, tables=made)
    if as_json:
        emit({"report": str(path.resolve())}, True)
        return
    from algoprogress.analysis.answer import answer
    from algoprogress.analysis.tables import as_text

    print(as_text(made, ["efficiency", "scale_dependence"]))
    print(f"{answer(made)}\n")
    for figure in ("gains", "loss"):
        print(f"figure: {(folder / figure).with_suffix('.png').resolve()}")
    print(f"report: {path.resolve()}")


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
    runs = _runs(target, arm, store, where, _renamed(n_col, d_col, c_col, loss_col))
    rows = []
    for name, part in runs.groupby("arm", sort=False):
        row, notes = _fit_one(part, law, huber, bootstrap, cluster, level, seed)
        rows.append({"arm": name, **row, "warnings": notes})
    if as_json:
        emit(rows[0] if _is_file(target) and len(rows) == 1 else rows, True)
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


def gains(
    target: Target,
    baseline: Annotated[
        str | None,
        typer.Option(help="The arm to compare with, a value for each column of --arm; default: the study's own."),
    ] = None,
    arm: ArmOption = None,
    at_compute: Annotated[str | None, typer.Option(help="Comma-separated FLOP; default: the study's budgets.")] = None,
    at_loss: Annotated[str | None, typer.Option(help="Comma-separated losses, nats/token.")] = None,
    reference: Annotated[str, typer.Option(help="Compute of the new or of the old algorithm.")] = "new",
    store: StoreOption = None,
    where: Annotated[str | None, typer.Option(help="A pandas query that chooses runs.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute-equivalent gain of every arm over the baseline, with interval, law and number of runs."""
    from algoprogress.analysis import compute_equivalent_gain

    runs = _runs(target, arm, store, where)
    if baseline is None:
        if _is_file(target):
            raise ValueError(f"give --baseline, one of: {', '.join(map(str, runs['arm'].unique()))}")
        baseline = str(open_store(store).study(target)["baseline"])
    with _notes():
        table = compute_equivalent_gain(
            runs,
            baseline,
            at_compute=_numbers("--at-compute", at_compute),
            at_loss=_numbers("--at-loss", at_loss),
            reference=reference,  # type: ignore[arg-type]
        )
    emit(table, as_json)


def _tables(study: str, store: str | None) -> tuple[StudyTables, pd.DataFrame]:
    there = open_store(store)
    stored = there.study(study)
    runs = there.runs(study, status=None)
    from algoprogress.analysis.tables import study_tables

    made = study_tables(stored, runs)
    for line in made.warnings:
        note(f"warning: {line}")
    return made, runs


def _is_file(target: str) -> bool:
    return Path(target).suffix in (".csv", ".parquet")


def _renamed(n_col: str | None, d_col: str | None, c_col: str | None, loss_col: str | None) -> dict[str, str]:
    """Our column -> that of the file, where one was named."""
    named = {"n_params": n_col, "tokens": d_col, "compute": c_col, "loss": loss_col}
    return {ours: theirs for ours, theirs in named.items() if theirs is not None}


def _runs(
    target: str, arm: str | None, store: str | None, where: str | None, columns: dict[str, str] | None = None
) -> pd.DataFrame:
    """One row per run with arm, compute and loss, and what else there is: of a study in the store, or of a file.

    In a file `flops` stands for compute; where one of compute, n_params, tokens is missing it is had from C = 6 N D.
    """
    path = Path(target)
    if _is_file(target):
        if not path.exists():
            raise ValueError(f"there is no file {target}: give a CSV or Parquet file, or the name of a study")
        import pandas as pd

        runs = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
        named = [*(arm.split(",") if arm else []), *(columns or {}).values()]
        if unknown := [c for c in named if c not in runs.columns]:
            raise ValueError(f"no column {', '.join(unknown)}; there are: {', '.join(map(str, runs.columns))}")
        of_arm = runs[arm.split(",")].astype(str).agg(",".join, axis=1) if arm else runs.get("arm", path.stem)
        runs = runs.assign(**{ours: runs[theirs] for ours, theirs in (columns or {}).items()})
        runs = runs.assign(arm=of_arm)
        if "compute" not in runs and "flops" in runs:
            runs = runs.rename(columns={"flops": "compute"})
        if "compute" not in runs and {"n_params", "tokens"} <= set(runs):
            runs = runs.assign(compute=6.0 * runs["n_params"] * runs["tokens"])
        elif "tokens" not in runs and {"n_params", "compute"} <= set(runs):
            runs = runs.assign(tokens=runs["compute"] / 6 / runs["n_params"])
    else:
        if columns:
            raise ValueError("columns are named for a file; a stored study has its own")
        runs = open_store(store).runs(target)
    if where is not None:
        try:
            runs = runs.query(where)
        except Exception as error:
            raise ValueError(f"--where {where!r} is not a query on the columns of the runs: {error}") from None
    if runs.empty:
        raise ValueError(f"{target} has no finished run" + (f" with {where}" if where else ""))
    return runs


def _numbers(option: str, text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} takes numbers separated by commas, such as 1e17,1e18; not {text!r}") from None


@contextmanager
def _notes() -> Iterator[None]:
    """Warnings as lines on stderr, each once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for line in dict.fromkeys(str(w.message) for w in caught):
        note(f"warning: {line}")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """An output folder that cannot be written is the user's to mend."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"cannot write to {folder} ({error.strerror}): choose another folder with --out") from None
