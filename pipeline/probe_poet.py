"""Does POET do on a laptop what its paper says? Three questions, each a few dozen seconds to two minutes of one core.

`python -m algoprogress.pipeline.probe_poet [spectrum] [merging] [phases]` prints the tables of docs/poet.md.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
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
    from algoprogress.pipeline.data import Tokens

WIDTH, STEPS, BATCH_TOKENS = 48, 600, 512  # the batch of the study `demo` at 1e11 and 3e11 FLOP
ADAMW_RATES = (0.005, 0.01, 0.02)  # each sweep has its best rate inside
POET_RATES = (0.006, 0.012, 0.024)
MERGES = (10, 50, 200)  # T_m
SEEDS = 3  # of the best rate, where two losses are close
PHASE_WIDTH, PHASE_STEPS, PHASE_RATE, PHASE_LOOKS = 32, 1200, 0.01, 25

Rows = list[dict[str, Any]]


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


def best(tokens: Tokens, data: Data, rates: Iterable[float], poet: POET | None) -> dict[str, Any]:
    """The rate of least loss, with the spectrum of its weights at the start and at the end."""
    found = []
    for rate in rates:
        one = spec(data, WIDTH, STEPS, rate, poet)
        record, looks = watch(one, tokens, every=STEPS)
        first, last = by_step(looks).iloc[0], by_step(looks).iloc[-1]
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
    return min(found, key=lambda row: row["loss"])


def kept_with_adam(one: RunSpec) -> int:
    """Numbers kept from step to step for the linear layers but the output layer: weights or W0 and Q, and moments."""
    shapes = linear_shapes(one.architecture, one.data.vocab_size, one.data.context)
    if isinstance(one.reparameterization, POET):
        return one.reparameterization.n_kept_with_adam(shapes)
    return sum(3 * m * n * stacked for m, n, stacked in shapes.values())


def spectrum(tokens: Tokens, data: Data) -> Rows:
    """Does POET keep the singular values that AdamW changes?"""
    arms = {
        "adamw": None,
        "poet_bs, k = 3": POETBlockStochastic(block=16, merge_every=50),
        "poet_bs, exact": POETBlockStochastic(block=16, merge_every=50, order=None),
        "poet_fs, k = 3": POETFullyStochastic(fraction=0.5, merge_every=50),
    }
    return [{"arm": n} | best(tokens, data, POET_RATES if p else ADAMW_RATES, p) for n, p in arms.items()]


def merging(tokens: Tokens, data: Data) -> Rows:
    """Is merging every 10 steps worse than every 50?"""
    rows = []
    for merge_every in MERGES:
        poet = POETBlockStochastic(block=16, merge_every=merge_every)
        found = best(tokens, data, POET_RATES, poet)
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
    return rows


def turning(tokens: Tokens, data: Data, order: int | None) -> dict[str, Any]:
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
        return row | {"settled": None, "at_rest": None, "cone": None, "note": str(none)}
    return row | {"settled": found.settled, "at_rest": found.at_rest, "cone": round(found.cone, 3), "note": ""}


def phase_dates(tokens: Tokens, data: Data) -> Rows:
    """When does a rotation settle on a cone, and when does it come to rest?"""
    return [turning(tokens, data, order) for order in (3, None)]


QUESTIONS: dict[str, Callable[[Tokens, Data], Rows]] = {
    "spectrum": spectrum,
    "merging": merging,
    "phases": phase_dates,
}


def main(asked: list[str]) -> None:
    from algoprogress.pipeline.data import default_corpus, open_tokens, resolve
    from algoprogress.pipeline.device import prepare
    from algoprogress.pipeline.output import emit, note

    for name in asked:
        if name not in QUESTIONS:
            raise SystemExit(f"unknown question {name!r}; known: {', '.join(QUESTIONS)}")
    prepare("cpu")
    corpus = resolve(default_corpus(note))
    tokens = open_tokens(corpus.name, corpus.sha256, DATA.tokenizer)
    data = DATA.model_copy(update={"corpus": corpus.name, "corpus_sha256": corpus.sha256})
    for name in asked or QUESTIONS:
        print(QUESTIONS[name].__doc__)
        emit(QUESTIONS[name](tokens, data), False)


if __name__ == "__main__":
    main(sys.argv[1:])
