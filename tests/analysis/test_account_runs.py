"""Accounts of our own runs: laws with their resamples, and the cover of the totals that come of them."""

import numpy as np
import pytest

from algoprogress.analysis import fit_jointly
from algoprogress.analysis.account_files import account, protocols
from algoprogress.analysis.account_runs import fitted_pair, measured_curve
from algoprogress.analysis.accounting import Account, Entry
from algoprogress.analysis.compute_frontier import Frontier
from algoprogress.analysis.simulation import simulate_runs

WORLD = {"lstm": (0.6, 60.0, 0.14), "retro": (0.6, 60.0, 0.142), "modern": (0.6, 115.0, 0.165)}
SIX = tuple(float(c) for c in np.geomspace(1e11, 3e13, 6))
FRONTIER = Frontier(3e12, 2013, 1.2, 2012, 2020)


def account_of(runs, n: int, seed: int) -> Account:
    """Two steps: lstm -> retro, and lstm -> modern with the first taken out of it."""
    fit = fit_jointly(runs, "lstm", "power", n_resamples=n, seed=seed)
    first = Entry("retro", "lstm -> retro", 2014, fitted_pair(fit, "retro"))
    second = Entry("modern", "retro -> modern", 2017, fitted_pair(fit, "modern"), less=("retro",))
    return Account("simulated", (first, second), FRONTIER)


def true_total(year: float) -> float:
    C = np.exp(FRONTIER.log_compute(year))
    _, A, a = WORLD["modern"]
    _, A0, a0 = WORLD["lstm"]
    return ((A * C**-a) / A0) ** (-1 / a0) / C


def cover(n_studies: int, **design) -> float:
    held = []
    for s in range(n_studies):
        runs = simulate_runs(WORLD, SIX, seed=30_000 + s, **design)
        total = account_of(runs, 200, s).total(2018, n=200, level=0.9)["total"]
        held.append(total["low"] <= true_total(2018) <= total["high"])
    return float(np.mean(held))


def test_without_noise_the_total_is_that_of_the_laws():
    account = account_of(simulate_runs(WORLD, SIX, budget_error=0.0), 0, 0)
    assert account.total(2018, n=0)["total"]["value"] == pytest.approx(true_total(2018), rel=1e-4)


def test_the_interval_of_the_total_covers_in_a_few_studies():
    assert cover(12, noise=0.03, sizes=(0,), rates=(0,)) > 0.6


@pytest.mark.slow
def test_the_90_percent_interval_of_the_total_covers_87_to_93_percent_of_400_studies():
    assert 0.87 <= cover(400, noise=0.03, sizes=(0,), rates=(0,)) <= 0.93


def test_a_measured_curve_has_the_gains_of_the_table_and_ends_where_they_do():
    fit = fit_jointly(simulate_runs(WORLD, SIX, noise=0.02, seed=1), "lstm", "power", n_resamples=100)
    curve = measured_curve(fit, "retro")
    assert curve.uncertain
    assert np.isnan(curve.log_gain(np.log([1e15]), "new")).all()
    inside = np.exp(curve.log_c[:1])
    assert np.isfinite(curve.log_gain(np.log(inside), "new")).all()


def test_what_was_not_fitted_is_refused():
    runs = simulate_runs(WORLD, SIX, noise=0.02)
    with pytest.raises(ValueError, match="There is no law of newer; there are laws of lstm"):
        fitted_pair(fit_jointly(runs, "lstm", "power", n_resamples=0), "newer")
    with pytest.raises(ValueError, match="No power law is fitted"):
        fitted_pair(fit_jointly(runs, "lstm", None, n_resamples=0), "modern")


@pytest.mark.parametrize("gain", [fitted_pair, measured_curve])
def test_gains_of_one_study_are_drawn_together_and_those_of_two_apart(gain):
    """Two studies of one design that differ in their noise alone, resampled from one seed."""
    worlds = [simulate_runs(WORLD, SIX, noise=0.03, sizes=(0,), rates=(0,), seed=s) for s in (1, 2)]
    fits = [fit_jointly(runs, "lstm", "power", n_resamples=200, seed=0) for runs in worlds]

    def drawn(of, arm, study):
        own = gain(of, arm, study=study)
        return own.draws(np.log([3e12]), "new", 200, np.random.default_rng(0))[:, 0]

    one = drawn(fits[0], "modern", "one")
    assert abs(np.corrcoef(one, drawn(fits[1], "modern", "two"))[0, 1]) < 0.25
    assert np.corrcoef(one, drawn(fits[1], "modern", "one"))[0, 1] > 0.5  # what the name of the study is for
    assert np.corrcoef(one, drawn(fits[0], "retro", "one"))[0, 1] > 0.25  # the noise of their baseline


@pytest.fixture(scope="module")
def fit():
    runs = simulate_runs(WORLD, SIX, noise=0.02, sizes=(0,), rates=(0,), seed=1)
    return fit_jointly(runs, "lstm", "power", n_resamples=50)


class TestFiles:
    text = """
[[entries]]
key = "a"
innovation = "lstm -> modern"
year = 2017
study = "ladder"
arm = "modern"
"""

    def written(self, tmp_path, more: str = "") -> str:
        file = tmp_path / "mine.toml"
        file.write_text(self.text + more)
        return str(file)

    def test_an_entry_is_a_gain_of_a_study(self, tmp_path, fit):
        gain = account(self.written(tmp_path), {"ladder": fit}.__getitem__).total(2018, 1e12, n=50)["total"]
        assert gain["low"] < gain["value"] < gain["high"]
        measured = account(self.written(tmp_path, 'method = "interpolated"'), lambda study: fit)
        with pytest.raises(ValueError, match=r"a has no gain at 1e\+15 FLOP: it was not measured there"):
            measured.total(2018, 1e15)

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            ("multiplier = 2", "leave out multiplier"),
            ('method = "guess"', "method is one of law, interpolated, not 'guess'"),
            ('method = "interpolated"\nover = "retro"', "over the study's baseline, lstm, not over retro"),
            ('over = "rnn"', "no law of rnn"),
        ],
    )
    def test_an_entry_that_is_wrong_is_told_so(self, tmp_path, fit, more, said):
        with pytest.raises(ValueError, match=said):
            account(self.written(tmp_path, more), lambda study: fit)

    def test_a_study_needs_a_store(self, tmp_path):
        with pytest.raises(ValueError, match="give the store"):
            account(self.written(tmp_path))

    def test_every_account_of_the_package_can_be_read(self, fit):
        assert {"gundlach2025", "gundlach2025_consistent", "ours_laptop"} == set(protocols())
        for name in protocols():
            assert account(name, lambda study: fit).name == name

    def test_our_own_account_is_of_the_arms_of_its_study(self, fit):
        ours = account("ours_laptop", lambda study: fit)
        at_hand = ours.against(2020, 1e12).set_index("base")["gain"]
        total = ours.total(2024, 1e12, n=0)["total"]["value"]
        assert at_hand["LSTM"] == pytest.approx(total, rel=1e-6)
        assert at_hand["Transformer of 2017"] < total
