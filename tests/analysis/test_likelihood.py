"""Information criteria: those of ordinary regression under least squares, those of a density under Huber."""

import itertools

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import integrate

from algoprogress.analysis import laws
from algoprogress.analysis.likelihood import criteria, log_likelihood
from algoprogress.analysis.objective import huber


def line(n: int = 30) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    compute = 10 ** rng.uniform(15, 20, n)
    return pd.DataFrame({"compute": compute, "loss": 40 * compute**-0.1 * np.exp(0.01 * rng.standard_normal(n))})


def test_least_squares_has_the_criteria_of_ordinary_regression():
    runs = line()
    law = laws["power"](huber=np.inf, fixed={"E": 0.0}).fit(runs)
    ols = sm.OLS(np.log(runs["loss"]), sm.add_constant(np.log(runs["compute"]))).fit()
    assert criteria(law)["log_likelihood"] == pytest.approx(ols.llf, rel=1e-8)
    # statsmodels does not count the variance as a parameter
    assert law.aic == pytest.approx(ols.aic + 2, rel=1e-8)
    assert law.bic == pytest.approx(ols.bic + np.log(30), rel=1e-8)
    assert law.aicc == pytest.approx(law.aic + 2 * 3 * 4 / (30 - 4), rel=1e-8)


@pytest.mark.parametrize("delta", [0.1, 1e-2, 1e-3, 1e-4])
def test_under_huber_it_is_the_likelihood_of_a_density_that_integrates_to_one(delta):
    r = 0.01 * np.random.default_rng(0).standard_t(3, 200)
    found = log_likelihood(float(huber(r, delta)[0].sum()), len(r), delta)

    def at(log_s: float) -> float:
        s = np.exp(log_s)
        ends = sorted({0.0, delta, *(delta + s**2 / delta * np.array([1.0, 5.0, 40.0])), *(s * np.array([1.0, 8.0]))})
        density = lambda t: np.exp(-huber(np.array(t), delta)[0] / s**2)  # noqa: E731
        total = 2 * sum(integrate.quad(density, low, high)[0] for low, high in itertools.pairwise(ends))
        return float((-huber(r, delta)[0] / s**2).sum() - len(r) * np.log(total))

    grid = np.linspace(-9, -2, 141)
    best = max(grid, key=at)
    fine = max(np.linspace(best - 0.05, best + 0.05, 41), key=at)
    assert found == pytest.approx(at(fine), abs=1e-3)


def test_few_points_have_no_finite_corrected_criterion():
    runs = line(4)
    law = laws["power"](huber=np.inf, fixed={"E": 0.0}).fit(runs)
    assert np.isinf(law.aicc)
    assert np.isfinite(law.aic)
