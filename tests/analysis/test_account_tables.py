"""What the figures of an account show is what the account says; and no forecast comes without its band."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from algoprogress.analysis import account_tables as of
from algoprogress.analysis import figures
from algoprogress.analysis.account_figures import draw_account
from algoprogress.analysis.account_files import account
from algoprogress.analysis.accounting import Account, Entry
from algoprogress.analysis.figures import draw, new_axes
from algoprogress.analysis.gain_curves import Held, LawPair, Multiplier, PowerSum


@pytest.fixture(scope="module")
def published() -> Account:
    return account("gundlach2025")


@pytest.fixture(scope="module")
def known() -> Account:
    """Two sure gains of 4 and 2, and one of 3 within [2, 4.5]."""
    entries = (
        Entry("a", "a", 2015, Multiplier(4.0), group="x"),
        Entry("b", "b", 2018, Multiplier(3.0, 2.0, 4.5), group="y"),
        Entry("c", "c", 2020, Multiplier(2.0), group="x"),
    )
    return Account("known", entries, bases={"old": ("a", "b", "c"), "new": ("c",)})


def test_steps_of_the_waterfall_lead_from_one_to_the_total(published):
    steps = of.waterfall(published, 2025)
    parts = steps[steps["key"] != "total"]
    assert parts["start"].iloc[0] == 1
    np.testing.assert_allclose(parts["start"].iloc[1:], parts["end"].iloc[:-1])
    assert parts["year"].is_monotonic_increasing
    assert steps["end"].iloc[-1] == pytest.approx(published.total(2025, n=0)["total"]["value"])


def test_an_interval_of_a_step_is_that_of_its_gain(known):
    steps = of.waterfall(known, 2025).set_index("key")
    assert steps.loc["b", ["gain_low", "gain_high"]].to_list() == pytest.approx([2.0, 4.5], rel=0.1)
    assert np.isnan(steps.loc["a", "gain_low"])
    assert steps.loc["total", ["gain_low", "gain_high"]].to_list() == pytest.approx([16.0, 36.0], rel=0.1)


def test_shares_of_every_year_add_up_and_appear_when_adopted(published):
    shares = of.shares_by_year(published, range(2014, 2026))
    np.testing.assert_allclose(shares.groupby("year")["log_share"].sum(), 1.0)
    assert shares["year"].min() == 2017
    assert shares.query("key == 'mixture_of_experts'")["year"].min() == 2022


def test_gains_along_compute_are_those_of_the_account(published):
    compute = np.exp(published.frontier.log_compute(2025))
    gains = of.gains_by_compute(published, [compute]).set_index("key")["gain"]
    table = published.table(2025, n=0)["gain"]
    np.testing.assert_allclose(gains[table.index], table, rtol=1e-9)


def test_progress_is_exponential_against_one_base_and_flat_against_another(published):
    by = of.reference_dependence(published, [2026, 2027, 2028]).pivot_table(index="year", columns="base", values="gain")
    growth = np.diff(np.log(by["LSTM"]))
    assert growth == pytest.approx((0.094 / 0.065 - 1) * np.log(4.1), rel=1e-6)
    assert np.diff(by["dense Transformer"]) == pytest.approx(0.0, abs=1e-12)


def test_small_models_gain_less_and_stay_where_nothing_is_adopted(published):
    totals = of.small_models(published, [2012, 2017, 2023, 2025], [1e16, 1e20])
    small, larger = (totals[totals["compute"] == c].set_index("year")["gain"] for c in (1e16, 1e20))
    assert small[2012] == larger[2012] == 1
    assert small[2025] < larger[2025]
    assert small[2023] == small[2025]
    fixed = published.fixed_compute_growth([1e16], 2016.5, 2025)
    assert small[2025] == pytest.approx(fixed["gain"][0])


def test_what_is_not_yet_adopted_is_not_in_the_total_of_small_models(published):
    """LSTM -> Transformer was trained at a Chinchilla-like allocation: before 2022 that is taken out of it."""
    one = replace(published, reference="new")
    years = [2017, 2021, 2025]
    totals = of.small_models(published, years, [1e20]).fillna({"compute": 0.0})
    frontier, small = (totals[totals["compute"] == c].set_index("year")["gain"] for c in (0.0, 1e20))
    for year in years:
        assert frontier[year] == pytest.approx(one.total(year, n=0)["total"]["value"])
        assert small[year] == pytest.approx(one.total(year, 1e20, n=0)["total"]["value"])
    until = published.fixed_compute_growth([1e20], 2012, 2021, n=0)
    assert until["gain"][0] == pytest.approx(small[2021])


def test_what_was_taken_out_of_a_gain_counts_for_where_it_was_measured(published):
    gains = of.gains_by_compute(published, [1e14]).set_index("key")
    lstm, allocation = (published.entries[k] for k in (0, 1))
    assert published.measured(lstm) == (6e18, 1e18)  # nowhere both
    assert gains.loc["lstm_to_kaplan", "measured_low"] > gains.loc["lstm_to_kaplan", "measured_high"]
    at = np.log(1e16)
    assert (
        published.decades_beyond(lstm, at) == published.decades_beyond(allocation, at) == pytest.approx(2.78, abs=0.01)
    )


@pytest.mark.parametrize("column", ["gain", "decades_beyond"])
def test_no_gain_at_a_compute_comes_without_how_far_beyond_the_data_it_is(published, column):
    fixed = published.fixed_compute_growth([1e16, 1e24], 2016.5, 2025, n=0)
    against = published.against(2028, n=0).set_index("base")
    assert {column} <= set(fixed) & set(against)
    assert fixed["decades_beyond"].to_list() == pytest.approx([2.78, 6.0], abs=0.01)
    assert against.loc["LSTM", "decades_beyond"] == pytest.approx(7.19, abs=0.01)
    assert against.loc["dense Transformer", "decades_beyond"] == 0


class TestMultiverse:
    def test_one_row_is_the_accounts_own(self, published):
        worlds = of.multiverse(published, 2025)
        own = worlds[worlds["default"]]
        assert len(own) == 1
        assert own["ceg"].iloc[0] == pytest.approx(published.total(2025, n=0)["total"]["value"])
        assert not worlds.duplicated(list(of.CHOICES)).any()

    def test_what_is_held_is_what_was_measured_at_the_edge(self):
        pair = LawPair(PowerSum(1.9, [36.3], [0.065]), PowerSum(1.9, [81.7], [0.091]), measured=(1e14, 1e18))
        inside, edge, beyond = np.log([1e16, 1e18, 1e24])
        held = Held(pair).log_gain(np.array([inside, beyond]), "new")
        np.testing.assert_allclose(held, pair.log_gain(np.array([inside, edge]), "new"))


class TestForecast:
    def test_it_says_how_far_beyond_the_data_and_how_wide_its_band(self, published):
        found = of.forecast(published, 1e26, 2025)
        assert found["decades_beyond"] == pytest.approx(8.0)
        assert found["low"] < found["held"] < found["total"] < found["high"]
        assert found["band_decades"] == pytest.approx(np.log10(found["high"] / found["low"]))
        text = of.forecast_text(found)
        for said in ("8.0 decades of compute beyond", "4.1 decades wide", "no interval being known", "held"):
            assert said in text

    def test_where_every_interval_is_known_the_band_is_theirs(self):
        found = of.forecast(Account("one", (Entry("b", "b", 2018, Multiplier(3.0, 2.0, 4.5)),)), 1e26, 2025)
        assert found["band"] == "draws"
        assert (found["low"], found["high"]) == pytest.approx((2.0, 4.5), rel=0.1)

    def test_one_known_interval_does_not_make_the_band_short(self, published):
        """Of eight gains one has an interval: the range over conventions stays."""
        none = of.forecast(published, 1e26, 2025)
        sure = Multiplier(2.0, 1.9, 2.1)
        entries = tuple(replace(e, gain=sure) if e.key == "mixture_of_experts" else e for e in published.entries)
        one = of.forecast(replace(published, entries=entries), 1e26, 2025)
        assert one["band"] == "both"
        assert one["exact"] == 7
        assert one["low"] <= none["low"]
        assert one["high"] >= none["high"]
        assert "7 of 8 gains having none" in of.forecast_text(one)

    def test_an_exact_gain_is_exact_though_what_is_taken_out_of_it_is_not(self):
        inner = Entry("a", "a", 2015, Multiplier(2.0, 1.5, 2.5))
        outer = Entry("b", "b", 2018, Multiplier(3.0), less=("a",))
        found = of.forecast(Account("two", (inner, outer)), 1e26, 2025)
        assert (found["band"], found["exact"]) == ("both", 1)

    def test_where_some_intervals_are_known_the_band_is_theirs_over_all_conventions(self, known):
        found = of.forecast(known, 1e26, 2025)
        assert found["band"] == "both"
        assert (found["low"], found["high"]) == pytest.approx((16.0, 36.0), rel=0.1)
        said = of.forecast_text(found)
        assert "measured at no known compute, 3 of 3 gains being taken as the same at every compute" in said

    def test_it_is_at_a_compute_above_zero(self, known):
        with pytest.raises(ValueError, match="above 0 FLOP, not -1"):
            of.forecast(known, -1.0, 2025)


class TestFigures:
    def test_a_bar_is_as_long_as_its_gain(self, published):
        steps = of.waterfall(published, 2025)
        ax = figures.waterfall_plot(steps, new_axes())
        found = [(b.get_x(), b.get_x() + b.get_width()) for b in ax.patches]
        np.testing.assert_allclose(found, steps[["start", "end"]].to_numpy())

    def test_a_gain_is_thick_where_it_was_measured_alone(self, published):
        gains = of.gains_by_compute(published, np.geomspace(1e14, 1e26, 13))
        ax = figures.account_gains_plot(gains, new_axes())
        thick = [line for line in ax.lines if line.get_linewidth() > 2]
        assert [(line.get_xdata()[0], line.get_xdata()[-1]) for line in thick] == [(6e18, 3e21)]

    def test_dashes_are_of_what_is_extrapolated_alone(self, published):
        gains = of.gains_by_compute(published, np.geomspace(1e14, 1e26, 13))
        ax = figures.account_gains_plot(gains, new_axes())
        dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
        assert {float(line.get_linewidth()) for line in dashed} == {1.0}
        assert len(dashed) == gains.loc[gains["measured_low"].notna(), "key"].nunique() == 2

    def test_names_at_the_edge_stand_apart_and_within(self, published):
        figure = draw(figures.account_gains_plot, of.gains_by_compute(published, np.geomspace(1e14, 1e26, 13)))
        heights = sorted(t.xyann[1] for t in figure.axes[0].texts)
        assert np.diff(heights).min() > 0.03
        assert heights[-1] <= 1 + 1e-9

    def test_every_figure_is_written_in_every_format_and_again_the_same(self, known, tmp_path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            files = draw_account(known, tmp_path / "a", 2025, n=50, formats=("svg", "pdf"))
            again = draw_account(known, tmp_path / "b", 2025, n=50, formats=("svg",))
        names = ["waterfall", "shares", "gains", "fixed_compute", "reference", "small_models", "multiverse"]
        assert [f.name for f in files] == [f"{n}.{s}" for n in names for s in ("svg", "pdf")]
        for one, other in zip(files[::2], again, strict=True):
            assert one.read_bytes() == other.read_bytes()
        steps = draw(figures.waterfall_plot, of.waterfall(known, 2025, 50), height=3.8)
        (pdf,) = figures.save(steps, tmp_path / "c", ("pdf",))
        assert pdf.read_bytes() == files[1].read_bytes()
