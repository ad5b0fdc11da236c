"""`algoprogress gains`: compute-equivalent gains in a stored study or on anybody's runs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from algoprogress.pipeline.commands.inputs import (
    ArmOption,
    FigureOption,
    Target,
    draw_to,
    is_file,
    notes,
    numbers,
    read_runs,
    renamed,
)
from algoprogress.pipeline.output import JsonOption, StoreOption, emit, note, open_store

if TYPE_CHECKING:
    import pandas as pd

    from algoprogress.analysis.joint import JointFit


def gains(
    target: Target,
    baseline: Annotated[
        str | None,
        typer.Option(help="The arm to compare with, a value for each column of --arm; default: the study's own."),
    ] = None,
    arm: ArmOption = None,
    at_compute: Annotated[str | None, typer.Option(help="Comma-separated FLOP; default: the study's budgets.")] = None,
    at_loss: Annotated[str | None, typer.Option(help="Comma-separated losses, nats/token.")] = None,
    law: Annotated[str, typer.Option(help="A registered law, or several with commas between: a row each.")] = "power",
    reference: Annotated[str, typer.Option(help="Compute of the new or of the old algorithm.")] = "new",
    level: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    resamples: Annotated[int | None, typer.Option(help="0: no intervals; default: 1000, or 200 a universe.")] = None,
    seed: Annotated[int, typer.Option(help="Of the resampling.")] = 0,
    cluster: Annotated[
        str | None, typer.Option(help="Runs that have noise in common: a column, or compute_bin.")
    ] = None,
    multiverse: Annotated[
        bool, typer.Option("--multiverse", help="The same question over every choice of protocol, at one compute.")
    ] = False,
    count_optimizer: Annotated[
        bool, typer.Option("--count-optimizer", help="Compute of stored runs with the optimizer's own FLOP in it.")
    ] = False,
    figure: FigureOption = None,
    store: StoreOption = None,
    where: Annotated[str | None, typer.Option(help="A pandas query that chooses runs.")] = None,
    n_col: Annotated[str | None, typer.Option(help="Column of a file with the number of parameters.")] = None,
    d_col: Annotated[str | None, typer.Option(help="Column of a file with the number of tokens.")] = None,
    c_col: Annotated[str | None, typer.Option(help="Column of a file with compute in FLOP.")] = None,
    loss_col: Annotated[str | None, typer.Option(help="Column of a file with the loss in nats/token.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute-equivalent gain of every arm over the baseline, with interval, law and number of runs."""
    runs = read_runs(target, arm, store, where, renamed(n_col, d_col, c_col, loss_col))
    if count_optimizer:
        from algoprogress.pipeline.conventions import with_optimizer

        if is_file(target):
            raise ValueError(
                "--count-optimizer is for a study in the store: a file does not say how its runs were made"
            )
        runs = with_optimizer(runs, open_store(store))
    if baseline is None:
        if is_file(target):
            raise ValueError(f"give --baseline, one of: {', '.join(map(str, runs['arm'].unique()))}")
        baseline = str(open_store(store).study(target)["baseline"])
    if multiverse:
        if at_loss is not None or cluster is not None or law != "power" or reference != "new":
            raise ValueError("--multiverse tries laws and resampling units by itself, at one --at-compute")
        # a curve counts the model alone
        curves = None if is_file(target) or count_optimizer else open_store(store).curves(target)
        compute = numbers("--at-compute", at_compute)
        if compute is not None and len(compute) > 1:
            raise ValueError("--multiverse asks about one compute: give --at-compute one number")
        table = _multiverse(runs, baseline, compute[0] if compute else None, curves, level, resamples, seed, as_json)
        emit(table, as_json)
        if figure is not None:
            _draw_multiverse(table, figure)
        return
    from algoprogress.analysis.gains import check_arms, check_question, gains_of
    from algoprogress.analysis.joint import fit_jointly

    computes, losses = numbers("--at-compute", at_compute), numbers("--at-loss", at_loss)
    check_question(computes, losses, "both", reference, level)  # before the fits, which may take long
    with notes():
        fit = fit_jointly(
            runs,
            baseline,
            law.split(","),
            n_resamples=1000 if resamples is None else resamples,
            seed=seed,
            cluster=cluster,
        )
        check_arms(fit)
        table = gains_of(
            fit,
            computes,
            losses,
            reference=reference,  # type: ignore[arg-type]
            level=level,
        )
    emit(table, as_json)
    if figure is not None:
        _draw(fit, level, reference, figure)


def _draw(fit: JointFit, level: float, reference: str, figure: Path) -> None:
    """Gain against compute: measured at every rung, by the first law between them."""
    from algoprogress.analysis.bands import gain_bands
    from algoprogress.analysis.figures import gain_versus_compute
    from algoprogress.analysis.gains import gains_of

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said already with the table
        measured = gains_of(fit, method="interpolated", reference=reference, level=level)  # type: ignore[arg-type]
        bands = gain_bands(fit, level, reference)  # type: ignore[arg-type]
    draw_to(figure, gain_versus_compute, measured, bands, fit.arms, fit.baseline)


def _draw_multiverse(table: pd.DataFrame, figure: Path) -> None:
    """One figure an arm; with several, the arm is part of the name."""
    import pandas as pd

    from algoprogress.analysis.figures import multiverse_plot
    from algoprogress.analysis.multiverse import CHOICES

    several = len(pd.unique(table["arm"])) > 1
    for arm, part in table.groupby("arm", sort=False):
        path = figure.with_name(f"{figure.stem}-{arm}{figure.suffix}".replace("/", "_")) if several else figure
        draw_to(path, multiverse_plot, part, choices=list(CHOICES), width=7.5, height=7.5)


def _multiverse(
    runs: pd.DataFrame,
    baseline: str,
    compute: float | None,
    curves: pd.DataFrame | None,
    level: float,
    resamples: int | None,
    seed: int,
    as_json: bool,
) -> pd.DataFrame:
    from algoprogress.analysis.multiverse import N_RESAMPLES, multiverse

    def progress(done: int, of: int) -> None:
        if done == of or done % 20 == 0:
            note(f"{done} of {of} universes")

    with notes():
        return multiverse(
            runs,
            baseline,
            at_compute=compute,
            curves=curves,
            level=level,
            n_resamples=N_RESAMPLES if resamples is None else resamples,
            seed=seed,
            progress=None if as_json else progress,
        )
