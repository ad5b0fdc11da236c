"""The command curvature: spectra of blocks, their heterogeneity, the sharpness of updates; of a run or a preset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from algoprogress.pipeline.commands import curvature_studies
from algoprogress.pipeline.commands.inputs import FigureOption, draw_to
from algoprogress.pipeline.output import JsonOption, StoreOption, emit, note, open_store, records

if TYPE_CHECKING:
    import pandas as pd

    from algoprogress.ablations.probes import Probe
    from algoprogress.pipeline.curvature.observe import Seen

curvature_app = typer.Typer(
    help="Second derivatives of the loss: spectra, heterogeneity, sharpness.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

for command in (
    curvature_studies.lead,
    curvature_studies.over_steps,
    curvature_studies.ratios,
    curvature_studies.clipped,
):
    curvature_app.command()(command)

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
BatchNormOption = Annotated[
    str, typer.Option(help="eval: with the running statistics; train: with those of each batch, as in training.")
]
SampleOption = Annotated[
    int | None, typer.Option("--blocks", min=1, help="Only so many of the blocks, drawn at random by the seed.")
]
PublishOption = Annotated[
    bool,
    typer.Option("--publish", help="Keep it in the store; what is there is read, an interrupted one goes on."),
]
CorpusOption = Annotated[str | None, typer.Option(help="That a preset reads; default: english, or digits for images.")]

TokenizerOption = Annotated[str | None, typer.Option(help="Of a preset that reads text, such as bpe-2048.")]
ContextOption = Annotated[int | None, typer.Option(min=2, help="Tokens that a preset of text sees; default: 128.")]

PROBES, STEPS, BATCHES, BATCH_TOKENS = 4, 40, 1, 1024  # minutes on one core; the options name the literature's


@curvature_app.command()
def spectrum(
    subject: Subject,
    at: AtOption = "init",
    by: Annotated[str, typer.Option(help="tensor, matrix (no norms and biases), group or full.")] = "tensor",
    block: Annotated[list[str] | None, typer.Option(help="Only this block or group; may be repeated.")] = None,
    blocks: SampleOption = None,
    gauss_newton: Annotated[bool, typer.Option(help="Of the Gauss-Newton matrix in place of the Hessian.")] = False,
    probes: ProbesOption = PROBES,
    steps: StepsOption = STEPS,
    trace_products: Annotated[int, typer.Option(help="Products that the trace of each block takes; 0: cheaply.")] = 30,
    batches: BatchesOption = 1,
    batch_tokens: BatchTokensOption = BATCH_TOKENS,
    dtype: DtypeOption = "float32",
    batch_norm: BatchNormOption = "eval",
    seed: SeedOption = 0,
    along: AlongOption = "adamw",
    corpus: CorpusOption = None,
    tokenizer: TokenizerOption = None,
    context: ContextOption = None,
    figure: FigureOption = None,
    publish: PublishOption = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Extreme eigenvalues, trace and root mean square of each block's Hessian, with errors over probes."""
    import pandas as pd

    from algoprogress.ablations.probes import Spectra
    from algoprogress.analysis.curvature.frames import block_table, densities

    probe = _checked(
        Spectra,
        matrix="gauss_newton" if gauss_newton else "hessian",
        by=by,
        blocks=tuple(block or ()),
        sample=blocks,
        probes=probes,
        steps=steps,
        trace_products=trace_products,
        batches=batches,
        batch_tokens=batch_tokens,
        dtype=dtype,
        batch_norm=batch_norm,
        seed=seed,
    )
    seen = _observe(probe, subject, at, along, seed, (corpus, tokenizer, context), store, publish)
    table = pd.concat([block_table(one.rows).assign(at=one.step) for one in seen], ignore_index=True)
    if figure is not None:
        from algoprogress.analysis.figures.curvature import block_spectra

        curves = pd.concat([densities(one.rows).assign(at=one.step) for one in seen], ignore_index=True)
        _draw(figure, block_spectra, curves, height=max(3.0, 0.3 * table["block"].nunique()))
    emit(_first(table, "at"), as_json)


@curvature_app.command()
def heterogeneity(
    subject: Subject,
    at: AtOption = "init",
    sigma: Annotated[float, typer.Option(help="Width of the kernel; default: the literature's.")] = 1e-5**0.5,
    points: Annotated[int, typer.Option(min=100, help="Of the grid; default: the literature's.")] = 50_000,
    blocks: SampleOption = None,
    probes: ProbesOption = PROBES,
    steps: StepsOption = STEPS,
    batches: BatchesOption = 1,
    batch_tokens: BatchTokensOption = BATCH_TOKENS,
    dtype: DtypeOption = "float32",
    batch_norm: BatchNormOption = "eval",
    seed: SeedOption = 0,
    along: AlongOption = "adamw",
    corpus: CorpusOption = None,
    tokenizer: TokenizerOption = None,
    context: ContextOption = None,
    figure: FigureOption = None,
    publish: PublishOption = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """How far apart the spectra of the weights are: Jensen-Shannon divergence, and spread of largest eigenvalues."""
    if not sigma > 0:
        raise ValueError(f"--sigma is the width of a kernel and above 0, not {sigma}")
    import pandas as pd

    from algoprogress.ablations.probes import Spectra
    from algoprogress.analysis.curvature.frames import heterogeneity_of, pairs_of

    measured = {
        "batches": batches,
        "batch_tokens": batch_tokens,
        "dtype": dtype,
        "batch_norm": batch_norm,
        "seed": seed,
    }
    probe = _checked(Spectra, sample=blocks, probes=probes, steps=steps, **measured)
    seen = _observe(probe, subject, at, along, seed, (corpus, tokenizer, context), store, publish)
    table, pairs = (
        pd.concat([of(one.rows, sigma, points).assign(at=one.step) for one in seen], ignore_index=True)
        for of in (heterogeneity_of, pairs_of)
    )
    if figure is not None:
        from algoprogress.analysis.figures.curvature import pair_map

        _draw(figure, pair_map, pairs, width=6.6, height=5.4)
    if as_json:
        emit({"heterogeneity": records(_first(table, "at")), "pairs": records(pairs)}, True)
    else:
        emit(_first(table, "at"), False)


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
    batch_norm: BatchNormOption = "eval",
    seed: SeedOption = 0,
    along: AlongOption = "adamw",
    corpus: CorpusOption = None,
    tokenizer: TokenizerOption = None,
    context: ContextOption = None,
    figure: FigureOption = None,
    publish: PublishOption = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Directional sharpness of the update that each optimizer would take, all fed the gradients of one training."""
    import pandas as pd

    from algoprogress.ablations.probes import Sharpness
    from algoprogress.analysis.curvature.ratios import along_updates, with_ratios

    names = tuple(name.strip() for name in optimizer.split(","))
    measured = {"batches": batches, "batch_tokens": batch_tokens, "dtype": dtype, "batch_norm": batch_norm}
    probe = _checked(Sharpness, optimizers=names, clip=clip, **measured)
    seen = _observe(probe, subject, at, along, seed, (corpus, tokenizer, context), store, publish)
    rows = pd.concat([one.rows.assign(at=one.step, loss=one.loss) for one in seen], ignore_index=True)
    table, curves = with_ratios(rows, names[0], by=["at"]), along_updates(rows)
    if figure is not None:
        from algoprogress.analysis.figures.curvature import loss_along_updates

        _draw(figure, loss_along_updates, curves)
    shown = _first(table.drop(columns="loss_along"), "at", "update_of", "loss")
    if as_json:
        emit({"sharpness": records(shown), "loss_along": records(curves)}, True)
    else:
        emit(shown, False)


def _first(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """These columns before the others."""
    return table[[*columns, *(c for c in table.columns if c not in columns)]]


def _checked(kind: type[Any], **fields: Any) -> Any:
    """A probe; what is wrong with it is said of the option."""
    from pydantic import ValidationError

    try:
        return kind(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + "-".join(map(str, first["loc"][:1])).replace("_", "-")
        message = str(first["msg"]).removeprefix("Value error, ")
        raise ValueError(f"{option}: {message}, not {first['input']!r}") from None


def _observe(
    probe: Probe,
    subject: str,
    at: str,
    along: str,
    seed: int,
    read: tuple[str | None, str | None, int | None],
    store: str | None,
    publish: bool,
) -> list[Seen]:
    """The probe at each step; a preset is trained as far as is asked for."""
    import torch

    from algoprogress.pipeline.bookkeeping import peak_memory
    from algoprogress.pipeline.curvature.observe import observe
    from algoprogress.pipeline.curvature.subject import doubts, spec_of, steps_of
    from algoprogress.pipeline.curvature.teller import teller
    from algoprogress.pipeline.data import open_tokens
    from algoprogress.pipeline.policy import choose
    from algoprogress.results.record import is_run_id

    named, there = steps_of(at), open_store(store)
    if "final" in named and not is_run_id(subject):
        raise ValueError(f"{subject} is no run and has no final step: say at which step, such as --at 100")
    numbers = [step for step in named if isinstance(step, int)]
    spec = spec_of(subject, there, max([0, *numbers]) + (probe.kind == "sharpness"), along, seed, *read)
    steps = sorted({spec.steps if step == "final" else int(step) for step in named})
    for doubt in doubts(spec, there):
        note(f"warning: {doubt}")
    data = spec.data

    def tokens() -> Any:
        return open_tokens(data.corpus, data.corpus_sha256, data.tokenizer)

    with teller() as told:
        seen = observe(spec, [(probe, steps)], tokens, choose("cpu", spec.dtype), told, there if publish else None)
    gibibytes = peak_memory(torch.device("cpu")) / 2**30
    note(f"{spec.n_params_total:,} parameters; {gibibytes:.3g} GiB of memory at most")
    return seen


def _draw(path: Path, plot: Any, table: pd.DataFrame, **size: float) -> None:
    """A figure for each step: their number goes into the name where there are several."""
    steps = list(dict.fromkeys(table["at"]))
    for step in steps:
        name = path if len(steps) == 1 else path.with_name(f"{path.stem}-{step}{path.suffix}")
        draw_to(name, plot, table[table["at"] == step], **size)
