"""Commands on the conclusions of a stored study: tables, figures, report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from algoprogress.pipeline.commands.inputs import formats, writing
from algoprogress.pipeline.output import JsonOption, StoredStudy, StoreOption, emit, note, open_store, records

if TYPE_CHECKING:
    import pandas as pd

    from algoprogress.analysis import StudyTables

OutOption = Annotated[Path | None, typer.Option(help="Folder to write to; default: reports/STUDY.")]


def tables(
    study: StoredStudy,
    store: StoreOption = None,
    out: Annotated[Path | None, typer.Option(help="Also write each table there, as CSV and Markdown.")] = None,
    format: Annotated[
        str, typer.Option(help="What is printed: markdown, latex (booktabs), or csv (numbers in place of text).")
    ] = "markdown",
    as_json: JsonOption = False,
) -> None:
    """Compute a study's tables from its runs: efficiency, scale dependence, frontier, laws, arms, counts."""
    from algoprogress.analysis.table_formats import AS_TEXT, write_latex
    from algoprogress.analysis.tables import write

    if format not in AS_TEXT:
        raise ValueError(f"--format is one of {', '.join(AS_TEXT)}, not {format!r}")
    made, _ = _tables(study, store)

    if out is not None:
        with writing(out):
            for path in [*write(made, out), *(write_latex(made, out) if format == "latex" else [])]:
                note(f"wrote {path}")
    if as_json:
        emit({**{name: records(table) for name, table in made.items()}, "warnings": made.warnings}, True)
    else:
        print(AS_TEXT[format](made))


def figures(
    study: StoredStudy,
    store: StoreOption = None,
    out: OutOption = None,
    format: Annotated[str, typer.Option(help="With commas between: png, svg, pdf.")] = "png,svg",
    as_json: JsonOption = False,
) -> None:
    """Draw a study's figures from its tables."""
    chosen = formats(format)
    from algoprogress.analysis.report import make_figures
    from algoprogress.analysis.study_fit import study_fit

    there = open_store(store)
    runs = there.runs(study, status=None)
    made = study_fit(there.study(study), runs)
    for line in made.warnings:
        note(f"warning: {line}")

    folder = out or Path("reports") / study
    with writing(folder):
        paths = make_figures(made, runs, there.curves(study), folder, formats=chosen)
    found = {name: [str(path) for path in files] for name, files in paths.items()}
    if as_json:
        emit(found, True)
    else:
        print("\n".join(path for files in found.values() for path in files))


def report(
    study: Annotated[str | None, typer.Argument(help="A study in the store; default: all, as a site.")] = None,
    store: StoreOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; default: reports/STUDY, or reports/site.")
    ] = None,
    account: Annotated[
        list[str] | None, typer.Option(help="Of the site: also an account of your own, a TOML, Parquet or CSV file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write one page with all there is to say of a study, or a site of everything in the store; print the answer."""
    if study is None:
        _site(store, out or Path("reports") / "site", account or [], as_json)
        return
    if account:
        raise ValueError(f"--account is of the site of all studies: leave out {study}")
    made, runs = _tables(study, store)
    from algoprogress.analysis.report import write_report

    folder = out or Path("reports") / study
    with writing(folder):
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


def _site(store: str | None, folder: Path, accounts: list[str], as_json: bool) -> None:
    from algoprogress.analysis.site import write_site

    with writing(folder):
        front, found = write_site(open_store(store), folder, accounts, processes=os.cpu_count() or 1)
    for conclusion in found:
        for line in conclusion.warnings:
            note(f"warning: {conclusion.name}: {line}")
    if as_json:
        emit({"report": str(front.resolve()), "answers": {c.name: c.answer for c in found}}, True)
        return
    for conclusion in found:
        print(f"{conclusion.name}: {conclusion.answer}\n")
    print(f"report: {front.resolve()}")


def _tables(study: str, store: str | None) -> tuple[StudyTables, pd.DataFrame]:
    there = open_store(store)
    stored = there.study(study)
    runs = there.runs(study, status=None)
    from algoprogress.analysis.tables import study_tables

    asked = stored.get("repeats", study)
    others = [there.study(name) for name in there.studies() if name != study]
    same = [other for other in others if other.get("repeats", other["name"]) == asked]
    made = study_tables(stored, runs, others=[(other, there.runs(other["name"], status=None)) for other in same])
    for line in made.warnings:
        note(f"warning: {line}")
    return made, runs
