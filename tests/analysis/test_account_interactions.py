"""The rule "fitted": accounts of innovations that interact, in worlds whose effects and interactions are known."""

import itertools

import numpy as np
import pandas as pd
import pytest

from algoprogress.ablations.studies.interactions import design
from algoprogress.analysis.account_files import account
from algoprogress.analysis.account_runs import with_fitted_interactions, without_interactions
from algoprogress.analysis.account_tables import multiverse
from algoprogress.analysis.accounting import Account, Entry, Unfitted
from algoprogress.analysis.gain_curves import Multiplier
from algoprogress.analysis.interactions import InteractionModel, fit_interactions

MAIN = {"a": np.log(1.5), "b": np.log(1.3), "c": np.log(1.1)}
PAIRS = {("a", "b"): np.log(0.8), ("b", "c"): np.log(1.15)}  # a and b overlap, b and c help each other
FULL = [dict(zip(MAIN, bits, strict=True)) for bits in itertools.product((-1, 1), repeat=3)]


def effect(row: dict[str, int], main=MAIN, pairs=PAIRS) -> float:
    return sum(b * row[i] for i, b in main.items()) / 2 + sum(b * row[i] * row[j] for (i, j), b in pairs.items()) / 2


def world(rows, noise: float, seed: int = 0, main=MAIN, pairs=PAIRS, seeds: int = 3) -> InteractionModel:
    """The model fitted to runs of a factorial whose losses are 1 + 60 (gain C)^-0.15 with noise between seeds."""
    rng, table, facts = np.random.default_rng(seed), [], {}
    none = effect(dict.fromkeys(main, -1), main, pairs)
    for k, row in enumerate(rows):
        arm = "base" if set(row.values()) == {-1} else f"arm{k}"
        facts[arm] = {"levels": row}
        gain = np.exp(effect(row, main, pairs) - none)
        for compute in np.geomspace(1e9, 1e12, 25) if arm == "base" else (1e10, 3.2e10):
            for s in range(seeds):
                error = noise * rng.standard_normal() if arm != "base" else 0.0
                loss = (1 + 60 * (gain * compute) ** -0.15) * np.exp(error)
                table.append({"arm": arm, "compute": compute, "loss": loss, "seed": s, "learning_rate": 0.01})
    found = fit_interactions({"name": "f", "baseline": "base", "innovations": facts}, pd.DataFrame(table))
    assert found is not None
    return found


def listed(*keys: str, years=(2015, 2017, 2019)) -> Account:
    entries = tuple(
        Entry(k, f"without -> with {k}", y, Multiplier(9.0), interacts=True)
        for k, y in zip(keys, years[: len(keys)], strict=True)
    )
    return Account("known", entries)


def truth(*keys: str) -> float:
    row = {k: 1 if k in keys else -1 for k in MAIN}
    return float(np.exp(effect(row) - effect(dict.fromkeys(MAIN, -1))))


@pytest.mark.parametrize("keys", [("a",), ("a", "b"), ("c", "b"), ("a", "b", "c")])
def test_the_total_has_main_effects_and_two_way_terms(keys):
    found = with_fitted_interactions(listed(*keys), world(FULL, 0.0))
    assert found.total(2020, n=0)["total"]["value"] == pytest.approx(truth(*keys), rel=0.01)


def test_an_entry_gains_less_where_one_that_overlaps_is_there_before():
    model = world(FULL, 0.0)
    first = with_fitted_interactions(listed("a", "b"), model).table(2020, n=0)["gain"]
    second = with_fitted_interactions(listed("b", "a"), model).table(2020, n=0)["gain"]
    assert first["b"] == pytest.approx(truth("a", "b") / truth("a"), rel=0.01)
    assert second["b"] == pytest.approx(truth("b"), rel=0.01)
    assert first["b"] < second["b"]
    assert first.prod() == pytest.approx(second.prod())


def test_without_interactions_in_the_world_it_is_the_rule_none():
    model = world(FULL, 0.0, pairs={})
    fitted = with_fitted_interactions(listed("a", "b", "c"), model)
    totals = [of.total(2020, n=0)["total"]["value"] for of in (fitted, without_interactions(fitted))]
    assert totals[0] == pytest.approx(totals[1], rel=1e-3)
    assert totals[0] == pytest.approx(np.exp(sum(MAIN.values())), rel=0.01)


def test_its_90_percent_interval_covers_the_total_that_is_known():
    held = []
    for s in range(120):
        found = with_fitted_interactions(listed("a", "b", "c"), world(FULL, 0.01, seed=s))
        total = found.total(2020, n=400, level=0.9)["total"]
        held.append(total["low"] <= truth("a", "b", "c") <= total["high"])
    assert 0.82 <= np.mean(held) <= 0.97  # 3 standard errors of 120 studies


def test_the_interval_is_by_the_fits_covariance_and_not_a_product_of_intervals():
    model = world(FULL, 0.02)
    found = with_fitted_interactions(listed("a", "b", "c"), model)
    weights = sum(model.step(k, "abc"[:i]) for i, k in enumerate("abc"))
    error = np.sqrt(weights @ model.covariance @ weights)
    drawn = np.log([found.total(2020, n=8000, level=0.9)["total"][k] for k in ("low", "high")])
    from scipy.stats import t

    assert np.diff(drawn)[0] == pytest.approx(2 * t.ppf(0.95, model.n_left) * error, rel=0.05)


class TestFractions:
    """Where the design confounds interactions in chains, what all innovations gain together is still known."""

    main = dict(zip(design()[0], np.log([1.2, 1.3, 1.1, 1.05, 1.15, 1.0, 1.1]), strict=True))

    def test_all_of_a_row_of_the_design_gain_what_they_gain(self):
        one, other = list(self.main)[:2]
        pairs = {(one, other): np.log(0.7)}
        model = world(design(), 0.0, main=self.main, pairs=pairs)
        assert any(model.aliases.values())
        found = Account("all", tuple(Entry(k, k, 2015, Multiplier(2.0), interacts=True) for k in self.main))
        total = with_fitted_interactions(found, model).total(2020, n=200)["total"]
        row = dict.fromkeys(self.main, 1)
        none = dict.fromkeys(self.main, -1)
        expected = np.exp(effect(row, self.main, pairs) - effect(none, self.main, pairs))
        assert total["value"] == pytest.approx(expected, rel=0.01)
        assert total["high"] / total["low"] == pytest.approx(1, abs=0.02)

    def test_of_a_part_of_a_row_the_interval_has_what_the_chain_leaves_open(self):
        one, other = list(self.main)[:2]
        pairs = {(one, other): np.log(0.7)}
        model = world(design(), 0.0, main=self.main, pairs=pairs)
        found = Account("some", (Entry(one, one, 2015, Multiplier(2.0), interacts=True),))
        total = with_fitted_interactions(found, model).total(2020, n=2000)["total"]
        row = {k: 1 if k == one else -1 for k in self.main}
        none = dict.fromkeys(self.main, -1)
        expected = np.exp(effect(row, self.main, pairs) - effect(none, self.main, pairs))
        assert total["low"] * 0.99 < expected < total["high"] * 1.01
        assert total["low"] < total["value"] < total["high"]
        assert total["high"] / total["low"] > 1.1


def test_the_multiverse_has_a_world_of_main_effects_alone():
    found = with_fitted_interactions(listed("a", "b", "c"), world(FULL, 0.0))
    worlds = multiverse(found, 2020)
    assert set(worlds["interaction"]) == {"fitted", "none"}
    assert worlds["default"].sum() == 1
    none = worlds.query("interaction == 'none'")["ceg"]
    np.testing.assert_allclose(none, np.exp(sum(MAIN.values())), rtol=0.01)


def test_beyond_the_runs_of_the_model_its_gains_are_said_to_be_extrapolated():
    table = with_fitted_interactions(listed("a", "b"), world(FULL, 0.01)).table(2020, 1e16, n=50)
    assert (table["decades_beyond"] > 5).all()
    assert table["note"].str.contains("by the fitted interaction model, given those before it").all()


def test_an_entry_that_the_model_does_not_know_multiplies_and_is_named():
    with pytest.warns(Unfitted, match="moe is in no fitted interaction model"):
        found = with_fitted_interactions(listed("a", "moe"), world(FULL, 0.0))
    assert found.total(2020, n=0)["total"]["value"] == pytest.approx(9 * truth("a"), rel=0.01)


def test_an_account_of_which_the_model_knows_nothing_is_refused():
    with pytest.raises(ValueError, match=r"No entry of known that interacts is a factor .* true: a, b, c"):
        with_fitted_interactions(listed("moe"), world(FULL, 0.0))


class TestFiles:
    text = """
[interaction]
rule = "fitted"
study = "mine"

[[entries]]
key = "a"
innovation = "without -> with a"
year = 2015
multiplier = 2.0
interacts = true
"""

    def test_a_file_names_the_rule_and_its_study(self, tmp_path):
        (tmp_path / "mine.toml").write_text(self.text)
        model = world(FULL, 0.0)
        found = account(str(tmp_path / "mine.toml"), model_of={"mine": model}.__getitem__)
        assert found.interaction == "fitted"
        assert found.total(2020, n=0)["total"]["value"] == pytest.approx(truth("a"), rel=0.01)
        plain = account(str(tmp_path / "mine.toml"), model_of={"mine": model}.__getitem__, interaction="none")
        assert plain.total(2020, n=0)["total"]["value"] == pytest.approx(2.0)

    @pytest.mark.parametrize(
        ("rule", "said"),
        [
            ("fited", "is one of none, power, fitted, not 'fited'"),
            ("none:x", "leave out 'x'"),
            (None, "give a store"),
        ],
    )
    def test_a_wrong_rule_is_refused(self, tmp_path, rule, said):
        (tmp_path / "mine.toml").write_text(self.text)
        with pytest.raises(ValueError, match=said):
            account(str(tmp_path / "mine.toml"), interaction=rule)
