"""Held-out extrapolation: laws fitted below a compute, asked above it."""

import numpy as np
import pandas as pd
import pytest

from algoprogress.analysis import validate, validation_summary
from algoprogress.analysis.coverage import DEMO, DESIGNS, FOUR
from algoprogress.analysis.simulation import simulate_isoflop, simulate_runs

SIX = tuple(float(c) for c in np.geomspace(1e11, 1e14, 7))


def test_a_law_without_noise_predicts_what_was_held_out(growing):
    table = validate(simulate_runs(growing, budgets=SIX), "compute > 2e13", n_resamples=0)
    assert len(table) == 2 * 3
    assert table["log_error"].abs().max() < 1e-4
    assert (table["beyond"] > 2).all()
    assert set(table["n_fit"]) == {5}


def test_a_law_in_size_and_data_is_asked_for_every_run():
    runs = simulate_isoflop(DESIGNS["isoFLOP"].laws, noise=0.005, seed=3)
    table = validate(runs, "compute > 3e19", "chinchilla", n_resamples=100)
    assert len(table) == (runs["compute"] > 3e19).sum()
    assert table[["n_params", "tokens"]].notna().all(axis=None)
    summary = validation_summary(table).set_index("arm")
    assert (summary["rms_log_error"] < 0.02).all()
    assert (summary["coverage"] > 0.6).all()


def test_several_laws_are_told_apart_by_their_errors(growing):
    runs = simulate_runs(growing, budgets=SIX, noise=0.005)
    from algoprogress.analysis import laws

    table = validate(runs, "compute > 2e13", ["power", laws["power"](fixed={"E": 0.0})], n_resamples=0)
    error = validation_summary(table).pivot_table(index="arm", columns="law", values="rms_log_error")
    assert (error["power, E = 0"] > 3 * error["power"]).all()


def test_intervals_widen_with_the_distance(growing):
    table = validate(simulate_runs(growing, budgets=SIX, noise=0.02), "compute > 1e12", n_resamples=300)
    own = table[table["arm"] == "modern"].sort_values("compute")
    assert (np.diff(np.log(own["high"] / own["low"])) > 0).all()


def test_the_intervals_of_a_study_as_thin_as_the_demo_cover_what_was_held_out():
    inside = []
    for s in range(4):
        table = validate(simulate_runs(FOUR, seed=s, **DEMO), "compute > 2e12", n_resamples=100, seed=s)
        inside += table["inside"].tolist()
    assert np.mean(inside) > 0.6  # 16 points of nominal .95: only a gross fault shows


def test_the_small_runs_of_gadre_et_al_predict_their_large_ones(published):
    runs = published.data_set("gadre").assign(compute=lambda t: 6.0 * t["n_params"] * t["tokens"])
    table = validate(runs, "n_params > 1e9", "chinchilla", n_resamples=100)
    assert len(table) >= 2
    assert table["log_error"].abs().max() < 0.05


def test_the_ladder_of_porian_et_al_predicts_its_last_budget(published):
    rows = published.porian()
    recipe = rows["hparams"] + "/" + rows["warmup"] + "/" + rows["decay"]
    table = validate(rows.assign(arm=recipe), "compute > 2e19", ["power", "chinchilla"], n_resamples=100)
    error = validation_summary(table)
    assert (error.groupby("law")["rms_log_error"].max() < 0.1).all()


def test_an_arm_without_runs_below_the_split_has_a_note(growing):
    runs = simulate_runs(growing, budgets={**dict.fromkeys(growing, SIX), "retro": (1e14, 2e14)})
    table = validate(runs, "compute > 5e13", n_resamples=0)
    assert table.loc[table["arm"] == "retro", "predicted"].isna().all()
    assert table.loc[table["arm"] == "retro", "note"].str.contains("too few points below the split").all()
    assert table.loc[table["arm"] != "retro", "predicted"].notna().all()


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("compute > 1e30", "holds out none"),
        ("compute > 1", "holds out all"),
        ("flop > 1e12", "is not a query"),
        ("compute", "does not say of each run"),
    ],
)
def test_a_split_that_leaves_nothing_is_refused(noisy_runs, split, said):
    with pytest.raises(ValueError, match=said):
        validate(noisy_runs, split)


def test_runs_without_an_arm_are_one():
    runs = pd.DataFrame({"compute": SIX, "loss": [1 + 60 * c**-0.14 for c in SIX]})
    assert validate(runs, "compute > 2e13", n_resamples=0)["arm"].unique().tolist() == ["all"]
