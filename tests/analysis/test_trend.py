"""Histories whose rate of progress is known, in the law of Ho et al. 2024."""

import numpy as np
import pandas as pd
import pytest

from algoprogress.analysis.trend import fit_trend, history, read_history


def simulate(months: float, noise: float, seed: int, n: int = 120, share: float = 0.6) -> pd.DataFrame:
    """Models of 2012 to 2023 on two benchmarks; effective compute doubles in `months`, by parameters for a `share`."""
    rng = np.random.default_rng(seed)
    year = np.sort(rng.uniform(2012, 2023, n))
    log_n = np.log(1e7) + 0.8 * (year - 2012) + rng.normal(0, 1.3, n)
    log_d = np.log(1e8) + 0.7 * (year - 2012) + rng.normal(0, 1.3, n)
    rate = 12 * np.log(2) / months if np.isfinite(months) else 0.0
    t = year - 2012
    rows = []
    for k, (benchmark, level) in enumerate((("wt103", 1.0), ("ptb", 1.15))):
        own = np.arange(n) % 2 == k if n < 40 else rng.random(n) < 0.7
        by_n = level * 1.9 * np.exp(-0.12 * (log_n + share * rate * t - np.log(1e7)))
        by_d = level * 1.6 * np.exp(-0.14 * (log_d + (1 - share) * rate * t - np.log(1e8)))
        loss = (by_n + by_d) * np.exp(noise * rng.standard_normal(n))
        table = {"model": [f"m{i}" for i in range(n)], "benchmark": benchmark, "year": year}
        rows.append(pd.DataFrame(table | {"N": np.exp(log_n), "D": np.exp(log_d), "loss": loss})[own])
    return pd.concat(rows, ignore_index=True)


@pytest.mark.parametrize("months", [6.0, 8.44, 24.0])
def test_recovers_a_known_halving_time(months):
    found = fit_trend(simulate(months, 0.002, seed=1), n_resamples=0)
    assert found.value("halving_months")[0] == pytest.approx(months, rel=0.02)
    assert found.value("growth_per_year")[0] == pytest.approx(2 ** (12 / months), rel=0.03)
    assert found.value("alpha")[0] == pytest.approx(0.12, rel=0.05)
    assert found.value("beta")[0] == pytest.approx(0.14, rel=0.05)


def test_perplexity_is_the_exponential_of_loss_and_benchmarks_have_their_own_level():
    table = simulate(9.0, 0.002, seed=2)
    by_perplexity = fit_trend(table.assign(perplexity=np.exp(table["loss"])).drop(columns="loss"), n_resamples=0)
    assert by_perplexity.value("halving_months")[0] == pytest.approx(
        fit_trend(table, n_resamples=0).value("halving_months")[0]
    )
    assert by_perplexity.n_models == table["model"].nunique()


def test_where_nothing_progressed_the_interval_reaches_to_never():
    months = fit_trend(simulate(np.inf, 0.03, seed=3), n_resamples=100).value("halving_months")
    assert months[2] == np.inf


def test_the_interval_holds_the_truth_in_a_few_histories():
    held = [covered(8.0, seed, 60) for seed in range(6)]
    assert sum(held) >= 4


@pytest.mark.slow
def test_the_95_percent_interval_holds_the_truth_in_88_to_99_percent_of_200_histories():
    assert 0.88 <= np.mean([covered(8.0, seed, 200) for seed in range(200)]) <= 0.99


def covered(months: float, seed: int, n_resamples: int) -> bool:
    _, low, high = fit_trend(simulate(months, 0.03, seed), n_resamples=n_resamples).value("halving_months")
    return low <= months <= high


def test_a_jacobian_is_that_of_its_residuals():
    from scipy.optimize import approx_fprime

    from algoprogress.analysis.trend import _Data

    table = history(simulate(9.0, 0.03, seed=4))
    data = _Data.of(table, sorted(table["benchmark"].unique()), 0.5)
    theta = data.start(0.1, 0.2, 0.05)
    np.testing.assert_allclose(data.jacobian(theta), approx_fprime(theta, data.residuals, 1e-7), atol=2e-6)


class TestRefuses:
    def test_a_table_without_what_it_needs(self, tmp_path):
        with pytest.raises(ValueError, match="needs a column tokens"):
            history(simulate(9.0, 0.0, 0).drop(columns="D"))
        with pytest.raises(ValueError, match=r"there is no table .*none.csv"):
            read_history(tmp_path / "none.csv")

    def test_values_that_can_not_be(self):
        table = simulate(9.0, 0.0, 0)
        with pytest.raises(ValueError, match="have a n_params that is not a positive number"):
            history(table.assign(N=-1.0))
        with pytest.raises(ValueError, match=r"A perplexity is above 1, not 0\.5"):
            history(table.assign(perplexity=0.5).drop(columns="loss"))
        with pytest.raises(ValueError, match="below every loss"):
            fit_trend(table, irreducible=9.0)

    def test_a_history_that_can_not_tell_the_parameters(self):
        table = simulate(9.0, 0.0, 0)
        with pytest.raises(ValueError, match="8 rows can not tell 8 parameters"):
            fit_trend(table.groupby("benchmark").head(4))
        with pytest.raises(ValueError, match="a trend needs at least 1 year"):
            fit_trend(table.assign(year=2020.0))
