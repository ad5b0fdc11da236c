"""Commands on the probes of a stored study: lead, ratios, clipped. They read tables, and need neither torch nor Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from algoprogress.pipeline.commands.inputs import FigureOption, draw_to, notes
from algoprogress.pipeline.output import JsonOption, StoredStudy, StoreOption, emit, note, open_store, records

if TYPE_CHECKING:
    import pandas as pd

    from algoprogress.results import Store

MEASURES = ("js_nats", "log_spread")
SINCE = 100  # Pan and Li's sign is not there before about that step

BlocksOption = Annotated[str, typer.Option(help="all, or without_ends: without embeddings and heads.")]
BatchNormOption = Annotated[str, typer.Option(help="eval or train: which of the study's probes.")]
SinceOption = Annotated[int, typer.Option(min=0, help="The first step that counts.")]


def lead(
    study: StoredStudy,
    at: Annotated[str, typer.Option(help="init or final: where heterogeneity was measured.")] = "init",
    blocks: BlocksOption = "without_ends",
    batch_norm: BatchNormOption = "eval",
    loss: Annotated[str, typer.Option(help="loss (validation) or train_loss.")] = "loss",
    figure: FigureOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Heterogeneity of each model beside Adam's lead over SGD and its gain of compute, and their correlations."""
    import pandas as pd

    from algoprogress.analysis.lead import LEAST, correlations, gains_of_pairs, leads, with_heterogeneity

    for option, value, known in (
        ("--at", at, ("init", "final")),
        ("--blocks", blocks, ("all", "without_ends")),
        ("--batch-norm", batch_norm, ("eval", "train")),
        ("--loss", loss, ("loss", "train_loss")),
    ):
        if value not in known:
            raise ValueError(f"{option} is {' or '.join(known)}, not {value!r}")
    there = open_store(store)
    stored = there.study(study)
    pairs = _pairs(stored)
    runs = there.runs(study, status=None)
    measured = _heterogeneity(there, study, runs, at, batch_norm)
    measured = measured[measured["blocks"] == blocks]
    models = _models(runs, pairs)
    with notes():
        ahead = leads(runs, pairs, loss)
        gains = gains_of_pairs(runs, pairs)
    longest = ahead.loc[ahead.groupby("model", sort=False)["compute_budget"].idxmax()]
    of_gains = ["ceg", "censored", "ceg_low", "ceg_high"]
    table = with_heterogeneity(longest, measured, models, MEASURES).merge(gains[["model", *of_gains]], on="model")
    columns = ["model", *MEASURES, "lead", "low", "high", "n_seeds", *of_gains]
    columns += ["loss", "loss_other", "rate", "rate_other"]
    table = table[columns].assign(log_ceg=lambda t: t["ceg"].map(_log))
    found = pd.DataFrame()
    if len(table) >= LEAST:
        asked = [(x, y) for x in MEASURES for y in ("lead", "log_ceg")]
        found = pd.concat([correlations(table, x, y) for x, y in asked], ignore_index=True)
    else:
        note(f"{len(table)} models are too few for a correlation with an interval: it takes {LEAST}")
    if figure is not None:
        from algoprogress.analysis.figures.lead import lead_against_heterogeneity

        for x in MEASURES:
            draw_to(figure.with_name(f"{figure.stem}-{x}{figure.suffix}"), lead_against_heterogeneity, table, x=x)
    shown = table.drop(columns="log_ceg")
    if as_json:
        emit({"models": records(shown), "correlations": records(found)}, True)
        return
    emit(shown, False)
    print()
    emit(found, False)


def over_steps(
    study: StoredStudy,
    blocks: BlocksOption = "without_ends",
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Heterogeneity of each model at every step and in each way that it was measured, means over seeds."""
    there = open_store(store)
    stored, runs = there.study(study), there.runs(study, status=None)
    if blocks not in ("all", "without_ends"):
        raise ValueError(f"--blocks is all or without_ends, not {blocks!r}")
    measured = _heterogeneity(there, study, runs, None, None)
    models = _models(runs, _pairs(stored))
    kept = measured[measured["blocks"] == blocks].assign(model=measured["run_id"].map(models))
    by = ["model", "step", "how_batch_norm"]
    found = kept.groupby(by, sort=False)
    table = found[[*MEASURES, "js_grid_sum"]].mean()
    table = table.assign(
        js_least=found["js_nats"].min(),
        js_most=found["js_nats"].max(),
        n_blocks=found["n_blocks"].first(),
        n=found.size(),
    )
    emit(table.reset_index(), as_json)


def ratios(
    study: StoredStudy,
    since: SinceOption = SINCE,
    reference: Annotated[str, typer.Option(help="Optimizer that ratios are to.")] = "sgd",
    figure: FigureOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sharpness of updates over that of SGD's along each trajectory of a study, over seeds and steps."""
    from algoprogress.analysis.curvature.ratios import with_ratios
    from algoprogress.analysis.lead import sharpness_summary

    there = open_store(store)
    there.study(study)
    rows = there.sharpness(study)
    _measured(rows, study)
    arms = _arms(there.runs(study, status=None))
    if figure is not None:
        from algoprogress.analysis.figures.lead import ratios_over_steps

        both = with_ratios(rows, reference).assign(along=rows["run_id"].map(arms))
        for arm in dict.fromkeys(both["along"]):
            draw_to(figure.with_name(f"{figure.stem}-{arm}{figure.suffix}"), ratios_over_steps, both[both.along == arm])
    emit(sharpness_summary(rows, arms, since, reference), as_json)


def clipped(
    study: StoredStudy,
    bare: Annotated[str, typer.Option(help="Arm of the optimizer without clipping.")] = "sgd",
    target: Annotated[str, typer.Option(help="Arm that it is to come near.")] = "adam",
    since: SinceOption = SINCE,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """The gap to Adam that clipping coordinates closes, beside the sharpness that it takes from SGD's updates."""
    from algoprogress.analysis.lead import clipping_table

    there = open_store(store)
    arms = {}
    for arm in there.study(study)["arms"]:
        name, _, share = arm.rpartition("_")
        if name == bare and share.replace(".", "", 1).isdigit():
            arms[arm] = float(share)
    if not arms:
        raise ValueError(f"the study {study} has no arm such as {bare}_0.1, {bare} with a share of coordinates clipped")
    sharpness = there.sharpness(study)
    _measured(sharpness, study)
    emit(clipping_table(there.runs(study, status=None), sharpness, arms, bare, target, since), as_json)


def _log(value: float) -> float:
    from math import inf, log, nan

    return log(value) if 0 < value < inf else nan


def _pairs(stored: dict[str, Any]) -> dict[str, str]:
    pairs = stored.get("against", {})
    if not pairs:
        raise ValueError(
            f"the study {stored['name']} compares no arm with another: a lead is one of two arms of a model"
        )
    return dict(pairs)


def _arms(runs: pd.DataFrame) -> dict[str, str]:
    return dict(zip(runs["run_id"], runs["arm"], strict=True))


def _models(runs: pd.DataFrame, pairs: dict[str, str]) -> dict[str, str]:
    """run_id -> model, of the runs whose arm is compared with another."""
    from algoprogress.analysis.lead import model_of

    return {run_id: model_of(arm, pairs[arm]) for run_id, arm in _arms(runs).items() if arm in pairs}


def _heterogeneity(
    there: Store, study: str, runs: pd.DataFrame, at: str | None, batch_norm: str | None
) -> pd.DataFrame:
    """Of the probes at an end of their runs, and of one mode of batch norms; None: of all."""
    from algoprogress.analysis.lead import heterogeneity_table

    spectra = there.spectra(study)
    _measured(spectra, study)
    if at is not None:
        last = dict(zip(runs["run_id"], runs["steps"], strict=True))
        spectra = spectra[spectra["step"] == (0 if at == "init" else spectra["run_id"].map(last))]
    if batch_norm is not None:
        # a model without batch norms was measured in one way, which is both
        asked = spectra["how_batch_norm"] == batch_norm
        other = ~spectra["run_id"].isin(spectra.loc[asked, "run_id"])
        spectra = spectra[asked | other]
    note(f"{len(spectra['probe_id'].unique())} spectra of {study}")
    return heterogeneity_table(spectra)


def _measured(table: pd.DataFrame, study: str) -> None:
    if table.empty:
        raise ValueError(
            f"nothing was measured of the runs of {study} yet: `algoprogress submit {study}` measures what it asks for"
        )
