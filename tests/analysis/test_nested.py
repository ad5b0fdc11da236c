"""Tests of equal exponents: do they hold their level when the gain is constant, and see it when it is not?"""

import numpy as np
import pytest
from scipy.stats import binom

from algoprogress.analysis import frontier, laws, nested_models
from algoprogress.analysis.nested import equal_exponents, f_test, models_of, objectives
from algoprogress.analysis.null_study import NULLS, PLAIN, SIX, main, null_study
from algoprogress.analysis.null_study import SIZED as SAME_GAIN
from algoprogress.analysis.simulation import simulate_isoflop, simulate_runs

MODELS = ["separate", "shared E", "shared E and exponents", "one compute multiplier"]


def test_models_are_nested_and_named(growing):
    table = nested_models(simulate_runs(growing, noise=0.02, budgets=SIX), "power")
    assert table["model"].tolist() == ["separate", "shared E", "one compute multiplier"]
    assert (np.diff(table["n_free"]) < 0).all()
    assert (np.diff(table["objective"]) > -1e-12).all()
    assert table["against"].iloc[1:].tolist() == ["separate", "shared E"]
    assert (table["restrictions"].iloc[1:] == -np.diff(table["n_free"])).all()
    assert list(models_of(laws["chinchilla"]())) == MODELS


def test_the_true_model_has_the_lowest_criteria_and_a_false_one_is_rejected(constant, growing):
    for truth, wanted in ((constant, "one compute multiplier"), (growing, "shared E")):
        runs = simulate_runs(truth, **{**PLAIN, "noise": 0.002}, seed=2)
        table = nested_models(runs).set_index("model")
        assert table["bic"].idxmin() == wanted
        assert (table.loc["one compute multiplier", "p"] > 0.01) == (wanted == "one compute multiplier")


@pytest.mark.parametrize("test", ["f", "likelihood-ratio", "bootstrap"])
def test_tests_agree_where_all_hold(test, growing):
    runs = simulate_runs({a: growing[a] for a in ("lstm", "modern")}, **{**PLAIN, "noise": 0.01}, seed=5)
    reference = nested_models(runs, test="f").set_index("model").loc["one compute multiplier", "p"]
    found = nested_models(runs, test=test).set_index("model").loc["one compute multiplier"]
    assert found["test"] == test
    assert found["p"] == pytest.approx(reference, abs=0.05)


def test_the_table_of_a_law_in_size_and_data_has_all_models():
    runs = simulate_isoflop(SAME_GAIN, noise=0.005, seed=1)
    table = nested_models(runs, "chinchilla", n_resamples=99).set_index("model")
    assert table.index.tolist() == MODELS
    assert table["n_free"].tolist() == [10, 9, 7, 6]
    assert (table["test"].iloc[1:] == "bootstrap").all()
    assert table.loc["one compute multiplier", "p"] > 0.01
    assert table["aicc"].idxmin() == table["bic"].idxmin() == "one compute multiplier"


def test_a_model_that_can_not_be_fitted_has_a_reason(growing):
    two = simulate_runs({a: growing[a] for a in ("lstm", "modern")}, **{**PLAIN, "budgets": (1e11, 1e12)})
    table = nested_models(two).set_index("model")
    assert "can not determine" in table.loc["separate", "note"]
    assert np.isnan(table.loc["one compute multiplier", "p"])


def test_wrong_use_is_refused(growing, noisy_runs):
    with pytest.raises(ValueError, match="test is one of f, likelihood-ratio, bootstrap"):
        nested_models(noisy_runs, test="t")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="independent"):
        nested_models(noisy_runs, "chinchilla", test="f", cluster="arm")
    with pytest.raises(ValueError, match="two arms"):
        nested_models(noisy_runs[noisy_runs["arm"] == "lstm"])


def test_the_f_test_of_equal_exponents_holds_its_level_when_the_gain_is_constant(constant):
    """Outcomes drawn about one constant gain, both models refitted to all at once."""
    front = frontier(simulate_runs(constant, **{**PLAIN, "noise": 1e-4}))
    free = laws["power"](huber=np.inf).fit(front, {"E": "all"})
    equal = laws["power"](huber=np.inf).fit(front, {"E": "all", "alpha": "all"})
    n, n_left, q = 400, len(front) - free.sharing_.n_free, free.sharing_.n_free - equal.sharing_.n_free
    y_Bn = np.log(front["loss"].to_numpy()) + 0.01 * np.random.default_rng(0).standard_normal((n, len(front)))
    F0, F1 = (objectives(law, law.refit(y_Bn=y_Bn), y_Bn) for law in (equal, free))
    rejected = int((f_test(F0 - F1, F1, q, n_left)[1] < 0.05).sum())
    low, high = binom.ppf([5e-4, 1 - 5e-4], n, 0.05)  # a test of level .05 fails here once in a thousand seeds
    assert low <= rejected <= high


@pytest.mark.parametrize("n_arms", [2, 3, 12])
def test_equal_exponents_is_the_test_of_two_fits_of_which_it_makes_one(n_arms):
    arms = {f"arm {k}": (0.6, 60.0 * (1 + 0.1 * k), 0.14 * (1 + 0.01 * k)) for k in range(n_arms)}
    front = frontier(simulate_runs(arms, seed=5, **PLAIN))
    free = laws["power"]().fit(front, {"E": "all"})
    equal = laws["power"]().fit(front, {"E": "all", "alpha": ["arm 0", "arm 1"]})
    F0, F1 = (law.diagnostics_["objective"] for law in (equal, free))
    expected = f_test(F0 - F1, F1, 1, len(front) - free.sharing_.n_free)[1]
    assert equal_exponents(free, "arm 0", "arm 1") == pytest.approx(expected, rel=1e-6)


def test_a_gain_that_doubles_over_the_ladder_is_found(constant):
    steep = {**constant, "modern": (0.6, 60.0 * 2.3, 0.14 * 1.25)}
    p = []
    for s in range(4):
        law = laws["power"]().fit(frontier(simulate_runs(steep, seed=300 + s, **PLAIN)), {"E": "all"})
        p.append(equal_exponents(law, "lstm", "modern"))
    assert (np.array(p) < 0.05).sum() >= 3


@pytest.mark.slow
@pytest.mark.parametrize("design", NULLS)
def test_a_constant_gain_is_rejected_in_3_to_7_percent_of_1000_studies(design):
    rejected = null_study([design], 1000, 7000)["rejected"].iloc[0]
    assert 0.03 <= rejected <= 0.07, rejected


def test_the_command_prints_the_share_that_is_rejected(capsys):
    main(["--studies", "2", "--design", "one configuration"])
    assert "one configuration power 2" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit):
        main(["--design", "none"])
    assert "There is no design 'none'" in capsys.readouterr().err
