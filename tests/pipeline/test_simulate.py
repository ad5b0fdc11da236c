"""Runs in thought, scheduled for real: the clock, the window, and a driver that does not grow."""

from __future__ import annotations

import pytest

from algoprogress.pipeline import simulate, synthetic
from algoprogress.pipeline.simulate import PAUSE, flat, paper_scale


def ends(runs, slots, seconds):
    return simulate.simulate(synthetic.study(runs), slots, seconds, lambda executor, ended: None)


def test_equal_runs_take_as_many_rounds_as_they_need():
    done = ends(40, 8, lambda spec: 100.0)
    assert done.busy == 40 * 100.0
    assert done.last == pytest.approx(5 * 100 + 4 * PAUSE, abs=1.0)  # five rounds, and what the driver took


def test_one_long_run_is_the_least_that_a_study_takes():
    done = ends(30, 30, lambda spec: 500.0 if spec.seed == 7 else 1.0)
    assert done.last == pytest.approx(500.0, abs=1.0)


def test_a_driver_that_is_slow_leaves_slots_idle(monkeypatch):
    clock = [0.0]

    def ticking():
        clock[0] += 1.0  # every look at the clock takes a second: so does what happens between two of them
        return clock[0]

    quick = ends(40, 4, lambda spec: 0.01).last
    monkeypatch.setattr(simulate.time, "process_time", ticking)
    assert ends(40, 4, lambda spec: 0.01).last > quick + 2.0


def test_memory_and_work_for_a_run_stay_as_they_were_while_thousands_end():
    rows = flat(2000, 16)
    assert [row["runs"] for row in rows] == list(range(200, 2001, 200))
    assert rows[-1]["memory_mib"] - rows[0]["memory_mib"] < 20
    early, late = (sum(row["driver_ms_per_run"] for row in part) for part in (rows[:5], rows[5:]))
    assert late < 3 * early


def test_the_study_of_paper_scale_has_runs_of_its_own_in_every_arm():
    study = paper_scale()
    assert len(study.arms) == simulate.ARMS
    assert len(study.specs()) == sum(map(len, study.arms.values()))
    budgets = {entry.compute_budget for _, entry in study.entries()}
    assert budgets == set(simulate.BUDGETS)
    for _, entry in study.entries():
        assert entry.spec.compute == pytest.approx(entry.compute_budget, rel=0.2)
