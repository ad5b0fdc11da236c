"""A study with a tuning stage, from nothing to a full store, interrupted in the sweep, between stages and after."""

from __future__ import annotations

import json

import pytest

from algoprogress.ablations.study import Study
from algoprogress.ablations.tuning import Tuning
from algoprogress.pipeline.executors.inline import InlineExecutor
from algoprogress.pipeline.plan import plan, refined, resolve
from algoprogress.pipeline.progress import Progress
from algoprogress.pipeline.submit import submit
from algoprogress.results import Store

SCIENCE = ["loss", "loss_se", "compute", "tokens", "learning_rate", "seed", "arm", "stage"]
RATES = (0.003, 0.03, 0.3)


@pytest.fixture
def tuned(tiny_study) -> Study:
    """Two arms, swept at one size and trained at two budgets."""
    arms, main = {}, {}
    for arm, entries in tiny_study.arms.items():
        small = [e for e in entries if e.compute_budget == 2e8 and e.spec.seed == 0]
        arms[arm] = tuple(
            e.model_copy(update={"spec": e.spec.model_copy(update={"learning_rate": rate}), "stage": "sweep"})
            for e in small
            for rate in RATES
        )
        main[arm] = entries
    return resolve(tiny_study.model_copy(update={"arms": arms, "main": main, "tuning": Tuning(factor=10.0)}))


class Interrupted(InlineExecutor):
    """Ends as by Ctrl-C after so many runs."""

    runs = 0

    def start(self, task):
        if self.runs == 0:
            raise KeyboardInterrupt
        self.runs -= 1
        super().start(task)


def science(store: Store):
    runs = store.runs("tiny", status=None)
    return runs.sort_values(["arm", "run_id"]).set_index("run_id")[SCIENCE]


@pytest.fixture
def uninterrupted(tuned, tmp_path) -> Store:
    store = Store(tmp_path / "uninterrupted")
    summary = submit(tuned, store, InlineExecutor, Progress())
    assert not summary.failed
    assert not summary.waiting
    return store


def test_both_stages_are_trained_and_kept(tuned, uninterrupted):
    runs = science(uninterrupted)
    assert (runs.stage == "main").sum() == 8
    assert (runs.stage == "sweep").sum() >= 6
    stored = uninterrupted.study("tiny")
    for arm, found in stored["tuning"].items():
        (size,) = found["sweep"]
        assert not size["at_edge"]
        assert min(size["rates"]) < size["vertex"] < max(size["rates"])
        chosen = {c["learning_rate"] for c in found["chosen"]}
        assert chosen == set(runs[(runs.arm == arm) & (runs.stage == "main")].learning_rate)
    assert submit(tuned, uninterrupted, InlineExecutor, Progress()).trained == 0


@pytest.mark.parametrize(
    ("after", "waiting"), [(2, 2), (8, 1), (12, 0)], ids=["in the sweeps", "between the stages", "in the main runs"]
)
def test_an_interruption_in_either_stage_or_between_them_changes_nothing(
    tuned, uninterrupted, tmp_path, after, waiting
):
    store = Store(tmp_path / "interrupted")

    def interrupted() -> Interrupted:
        executor = Interrupted()
        executor.runs = after
        return executor

    with pytest.raises(KeyboardInterrupt):
        submit(tuned, store, interrupted, Progress())
    assert 0 < len(store.run_ids()) < len(uninterrupted.run_ids())
    assert len(refined(store, tuned).main) == waiting, "arms that wait for their sweep"
    submit(tuned, store, InlineExecutor, Progress())
    assert store.run_ids() == uninterrupted.run_ids()
    assert science(store).equals(science(uninterrupted))
    both = (store.study("tiny"), uninterrupted.study("tiny"))
    assert both[0]["tuning"] == both[1]["tuning"]


def test_a_plan_shows_both_stages_and_what_waits_for_the_first(tuned, uninterrupted, tmp_path):
    rows = plan(tuned, Store(tmp_path / "empty"), seconds=lambda spec: 1.0).rows
    assert list(rows.groupby("stage").size()) == [8, 6]
    waiting = rows[rows.state == "after the sweep"]
    assert (waiting.stage == "main").all()
    assert waiting.learning_rate.isna().all()
    assert waiting.run_id.isna().all()
    done = plan(tuned, uninterrupted, seconds=lambda spec: 1.0)
    assert set(done.rows.state) == {"done"}
    assert done.totals()["pending"] == 0
    fresh = plan(tuned, Store(tmp_path / "empty"), seconds=lambda spec: 1.0).totals()
    assert fresh["runs"] == fresh["pending"] == 14
    assert fresh["sweep_may_add"] >= done.totals()["runs"] - 14


def test_an_arm_whose_sweep_ends_at_an_edge_is_told_of_and_waits(tuned, tmp_path):
    far = {
        arm: tuple(
            e.model_copy(update={"spec": e.spec.model_copy(update={"learning_rate": e.spec.learning_rate * 1e-5})})
            for e in entries
        )
        for arm, entries in tuned.arms.items()
    }
    study = tuned.model_copy(update={"arms": far, "tuning": Tuning(extensions=0)})
    store = Store(tmp_path)
    summary = submit(study, store, InlineExecutor, Progress())
    assert set(summary.waiting) == {"lstm", "modern"}
    assert "widen it" in summary.waiting["lstm"]
    assert summary.trained == 6
    assert set(refined(store, study).main) == {"lstm", "modern"}


def test_paper_scale_is_told_in_hours_of_an_accelerator_and_measures_nothing(cli, tmp_path):
    code, out, _ = cli("plan", "smoke", "--accelerator", "h100", "--utilisation", "0.5", "--store", tmp_path, "--json")
    totals = json.loads(out)["totals"]
    assert code == 0
    assert totals["gpu_hours"] == pytest.approx(totals["compute"] / (989e12 * 0.5) / 3600)
    assert totals["peak_flop_per_second"] == 989e12


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plan", "ablations", "--preset", "huge"], "unknown preset 'huge'; known: smoke, demo, laptop, gpu, paper"),
        (["plan", "smoke", "--preset", "demo"], "the study smoke has one range"),
        (["plan", "smoke", "--accelerator", "abacus"], "unknown accelerator 'abacus'; known: v100, a100, h100"),
        (["plan", "smoke", "--accelerator", "a100", "--utilisation", "1.5"], "not 1.5"),
    ],
)
def test_what_cannot_be_planned_is_refused_with_what_could_be(cli, words, said):
    code, _, err = cli(*words)
    assert code == 2
    assert said in err
