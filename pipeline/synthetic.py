"""Runs that nobody trained, as the store and the scheduler take them: for measuring what is not training."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.ablations.spec import RunSpec
from algoprogress.ablations.study import Entry, Study
from algoprogress.results.schema import RECORD_COLUMNS, SCHEMA_VERSION

CURVE_ROWS = 60  # as many as a training leaves
# L(C) = E + (C / C0)^-alpha, so that losses differ and fall; the numbers mean nothing
FLOOR, SCALE, EXPONENT = 1.7, 1e9, 0.1


@cache
def base() -> RunSpec:
    """The smallest run of the smoke study, on a corpus that need not exist."""
    from algoprogress.ablations.studies.smoke import smoke

    spec = next(entry.spec for _, entry in smoke().entries())
    return spec.model_copy(update={"data": spec.data.model_copy(update={"corpus_sha256": "0" * 64})})


def study(n_runs: int, name: str = "synthetic") -> Study:
    """A study of runs that differ by their seed alone."""
    seeds = (base().model_copy(update={"seed": seed}) for seed in range(n_runs))
    arms = {"only": tuple(Entry(spec=spec) for spec in seeds)}
    return Study(name=name, question="What does it cost to keep this many runs?", baseline="only", arms=arms)


def loss(spec: RunSpec) -> float:
    """What such a run has as its loss, nats/token."""
    noise = np.random.default_rng(spec.seed).normal(0, 0.01)
    return float(FLOOR + (spec.compute / SCALE) ** -EXPONENT + noise)


def record(spec: RunSpec) -> dict[str, Any]:
    """A whole record: what the spec decides, a loss, and for the rest what a record may leave open."""
    return dict.fromkeys(column.name for column in RECORD_COLUMNS) | {
        "schema_version": SCHEMA_VERSION,
        "run_id": spec.run_id,
        "configuration_id": spec.configuration_id,
        "spec": spec.model_dump(mode="json"),
        "status": "done",
        "loss": loss(spec),
        "loss_se": 0.01,
        "train_loss": loss(spec),
        "initial_loss": math.log(spec.data.vocab_size),
        "n_params": spec.n_params,
        "n_params_total": spec.n_params_total,
        "tokens": spec.tokens,
        "steps": spec.steps,
        "compute": spec.compute,
        "corpus": spec.data.corpus,
        "corpus_sha256": spec.data.corpus_sha256,
        "wall_seconds": 1.0,
        "device": "cpu",
        "n_threads": 1,
        "micro_batches": 1,
        "host": "synthetic",
        "started_at": "2026-01-01T00:00:00+00:00",
        "ended_at": "2026-01-01T00:00:01+00:00",
        "attempt": 1,
    }


def curve(spec: RunSpec) -> pd.DataFrame:
    """A training curve with noise, which does not compress better than a real one."""
    rng = np.random.default_rng(spec.seed)
    row = np.arange(1, CURVE_ROWS + 1)
    start, end = math.log(spec.data.vocab_size), loss(spec)
    falling = end + (start - end) * row**-0.5 + rng.normal(0, 0.01, CURVE_ROWS)
    return pd.DataFrame(
        {
            "step": row,
            "tokens": row * spec.batch_tokens,
            "compute": spec.compute * row / CURVE_ROWS,
            "loss": falling,
            "val_loss": falling,
            "val_loss_se": 0.01,
            "learning_rate": spec.learning_rate,
            "grad_norm": rng.uniform(0.1, 1.0, CURVE_ROWS),
            "wall_seconds": np.cumsum(rng.uniform(0.01, 0.03, CURVE_ROWS)),
        }
    )
