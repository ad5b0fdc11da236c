"""Accounts of progress: published totals from their laws, conventions, joint intervals, and what is refused."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algoprogress.analysis.account_files import account
from algoprogress.analysis.accounting import Account, Crossing, Entry, NoInterval
from algoprogress.analysis.compute_frontier import Frontier
from algoprogress.analysis.gain_curves import LOG_C_MAX, LawPair, MeasuredCurve, Multiplier, PowerSum
from algoprogress.analysis.warnings import Extrapolation

# Gundlach et al. 2025, from their published code
PUBLISHED = {
    2023: {"total": 6926.35, "scale_dependent": 2697.11, "scale_invariant": 2.57, "share": 0.8933,
           "lstm_to_kaplan": 726.15, "kaplan_to_chinchilla": 3.714},
    2025: {"total": 21415.66, "scale_dependent": 8339.21, "scale_invariant": 2.57, "share": 0.9054,
           "lstm_to_kaplan": 847.81, "kaplan_to_chinchilla": 9.84},
}  # fmt: skip


def entry(key: str = "x", gain=None, **changes) -> Entry:
    return Entry(**{"key": key, "innovation": key, "year": 2015, "gain": gain or Multiplier(2.0), **changes})


class TestPublishedAccount:
    @pytest.mark.parametrize("year", PUBLISHED)
    def test_gives_the_published_totals(self, year):
        found, want = account("gundlach2025"), PUBLISHED[year]
        total, table = found.total(year, n=0), found.table(year, n=0)
        assert total["total"]["value"] == pytest.approx(want["total"], rel=5e-4)
        assert total["groups"]["scale-dependent"]["value"] == pytest.approx(want["scale_dependent"], rel=5e-4)
        assert total["groups"]["scale-invariant"]["value"] == pytest.approx(want["scale_invariant"], abs=5e-3)
        assert total["log_share"]["scale-dependent"]["value"] == pytest.approx(want["share"], rel=5e-4)
        for key in ("lstm_to_kaplan", "kaplan_to_chinchilla"):
            assert table.loc[key, "gain"] == pytest.approx(want[key], rel=5e-4)

    def test_growth_is_counted_from_a_year(self):
        """The published growth of 2023 is over 11 years and that of 2025 over 12."""
        found = account("gundlach2025")
        assert found.total(2023, n=0)["growth_per_year"]["value"] == pytest.approx(2.2343, rel=5e-4)
        found = replace(found, since=2013)
        assert found.total(2025, n=0)["growth_per_year"]["value"] == pytest.approx(2.2956, rel=5e-4)

    def test_gives_the_published_growth_at_fixed_compute(self):
        found = account("gundlach2025").fixed_compute_growth([1e16, 1e18, 1e20, 1e22, 1e24], 2016.5, 2025)
        assert [float(f"{g:.2f}") for g in found["growth_per_year"]] == [0.46, 0.81, 1.25, 1.79, 2.47]

    def test_gives_the_published_gains_over_each_base(self):
        found = account("gundlach2025").against(2028).set_index("base")["gain"]
        want = {"LSTM": "4.2e+05", "Kaplan Transformer": "1.1e+02", "dense Transformer": "2.0e+00"}
        assert {base: f"{gain:.1e}" for base, gain in found.items()} == want

    def test_one_convention_throughout_moves_the_split_and_not_the_total(self):
        mixed, one = account("gundlach2025"), account("gundlach2025_consistent")
        shares = one.table(2025, n=0)["log_share"]
        assert shares["lstm_to_kaplan"] == pytest.approx(0.53, abs=0.005)
        assert shares["kaplan_to_chinchilla"] == pytest.approx(0.38, abs=0.005)
        assert one.total(2025, n=0)["total"]["value"] == pytest.approx(
            mixed.total(2025, n=0)["total"]["value"], rel=1e-12
        )
        assert one.table(2025, n=0).loc["kaplan_to_chinchilla", "gain"] == pytest.approx(43, abs=0.5)

    def test_says_that_its_gains_have_no_interval_and_are_extrapolated(self):
        with (
            pytest.warns(NoInterval, match="8 of 8 gains have no interval"),
            pytest.warns(Extrapolation, match="decades"),
        ):
            table = account("gundlach2025").table(2025)
        assert table["note"].str.contains("taken as exact").all()
        assert table.loc["lstm_to_kaplan", "decades_beyond"] > 5


class TestGains:
    def test_a_pair_of_power_laws_has_the_closed_form(self):
        old, new = PowerSum(1.9, [36.3], [0.065]), PowerSum(1.9, [81.7], [0.091])
        log_c = np.log([1e16, 1e20, 1e24])
        want = np.log(36.3 / 81.7) / 0.065 + (0.091 / 0.065 - 1) * log_c
        np.testing.assert_allclose(LawPair(old, new).log_gain(log_c, "new"), want, rtol=1e-10)

    def test_the_two_references_are_the_same_gain_at_two_computes(self):
        pair = LawPair(PowerSum(1.7, [40, 3], [0.07, 0.2]), PowerSum(1.7, [60], [0.09]))
        at_new = np.log([1e18, 1e21])
        gain = pair.log_gain(at_new, "new")
        np.testing.assert_allclose(pair.log_gain(at_new + gain, "old"), gain, rtol=1e-9)

    @given(st.integers(1, 3), st.integers(0, 2**32 - 1))
    def test_the_compute_for_a_loss_has_that_loss_or_none_has(self, n_terms, seed):
        rng = np.random.default_rng(seed)
        law = PowerSum(
            rng.uniform(0, 2, 5), np.exp(rng.uniform(-3, 9, (5, n_terms))), rng.uniform(0.02, 1, (5, n_terms))
        )
        loss = np.exp(rng.uniform(-1, 4, (5, 8)))
        log_c = law.log_c_for(loss)
        never = np.isinf(log_c)
        assert (never == (law.loss(np.full(loss.shape, LOG_C_MAX)) > loss)).all()
        within = ~never & (log_c > -LOG_C_MAX)
        np.testing.assert_allclose(law.loss(np.where(within, log_c, 0.0))[within], loss[within], rtol=1e-12)

    def test_a_measured_curve_says_nothing_beyond_its_range(self):
        curve = MeasuredCurve(np.log([1e16, 1e18]), np.log([2.0, 3.0]))
        found = np.exp(curve.log_gain(np.log([1e15, 1e17, 1e19]), "new"))
        assert np.isnan(found[[0, 2]]).all()
        assert found[1] == pytest.approx(np.sqrt(6))

    def test_draws_of_a_multiplier_have_its_interval(self):
        gain = Multiplier(2.0, 1.5, 4.0)
        drawn = np.exp(gain.draws(np.zeros(1), "new", 20_000, np.random.default_rng(0))[:, 0])
        assert np.quantile(drawn, [0.025, 0.5, 0.975]) == pytest.approx([1.5, 2.0, 4.0], rel=0.03)


class TestIntervals:
    def test_a_total_of_lognormal_gains_has_the_interval_of_their_product(self):
        gains = tuple(entry(k, Multiplier(2.0, 2 / 1.2, 2 * 1.2)) for k in "abcd")
        total = Account("four", gains).total(2020, n=20_000)["total"]
        assert total["value"] == pytest.approx(16)
        assert np.log(total["high"] / 16) == pytest.approx(2 * np.log(1.2), rel=0.03)

    def test_what_one_entry_contains_of_another_is_the_same_draw(self):
        inner, outer = Multiplier(2.0, 1.0, 4.0), Multiplier(10.0, 9.0, 11.0)
        both = Account("a", (entry("outer", outer, less=("inner",)), entry("inner", inner)))
        total = both.total(2020)["total"]
        assert (total["low"], total["high"]) == pytest.approx((9.0, 11.0), rel=0.02)

    def test_what_interacts_makes_what_was_measured_together(self):
        singles = (entry("a", Multiplier(1.5), interacts=True), entry("b", Multiplier(1.8), interacts=True))
        found = Account("a", singles, interaction="power", measured_together=Multiplier(1.33)).total(2020, n=0)
        assert found["total"]["value"] == pytest.approx(1.33)

    def test_a_sure_account_has_no_interval(self):
        total = Account("a", (entry(),)).total(2020)
        assert np.isnan(total["total"]["low"])
        assert total["n_uncertain"] == 0


class TestRefusals:
    @pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
    def test_a_multiplier_that_is_no_number_above_0(self, value):
        with pytest.raises(ValueError, match="a number above 0"):
            Multiplier(value)

    def test_a_year_outside_the_frontier(self):
        with pytest.raises(ValueError, match="goes from 2012 to 2030; 2040 is outside it"):
            account("gundlach2025").total(2040)

    @pytest.mark.parametrize("year", [1995.0, 2045.0, float("nan")])
    def test_an_entry_of_a_year_outside_the_frontier(self, year):
        with pytest.raises(ValueError, match=f"late is of {year:g}, and the frontier goes from 2012 to 2030"):
            Account("a", (entry(), entry("late", year=year)))
        Account("a", (entry(), entry("late", year=year, counted=False)))

    def test_entries_that_contain_each_other(self):
        with pytest.raises(ValueError, match="x contains itself"):
            Account("a", (entry(less=("y",)), entry("y", less=("x",))))

    @pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
    def test_an_interval_of_no_level(self, level):
        with pytest.raises(ValueError, match="The level of an interval is a share between 0 and 1"):
            Multiplier(2.0, 1.5, 3.0, level=level)

    def test_two_entries_for_one_innovation(self):
        with pytest.raises(ValueError, match="Two entries are called x: an innovation counts once"):
            Account("a", (entry(), entry()))
        with pytest.raises(ValueError, match="Two entries count for 'x'"):
            Account("a", (entry(), replace(entry(), key="y", innovation=" X")))
        again = replace(entry(), key="y")
        with pytest.raises(ValueError, match="Two entries count for"):
            Account("a", (entry(), again))
        assert Account("a", (entry(), replace(again, counted=False))).adopted(2025) == [entry()]

    def test_laws_that_cross_are_warned_of(self):
        pair = LawPair(PowerSum(1.5, [20], [0.05]), PowerSum(1.5, [2000], [0.15]))
        with pytest.warns(Crossing, match="the laws of x cross within the frontier"), warnings.catch_warnings():
            warnings.simplefilter("ignore", NoInterval)
            Account("a", (entry(gain=pair),)).table(2020, n=0)

    def test_a_curve_read_where_it_was_not_measured(self):
        with pytest.raises(ValueError, match=r"has no gain at .* FLOP: it was not measured there"):
            Account("a", (entry(gain=MeasuredCurve(np.log([1e12, 1e13]), np.zeros(2))),)).total(2020)

    def test_laws_of_which_one_never_reaches_the_other(self):
        pair = LawPair(PowerSum(4.5, [20], [0.05]), PowerSum(1.5, [20], [0.05]))
        with pytest.raises(ValueError, match="one law never reaches"):
            Account("a", (entry(gain=pair),)).total(2020)

    def test_half_an_interval_or_one_beside_its_multiplier(self):
        with pytest.raises(ValueError, match="both low and high"):
            Multiplier(2.0, low=1.0)
        with pytest.raises(ValueError, match="does not hold its multiplier"):
            Multiplier(2.0, 2.5, 3.0)

    def test_a_frontier_that_goes_backwards(self):
        with pytest.raises(ValueError, match="first year comes before its last"):
            Frontier(1e16, 2013, 4.1, 2020, 2015)


class TestFiles:
    def test_a_table_is_an_account(self, tmp_path):
        file = tmp_path / "mine.csv"
        pd.DataFrame({"innovation": ["a", "b"], "year": [2015, 2018], "multiplier": [2.0, 3.0], "low": [1.5, np.nan],
                      "high": [2.5, np.nan]}).to_csv(file, index=False)  # fmt: skip
        total = account(str(file)).total(2020)
        assert total["total"]["value"] == pytest.approx(6)
        assert total["n_uncertain"] == 1

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("x = [", "is not TOML"),
            ("name = 'a'", r"has no \[\[entries\]\]"),
            ("like = 'gundlach'", "like is one of gundlach2025, gundlach2025_consistent, ours_laptop, not 'gundlach'"),
            (
                "[[entries]]\nkey = 'a'\ninnovation = 'a'\nyear = 2015\nmultiplier = 0",
                "a: A multiplier is a number above 0",
            ),
            ("[[entries]]\nkey = 'a'\ninnovation = 'a'\nyear = 2015\nold = 'b'\nnew = 'c'", "no law b, c"),
            ("entries = 3", r"entries is tables, one an entry: \[\[entries\]\], not 3"),
            ("frontier = 5\n[[entries]]", "frontier is a name, or a table"),
            (
                "[frontier]\ncompute = 1e16\n[[entries]]\nkey = 'a'\ninnovation = 'a'\nyear = 2015\nmultiplier = 2",
                "there is no at, growth",
            ),
            ("bases = ['a']", "bases is a table of lists of keys"),
            ("interaction = 'power'", "interaction is a table of its own, not 'power'"),
            ("[laws.b]\nE = 1.9\nA = 36.3\na = 0.065", "the law b: A is a list of numbers, not 36.3"),
            ("[laws.b]\nE = 1.9\na = [0.065]", "the law b: there is no A"),
            ("[[entries]]\nkey = 'a'\ninnovation = 'a'\nyear = 2015-01-01\nmultiplier = 2", "a: year is a number"),
            ("[[entries]]\nkey = 'a'\ninnovation = 'a'\nyear = 2015\nmultiplier = [2]", "a: multiplier is a number"),
            (
                "[[entries]]\nkey = 'a'\ninnovation = 'a'\nyear = 2015\nmultiplier = 2\nless = 'b'",
                "a: less is a list of names",
            ),
            (
                "[[entries]]\nkey = 'a'\ninnovation = 'a'\nyear = 2015\nmultiplier = 2\nmeasured = [1e18, 1e14]",
                "a: measured is the lowest and the highest compute",
            ),
            ("[[entries]]\nkey = 'a'\nyear = 2015\nmultiplier = 2", "there is no innovation"),
            ("[[entries]]\nkey = 'a'\ninovation = 'a'\nyear = 2015\nmultiplier = 2", "unknown inovation"),
            ("reference = 'both'\n[[entries]]\nkey = 'a'\ninnovation = 'a'\nyear = 2015\nmultiplier = 2", "not 'both'"),
        ],
    )
    def test_a_file_that_is_wrong_is_told_so(self, tmp_path, text, said):
        file = tmp_path / "account.toml"
        file.write_text(text)
        with pytest.raises(ValueError, match=said):
            account(str(file))

    @pytest.mark.parametrize(
        ("rows", "said"),
        [
            ("a,2017,2,no", "a: counted is true or false, not 'no'"),
            ("a,2017,two,True", "a: multiplier is a number, not 'two'"),
            ("a,2045,2,True", "a is of 2045"),
        ],
    )
    def test_a_cell_that_is_wrong_is_told_so(self, tmp_path, rows, said):
        file = tmp_path / "mine.csv"
        file.write_text(f"innovation,year,multiplier,counted\n{rows}\n")
        with pytest.raises(ValueError, match=said):
            account(str(file))

    @pytest.mark.parametrize("name", ["mine.csv", "mine.parquet", "mine.toml"])
    def test_a_file_that_is_none_is_told_by_its_name(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"\xff\xfe" if name.endswith("toml") else b"")
        with pytest.raises(ValueError, match=name):
            account(str(tmp_path / name))

    def test_a_cell_may_name_what_an_entry_contains(self, tmp_path):
        file = tmp_path / "mine.csv"
        file.write_text('innovation,year,multiplier,less\na,2015,6,"b, c"\nb,2016,2,\nc,2017,1.5,\n')
        assert account(str(file)).table(2020, n=0)["gain"].to_list() == pytest.approx([2.0, 2.0, 1.5])

    def test_an_unknown_account_lists_the_known(self):
        with pytest.raises(ValueError, match="there are gundlach2025, gundlach2025_consistent, ours_laptop"):
            account("gundlach")


def test_the_command_gives_one_flat_document(capsys, monkeypatch):
    import sys

    from algoprogress.pipeline.cli import main

    monkeypatch.setattr(
        sys, "argv", ["algoprogress", "accounting", "--protocol", "gundlach2025", "--year", "2023", "--json"]
    )
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    found = json.loads(capsys.readouterr().out)
    for key, value in {"total": 6926.35, "lstm_to_kaplan": 726.15, "kaplan_to_chinchilla": 3.714,
                       "scale_dependent": 2697.11, "log_share_scale_dependent": 0.8933,
                       "growth_per_year": 2.2343}.items():  # fmt: skip
        assert found[key] == pytest.approx(value, rel=5e-4)
    assert found["forecast"]["total"] == pytest.approx(found["total"])
    assert found["forecast"]["low"] < found["forecast"]["held"] < found["total"] < found["forecast"]["high"]
    assert all("decades_beyond" in row for row in found["against"])
