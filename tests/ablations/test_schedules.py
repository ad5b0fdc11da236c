"""Every schedule rises in a line to 1, never rises again, and ends where it says."""

import itertools
import math

import pytest

from algoprogress.ablations.schedules import WSD, Constant, Cosine, InverseSqrt, Linear, schedules

every = pytest.mark.parametrize("name", list(schedules))
lengths = pytest.mark.parametrize(("warmup", "steps"), [(0.1, 1000), (0.1, 37), (0.25, 8), (0.5, 11), (0.0, 20)])


def factors(schedule, steps: int) -> list[float]:
    return [schedule.factor(step, steps) for step in range(steps)]


@every
@lengths
def test_the_rate_is_positive_and_at_most_the_peak(name, warmup, steps):
    schedule = schedules[name](warmup=warmup)
    found = factors(schedule, steps)
    assert all(0 < f <= 1 for f in found[:-1])
    assert 0 <= found[-1] <= 1
    assert found[-1] > 0 or schedule.final == 0


@every
@lengths
def test_warm_up_is_a_line_from_nothing_to_the_peak(name, warmup, steps):
    schedule = schedules[name](warmup=warmup)
    warm = schedule.warmup_steps(steps)
    assert warm == math.ceil(warmup * steps)
    assert factors(schedule, steps)[:warm] == pytest.approx([(step + 1) / warm for step in range(warm)])
    if warm:
        assert schedule.factor(warm - 1, steps) == 1.0


@every
@lengths
def test_the_rate_never_rises_after_the_peak(name, warmup, steps):
    schedule = schedules[name](warmup=warmup)
    after = factors(schedule, steps)[max(schedule.warmup_steps(steps) - 1, 0) :]
    assert all(b <= a + 1e-15 for a, b in itertools.pairwise(after))


@pytest.mark.parametrize("name", [name for name in schedules if "final" in schedules[name].model_fields])
@pytest.mark.parametrize("final", [None, 0.0, 0.03, 1.0])
@lengths
def test_the_last_step_has_the_final_rate(name, final, warmup, steps):
    schedule = schedules[name](warmup=warmup, **({} if final is None else {"final": final}))
    assert schedule.factor(steps - 1, steps) == pytest.approx(schedule.final, abs=1e-15)


def test_those_that_have_a_final_rate_are_the_decaying_ones():
    assert {"linear", "cosine", "wsd"} <= {name for name in schedules if "final" in schedules[name].model_fields}


@every
@pytest.mark.parametrize("step", [-1, 10, 11])
def test_a_step_outside_the_run_is_refused(name, step):
    with pytest.raises(ValueError, match=f"step {step} is outside a run of 10 steps"):
        schedules[name]().factor(step, 10)


@every
@pytest.mark.parametrize("warmup", [-0.1, 1.0, math.nan])
def test_a_warm_up_that_is_no_share_is_refused(name, warmup):
    with pytest.raises(ValueError, match="warmup"):
        schedules[name](warmup=warmup)


@every
def test_a_run_of_one_step_has_a_rate(name):
    assert schedules[name]().factor(0, 1) == 1.0


def test_constant_is_constant():
    assert set(factors(Constant(warmup=0.0), 30)) == {1.0}


def test_inverse_sqrt_has_halved_at_four_times_the_warm_up():
    schedule = InverseSqrt(warmup=0.1)
    warm = schedule.warmup_steps(1000)
    assert schedule.factor(4 * warm - 1, 1000) == pytest.approx(0.5)
    assert schedule.factor(9 * warm - 1, 1000) == pytest.approx(1 / 3)


@pytest.mark.parametrize(("schedule", "middle"), [(Linear(final=0.2), 0.6), (Cosine(final=0.2), 0.6)])
def test_half_way_the_rate_is_the_mean_of_peak_and_final(schedule, middle):
    warm = schedule.warmup_steps(1000)
    assert schedule.factor(warm + (1000 - warm) // 2 - 1, 1000) == pytest.approx(middle)


def test_wsd_is_constant_until_its_decay_and_then_a_line():
    schedule = WSD(warmup=0.0, decay_share=0.25, final=0.0)
    found = factors(schedule, 200)
    assert set(found[:150]) == {1.0}
    assert found[150:] == pytest.approx([1 - (i + 1) / 50 for i in range(50)], abs=1e-12)
