"""`algoprogress trend`: how fast algorithms progressed, by the losses of published models, after Ho et al. 2024."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from algoprogress.pipeline.output import JsonOption, emit, records


def trend(
    file: Annotated[
        Path, typer.Argument(help="CSV or Parquet: year, N, D, loss or perplexity, and model, benchmark if there are.")
    ],
    irreducible: Annotated[
        float, typer.Option(help="E of the law in nats/token; Ho et al. 2024 leave it out (0).")
    ] = 0.0,
    resamples: Annotated[int, typer.Option(min=0, help="Of whole models, behind the intervals; 0 for none.")] = 500,
    level: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of the resampling.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Fit the augmented scaling law (loss on ln N, ln D, year) to a table of models: months in which compute halves."""
    from algoprogress.analysis.formatting import gain_text
    from algoprogress.analysis.trend import HO2024_MONTHS, fit_trend, read_history

    if not 0 < level < 1:
        raise ValueError(f"--level is a share between 0 and 1, not {level:g}")
    found = fit_trend(read_history(file), irreducible, resamples, level, seed)
    if as_json:
        rests = {"n_models": found.n_models, "n_rows": found.n_rows, "n_resamples": found.n_resamples}
        more = {"residual": found.residual, "first": found.span[0], "last": found.span[1], "level": level}
        emit({"parameters": records(found.estimate), **rests, **more, "ho2024_months": list(HO2024_MONTHS)}, True)
        return
    emit(found.estimate, False)
    months = found.value("halving_months")
    print(
        f"\nThe compute for a given loss halves in {gain_text(*months)} months ({100 * level:g} % interval; "
        f"{found.n_models} models of {found.span[0]:g} to {found.span[1]:g}, {found.n_rows} losses, residual "
        f"{found.residual:.3f} in ln loss). Ho et al. 2024, models of 2012 to 2023: {gain_text(*HO2024_MONTHS)} months."
    )
