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
    measured = _heterogeneity(there, stored, runs, at, batch_norm)
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
    sigma: Annotated[
        float | None, typer.Option(help="Width of the kernel; default: the literature's, 1e-5 ** 0.5.")
    ] = None,
    normalised: Annotated[
        bool, typer.Option("--normalised", help="Each block's eigenvalues over its own largest: shapes alone.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Heterogeneity of each model at every step and in each way that it was measured, means over seeds."""
    there = open_store(store)
    stored, runs = there.study(study), there.runs(study, status=None)
    if blocks not in ("all", "without_ends"):
        raise ValueError(f"--blocks is all or without_ends, not {blocks!r}")
    if sigma is not None and not 0 < sigma < float("inf"):
        raise ValueError(f"--sigma is the width of a kernel, a number above 0, not {sigma:g}")
    kernel = {} if sigma is None else {"sigma": sigma}
    measured = _heterogeneity(there, stored, runs, None, None, normalised, **kernel)
    models = _models(runs, _pairs(stored))
    kept = measured[measured["blocks"] == blocks].assign(model=measured["run_id"].map(models))
    found = kept.groupby(["model", "step", "how_batch_norm"], sort=False)
    for place, n in found["n_blocks"].unique().items():
        if len(n) > 1:
            raise ValueError(
                f"{' at step '.join(map(str, place[:2]))} was measured in {' and in '.join(map(str, n))} blocks: "
                f"remove the spectra of the older version from {there.url}/spectra, and submit the study again"
            )
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
    rows = _asked(there.sharpness(study), there.study(study), "sharpness")
    arms = _arms(there.runs(study, status=None))
    if figure is not None:
        from algoprogress.analysis.figures.lead import ratios_over_steps

        shares = sorted(rows["how_clip"].unique())
        one = rows[rows["how_clip"] == shares[len(shares) // 2]]  # a figure has one dotted line an optimizer
        both = with_ratios(one, reference).assign(along=one["run_id"].map(arms))
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
    stored, arms = there.study(study), {}
    for arm in stored["arms"]:
        name, _, share = arm.rpartition("_")
        if name == bare and share.replace(".", "", 1).isdigit():
            arms[arm] = float(share)
    if not arms:
        raise ValueError(f"the study {study} has no arm such as {bare}_0.1, {bare} with a share of coordinates clipped")
    sharpness = _asked(there.sharpness(study), stored, "sharpness")
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
    there: Store,
    stored: dict[str, Any],
    runs: pd.DataFrame,
    at: str | None,
    batch_norm: str | None,
    normalised: bool = False,
    **kernel: float,
) -> pd.DataFrame:
    """Of the probes at an end of their runs, and of one mode of batch norms; None: of all."""
    from algoprogress.analysis.lead import heterogeneity_table

    spectra = _asked(there.spectra(stored["name"]), stored, "spectra")
    if batch_norm is not None:
        # a model without batch norms was measured in one way, which is both
        asked = spectra["how_batch_norm"] == batch_norm
        both = spectra.groupby("run_id")["how_batch_norm"].transform("nunique") > 1
        spectra = spectra[asked | ~both]
    if at is not None:
        last = dict(zip(runs["run_id"], runs["steps"], strict=True))
        spectra = spectra[spectra["step"] == (0 if at == "init" else spectra["run_id"].map(last))]
    note(f"{len(spectra['probe_id'].unique())} spectra of {stored['name']}")
    if normalised:
        largest = spectra["node"].abs().groupby([spectra["probe_id"], spectra["block"]]).transform("max")
        spectra = spectra.assign(node=spectra["node"] / largest.where(largest > 0, 1.0))
    return heterogeneity_table(spectra, **kernel)


def _asked(table: pd.DataFrame, stored: dict[str, Any], kind: str) -> pd.DataFrame:
    """Of what was measured of the runs of a study, what the study asked for; all, where it does not say.

    Raises:
        ValueError: nothing was measured yet.
    """
    from algoprogress.results.probefile import probe_id

    probes = [one["probe"] for one in stored.get("probes", ()) if one["probe"]["kind"] == kind]
    if probes and len(table):
        ways = [{name: value for name, value in probe.items() if name != "kind"} for probe in probes]
        places = table[["run_id", "step"]].drop_duplicates().itertuples(index=False, name=None)
        wanted = {probe_id(kind, run_id, step, how) for run_id, step in places for how in ways}
        table = table[table["probe_id"].isin(wanted)]
    if table.empty:
        name = stored["name"]
        raise ValueError(
            f"nothing was measured of the runs of {name} yet: `algoprogress submit {name}` measures what it asks for"
        )
    return table
