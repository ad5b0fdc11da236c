"""Do nominal 95 % intervals cover the truth, and does a constant gain pass for one?"""

import numpy as np
import pandas as pd
import pytest

from algoprogress.analysis import compute_equivalent_gain, scale_dependence
from algoprogress.analysis.bootstrap import resample_frontier, seed_noise
from algoprogress.analysis.simulation import simulate_runs

DESIGNS = {
    "three sizes by three rates": {},
    "two sizes by two rates": {"sizes": (0, 0.5), "rates": (0, 0.7)},
    "best size and rate between those tried": {"tuning_error": 0.25},
}


def covered(laws: dict, true_gain, n_studies: int, first: int, **design) -> dict[str, float]:
    """Share of intervals for CEG (at computes inside the range) and slope that hold the truth, by method."""
    hits: dict[str, list[bool]] = {}
    for s in range(n_studies):
        runs = simulate_runs(laws, noise=0.05, noise_exponent=0.3, seed=first + s, **design)
        gains = compute_equivalent_gain(runs, "lstm", at_compute=[1e11, 3e11, 1e12, 3e12], n_resamples=200, seed=s)
        inside = gains[gains["compute"].isin([3e11, 1e12])].dropna(subset=["ceg"])
        for row in inside.itertuples():
            truth = true_gain(laws, row.arm, row.compute)
            hits.setdefault(f"ceg {row.method}", []).append(row.ceg_low <= truth <= row.ceg_high)
        for row in scale_dependence(gains).dropna(subset=["slope_low"]).itertuples():
            truth = laws[row.arm][2] / laws["lstm"][2] - 1
            hits.setdefault(f"slope {row.method}", []).append(row.slope_low <= truth <= row.slope_high)
    return {what: float(np.mean(h)) for what, h in hits.items()}


def test_intervals_cover_in_a_few_studies(growing, true_gain):
    shares = covered(growing, true_gain, n_studies=10, first=900)
    assert min(shares.values()) > 0.75, shares  # ten studies: only a gross fault shows


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
def test_nominal_95_percent_intervals_cover_88_to_99_percent(design, growing, true_gain):
    shares = covered(growing, true_gain, n_studies=100, first=5000, **DESIGNS[design])
    assert all(0.88 <= share <= 0.99 for share in shares.values()), shares


@pytest.mark.slow
def test_a_constant_gain_is_called_scale_dependent_about_as_often_as_nominal(constant):
    rejected = []
    for s in range(150):
        runs = simulate_runs(constant, noise=0.04, noise_exponent=0.2, seed=7000 + s)
        gains = compute_equivalent_gain(runs, "lstm", method="law", n_resamples=0)
        rejected += (scale_dependence(gains)["p_equal_exponents"] < 0.05).tolist()
    assert 0.01 <= np.mean(rejected) <= 0.10


def test_recovers_the_noise_between_seeds():
    runs = simulate_runs({"a": (0.6, 60, 0.14)}, noise=0.05, noise_exponent=0.3, n_seeds=8, n_best_seeds=8)
    noise = seed_noise(runs)
    assert noise is not None
    assert float(noise.sd("a", 1e11)) == pytest.approx(0.05, rel=0.15)
    assert noise.exponent == pytest.approx(0.3, abs=0.1)


def test_an_arm_without_repeats_borrows_the_noise_of_the_others():
    runs = simulate_runs({"a": (0.6, 60, 0.14), "b": (0.6, 70, 0.14)}, noise=0.05, n_best_seeds=4)
    noise = seed_noise(runs[(runs["arm"] == "a") | (runs["seed"] == 0)])
    assert noise is not None
    assert noise.dof == {"a": 12, "b": 4}
    assert float(noise.sd("a", 1e12)) == pytest.approx(float(noise.sd("b", 1e12)))


def test_noise_of_an_arm_lies_between_its_own_and_that_of_all():
    quiet, loud = (
        simulate_runs({a: (0.6, 60, 0.14)}, noise=sd, n_best_seeds=4) for a, sd in (("q", 0.01), ("l", 0.06))
    )
    noise = seed_noise(pd.concat([quiet, loud]))
    assert noise is not None
    assert 0.01 < float(noise.sd("q", 1e12)) < 0.03 < float(noise.sd("l", 1e12)) < 0.07


def test_resampling_takes_off_some_of_the_winners_curse():
    """Nine configurations that are truly equal, the hardest case: about half the bias goes, none turns round."""
    design = {"budgets": (1e12,), "noise": 0.05, "penalties": (0, 0), "budget_error": 0, "n_seeds": 2}
    truth = 0.6 + 60 * 1e12**-0.14
    measured, centre = [], []
    for s in range(30):
        runs = simulate_runs({"a": (0.6, 60, 0.14)}, seed=s, **design)
        resamples = resample_frontier(runs, 200, seed=s)
        assert resamples is not None
        measured.append(runs.groupby("configuration_id")["loss"].mean().min() - truth)
        centre.append(np.median(resamples.loss_Bn) - truth)
    assert np.mean(measured) < -0.04
    assert 0.75 * np.mean(measured) < np.mean(centre) < 0
