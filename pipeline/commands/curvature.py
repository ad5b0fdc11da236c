"""The command curvature: spectra of blocks, their heterogeneity, the sharpness of updates; of a run or a preset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from algoprogress.pipeline.commands.inputs import FigureOption, draw_to
from algoprogress.pipeline.output import JsonOption, StoreOption, emit, note, open_store, records

if TYPE_CHECKING:
    import pandas as pd

    from algoprogress.ablations.spec import RunSpec
    from algoprogress.pipeline.curvature.measure import How
    from algoprogress.pipeline.data import Tokens
    from algoprogress.pipeline.policy import Policy

curvature_app = typer.Typer(
    help="Second derivatives of the loss: spectra, heterogeneity, sharpness.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Subject = Annotated[str, typer.Argument(help="A run_id of the store, or an architecture or preset, such as modern.")]
AtOption = Annotated[
    str,
    typer.Option("--at", help="init, final or steps, with commas between; the run is trained again up to the last."),
]
ProbesOption = Annotated[int, typer.Option(help="Random directions; the literature takes 10.")]
StepsOption = Annotated[int, typer.Option(help="Lanczos steps; the literature takes 100.")]
BatchesOption = Annotated[int, typer.Option(help="Batches of validation tokens to average over.")]
BatchTokensOption = Annotated[int, typer.Option(help="Tokens of each.")]
DtypeOption = Annotated[str, typer.Option(help="float32 or float64, of the model; vectors are float64.")]
SeedOption = Annotated[int, typer.Option(help="Of the random directions, and of a preset's weights and data.")]
AlongOption = Annotated[str, typer.Option(help="Optimizer that a preset is trained with.")]
CorpusOption = Annotated[str | None, typer.Option(help="That a preset reads; default: english, or digits for images.")]
BatchNormOption = Annotated[
    str, typer.Option(help="eval: with the running statistics; train: with those of each batch, as in training.")
]

PROBES, STEPS, BATCHES, BATCH_TOKENS = 4, 40, 1, 1024  # minutes on one core; the options name the literature's


@curvature_app.command()
def spectrum(
    subject: Subject,
    at: AtOption = "init",
    by: Annotated[str, typer.Option(help="tensor, group or full.")] = "tensor",
    block: Annotated[list[str] | None, typer.Option(help="Only this block or group; may be repeated.")] = None,
    gauss_newton: Annotated[bool, typer.Option(help="Of the Gauss-Newton matrix in place of the Hessian.")] = False,
    probes: ProbesOption = PROBES,
    steps: StepsOption = STEPS,
    batches: BatchesOption = BATCHES,
    batch_tokens: BatchTokensOption = BATCH_TOKENS,
    dtype: DtypeOption = "float32",
    seed: SeedOption = 0,
    along: AlongOption = "adamw",
    corpus: CorpusOption = None,
    batch_norm: BatchNormOption = "eval",
    figure: FigureOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Extreme eigenvalues, trace and root mean square of each block's Hessian, with errors over probes."""
    if by not in ("tensor", "group", "full"):
        raise ValueError(f"--by is tensor, group or full, not {by!r}")
    how = _how(probes, steps, batches, batch_tokens, dtype, seed, batch_norm, gauss_newton)
    from algoprogress.pipeline.curvature.measure import spectrum_table

    opened = _open(subject, at, along, seed, corpus, store)
    table, densities = spectrum_table(*opened, how, by, block or [], note)
    if figure is not None:
        from algoprogress.analysis.figures.curvature import block_spectra

        _draw(figure, block_spectra, densities, height=max(3.0, 0.3 * len(table)))
    emit(table, as_json)


@curvature_app.command()
def heterogeneity(
    subject: Subject,
    at: AtOption = "init",
    sigma: Annotated[float, typer.Option(help="Width of the kernel; default: the literature's.")] = 1e-5**0.5,
    points: Annotated[int, typer.Option(min=100, help="Of the grid; default: the literature's.")] = 50_000,
    probes: ProbesOption = PROBES,
    steps: StepsOption = STEPS,
    batches: BatchesOption = BATCHES,
    batch_tokens: BatchTokensOption = BATCH_TOKENS,
    dtype: DtypeOption = "float32",
    seed: SeedOption = 0,
    along: AlongOption = "adamw",
    corpus: CorpusOption = None,
    batch_norm: BatchNormOption = "eval",
    figure: FigureOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """How far apart the spectra of the weights are: Jensen-Shannon divergence, and spread of largest eigenvalues."""
    if not sigma > 0:
        raise ValueError(f"--sigma is the width of a kernel and above 0, not {sigma}")
    how = _how(probes, steps, batches, batch_tokens, dtype, seed, batch_norm)
    from algoprogress.pipeline.curvature.measure import heterogeneity_table

    opened = _open(subject, at, along, seed, corpus, store)
    table, pairs = heterogeneity_table(*opened, how, sigma, points, note)
    if figure is not None:
        from algoprogress.analysis.figures.curvature import pair_map

        _draw(figure, pair_map, pairs, width=6.6, height=5.4)
    if as_json:
        emit({"heterogeneity": records(table), "pairs": records(pairs)}, True)
    else:
        emit(table, False)


@curvature_app.command()
def sharpness(
    subject: Subject,
    at: AtOption = "init,100",
    optimizer: Annotated[
        str, typer.Option("--optimizers", help="With commas between; ratios are to the first.")
    ] = "sgd,momentum,adam,adafactor,lion,sign",
    clip: Annotated[float, typer.Option(min=0, max=1, help="Share of coordinates that `clipped` clips.")] = 0.1,
    batches: BatchesOption = 4,
    batch_tokens: BatchTokensOption = BATCH_TOKENS,
    dtype: DtypeOption = "float32",
    seed: SeedOption = 0,
    along: AlongOption = "adamw",
    corpus: CorpusOption = None,
    batch_norm: BatchNormOption = "eval",
    figure: FigureOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Directional sharpness of the update that each optimizer would take, all fed the gradients of one training."""
    how = _how(1, 1, batches, batch_tokens, dtype, seed, batch_norm)
    from algoprogress.pipeline.curvature.measure import sharpness_table

    opened = _open(subject, at, along, seed, corpus, store, beyond=1)
    names = [name.strip() for name in optimizer.split(",")]
    table, curves = sharpness_table(*opened, how, names, clip, note)
    if figure is not None:
        from algoprogress.analysis.figures.curvature import loss_along_updates

        _draw(figure, loss_along_updates, curves)
    if as_json:
        emit({"sharpness": records(table), "loss_along": records(curves)}, True)
    else:
        emit(table, False)


def _how(
    probes: int,
    steps: int,
    batches: int,
    batch_tokens: int,
    dtype: str,
    seed: int,
    batch_norm: str,
    gauss_newton: bool = False,
) -> How:
    for option, value in {"--probes": probes, "--steps": steps, "--batches": batches}.items():
        if value < 1:
            raise ValueError(f"{option} is at least 1, not {value}")
    if dtype not in ("float32", "float64"):
        raise ValueError(f"--dtype is float32 or float64, not {dtype!r}")
    if batch_norm not in ("eval", "train"):
        raise ValueError(f"--batch-norm is eval or train, not {batch_norm!r}")
    from algoprogress.pipeline.curvature.measure import How

    return How(probes, steps, batches, batch_tokens, dtype, seed, gauss_newton, batch_norm)  # type: ignore[arg-type]


def _open(
    subject: str, at: str, along: str, seed: int, corpus: str | None, store: str | None, beyond: int = 0
) -> tuple[list[str | int], RunSpec, Tokens, Policy]:
    """Steps, spec, tokens and policy; a preset is trained `beyond` its last step, where a gradient is wanted there."""
    from algoprogress.pipeline.curvature.subject import spec_of, steps_of
    from algoprogress.pipeline.data import open_tokens
    from algoprogress.pipeline.policy import choose
    from algoprogress.results.record import is_run_id

    wanted = steps_of(at)
    steps = max([0, *(step for step in wanted if isinstance(step, int))])
    spec = spec_of(subject, open_store(store), steps + beyond, along, seed, corpus)
    if "final" in wanted and not is_run_id(subject):
        raise ValueError(f"{subject} is no run and has no final step: say at which step, such as --at 100")
    tokens = open_tokens(spec.data.corpus, spec.data.corpus_sha256, spec.data.tokenizer)
    return wanted, spec, tokens, choose("cpu", spec.dtype)


def _draw(path: Path, plot: Any, table: pd.DataFrame, **size: float) -> None:
    """A figure for each step: their number goes into the name where there are several."""
    steps = list(dict.fromkeys(table["at"]))
    for step in steps:
        name = path if len(steps) == 1 else path.with_name(f"{path.stem}-{step}{path.suffix}")
        draw_to(name, plot, table[table["at"] == step], **size)
