import numpy as np
import pandas as pd
import pytest

from algoprogress.analysis import frontier
from algoprogress.analysis.runs import usable_runs
from algoprogress.analysis.warnings import DuplicateRuns


def table(**columns) -> pd.DataFrame:
    return pd.DataFrame({"arm": "a", **columns})


def test_best_configuration_is_chosen_by_its_mean_over_seeds():
    runs = table(
        compute=1e11,
        loss=[2.0, 2.4, 2.1, 2.1],
        configuration_id=["lucky", "lucky", "steady", "steady"],
        seed=[0, 1, 0, 1],
        run_id=list("wxyz"),
    )
    front = frontier(runs)
    assert front.loc[0, "configuration_id"] == "steady"
    assert front.loc[0, "loss"] == pytest.approx(2.1)
    assert (front.loc[0, "n_runs"], front.loc[0, "n_seeds"]) == (4, 2)


def test_without_configuration_ids_runs_that_differ_in_seed_alone_are_one_configuration():
    runs = table(compute=1e11, loss=[2.0, 2.2, 2.3], learning_rate=[0.1, 0.1, 0.2], seed=[0, 1, 0])
    assert frontier(runs).loc[0, "n_seeds"] == 2


def test_rungs_come_from_the_budget_or_from_gaps_in_compute():
    compute = [0.97e11, 1.03e11, 2.9e11, 3.1e11]
    runs = table(compute=compute, loss=[2.4, 2.3, 2.2, 2.1])
    assert len(frontier(runs)) == 2
    budgeted = runs.assign(compute_budget=[1e11, 1e11, 3e11, np.nan])
    assert frontier(budgeted)["rung"].tolist() == [1e11, 3e11]


def test_runs_spread_evenly_over_compute_are_not_one_rung():
    compute = np.geomspace(1e11, 1e13, 60)
    assert len(frontier(table(compute=compute, loss=np.linspace(2.5, 1.5, 60)))) > 10


def test_diverged_runs_and_repeated_text_do_not_count():
    runs = table(
        compute=1e11,
        loss=[1.0, 1.5, 2.0],
        status=["diverged", "done", "done"],
        epochs_seen=[0.1, 1.5, 0.5],
        run_id=list("abc"),
    )
    assert frontier(runs)["loss"].tolist() == [2.0]


def test_a_diverged_rate_was_tried_so_the_rate_below_is_not_at_the_edge():
    runs = table(
        compute=1e11,
        loss=[2.3, 2.0, np.nan],
        learning_rate=[0.01, 0.02, 0.04],
        status=["done", "done", "diverged"],
        n_params=100,
    )
    assert not frontier(runs).loc[0, "at_edge"]
    assert frontier(runs.iloc[:2]).loc[0, "at_edge"]


def test_a_run_given_twice_counts_once():
    runs = table(compute=1e11, loss=[2.0, 2.0], run_id=["x", "x"])
    assert len(usable_runs(runs)) == 1
    with pytest.warns(DuplicateRuns, match="counted once"):
        usable_runs(runs.drop(columns="run_id"))


@pytest.mark.parametrize("value", [np.nan, 0.0, -1.0, np.inf])
@pytest.mark.parametrize("column", ["loss", "compute"])
def test_a_value_that_is_no_positive_number_is_refused(column, value):
    runs = table(compute=[1e11, 3e11], loss=[2.0, 1.9])
    runs.loc[1, column] = value
    with pytest.raises(ValueError, match=f"{column} that is not a positive number"):
        frontier(runs)


def test_a_missing_column_and_no_usable_run_are_said():
    with pytest.raises(ValueError, match="no column loss"):
        frontier(pd.DataFrame({"arm": ["a"], "compute": [1e11]}))
    with pytest.raises(ValueError, match="None of the 1 runs"):
        frontier(table(compute=[1e11], loss=[2.0], status=["diverged"]))
