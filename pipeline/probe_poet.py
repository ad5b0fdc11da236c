"""Does POET do on a laptop what its paper says? Three questions, each a few dozen seconds to two minutes of one core.

`python -m algoprogress.pipeline.probe_poet [spectrum] [merging] [phases] [--figures DIR]` prints the tables of
docs/poet.md and draws its figures.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from algoprogress.ablations.accounting import linear_shapes
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.reparameterizations.poet import POET
from algoprogress.ablations.reparameterizations.poet_bs import POETBlockStochastic
from algoprogress.ablations.reparameterizations.poet_fs import POETFullyStochastic
from algoprogress.ablations.spec import Data, Evaluation, RunSpec
from algoprogress.ablations.studies.demo import DATA, INIT, VALIDATION_TOKENS
from algoprogress.analysis.phases import phases
from algoprogress.pipeline.probe_spectrum import by_step, watch
from algoprogress.pipeline.trainer import train

if TYPE_CHECKING:
    import pandas as pd

    from algoprogress.pipeline.data import Tokens

WIDTH, STEPS, BATCH_TOKENS = 48, 600, 512  # the batch of the study `demo` at 1e11 and 3e11 FLOP
ADAMW_RATES = (0.005, 0.01, 0.02)  # each sweep has its best rate inside
POET_RATES = (0.006, 0.012, 0.024)
MERGES = (10, 50, 200)  # T_m
SEEDS = 3  # of the best rate, where two losses are close
PHASE_WIDTH, PHASE_STEPS, PHASE_RATE, PHASE_LOOKS = 32, 1200, 0.01, 25

LOOKS = 12  # at the weights of each training
Rows = list[dict[str, Any]]
Answer = tuple[Rows, "pd.DataFrame | None"]  # the table, and what is drawn: [arm, step, ...] of the means over weights


def spec(data: Data, width: int, steps: int, rate: float, poet: POET | None) -> RunSpec:
    """One layer of the demo's Transformer, with a feed-forward width that many blocks divide."""
    return RunSpec(
        architecture=Transformer.preset("modern", width=width, n_layers=1, ff_ratio=3, **INIT),
        tokens=steps * BATCH_TOKENS,
        batch_tokens=BATCH_TOKENS,
        learning_rate=rate,
        reparameterization=poet,
        data=data,
        evaluation=Evaluation(tokens=VALIDATION_TOKENS),
    )


def best(tokens: Tokens, data: Data, rates: Iterable[float], poet: POET | None) -> tuple[dict[str, Any], pd.DataFrame]:
    """The rate of least loss, with the spectrum of its weights at the start and at the end, and on the way."""
    found, curves = [], []
    for rate in rates:
        one = spec(data, WIDTH, STEPS, rate, poet)
        record, looks = watch(one, tokens, every=STEPS // LOOKS)
        curves.append(by_step(looks))
        first, last = curves[-1].iloc[0], curves[-1].iloc[-1]
        loss = record["loss"] if record["status"] == "done" else math.inf
        found.append(
            {
                "learning_rate": rate,
                "loss": round(loss, 3),
                "entropy_start": round(first.svd_entropy, 4),
                "entropy_end": round(last.svd_entropy, 4),
                "largest_drift": float(f"{last.spectrum_drift:.2g}"),
                "energy_start": round(first.hyperspherical_energy, 4),
                "energy_end": round(last.hyperspherical_energy, 4),
                "n_params_trained": one.n_params_trained,
                "n_params_total": one.n_params_total,
                "kept_with_adam": kept_with_adam(one),
            }
        )
    chosen = min(range(len(found)), key=lambda k: found[k]["loss"])
    return found[chosen], curves[chosen]


def kept_with_adam(one: RunSpec) -> int:
    """Numbers kept from step to step for the linear layers but the output layer: weights or W0 and Q, and moments."""
    shapes = linear_shapes(one.architecture, one.data.vocab_size, one.data.context)
    if isinstance(one.reparameterization, POET):
        return one.reparameterization.n_kept_with_adam(shapes)
    return sum(3 * m * n * stacked for m, n, stacked in shapes.values())


def spectrum(tokens: Tokens, data: Data) -> Answer:
    """Does POET keep the singular values that AdamW changes?"""
    arms = {
        "adamw": None,
        "poet_bs, k = 3": POETBlockStochastic(block=16, merge_every=50),
        "poet_bs, exact": POETBlockStochastic(block=16, merge_every=50, order=None),
        "poet_fs, k = 3": POETFullyStochastic(fraction=0.5, merge_every=50),
    }
    found = {n: best(tokens, data, POET_RATES if p else ADAMW_RATES, p) for n, p in arms.items()}
    return [{"arm": n} | row for n, (row, _) in found.items()], _together({n: c for n, (_, c) in found.items()})


def _together(curves: dict[str, pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat([curve.assign(arm=arm) for arm, curve in curves.items()], ignore_index=True)


def merging(tokens: Tokens, data: Data) -> Answer:
    """Is merging every 10 steps worse than every 50?"""
    rows = []
    for merge_every in MERGES:
        poet = POETBlockStochastic(block=16, merge_every=merge_every)
        found, _ = best(tokens, data, POET_RATES, poet)
        again = [
            train(spec(data, WIDTH, STEPS, found["learning_rate"], poet).model_copy(update={"seed": seed}), tokens)
            for seed in range(1, SEEDS)
        ]
        losses = [found["loss"], *(round(run.record["loss"], 3) for run in again)]
        rows.append(
            {
                "merge_every": merge_every,
                "learning_rate": found["learning_rate"],
                "loss": round(sum(losses) / SEEDS, 3),
                "of_seeds": " ".join(map(str, losses)),
                "entropy_end": found["entropy_end"],
            }
        )
    return rows, None


def turning(tokens: Tokens, data: Data, order: int | None) -> tuple[dict[str, Any], pd.DataFrame]:
    """A whole rotation on each side and no merge, as the paper's vector probing has it; its phases, or why none."""
    poet = POETFullyStochastic(fraction=1.0, merge_every=10 * PHASE_STEPS, order=order)
    record, looks = watch(
        spec(data, PHASE_WIDTH, PHASE_STEPS, PHASE_RATE, poet), tokens, every=PHASE_STEPS // PHASE_LOOKS
    )
    means = by_step(looks)
    row = {
        "order": "exact" if order is None else str(order),
        "loss": round(record["loss"], 3),
        "cosine_end": round(means.cosine.iloc[-1], 3),
        "largest_drift": float(f"{means.spectrum_drift.iloc[-1]:.2g}"),
    }
    try:
        found = phases(means.step, means.cosine, means.turn)
    except ValueError as none:
        return row | {"settled": None, "at_rest": None, "cone": None, "note": str(none)}, means
    dated = {"settled": found.settled, "at_rest": found.at_rest, "cone": round(found.cone, 3), "note": ""}
    return row | dated, means


def phase_dates(tokens: Tokens, data: Data) -> Answer:
    """When does a rotation settle on a cone, and when does it come to rest?"""
    found = {f"k = {order}" if order else "exact": turning(tokens, data, order) for order in (3, None)}
    return [row for row, _ in found.values()], _together({arm: means for arm, (_, means) in found.items()})


QUESTIONS: dict[str, Callable[[Tokens, Data], Answer]] = {
    "spectrum": spectrum,
    "merging": merging,
    "phases": phase_dates,
}


def main(asked: list[str]) -> None:
    from algoprogress.pipeline.data import default_corpus, open_tokens, resolve
    from algoprogress.pipeline.device import prepare
    from algoprogress.pipeline.output import emit, note

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=", ".join(QUESTIONS) + "; default: all")
    parser.add_argument("--figures", type=Path, help="folder to draw to, as PNG and SVG")
    given = parser.parse_args(asked)
    for name in given.questions:
        if name not in QUESTIONS:
            parser.error(f"unknown question {name!r}; known: {', '.join(QUESTIONS)}")
    prepare("cpu")
    corpus = resolve(default_corpus(note))
    tokens = open_tokens(corpus.name, corpus.sha256, DATA.tokenizer)
    data = DATA.model_copy(update={"corpus": corpus.name, "corpus_sha256": corpus.sha256})
    for name in given.questions or QUESTIONS:
        print(QUESTIONS[name].__doc__)
        rows, curves = QUESTIONS[name](tokens, data)
        emit(rows, False)
        if given.figures is not None and curves is not None:
            draw_curves(name, rows, curves, given.figures)


def draw_curves(name: str, rows: Rows, curves: pd.DataFrame, folder: Path) -> None:
    """The figure of a question."""
    from algoprogress.analysis.figures import draw, save
    from algoprogress.analysis.figures.poet import cone_plot, entropy_plot

    if name == "spectrum":
        save(draw(entropy_plot, curves), folder / "poet-spectrum")
    else:
        dates = [(row["settled"], row["at_rest"]) for row in rows if row["settled"] is not None]
        save(draw(cone_plot, curves, dates=dates[0] if dates else None), folder / "poet-phases")


if __name__ == "__main__":
    main(sys.argv[1:])
