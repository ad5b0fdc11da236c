"""A sweep gives the best rate with an interval, a law gives it at other sizes, and main runs wait for both."""

import math
import random
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from algoprogress.ablations.architectures.lstm import LSTM
from algoprogress.ablations.optimizers.momentum import Momentum
from algoprogress.ablations.refine import most_added, refine
from algoprogress.ablations.spec import Data, RunSpec
from algoprogress.ablations.study import Entry, Study, Sweep, studies
from algoprogress.ablations.tuning import Tuning, between_sizes, parabola, rate_for, tuned_arm
from algoprogress.analysis.tuning_tables import care_table, tuning_table

DATA = Data(corpus_sha256="ab" * 32)
WIDTHS, LARGE = (16, 32), (32, 128)


def entry(rate: float, width: int, seed: int = 0, stage: str = "sweep") -> Entry:
    spec = RunSpec(architecture=LSTM(width=width), tokens=8192, learning_rate=rate, data=DATA, seed=seed)
    return Entry(spec=spec, compute_budget=1e6 * width**2, stage=stage)  # type: ignore[arg-type]


def study(rates: tuple[float, ...] = (0.01, 0.02, 0.04), **changes: object) -> Study:
    sweeps = tuple(entry(rate, width) for width in WIDTHS for rate in rates)
    mains = tuple(entry(0.5, width, seed, "main") for width in LARGE for seed in (0, 1))
    arms = {"old": sweeps, "new": tuple(e.model_copy(update={"spec": optimized(e.spec)}) for e in sweeps)}
    main = {"old": mains, "new": tuple(e.model_copy(update={"spec": optimized(e.spec)}) for e in mains)}
    fields = {"name": "s", "question": "q", "baseline": "old", "arms": arms, "main": main, "tuning": Tuning()}
    return Study(**(fields | changes))  # type: ignore[arg-type]


def optimized(spec: RunSpec) -> RunSpec:
    return spec.model_copy(update={"clip": 0.5})


def lossy(exponent: float, at_one: float) -> Callable[[RunSpec], float]:
    """A parabola in log rate with its vertex at at_one n_params^exponent; diverged at rates of 1 and more."""

    def loss(spec: RunSpec) -> float:
        if spec.learning_rate >= 1:
            return math.inf
        best = at_one * spec.n_params**exponent
        return 2 + 0.1 * math.log(spec.learning_rate / best) ** 2 + 1e-3 * spec.seed

    return loss


def finish(start: Study, loss: Callable[[RunSpec], float], order: random.Random | None = None) -> Study:
    known: dict[str, float] = {}
    for _ in range(300):
        now = refine(start, known)
        missing = [(i, s) for i, s in now.specs().items() if i not in known]
        if not missing:
            return now
        known |= {i: loss(s) for i, s in ([order.choice(missing)] if order else missing)}
    raise AssertionError("the study does not end")


def test_the_vertex_of_an_exact_parabola_is_found_between_the_rates_tried():
    rates = [0.01, 0.02, 0.04, 0.08]
    at, stderr, residual = parabola(rates, [3 + math.log(r / 0.027) ** 2 for r in rates])
    assert math.exp(at) == pytest.approx(0.027)
    assert stderr > 0
    assert residual == pytest.approx(0, abs=1e-20)


def test_the_interval_of_the_vertex_covers_it_as_often_as_it_says():
    rng, rates, noise = np.random.default_rng(0), [0.01 * 2**k for k in range(5)], 0.007
    covered = []
    for _ in range(400):
        losses = {r: 3 + 0.1 * math.log(r / 0.045) ** 2 + noise * rng.standard_normal() for r in rates}
        (size,) = tuned_arm([(1e9, 1000, losses)]).sweep
        covered.append(size.low <= 0.045 <= size.high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.04)


def test_a_vertex_lies_between_the_neighbours_of_the_best_rate_however_crooked_the_losses():
    at, _, _ = parabola([1, 2, 4, 8, 16], [3.0, 2.9, 2.0, 5.0, 5.1])
    assert math.log(2) < at < math.log(8)


def test_beside_a_diverged_run_the_best_rate_is_itself():
    at, _, _ = parabola([1, 2, 4], [3.0, 2.0, math.inf])
    assert math.exp(at) == pytest.approx(2)


def test_a_known_law_of_the_best_rate_is_recovered():
    sizes = [(1e9 * n, n, {r: math.log(r / (3.0 * n**-0.4)) ** 2 for r in np.geomspace(0.01, 1, 9)}) for n in
             (1000, 5000, 20_000)]  # fmt: skip
    arm = tuned_arm(sizes)
    assert arm.exponent == pytest.approx(-0.4)
    assert arm.coefficient == pytest.approx(3.0)
    assert rate_for(arm, 100_000) == pytest.approx(3.0 * 100_000**-0.4, rel=0.05)


def test_one_size_gives_one_rate_for_all():
    arm = tuned_arm([(1e9, 1000, {0.01: 2.1, 0.02: 2.0, 0.04: 2.1})])
    assert arm.exponent == 0
    assert rate_for(arm, 10**6) == 0.02


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(ValueError, match="no size was swept"):
        tuned_arm([])
    with pytest.raises(ValueError, match=r"every rate from 1 to 2 diverged at 1,000 parameters"):
        tuned_arm([(1e9, 1000, {1.0: math.inf, 2.0: math.inf})])


def test_main_runs_wait_for_the_sweep_of_their_own_arm():
    start = study()
    known = {e.spec.run_id: lossy(0, 0.02)(e.spec) for e in start.arms["old"]}
    half = refine(start, known)
    assert [e.stage for e in half.arms["old"]].count("main") == 4
    assert {e.stage for e in half.arms["new"]} == {"sweep"}
    assert list(half.main) == ["new"]
    assert list(half.tuned) == ["old"]


def test_main_runs_have_the_rate_of_the_law_at_their_size():
    done = finish(study(), lossy(-0.3, 0.4))
    for arm, entries in done.arms.items():
        mains = [e for e in entries if e.stage == "main"]
        assert len(mains) == 4
        for e in mains:
            assert e.spec.learning_rate == pytest.approx(0.4 * e.spec.n_params**-0.3, rel=0.05), arm
        assert {c.learning_rate for c in done.tuned[arm].chosen} == {e.spec.learning_rate for e in mains}


@pytest.mark.parametrize("vertex", [0.0005, 0.3])
def test_a_sweep_is_widened_until_its_best_rate_is_no_edge(vertex):
    done = finish(study(), lossy(0, vertex))
    for found in done.tuned.values():
        assert not found.at_edge
        assert all(min(s.rates) < s.vertex < max(s.rates) for s in found.sweep)


def test_an_arm_whose_best_rate_stays_at_an_edge_has_no_main_runs():
    done = finish(study(tuning=Tuning(extensions=1)), lossy(0, 0.0005))
    assert all(found.at_edge and not found.chosen for found in done.tuned.values())
    assert set(done.main) == {"old", "new"}
    assert {e.stage for entries in done.arms.values() for e in entries} == {"sweep"}


def test_rates_that_all_diverge_are_followed_down():
    done = finish(study(rates=(1.0, 2.0, 4.0)), lossy(0, 0.1))
    assert not done.main


def test_the_order_in_which_runs_end_changes_nothing():
    at_once = finish(study(), lossy(-0.3, 0.4))
    for seed in range(5):
        assert finish(study(), lossy(-0.3, 0.4), random.Random(seed)) == at_once


def test_no_arm_holds_a_run_twice_when_the_law_meets_a_rate_of_the_sweep():
    done = finish(study(), lossy(0, 0.02))
    for entries in done.arms.values():
        assert len({e.spec.run_id for e in entries}) == len(entries)
        assert any(e.stage == "main" and e.spec.seed == 0 and e.spec.architecture.width == 32 for e in entries)


def test_what_may_still_be_added_is_no_less_than_what_is():
    start = study()
    done = finish(start, lossy(0, 0.3))
    assert len(list(done.entries())) - len(list(start.entries())) <= most_added(start)


def test_a_study_keeps_its_sweeps_with_it():
    stored = finish(study(), lossy(-0.3, 0.4)).stored()
    assert {e["stage"] for e in stored["arms"]["old"]} == {"sweep", "main"}
    assert stored["tuning"]["old"]["chosen"][0]["learning_rate"] > 0
    assert stored["tuning"]["old"]["sweep"][0]["rates"] == [0.01, 0.02, 0.04, 0.08]


def test_a_study_is_swept_at_every_budget_or_tuned_but_not_both():
    with pytest.raises(ValidationError, match="not both"):
        study(sweep=Sweep())
    with pytest.raises(ValidationError, match="newer is no arm"):
        study(against={"newer": "old"})


def test_models_smaller_than_those_swept_have_the_rate_of_the_smallest():
    arm = tuned_arm([(1e9, n, {r: math.log(r / (3.0 * n**-0.4)) ** 2 for r in np.geomspace(0.01, 1, 9)}) for n in
                     (1000, 5000)])  # fmt: skip
    assert rate_for(arm, 10) == rate_for(arm, 1000) > rate_for(arm, 5000) > rate_for(arm, 25_000)


def test_a_best_rate_beside_a_diverged_run_is_known_to_one_step_and_weighs_as_little_in_the_law():
    arm = tuned_arm([(1e9, 1000, {0.1: 3.0, 0.2: 2.0, 0.4: math.inf})])
    (size,) = arm.sweep
    assert (size.low, size.vertex, size.high) == pytest.approx((0.1, 0.2, 0.4))


def test_the_scatter_of_sizes_beyond_their_errors_is_recovered_on_average():
    rng, x, stderr = np.random.default_rng(0), np.linspace(7, 12, 8), np.full(8, 0.05)
    found = [
        between_sizes(x, 1 - 0.3 * x + 0.05 * rng.standard_normal(8) + 0.2 * rng.standard_normal(8), stderr)
        for _ in range(2000)
    ]
    assert np.mean(found) == pytest.approx(0.2**2, rel=0.05)


def test_of_equal_errors_the_scatter_is_the_residual_variance_less_theirs():
    x, y = np.array([6.0, 7.5, 9.0, 11.0]), np.array([0.1, 0.9, -0.4, 0.3])
    residual = ((y - np.polyval(np.polyfit(x, y, 1), x)) ** 2).sum() / 2
    assert between_sizes(x, y, np.full(4, 0.1)) == pytest.approx(residual - 0.01)


def test_two_sizes_and_sizes_that_fit_a_line_have_no_scatter():
    x = np.array([7.0, 9.0, 11.0])
    assert between_sizes(x[:2], np.array([0.0, 5.0]), np.array([0.1, 0.1])) == 0
    assert between_sizes(x, 1 - 0.3 * x + np.array([0.05, -0.05, 0.05]), np.full(3, 0.1)) == 0
    assert between_sizes(np.full(3, 7.0), np.array([0.0, 1.0, 2.0]), np.full(3, 0.1)) == 0


def test_one_precise_size_does_not_lead_the_law_away_from_the_others_when_sizes_scatter():
    # the sweeps of a Transformer at three sizes: the two large ones are sharp, and the law must not miss the small one
    arm = tuned_arm([
        (1e10, 3280, {0.005: 2.6628, 0.01: 2.6204, 0.02: 2.6070, 0.04: 2.6257}),
        (1e11, 12_704, {0.005: 2.4286, 0.01: 2.3024, 0.02: 2.5446}),
        (3e11, 28_272, {0.005: 2.1815, 0.01: 2.1134, 0.02: 2.5286}),
    ])  # fmt: skip
    small, *_ = arm.sweep
    assert small.low < rate_for(arm, 3280) < small.high
    for size in arm.sweep:
        assert rate_for(arm, size.n_params) == pytest.approx(size.vertex, rel=0.15)


def bent(spec: RunSpec) -> float:
    """The best rate triples from the smaller size swept to the larger, which leads far beyond the sweep."""
    best = 0.02 if spec.architecture.width == WIDTHS[0] else 0.06
    return 2 + 0.1 * math.log(spec.learning_rate / best) ** 2


def test_a_sweep_is_widened_until_the_rates_of_main_runs_are_inside_it_too():
    start = study(rates=(0.005, 0.01, 0.02, 0.04, 0.08))
    done = finish(start, bent)
    assert not done.main
    for found in done.tuned.values():
        assert not found.beyond
        assert not found.at_edge
        assert max(c.learning_rate for c in found.chosen) > 5 * found.sweep[-1].vertex
        for c in found.chosen:
            near = found.sweep[found.nearest(c.n_params)]
            assert near.rates[0] < c.learning_rate < near.rates[-1]


def test_a_law_that_leads_out_of_the_sweep_even_then_leaves_the_arm_without_main_runs_and_says_which_rate():
    done = finish(study(rates=(0.005, 0.01, 0.02, 0.04, 0.08), tuning=Tuning(extensions=2)), bent)
    for found in done.tuned.values():
        assert not found.at_edge
        assert {c.n_params for c in found.beyond} == {entry(1, LARGE[1]).spec.n_params}
        assert f"{found.beyond[0].learning_rate:g} at {found.beyond[0].n_params:,} parameters" in found.doubt()
    assert set(done.main) == {"old", "new"}


def test_the_order_in_which_runs_end_changes_nothing_where_the_law_widens_a_sweep():
    start = study(rates=(0.005, 0.01, 0.02, 0.04, 0.08))
    at_once = finish(start, bent)
    for seed in range(3):
        assert finish(start, bent, random.Random(seed)) == at_once
    assert len(list(at_once.entries())) - len(list(start.entries())) <= most_added(start)


def test_a_size_of_a_single_rate_is_no_sweep_that_could_be_too_narrow():
    done = finish(study(rates=(0.02,)), lossy(0, 0.02))
    assert not done.main
    assert all(not found.beyond and not found.doubt() for found in done.tuned.values())


def with_momentum(spec: RunSpec, momentum: float) -> RunSpec:
    return spec.model_copy(update={"optimizer": Momentum(momentum=momentum)})


def of_momenta(momenta: tuple[float, ...] = (0.9, 0.95)) -> Study:
    """The sweep of the study above at each momentum, its rates of the same longest steps."""
    base = study()

    def at(e: Entry, momentum: float) -> Entry:
        rate = e.spec.learning_rate * (1 - momentum) / 0.1 if e.stage == "sweep" else 0.5
        spec = with_momentum(e.spec.model_copy(update={"learning_rate": rate}), momentum)
        return e.model_copy(update={"spec": spec})

    arms = {arm: tuple(at(e, m) for m in momenta for e in entries) for arm, entries in base.arms.items()}
    main = {arm: tuple(at(e, momenta[0]) for e in entries) for arm, entries in base.main.items()}
    return base.model_copy(update={"arms": arms, "main": main})


def heavy(best: float) -> Callable[[RunSpec], float]:
    """Lowest at a momentum of `best`, and there and elsewhere at a longest step of .2."""

    def loss(spec: RunSpec) -> float:
        momentum = spec.optimizer.momentum  # type: ignore[attr-defined]
        step = spec.learning_rate / (1 - momentum)
        return 2 + 0.1 * math.log(step / 0.2) ** 2 + abs(momentum - best)

    return loss


@pytest.mark.parametrize("best", [0.9, 0.95])
def test_main_runs_have_the_best_momentum_at_its_own_rate(best):
    done = finish(of_momenta(), heavy(best))
    assert not done.main
    for arm, found in done.tuned.items():
        assert found.momentum == best
        assert [r.momentum for r in found.rejected] == [m for m in (0.9, 0.95) if m != best]
        for e in (e for e in done.arms[arm] if e.stage == "main"):
            assert e.spec.optimizer.momentum == best  # type: ignore[attr-defined]
            assert e.spec.learning_rate == pytest.approx(0.2 * (1 - best), rel=0.05)
        sizes = [(e.spec.optimizer.momentum, e.spec.n_params) for e in done.arms[arm] if e.stage == "sweep"]  # type: ignore[attr-defined]
        assert len(set(sizes)) == 4, "two momenta at two sizes"


def test_the_order_in_which_runs_of_several_momenta_end_changes_nothing():
    at_once = finish(of_momenta(), heavy(0.95))
    for seed in range(3):
        assert finish(of_momenta(), heavy(0.95), random.Random(seed)) == at_once
    assert len(list(at_once.entries())) - len(list(of_momenta().entries())) <= most_added(of_momenta())


def test_a_study_keeps_the_sweeps_of_all_its_momenta_and_nothing_of_them_where_there_is_one():
    kept = finish(of_momenta(), heavy(0.95)).stored()["tuning"]["old"]
    assert (kept["momentum"], [r["momentum"] for r in kept["rejected"]]) == (0.95, [0.9])
    assert not {"momentum", "rejected"} & set(finish(study(), lossy(-0.3, 0.4)).stored()["tuning"]["old"])


def test_the_studies_sweep_the_momentum_of_sgd_at_steps_of_one_length():
    swept = [e.spec for e in studies["optimizer_swap"]().arms["momentum"]]
    by = {m: sorted({s.learning_rate for s in swept if s.optimizer.momentum == m}) for m in (0.9, 0.95, 0.98)}  # type: ignore[attr-defined]
    assert [rate / (1 - 0.98) for rate in by[0.98]] == pytest.approx([rate / (1 - 0.9) for rate in by[0.9]])
    assert len({s.optimizer for s in (e.spec for e in studies["optimizer_swap"]().arms["muon"])}) == 1


def test_the_care_table_counts_the_runs_of_every_momentum():
    done = finish(of_momenta(), heavy(0.95))
    facts = [{"arm": arm, "run_id": e.spec.run_id, "stage": e.stage, "compute": e.spec.compute}
             for arm, e in done.entries()]  # fmt: skip
    stored = done.stored()
    care = care_table(stored, pd.DataFrame(facts)).set_index("arm")
    swept = sum(e.stage == "sweep" for e in done.arms["old"])
    assert care.loc["old", "sweep_runs"] == swept
    assert care.loc["old", "momenta"] == 2
    assert care.loc["old", "main_at_edge"] == 0
    assert care.loc["old", "rates_per_size"] * 4 <= swept + 4
    tuned = tuning_table(stored)
    assert set(tuned["momentum"]) == {0.9, 0.95}
    assert tuned.loc[tuned["momentum"] == 0.9, "exponent"].isna().all()
