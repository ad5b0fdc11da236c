import warnings

import numpy as np
import pandas as pd
import pytest

from algoprogress.analysis import NotIdentified, laws
from algoprogress.analysis.fit import minimise
from algoprogress.analysis.loghuber import Points, derivatives, log_loss
from algoprogress.analysis.objective import huber
from algoprogress.analysis.published import restarted
from algoprogress.analysis.seeding import starts
from algoprogress.analysis.warnings import FewSeeds

OPTIMA = (
    "chinchilla_epoch_240",
    "chinchilla_epoch_245",
    "chinchilla_kyotakano_234",
    "gemstones_hot_d0.001",
    "gemstones_hot_d0.0001",
    "gemstones_hot_sampled_like_chinchilla_d0.001",
    "gemstones_hot_sampled_like_chinchilla_d0.0001",
    "gemstones_slim_chinchilla_d0.001",
    "gemstones_slim_chinchilla_d0.0001",
    "porian_rw_base_long_kaplan",
    "porian_rw_base_short_chinchilla",
    "porian_rw_base_short_kaplan",
    "porian_rw_tuned_short_const",
    "gadre_rpj_c4val",
    "olmo_ladder_c4_final",
)  # rows of expected_approach3_optima.csv
TRUE = {"E": 1.7, "A": 400.0, "B": 410.0, "alpha": 0.34, "beta": 0.28}


def simulated(noise: float = 0.0, n: int = 60, seed: int = 0, **change: float) -> pd.DataFrame:
    p = TRUE | change
    rng = np.random.default_rng(seed)
    N, D = np.exp(rng.uniform(np.log(1e7), np.log(1e10), n)), np.exp(rng.uniform(np.log(1e9), np.log(1e12), n))
    loss = p["E"] + p["A"] * N ** -p["alpha"] + p["B"] * D ** -p["beta"]
    return pd.DataFrame({"n_params": N, "tokens": D, "loss": loss * np.exp(noise * rng.standard_normal(n))})


def points_of(runs: pd.DataFrame) -> Points:
    x, z, y = (np.log(runs[c].to_numpy(float)) for c in ("n_params", "tokens", "loss"))
    return Points.of(x - x.mean(), z - z.mean(), y)


FIRST = np.zeros(1, int)


class TestSolver:
    def test_gradient_and_hessian_are_the_derivatives(self):
        points = points_of(simulated(0.02))
        weight = np.random.default_rng(1).integers(0, 3, (1, 60)).astype(float)
        theta = np.array([[1.4, -1.0, -1.2, 0.3, 0.4]])
        _, gradient, H = derivatives(points, weight, theta, 0.05, FIRST)
        for k in range(5):
            step = np.zeros(5)
            step[k] = 1e-5
            above, below = (derivatives(points, weight, theta + s * step, 0.05, FIRST) for s in (1, -1))
            np.testing.assert_allclose(gradient[0, k], (above[0] - below[0])[0] / 2e-5, rtol=1e-6)
            np.testing.assert_allclose(H[0, k], (above[1] - below[1])[0] / 2e-5, rtol=1e-5, atol=1e-6)

    def test_the_objective_is_the_weighted_huber_sum(self):
        points, theta = points_of(simulated(0.02)), np.array([[1.4, -1.0, -1.2, 0.3, 0.4]])
        weight = np.arange(60.0)[None]
        rho, _ = huber(log_loss(theta, points.x, points.z)[0] - points.y, 0.01)
        assert derivatives(points, weight, theta, 0.01, FIRST)[0][0] == pytest.approx((weight * rho).sum(), rel=1e-12)

    @pytest.mark.parametrize("delta", [np.inf, 1e-2, 1e-3])
    def test_no_random_start_finds_a_lower_objective(self, delta):
        runs = simulated(0.02, seed=3)
        law = laws["chinchilla"](huber=delta).fit(runs)
        assert restarted(law, 60, seed=1) >= law.diagnostics_["objective"] * (1 - 1e-9)

    def test_without_an_interior_minimum_the_starts_are_random(self):
        rising = simulated().assign(loss=lambda t: 1 + 0.1 * np.log(t["n_params"]) + 0.1 * np.log(t["tokens"]))
        assert len(starts(points_of(rising))) >= 64
        with pytest.warns(NotIdentified, match="at a bound"):
            laws["chinchilla"]().fit(rising)


class TestFit:
    def test_recovers_known_parameters(self):
        law = laws["chinchilla"]().fit(simulated())
        assert law.params_.loc["all"].to_dict() == pytest.approx(TRUE, rel=1e-5)
        assert law.a_opt_ == pytest.approx(0.28 / 0.62, rel=1e-6)

    def test_arms_that_differ_in_the_efficiency_of_size_and_data_are_told_apart(self):
        """The law of arXiv 2602.07712: E and the exponents shared, a factor on N and one on D for each arm."""
        change = {"A": 400.0 * 2.0**-0.34, "B": 410.0 * 0.7**-0.28}
        runs = pd.concat([simulated(seed=0).assign(arm="old"), simulated(seed=1, **change).assign(arm="new")])
        law = laws["chinchilla"]().fit(runs, share={"E": "all", "alpha": "all", "beta": "all"})
        assert law.n_free_ == 7
        assert law.params_.loc["old"].to_dict() == pytest.approx(TRUE, rel=1e-5)
        assert law.params_.loc["new"].to_dict() == pytest.approx(TRUE | change, rel=1e-5)

    def test_noisy_joint_fits_reach_what_random_starts_reach(self):
        parts = [simulated(0.01, seed=s, A=A).assign(arm=f"{A}") for s, A in enumerate((300.0, 400.0, 600.0))]
        for share in ({"E": "all"}, {"E": "all", "alpha": "all", "beta": "all"}, "rescaled"):
            law = laws["chinchilla"]().fit(pd.concat(parts), share=share)
            rng = np.random.default_rng(0)
            start = law.theta_ + 0.3 * rng.standard_normal((40, law.n_free_))
            other = minimise(law.huber_sum_, start, law.lower_, law.upper_, 180, law.huber)
            assert other.objective_B.min() >= law.diagnostics_["objective"] * (1 - 1e-9)

    def test_one_shared_exponent_is_recovered(self):
        law = laws["chinchilla_shared"]().fit(simulated(beta=0.34))
        assert law.params_.loc["all"].to_dict() == pytest.approx(TRUE | {"beta": 0.34}, rel=1e-5)
        assert law.n_free_ == 4
        assert law.a_opt_ == pytest.approx(0.5)

    def test_units_do_not_matter(self):
        runs = simulated(0.01)
        one = laws["chinchilla"]().fit(runs)
        other = laws["chinchilla"]().fit(runs.assign(n_params=runs["n_params"] / 1e6, tokens=runs["tokens"] / 1e9))
        assert one.params_["E"].iloc[0] == pytest.approx(other.params_["E"].iloc[0], rel=1e-6)
        assert one.a_opt_ == pytest.approx(other.a_opt_, rel=1e-6)

    def test_the_frontier_is_the_lowest_loss_at_its_compute(self):
        law = laws["chinchilla"]().fit(simulated(0.01))
        best = law.frontier([1e20]).iloc[0]
        assert 6 * best.n_params * best.tokens == pytest.approx(1e20)
        N = best.n_params * np.geomspace(0.5, 2, 101)
        assert law.predict(N, 1e20 / 6 / N).min() == pytest.approx(best.loss, rel=1e-12)

    def test_no_irreducible_loss_is_a_bound_and_is_said(self):
        with pytest.warns(NotIdentified, match="E at a bound"):
            law = laws["chinchilla"]().fit(simulated(0.01, E=0.0, seed=4))
        assert law.params_["E"].iloc[0] == 0
        assert law.diagnostics_["at_bound"] == ["E"]
        assert law.diagnostics_["gradient_norm"] < 1e-4

    def test_errors_by_sandwich_are_those_of_resampling_under_least_squares(self):
        law = laws["chinchilla"](huber=np.inf).fit(simulated(0.01, n=400))
        again = law.intervals(n=1000).set_index("parameter")["stderr"]
        own = law.summary.set_index("parameter")["stderr"]
        for parameter in ("E", "alpha", "beta", "a_opt"):
            assert own[parameter] == pytest.approx(again[parameter], rel=0.15)


class TestRefusals:
    def test_fewer_runs_than_parameters(self):
        with pytest.raises(ValueError, match="4 runs at 4 pairs of size and data can not determine the 5"):
            laws["chinchilla"]().fit(simulated(n=4))

    def test_duplicates_do_not_count_as_more_runs(self):
        with pytest.raises(ValueError, match="20 runs at 4 pairs"):
            laws["chinchilla"]().fit(pd.concat([simulated(n=4)] * 5))

    def test_one_ratio_of_data_to_size(self):
        with pytest.raises(ValueError, match="one ratio of tokens to n_params"):
            laws["chinchilla"]().fit(simulated().assign(tokens=lambda t: 20 * t["n_params"]))

    def test_two_sizes_do_not_give_an_exponent(self):
        runs = simulated(0.005).assign(n_params=lambda t: np.where(np.arange(len(t)) % 2, 1e8, 1e9))
        with pytest.warns(NotIdentified, match="2 values of n_params"):
            laws["chinchilla"]().fit(runs)

    def test_intervals_want_a_known_method_and_cluster(self):
        law = laws["chinchilla"]().fit(simulated(0.01).assign(lab=["x", "y", "z"] * 20))
        with pytest.raises(ValueError, match="one of pairs, cluster, wild-cluster"):
            law.intervals(method="magic")
        with pytest.raises(ValueError, match="Name a column"):
            law.intervals(method="cluster")
        with pytest.raises(ValueError, match="no column 'run'"):
            law.intervals(method="cluster", cluster="run", n=10)
        with pytest.warns(FewSeeds, match="3 clusters only"):
            law.intervals(method="cluster", cluster="lab", n=10)


class TestPublishedRuns:
    @pytest.fixture
    def expected(self, published):
        return published.read("expected_approach3_optima.csv").set_index("dataset")

    def test_every_known_optimum_is_tried(self, expected):
        assert set(expected.index) == set(OPTIMA)

    @pytest.mark.parametrize("name", OPTIMA)
    def test_reaches_the_known_optimum(self, published, expected, name):
        row = expected.loc[name]
        runs = published.data_set(name)
        assert len(runs) == row["n"]
        law = laws["chinchilla"](huber=row["delta"]).fit(runs)
        assert law.diagnostics_["objective"] <= row["huber_sum"] * (1 + 1e-6)

    def test_nothing_is_doubted_where_the_runs_identify_the_law(self, published):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            law = laws["chinchilla"]().fit(published.hoffmann())
        assert law.diagnostics_["starts_agree"] == 1

    def test_an_interval_by_compute_is_wider_than_by_runs(self, published):
        law = laws["chinchilla"]().fit(published.hoffmann().rename(columns={"flops": "compute"}))
        by_runs, by_compute = law.intervals(n=500), law.intervals(method="cluster", cluster="compute_bin", n=500)
        assert by_compute["stderr"].iloc[-1] > 1.5 * by_runs["stderr"].iloc[-1]

    def test_the_olmo_ladder_does_not_identify_the_irreducible_loss(self, published):
        with pytest.warns(NotIdentified, match="E is not identified: every value from 0"):
            laws["chinchilla"]().fit(published.olmo())
