"""Benchmarks: ours and a named peer on equal work, alternating in one process, medians, as a ratio."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from algoprogress.ablations.registry import Registry

ROUNDS = 5

Rows = list[dict[str, Any]]
benchmarks: Registry[Callable[[], Rows]] = Registry("benchmark", __name__)


def compare(
    case: str, ours: Callable[[], Any], peer: Callable[[], Any], target: float, scale: float = 1.0
) -> dict[str, Any]:
    """Median CPU seconds of each, taken in turn; ratio = peer / ours, so that more than 1 is faster than the peer.

    Args:
        scale: how many times the peer's whole work is what `peer` does; the case must say so.
    """
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for work in (ours, peer):
        work()  # warm
    for _ in range(ROUNDS):
        for name, work in (("ours", ours), ("peer", peer)):
            begun = time.process_time()
            work()
            times[name].append(time.process_time() - begun)
    a, b = statistics.median(times["ours"]), scale * statistics.median(times["peer"])
    return {
        "case": case,
        "ours": a,
        "peer": b,
        "ratio": b / a,
        "unit": "CPU s",
        "target": target,
        "holds": b / a >= target,
    }


@benchmarks.register("store")
def store() -> Rows:
    """Writing and reading 100,000 runs beside what a person waits for, and 500 beside pandas on one-row files."""
    from algoprogress.pipeline.bench_store import rows

    return rows()


@benchmarks.register("schedule")
def schedule() -> Rows:
    """What scheduling a run costs, beside Ray Tune: 200 runs that sleep for a second, on two slots."""
    from algoprogress.pipeline.bench_schedule import rows

    return rows()


@benchmarks.register("fit")
def fit() -> Rows:
    """Fits of L = E + A N^-alpha + B D^-beta and their resamples, beside scipy and chinchilla 0.2.0."""
    from algoprogress.pipeline.bench_fit import rows

    return rows()


@benchmarks.register("ensembles")
def ensembles() -> Rows:
    """16 steps of K runs of one shape on one thread: trained together beside one after the other."""
    from algoprogress.pipeline.bench_ensembles import rows

    return rows()


@benchmarks.register("optim")
def optim() -> Rows:
    """Optimizer steps beside torch.optim's."""
    from algoprogress.pipeline.bench_optim import rows

    return rows()


@benchmarks.register("poet")
def poet() -> Rows:
    """A training step with POET, beside the plain model's and beside the product formed on the input."""
    from algoprogress.pipeline.bench_poet import rows

    return rows()


@benchmarks.register("curvature")
def curvature() -> Rows:
    """The spectrum of a model's blocks, beside a straightforward Lanczos and beside hessian-eigenthings."""
    from algoprogress.pipeline.bench_curvature import rows

    return rows()


@benchmarks.register("train")
def train() -> Rows:
    """A training step, beside a plain loop, transformers' GPT-2 bare and in its Trainer, and the machine's limit."""
    from algoprogress.pipeline.bench_train import rows

    return rows()


@benchmarks.register("grid")
def grid() -> Rows:
    """Eight runs on two cores, start-up included, beside a plain loop and transformers' Trainer."""
    from algoprogress.pipeline.bench_grid import rows

    return rows()


@benchmarks.register("growth")
def growth() -> Rows:
    """How the cost of a trained token grows with parameters, tokens in a step, vocabulary, context and workers."""
    from algoprogress.pipeline.bench_growth import rows

    return rows()


@benchmarks.register("levers")
def levers() -> Rows:
    """What each means of speed is worth: a step with it (ours) beside a step without it (peer)."""
    from algoprogress.pipeline.bench_levers import rows

    return rows()


@benchmarks.register("parity")
def parity() -> Rows:
    """Final loss in bfloat16 (ours) beside float32 (peer), the same runs seed by seed."""
    from algoprogress.pipeline.bench_parity import rows

    return rows()


def question(benchmark: Callable[[], Rows]) -> str:
    """What a benchmark asks: its docstring."""
    return " ".join((benchmark.__doc__ or "").split())
