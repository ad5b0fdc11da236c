"""What a sweep adds to a grid once losses are known, on simulated runs whose best rate is known.

A run's loss is a parabola in log rate, so the best rate of a grid of factor 2 is the power of two next to the vertex.
"""

import math
import random
from typing import Any

import pytest

from algoprogress.ablations.architectures.lstm import LSTM
from algoprogress.ablations.refine import refine
from algoprogress.ablations.spec import Data, RunSpec
from algoprogress.ablations.study import Entry, Study, Sweep

DATA = Data(corpus_sha256="ab" * 32)


def entry(rate: float, budget: float | None = 1e9, seed: int = 0, width: int = 32) -> Entry:
    spec = RunSpec(architecture=LSTM(width=width), tokens=8192, learning_rate=rate, data=DATA, seed=seed)
    return Entry(spec=spec, compute_budget=budget)


def grid(rates: tuple[float, ...] = (1.0, 2.0, 4.0), sweep: Sweep | None = None, **arms: Any) -> Study:
    entries = arms or {"base": tuple(entry(rate) for rate in rates)}
    return Study(name="s", question="q", baseline=next(iter(entries)), arms=entries, sweep=sweep or Sweep())


def parabola(vertex: float):
    """Loss of a spec: smallest where the rate is `vertex`, a little different for each seed and width."""

    def loss(spec: RunSpec) -> float:
        offset = 1e-3 * spec.seed + (spec.architecture.width - 32) / 100
        return 2 + math.log2(spec.learning_rate / vertex) ** 2 + offset

    return loss


def finish(study: Study, loss, order: random.Random | None = None) -> tuple[Study, dict[str, float]]:
    """Train until there is nothing left to train, one run at a time when there is an order, else all at once."""
    known: dict[str, float] = {}
    for _ in range(200):
        now = refine(study, known)
        missing = [(i, s) for i, s in now.specs().items() if i not in known]
        if not missing:
            return now, known
        for run_id, spec in [order.choice(missing)] if order else missing:
            known[run_id] = loss(spec)
    raise AssertionError("the sweep does not end")


def rates(study: Study, arm: str = "base") -> list[float]:
    return [e.spec.learning_rate for e in study.arms[arm]]


def test_an_inner_best_rate_ends_the_sweep():
    study, _ = finish(grid(), parabola(2.0))
    assert study == grid()


@pytest.mark.parametrize(
    ("vertex", "added"),
    [(8.0, [8.0, 16.0]), (0.5, [0.5, 0.25]), (2**3.4, [8.0, 16.0]), (4.9, [8.0]), (0.9, [0.5])],
)
def test_a_best_rate_at_the_edge_extends_the_sweep_until_it_is_inside(vertex, added):
    study, _ = finish(grid(), parabola(vertex))
    assert rates(study) == [1.0, 2.0, 4.0, *added]
    best = min(study.arms["base"], key=lambda e: parabola(vertex)(e.spec))
    assert best.spec.learning_rate == 2.0 ** round(math.log2(vertex))


@pytest.mark.parametrize("extensions", [0, 1, 2, 5])
@pytest.mark.parametrize(("vertex", "factor"), [(2.0**40, 2.0), (2.0**-40, 2.0), (2.0**40, 3.0)])
def test_a_sweep_is_extended_at_most_so_many_times(extensions, vertex, factor):
    study, _ = finish(grid(sweep=Sweep(extensions=extensions, factor=factor)), parabola(vertex))
    edge, step = (4.0, factor) if vertex > 1 else (1.0, 1 / factor)
    assert rates(study)[3:] == pytest.approx([edge * step ** (i + 1) for i in range(extensions)])


def test_a_study_without_a_sweep_is_as_it_was_written():
    study = grid().model_copy(update={"sweep": None})
    assert refine(study, dict.fromkeys(study.specs(), 1.0)) is study


@pytest.mark.parametrize("known", [0, 1, 2])
def test_nothing_is_decided_while_losses_are_missing(known):
    study = grid()
    losses = {i: parabola(8.0)(s) for i, s in list(study.specs().items())[:known]}
    assert refine(study, losses) == study


def test_losses_of_other_runs_are_no_matter():
    study = grid()
    assert refine(study, {"0" * 20: 1.0}) == study


def test_diverged_runs_are_not_the_best_and_close_the_edge():
    def loss(spec: RunSpec) -> float:
        return math.inf if spec.learning_rate > 4 else parabola(8.0)(spec)

    study, _ = finish(grid(sweep=Sweep(seeds=2)), loss)
    assert [(e.spec.learning_rate, e.spec.seed) for e in study.arms["base"][3:]] == [(8.0, 0), (4.0, 1)]


def test_a_rung_where_everything_diverged_is_left_alone():
    study, _ = finish(grid(sweep=Sweep(extensions=3, seeds=3)), lambda spec: math.inf)
    assert study.arms == grid().arms


@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_the_best_configuration_is_repeated_with_further_seeds(seeds):
    study, _ = finish(grid(sweep=Sweep(seeds=seeds)), parabola(8.0))
    assert [(e.spec.learning_rate, e.spec.seed) for e in study.arms["base"] if e.spec.seed] == [
        (8.0, seed) for seed in range(1, seeds)
    ]
    assert len({e.spec.configuration_id for e in study.arms["base"] if e.spec.learning_rate == 8.0}) == 1


def test_seeds_that_the_grid_has_already_are_not_added_again():
    study, _ = finish(grid(base=(entry(2.0), entry(2.0, seed=1)), sweep=Sweep(seeds=3)), parabola(2.0))
    assert [e.spec.seed for e in study.arms["base"]] == [0, 1, 2]


@pytest.mark.parametrize(("up_to", "repeated"), [(math.inf, {1e9, 1e10}), (1e9, {1e9}), (1e8, set())])
def test_large_budgets_are_not_repeated(up_to, repeated):
    base = tuple(entry(rate, budget, width=w) for budget, w in ((1e9, 32), (1e10, 64)) for rate in (1.0, 2.0, 4.0))
    study, _ = finish(grid(base=base, sweep=Sweep(seeds=2, seeds_up_to=up_to)), parabola(2.0))
    assert {e.compute_budget for e in study.arms["base"] if e.spec.seed} == repeated


def test_a_run_on_no_ladder_is_repeated_too():
    study, _ = finish(
        grid(base=(entry(1.0, None), entry(2.0, None)), sweep=Sweep(extensions=0, seeds=2)), parabola(1.5)
    )
    assert [e.compute_budget for e in study.arms["base"]] == [None, None, None]


def test_a_single_rate_is_no_sweep_and_is_not_extended():
    study, _ = finish(grid((2.0,)), parabola(64.0))
    assert rates(study) == [2.0]


def test_the_edge_is_that_of_the_best_size():
    # the larger model is worse; its wider range of rates does not make the smaller one's edge an inside
    base = tuple(entry(rate) for rate in (1.0, 2.0)) + tuple(
        entry(rate, width=64) for rate in (0.5, 1.0, 2.0, 4.0, 8.0)
    )

    def loss(spec: RunSpec) -> float:
        return parabola(4.0)(spec) + (10 if spec.architecture.width == 64 else 0)

    study, _ = finish(grid(base=base), loss)
    assert [(e.spec.learning_rate, e.spec.architecture.width) for e in study.arms["base"][len(base) :]] == [
        (4.0, 32),
        (8.0, 32),
    ]


def test_arms_and_rungs_are_refined_each_by_itself():
    arms = {
        "base": (entry(1.0), entry(2.0), entry(1.0, 1e10, width=64), entry(2.0, 1e10, width=64)),
        "other": (entry(4.0, width=48), entry(8.0, width=48)),
    }

    def loss(spec: RunSpec) -> float:
        return parabola({32: 2.7, 64: 0.7, 48: 5.0}[spec.architecture.width])(spec)

    study, known = finish(grid(**arms), loss)
    added = {
        arm: [(e.compute_budget, e.spec.learning_rate) for e in es[len(arms[arm]) :]] for arm, es in study.arms.items()
    }
    assert added == {"base": [(1e9, 4.0), (1e10, 0.5), (1e10, 0.25)], "other": [(1e9, 2.0)]}
    # an arm that has all its losses goes on while another one waits
    part = {i: known[i] for e in arms["other"] for i in [e.spec.run_id]}
    assert len(refine(grid(**arms), part).arms["other"]) == 3
    assert refine(grid(**arms), part).arms["base"] == arms["base"]


@pytest.mark.parametrize("vertex", [0.3, 1.0, 2.0, 5.0, 100.0])
def test_the_order_in_which_runs_end_does_not_matter(vertex):
    study = grid(
        base=tuple(entry(r) for r in (1.0, 2.0, 4.0)) + tuple(entry(r, 1e10, width=64) for r in (1.0, 2.0)),
        other=tuple(entry(r, width=33) for r in (0.5, 1.0)),
        sweep=Sweep(extensions=3, seeds=3, seeds_up_to=1e9),
    )
    final, known = finish(study, parabola(vertex))
    for seed in range(8):
        assert finish(study, parabola(vertex), random.Random(seed)) == (final, known)
    assert refine(study, known) == refine(study, dict(reversed(known.items()))) == final


def test_what_is_added_never_depends_on_later_losses():
    study = grid(sweep=Sweep(extensions=3, seeds=3))
    final, known = finish(study, parabola(9.0))
    ids = [e.spec.run_id for e in final.arms["base"]]
    for n in range(len(ids) + 1):
        part = refine(study, {i: known[i] for i in ids[:n]})
        assert [e.spec.run_id for e in part.arms["base"]] == ids[: len(part.arms["base"])]


def test_an_added_run_is_valid_and_on_its_rung():
    final, _ = finish(grid(sweep=Sweep(seeds=2)), parabola(9.0))
    for e in final.arms["base"]:
        assert RunSpec.model_validate(e.spec.model_dump()) == e.spec
        assert e.compute_budget == 1e9


@pytest.mark.parametrize(
    "fields", [{"factor": 1.0}, {"extensions": -1}, {"seeds": 0}, {"factor": math.nan}, {"seed": 2}]
)
def test_a_sweep_that_makes_no_sense_is_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        Sweep(**fields)
