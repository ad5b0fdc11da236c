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
ArmOption = Annotated[str | None, typer.Option(help="Column of a file that names the arm.")]


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
    as_json: JsonOption = False,
) -> None:
    """Fit a scaling law to the frontier of each arm: its best configuration at each compute."""
    from algoprogress.analysis import frontier, laws

    runs = _runs(target, arm, store, where)
    rows: list[dict[str, Any]] = []
    for name, part in runs.groupby("arm", sort=False):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fitted = laws[law]().fit(frontier(part))
        found = fitted.summary.set_index("parameter")
        rows.append(
            {
                "arm": name,
                "law": law,
                "n": len(part),
                "params": found["estimate"].to_dict(),
                "stderr": found["stderr"].to_dict(),
                "diagnostics": fitted.diagnostics_,
                "warnings": [str(w.message) for w in caught],
            }
        )
    if as_json:
        emit(rows, True)
        return
    emit([{"arm": r["arm"], "law": r["law"], "n": r["n"], **r["params"]} for r in rows], False)
    for row in rows:
        for line in row["warnings"]:
            note(f"{row['arm']}: {line}")


def gains(
    target: Target,
    baseline: Annotated[str | None, typer.Option(help="The arm to compare with; default: the study's own.")] = None,
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
        if Path(target).suffix in (".csv", ".parquet"):
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


def _runs(target: str, arm: str | None, store: str | None, where: str | None) -> pd.DataFrame:
    """One row per run with arm, compute and loss: of a study in the store, or of a file."""
    path = Path(target)
    if path.suffix in (".csv", ".parquet"):
        if not path.exists():
            raise ValueError(f"there is no file {target}: give a CSV or Parquet file, or the name of a study")
        import pandas as pd

        runs = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
        if arm is not None and arm not in runs.columns:
            raise ValueError(f"no column {arm!r} for --arm; there are: {', '.join(map(str, runs.columns))}")
        runs = runs.assign(arm=runs[arm] if arm else runs.get("arm", path.stem))
        if "compute" not in runs and "flops" in runs:
            runs = runs.rename(columns={"flops": "compute"})
    else:
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
