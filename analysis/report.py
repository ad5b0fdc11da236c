"""One page that states a study's question and answer, and what they rest on. It needs no other file and no network."""

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from algoprogress.analysis.answer import answer
from algoprogress.analysis.bands import gain_bands, law_curves
from algoprogress.analysis.runs import usable_runs
from algoprogress.analysis.study_fit import StudyFit
from algoprogress.analysis.tables import TITLES, StudyTables, study_tables, write
from algoprogress.analysis.templates import template

# Facts of the runs that say where they come from, with the words to print; each is a column of `Store.runs()`.
PROVENANCE = {
    "corpus": "corpus",
    "corpus_sha256": "corpus, sha256",
    "tokenizer": "tokenizer",
    "tokenizer_sha256": "tokenizer, sha256",
    "val_tokens": "validation tokens",
    "git_sha": "git commit",
    "git_dirty": "uncommitted changes",
    "package_version": "algoprogress",
    "torch_version": "torch",
    "python_version": "Python",
    "device": "device",
    "n_threads": "threads a run",
    "dtype": "number format",
    "host": "host",
}


def write_report(
    study: Mapping[str, Any],
    runs: pd.DataFrame,
    curves: pd.DataFrame | None,
    out_dir: str | Path,
    n_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    tables: StudyTables | None = None,
) -> Path:
    """Write `report.html`, its figures (PNG and SVG) and its tables (CSV and Markdown) into a folder.

    Args:
        study: as stored: name, question, baseline, arms, differences.
        runs: one row per (arm, run) of the study, of every status.
        curves: run_id, compute (FLOP), loss (nats/token) of the training curves; None leaves their figure out.
        out_dir: made when it is missing.
        tables: when they are made already.

    Returns:
        The path of the page.
    """
    out = Path(out_dir)
    tables = tables or study_tables(dict(study), runs, level=level, n_resamples=n_resamples, seed=seed)
    write(tables, out)
    figures = {name: svg for name, (_, svg) in make_figures(tables, runs, curves, out, level).items()}
    shown = tables.shown()
    page = template("algoprogress.analysis", "report").render(
        study=tables.study,
        answer=answer(tables),
        tables={name: _columns_and_rows(table) for name, table in shown.items()},
        titles=TITLES,
        figures={name: _data_uri(path) for name, path in figures.items()},
        warnings=tables.warnings,
        provenance=provenance(runs),
        law=tables.fit.first.name,
        level=f"{level:.0%}".replace("%", " %"),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    path = out / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def make_figures(
    tables: StudyTables | StudyFit,
    runs: pd.DataFrame,
    curves: pd.DataFrame | None,
    out_dir: str | Path,
    level: float = 0.95,
    formats: Sequence[str] = ("png", "svg"),
) -> dict[str, list[Path]]:
    """Draw the figures of a study into a folder: name -> a file in each format."""
    from algoprogress.analysis import figures as draw

    out, fit = Path(out_dir), tables.fit
    arms = [a for a in tables.study["arms"] if a in fit.arms]
    drawn = {
        "loss": draw.draw(draw.loss_versus_compute, usable_runs(runs), fit.front, law_curves(fit, level), arms),
    }
    if len(arms) > 1:
        measured = tables.gains[tables.gains["method"] == "interpolated"]
        drawn["gains"] = draw.draw(draw.gain_versus_compute, measured, gain_bands(fit, level), arms, fit.baseline)
    if curves is not None and len(curves):
        lines = curves.merge(runs[["run_id", "arm"]].drop_duplicates(), on="run_id").dropna(subset=["loss"])
        drawn["curves"] = draw.draw(draw.training_curves, lines, arms)
    return {name: draw.save(figure, out / name, formats) for name, figure in drawn.items()}


def provenance(runs: pd.DataFrame) -> list[tuple[str, str]]:
    """(what, values) for every known fact of where the runs come from; several values are all listed."""
    facts = []
    for column, words in PROVENANCE.items():
        if column in runs and runs[column].notna().any():
            facts.append((words, ", ".join(sorted(map(str, runs[column].dropna().unique())))))
    for column, words, pick in (("started_at", "first run started", "min"), ("ended_at", "last run ended", "max")):
        if column in runs and runs[column].notna().any():
            facts.append((words, str(getattr(runs[column].dropna().astype(str), pick)())))
    n_runs = runs["run_id"].nunique() if "run_id" in runs else len(runs)
    facts.append(("runs", str(n_runs)))
    once = runs.drop_duplicates("run_id") if "run_id" in runs else runs
    facts.append(("training compute in all", f"{once['compute'].astype(float).sum():.3g} FLOP"))
    if "wall_seconds" in once:
        facts.append(("training time in all", f"{once['wall_seconds'].astype(float).sum() / 60:.1f} core-minutes"))
    return facts


def _columns_and_rows(table: pd.DataFrame) -> dict[str, Any]:
    from algoprogress.analysis.formatting import cell_text

    numeric = [pd.api.types.is_numeric_dtype(t) and not pd.api.types.is_bool_dtype(t) for t in table.dtypes]
    return {
        "columns": [(str(c).replace("_", " "), n) for c, n in zip(table.columns, numeric, strict=True)],
        "rows": [[(cell_text(v), n) for v, n in zip(r, numeric, strict=True)] for r in table.itertuples(index=False)],
    }


def _data_uri(svg: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.read_bytes()).decode("ascii")
