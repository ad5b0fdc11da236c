"""The runs that `fit` and `gains` read: of a study in the store, or of anybody's CSV or Parquet file."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from algoprogress.pipeline.output import note, open_store

if TYPE_CHECKING:
    import pandas as pd

Target = Annotated[str, typer.Argument(help="A study in the store, or a CSV or Parquet file with a row per run.")]
ArmOption = Annotated[
    str | None, typer.Option(help="Column of a file that names the arm, or several with commas between.")
]

FigureOption = Annotated[
    Path | None, typer.Option("--figure", help="Also draw it, as PNG and SVG: a path with or without a suffix.")
]


SEPARATORS = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t"}
PARQUET = (".parquet", ".pq")


def is_file(target: str) -> bool:
    """Is it the name of a file of runs?  A study's name has no suffix of a table."""
    return target.lower().endswith((*SEPARATORS, *PARQUET))


def _table(path: Path) -> pd.DataFrame:
    """What a file holds; an OSError or a ValueError that names the file where it can not be read."""
    import pandas as pd

    if not path.exists():
        raise ValueError(f"there is no file {path}: give a CSV or Parquet file, or the name of a study")
    try:
        if path.name.lower().endswith(PARQUET):
            return pd.read_parquet(path)
        separator = next(mark for suffix, mark in SEPARATORS.items() if path.name.lower().endswith(suffix))
        return pd.read_csv(path, sep=separator)
    except (ValueError, UnicodeError, OSError) as error:
        raise ValueError(f"{path} can not be read as a table: {error}") from None


def renamed(n_col: str | None, d_col: str | None, c_col: str | None, loss_col: str | None) -> dict[str, str]:
    """Our column -> that of the file, where one was named."""
    named = {"n_params": n_col, "tokens": d_col, "compute": c_col, "loss": loss_col}
    return {ours: theirs for ours, theirs in named.items() if theirs is not None}


def read_runs(
    target: str, arm: str | None, store: str | None, where: str | None, columns: dict[str, str] | None = None
) -> pd.DataFrame:
    """One row per run with arm, compute and loss, and what else there is: of a study in the store, or of a file.

    In a file `flops` stands for compute; where one of compute, n_params, tokens is missing it is had from C = 6 N D.
    """
    if is_file(target):
        runs = _table(Path(target))
        named = [*(arm.split(",") if arm else []), *(columns or {}).values()]
        if unknown := [c for c in named if c not in runs.columns]:
            raise ValueError(f"no column {', '.join(unknown)}; there are: {', '.join(map(str, runs.columns))}")
        of_arm = _names(runs, arm.split(",")) if arm else runs.get("arm", Path(target).stem)
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


def _names(runs: pd.DataFrame, columns: list[str]) -> pd.Series:
    """Values of the columns with commas between."""
    first, *others = (runs[c].astype(str) for c in columns)
    return first.str.cat(others, sep=",") if others else first


def numbers(option: str, text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} takes numbers separated by commas, such as 1e17,1e18; not {text!r}") from None


@contextmanager
def notes() -> Iterator[None]:
    """Warnings as lines on stderr, each once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for line in dict.fromkeys(f"{w.category.__name__}: {w.message}" for w in caught):
        note(f"warning: {line}")


def draw_to(path: Path, plot: Callable[..., Any], *data: object, **options: Any) -> None:
    """Draw a figure to a path as PNG and SVG, and say where; a path that can not be written to is wrong use."""
    from algoprogress.analysis.figures import draw, save

    try:
        for file in save(draw(plot, *data, **options), path):
            note(f"wrote {file}")
    except OSError as error:
        raise ValueError(f"--figure {path} can not be written: {error}") from None


def formats(text: str) -> list[str]:
    """The formats of figures in an option, such as "svg,pdf"."""
    from algoprogress.analysis.figures.style import FORMATS

    chosen = [part.strip().lower() for part in text.split(",") if part.strip()]
    if not chosen or set(chosen) - set(FORMATS):
        raise ValueError(f"--format takes {', '.join(FORMATS)}, with commas between; not {text!r}")
    return chosen


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """An output folder that cannot be written is the user's to mend."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"cannot write to {folder} ({error.strerror}): choose another folder with --out") from None
