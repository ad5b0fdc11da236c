"""Approaches 1, 2 and 3 recover a known allocation and reproduce published exponents."""

import numpy as np
import pandas as pd
import pytest

from algoprogress.analysis import laws
from algoprogress.analysis.approaches import COLUMNS, approach1, approach2, approach3, approaches
from algoprogress.analysis.envelope import envelope
from algoprogress.analysis.overtraining import fit_overtraining

E, A, B, ALPHA, BETA = 1.69, 406.4, 410.7, 0.34, 0.28  # Hoffmann et al. 2022, table A3
BEST = BETA / (ALPHA + BETA)


def loss(N, D):
    return E + A * N**-ALPHA + B * D**-BETA


def grid(noise: float = 0.0) -> pd.DataFrame:
    """Sizes a factor 1.5 apart, each on many numbers of tokens."""
    N, D = (g.ravel() for g in np.meshgrid(1e7 * 1.5 ** np.arange(16), np.geomspace(1e8, 3e11, 40)))
    drawn = noise * np.random.default_rng(0).standard_normal(len(N))
    return pd.DataFrame({"n_params": N, "tokens": D, "compute": 6 * N * D, "loss": loss(N, D) + drawn})


def isoflop_runs(noise: float = 0.0) -> pd.DataFrame:
    rng, rows = np.random.default_rng(1), []
    for C in np.geomspace(1e18, 1e21, 7):
        N = 0.1 * (C / 6) ** 0.5 * np.geomspace(1 / 12, 3, 12)
        rows.append(pd.DataFrame({"compute": C, "n_params": N, "tokens": C / 6 / N, "loss": loss(N, C / 6 / N)}))
    runs = pd.concat(rows, ignore_index=True)
    return runs.assign(loss=runs["loss"] + noise * rng.standard_normal(len(runs)))


def test_approach_1_recovers_the_allocation_from_final_losses():
    found = approach1(grid(), n_resamples=200).iloc[0]
    assert found["a"] == pytest.approx(BEST, abs=0.015)
    assert found["a_low"] < BEST < found["a_high"]
    assert found["a"] + found["b"] == pytest.approx(1, abs=0.01)


def test_approach_1_reads_training_curves():
    runs = grid()
    longest = runs.loc[runs.groupby("n_params")["tokens"].idxmax()].assign(run_id=lambda t: t.index.astype(str))
    rows = runs.merge(longest[["n_params", "run_id"]], on="n_params")[["run_id", "compute", "loss"]]
    by_curves = approach1(longest, rows, at_compute=1e20, n_resamples=0).iloc[0]
    by_runs = approach1(runs, at_compute=1e20, n_resamples=0).iloc[0]
    assert by_curves["a"] == pytest.approx(by_runs["a"], rel=1e-9)
    assert by_curves["n_params"] == pytest.approx(by_runs["n_params"], rel=1e-9)
    with pytest.raises(ValueError, match="Curves need run_id, compute and loss"):
        approach1(longest.drop(columns="run_id"), rows)


def test_the_ends_of_an_envelope_are_no_minima():
    found = envelope(grid(), n_resamples=0)
    by_edge = found.table.groupby("at_edge")["n_params"].agg(["min", "max"])
    assert by_edge.loc["", "min"] > 1e7
    assert by_edge.loc["", "max"] < 1e7 * 1.5**15


def test_an_envelope_of_two_sizes_is_refused():
    runs = grid()
    with pytest.raises(ValueError, match="2 sizes have a curve"):
        envelope(runs[runs["n_params"] < 2e7])


@pytest.mark.parametrize(("estimator", "within"), [("parabola", 0.02), ("akima", 0.005), ("surface", 1e-4)])
def test_approach_2_recovers_the_allocation(estimator, within):
    found = approach2(isoflop_runs(), estimator, n_resamples=20).iloc[0]
    assert found["a"] == pytest.approx(BEST, abs=within)
    assert found["law"] == f"isoFLOP {estimator}"


def test_approach_3_recovers_the_allocation():
    found = approach3(isoflop_runs(noise=0.003), n_resamples=200).iloc[0]
    assert found["a_low"] < BEST < found["a_high"]
    assert (found["b_low"], found["b_high"]) == pytest.approx((1 - found["a_high"], 1 - found["a_low"]))
    assert found["n_params"] * found["tokens"] * 6 == pytest.approx(found["compute"])


def test_the_three_stand_side_by_side_in_one_table():
    table = approaches(isoflop_runs(noise=0.003), at_compute=1e22, n_resamples=50)
    assert list(table.columns) == COLUMNS
    assert table["approach"].tolist() == ["1", "2", "2", "2", "3"]
    told = table[table["approach"] != "1"]
    assert (told["compute"] == 1e22).all()
    for name in ("a", "b", "n_params", "tokens"):
        assert (told[f"{name}_low"] <= told[name]).all()
        assert (told[name] <= told[f"{name}_high"]).all()


def test_an_approach_that_the_runs_do_not_allow_says_why():
    runs = isoflop_runs()
    alone = runs[runs["compute"] == runs["compute"].min()]
    table = approaches(alone, n_resamples=20).set_index("law")
    assert "an envelope needs 3" in table.loc["envelope", "note"]
    assert "needs two budgets" in table.loc["isoFLOP parabola", "note"]
    assert "1 budgets can not tell" in table.loc["isoFLOP surface", "note"]
    assert table[["a", "a_low"]].drop(index="chinchilla").isna().all(axis=None)


# ---- published ------------------------------------------------------------------------------------------------------


def test_the_approaches_agree_on_the_points_of_hoffmann_et_al(published):
    runs = published.hoffmann().rename(columns={"flops": "compute"})
    budgets = [6e18, 1e19, 3e19, 6e19, 1e20, 3e20, 6e20, 1e21, 3e21]
    by_two = [approach2(runs, e, n_resamples=0, budgets=budgets)["a"][0] for e in ("parabola", "akima", "surface")]
    assert by_two == pytest.approx([0.5, 0.5, 0.5], abs=0.025)  # .49 in their table 2
    assert approach3(runs, n_resamples=0)["a"][0] == pytest.approx(0.5139, abs=1e-4)


def test_the_over_training_law_is_recovered():
    N, D = (g.ravel() for g in np.meshgrid(np.geomspace(1e7, 1e9, 4), np.geomspace(1e9, 1e11, 4)))
    C, M = 6 * N * D, D / N
    runs = pd.DataFrame({"n_params": N, "tokens": D, "loss": 1.5 + (30 * M**0.15 + 50 * M**-0.15) * C**-0.15})
    law = fit_overtraining(runs)
    assert (law.E, law.a, law.b, law.eta) == pytest.approx((1.5, 30, 50, 0.15), rel=1e-6)


@pytest.fixture(scope="module")
def recipes(published):
    rows = published.porian().drop(columns="compute")  # C = 6 N D
    return dict(iter(rows.groupby(["hparams", "warmup", "decay"])))


def test_the_law_with_free_minima_describes_published_runs_better_than_hoffmanns(published, recipes):
    hoffmann = published.hoffmann().drop(columns="flops")
    for runs in (hoffmann, *recipes.values()):
        tied, free = (laws[name]().fit(runs) for name in ("chinchilla", "isoflop"))
        assert free.aicc < tied.aicc - 10
        assert free.diagnostics_["starts_agree"] > 0.5


def test_the_gain_by_the_law_with_free_minima_is_nearer_to_the_measured_one(recipes):
    gains = {1.25e16: 7.8, 1e17: 3.0, 4e17: 1.8, 1.6e18: 1.3, 1.28e19: 1.0}
    compute, off = np.array(list(gains)), {}
    for name in ("chinchilla", "isoflop"):
        base, tuned = (laws[name]().fit(recipes[r]) for r in (("base", "long", "kaplan"), ("tuned", "short", "const")))
        found = base.compute_for(tuned.best_loss(compute)) / compute
        off[name] = np.abs(np.log(found / np.array(list(gains.values()))))
    assert off["isoflop"].max() < np.log(1.4)
    assert off["isoflop"].max() < off["chinchilla"].max() / 3
