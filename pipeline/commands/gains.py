"""`algoprogress gains`: compute-equivalent gains in a stored study or on anybody's runs."""

from __future__ import annotations

from typing import Annotated

import typer

from algoprogress.pipeline.commands.inputs import ArmOption, Target, is_file, notes, numbers, read_runs
from algoprogress.pipeline.output import JsonOption, StoreOption, emit, open_store


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

    runs = read_runs(target, arm, store, where)
    if baseline is None:
        if is_file(target):
            raise ValueError(f"give --baseline, one of: {', '.join(map(str, runs['arm'].unique()))}")
        baseline = str(open_store(store).study(target)["baseline"])
    with notes():
        table = compute_equivalent_gain(
            runs,
            baseline,
            at_compute=numbers("--at-compute", at_compute),
            at_loss=numbers("--at-loss", at_loss),
            reference=reference,  # type: ignore[arg-type]
        )
    emit(table, as_json)
