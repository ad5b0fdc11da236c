"""One question over every protocol, in one table."""

import numpy as np
import pandas as pd
import pytest

from algoprogress.analysis import multiverse
from algoprogress.analysis.multiverse import CHOICES, COLUMNS
from algoprogress.analysis.simulation import simulate_isoflop, simulate_runs

FIVE = (1e11, 3e11, 1e12, 3e12, 1e13)
PLAIN = {"law": ["power"], "E": ["shared"], "unit": ["seeds"]}


@pytest.fixture(scope="module")
def runs(growing) -> pd.DataFrame:
    pair = {a: growing[a] for a in ("lstm", "modern")}
    table = simulate_runs(pair, budgets=FIVE, noise=0.01, sizes=(0,), seed=2)
    return table.assign(
        tokens=table["compute"] / 6 / table["n_params"],
        compute_6n=table["compute"] * np.where(table["arm"] == "lstm", 0.5, 0.8),
    )


@pytest.fixture(scope="module")
def table(runs) -> pd.DataFrame:
    return multiverse(runs, "lstm", n_resamples=10)


def test_every_combination_is_a_row(table):
    assert list(table.columns) == COLUMNS
    n_of = table.groupby("law").size().to_dict()
    common = 3 * 2 * 3  # windows, FLOP conventions that there are, units
    assert n_of == {
        "interpolated": common,
        "power": 3 * common,
        "chinchilla": 3 * common,
    }
    assert not table.duplicated(list(CHOICES)).any()
    assert set(table["flop"]) == {"compute", "compute_6n"}
    assert set(table["losses"]) == {"final"}


def test_a_row_has_an_answer_or_says_why_not(table):
    without = table["ceg"].isna()
    assert (table.loc[without, "note"] != "").all()
    assert (table.loc[without, "n_runs"] == 0).all()
    assert table.loc[~without & (table["law"] == "power"), "ceg"].between(0.5, 3).all()
    no_interval = ~without & table["ceg_low"].isna()
    assert (table.loc[no_interval, "note"] != "").all()


def test_one_size_for_all_runs_leaves_the_law_in_size_and_data_without_an_answer(table):
    own = table[table["law"] == "chinchilla"]
    assert own["ceg"].isna().all()
    assert own["note"].str.contains("n_params").all()


def test_the_convention_changes_the_gain_as_it_changes_the_flop(table):
    """Of the same losses at C / 2 and .8 C: ln CEG moves by ln(.5 / .8), the slope not at all."""
    own = table[(table["law"] == "interpolated") & (table["window"] == "all") & (table["unit"] == "seeds")]
    by = own.set_index("flop")
    ratio = by.loc["compute_6n", "ceg"] / by.loc["compute", "ceg"]
    assert ratio == pytest.approx(0.5 / 0.8, rel=1e-6)
    assert by.loc["compute_6n", "compute"] == pytest.approx(0.8 * by.loc["compute", "compute"])
    assert by.loc["compute_6n", "slope"] == pytest.approx(by.loc["compute", "slope"], rel=1e-6)


def test_a_window_leaves_out_the_runs_of_its_rung(table, runs):
    rungs = runs.groupby("compute_budget").size()
    n = table[(table["law"] == "power") & table["ceg"].notna()].groupby("window")["n_runs"].first()
    assert n["all"] == len(runs)
    assert n["without the smallest"] == len(runs) - rungs[FIVE[0]]
    assert n["without the largest"] == len(runs) - rungs[FIVE[-1]]


def test_the_same_choices_give_what_the_gains_give(runs, table):
    from algoprogress.analysis import compute_equivalent_gain

    asked = float(table["compute"].iloc[0])
    gain = compute_equivalent_gain(runs, "lstm", at_compute=asked, n_resamples=0).set_index("method")["ceg"]
    same = (table["window"] == "all") & (table["flop"] == "compute") & (table["E"].isin(["shared", ""]))
    found = table[same & (table["unit"] == "seeds")].set_index("law")["ceg"]
    assert found["interpolated"] == pytest.approx(gain["interpolated"])
    assert found["power"] == pytest.approx(gain["law"], rel=1e-6)


def test_checkpoints_are_points_of_their_own(runs, curves_of):
    found = multiverse(runs, "lstm", curves=curves_of(runs), n_resamples=0, choices=PLAIN | {"window": ["all"]})
    n = found[found["flop"] == "compute"].set_index("losses")["n_runs"]
    assert n["all checkpoints"] == 12 * n["final"]


@pytest.fixture
def curves_of():
    def make(runs: pd.DataFrame) -> pd.DataFrame:
        parts = []
        for run in runs.itertuples():
            compute = np.geomspace(run.compute / 100, run.compute, 12)
            loss = run.loss + (compute[0] / compute) ** 0.5
            parts.append(pd.DataFrame({"run_id": run.run_id, "compute": compute, "loss": loss}))
        return pd.concat(parts, ignore_index=True)

    return make


def test_a_law_in_size_and_data_answers_where_the_design_allows():
    laws = {"old": (1.8, 480.0, 2100.0, 0.35, 0.37), "new": (1.8, 420.0, 2000.0, 0.35, 0.37)}
    choices = {
        "law": ["chinchilla"],
        "E": ["shared"],
        "window": ["all"],
        "flop": ["compute"],
        "unit": ["configurations"],
    }
    found = multiverse(simulate_isoflop(laws, noise=0.005, n_sizes=5), "old", choices=choices, n_resamples=30)
    assert found["ceg"].notna().all()
    assert (found["ceg_low"] <= found["ceg"]).all()


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"laws": ["power"]}, "choices has laws; what can be chosen is law, E"),
        ({"law": ["powr"]}, r"law is one or several of interpolated, power, chinchilla, .*not \['powr'\]"),
        ({"window": []}, "window is one or several of"),
    ],
)
def test_unknown_choices_are_refused(runs, choices, said):
    with pytest.raises(ValueError, match=said):
        multiverse(runs, "lstm", choices=choices)


def test_what_was_asked_for_and_is_not_there_is_a_row_with_a_note(runs):
    found = multiverse(
        runs.drop(columns="compute_6n"), "lstm", n_resamples=0, choices=PLAIN | {"flop": ["compute", "compute_6n"]}
    )
    assert found.loc[found["flop"] == "compute_6n", "note"].eq("the runs have no column compute_6n").all()
    assert len(found) == 2 * 3
