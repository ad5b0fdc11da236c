"""The runs that are shipped are whole, were tuned fairly, and give their tables at once."""

import functools
import itertools
import math
from pathlib import Path

import pytest

from algoprogress.results import Store

FOLDER = Path(__file__).parents[1] / "results" / "published"
STUDIES = [name for name in Store(FOLDER).studies() if "tuning" in Store(FOLDER).study(name)]
every = pytest.mark.parametrize("name", STUDIES)
MEGABYTES = 10


@pytest.fixture(scope="module")
def store() -> Store:
    return Store(FOLDER)


@functools.cache
def tables_of(name: str):
    from algoprogress.analysis import study_tables

    store = Store(FOLDER)
    return study_tables(store.study(name), store.runs(name, status=None))


def mains(store: Store, name: str):
    runs = store.runs(name)
    return runs[runs["stage"] == "main"]


def test_nothing_is_damaged_missing_or_left_behind(store):
    problems = store.verify()
    assert problems[problems["kind"] != "drift"].empty
    assert sum(file.stat().st_size for file in FOLDER.rglob("*.parquet")) < MEGABYTES * 2**20


@every
def test_the_runs_are_those_that_the_study_of_that_name_asks_for(store, name):
    from algoprogress.ablations.refine import refine
    from algoprogress.ablations.spec import Data
    from algoprogress.ablations.study import Study, at_preset, on_corpus

    repeats = store.study(name).get("repeats")
    base, _, preset = (repeats or name).partition("-")
    study = at_preset(base, preset or None)
    study = on_corpus(study, store.runs(name, status=None)["corpus"].iloc[0]) if repeats else study
    assert study.name == name
    runs = store.runs(name, status=None)
    (sha256,) = runs["corpus_sha256"].unique()

    def pinned(entries):
        def data(entry) -> Data:
            return entry.spec.data.model_copy(update={"corpus_sha256": sha256})

        return tuple(e.model_copy(update={"spec": e.spec.model_copy(update={"data": data(e)})}) for e in entries)

    grid: Study = study.model_copy(
        update={
            "arms": {arm: pinned(entries) for arm, entries in study.arms.items()},
            "main": {arm: pinned(entries) for arm, entries in study.main.items()},
        }
    )
    done = runs["status"] == "done"
    losses = dict(zip(runs["run_id"], runs["loss"].where(done, math.inf), strict=True))
    whole = refine(grid, losses)
    assert whole.main == {}, "no arm waits"
    assert set(whole.specs()) == set(losses)
    assert whole.stored()["tuning"] == store.study(name)["tuning"]


@every
def test_every_best_rate_lies_inside_its_sweep(store, name):
    for arm, found in store.study(name)["tuning"].items():
        for size in found["sweep"]:
            assert not size["at_edge"], arm
            assert min(size["rates"]) < size["vertex"] < max(size["rates"]), arm


@every
def test_every_main_run_has_a_rate_inside_the_sweep_of_the_nearest_size(store, name):
    runs = mains(store, name)
    for arm, found in store.study(name)["tuning"].items():
        own = runs[runs["arm"] == arm]
        for n_params, rate in set(zip(own["n_params"], own["learning_rate"], strict=True)):
            near = min(found["sweep"], key=lambda size: abs(math.log(size["n_params"] / n_params)))
            assert min(near["rates"]) < rate < max(near["rates"]), arm


@every
def test_no_gain_rests_on_fewer_than_three_seeds(store, name):
    counts = mains(store, name).groupby(["arm", "compute_budget", "n_params"])["seed"].nunique()
    of_grids = counts.index.get_level_values("arm").str.startswith("grid_")  # of which no gain is claimed
    assert (counts[~of_grids] >= 3).all()


@every
def test_no_run_saw_its_data_twice(store, name):
    assert (store.runs(name, status=None)["epochs_seen"] <= 1).all()


def test_an_lstm_and_transformers_are_compared_over_two_decades(store):
    budgets = mains(store, "lstm_vs_transformer").groupby("arm")["compute_budget"]
    assert (budgets.max() / budgets.min() >= 99).all()


@every
def test_every_arm_is_tuned_with_care_that_the_tables_show(store, name):
    tables = tables_of(name)
    assert len(tables.tuning)
    assert len(tables.care) == len(store.study(name)["arms"])
    for one, other in itertools.combinations(tables.care["rates_per_size"], 2):
        assert one / other < 3, "no arm was searched three times as widely as another"


def test_both_exponents_of_allocation_stand_with_intervals_beside_the_published_ones(store):
    from algoprogress.analysis.exponent_table import exponent_table

    name = "kaplan_vs_chinchilla"
    table = exponent_table(store.study(name), store.runs(name), n_resamples=200)
    assert set(table["quantity"]) == {"n_params", "tokens"}
    assert (table["low"] < table["exponent"]).all()
    assert (table["exponent"] < table["high"]).all()
    of_size = table[table["quantity"] == "n_params"]
    assert len(of_size) == 5, "Kaplan's protocol counted in two ways, and one change of it after the other"
    assert of_size["porian"].notna().all()
    assert set(of_size["published"].dropna()) == {0.73, 0.5}


def asks_of_innovations(name: str) -> bool:
    return any("innovation" in fact for fact in Store(FOLDER).study(name).get("innovations", {}).values())


@pytest.mark.parametrize("name", list(filter(asks_of_innovations, STUDIES)))
def test_the_table_of_innovations_in_the_findings_is_the_one_that_the_command_prints(name):
    from algoprogress.analysis.formatting import markdown

    shown = tables_of(name).shown()["innovations"]
    assert markdown(shown) in (FOLDER.parents[1] / "docs" / "findings.md").read_text(encoding="utf-8")
