"""What the papers say of their own laws: Kaplan et al. 2020, Caballero et al. 2023, Muennighoff et al. 2023."""

import numpy as np
import pandas as pd
import pytest

from algoprogress.analysis import Law, NotIdentified, laws
from algoprogress.analysis.laws.bnsl import BrokenNeuralScalingLaw
from algoprogress.analysis.laws.repeated_data import RepeatedData


def example(name: str, noise: float = 0.0, seed: int = 0) -> pd.DataFrame:
    design, parameters = laws[name].example()
    loss = laws[name].formula(parameters, *(design[c].to_numpy(float) for c in laws[name].inputs))
    return design.assign(loss=loss * np.exp(noise * np.random.default_rng(seed).standard_normal(len(loss))))


@pytest.fixture(scope="module")
def kaplan() -> Law:
    return laws["kaplan"]().fit(example("kaplan"))


@pytest.fixture(scope="module")
def law() -> Law:
    return laws["repeated_data"]().fit(example("repeated_data"))


class TestKaplan:
    def test_infinite_data_and_infinite_size_leave_the_limits_of_the_paper(self, kaplan):
        N = np.array([1e6, 1e9])
        np.testing.assert_allclose(kaplan.predict(N, 1e300), (6.4e13 / N) ** 0.076, rtol=1e-6)
        np.testing.assert_allclose(kaplan.predict(1e300, N), (1.8e13 / N) ** 0.103, rtol=1e-6)

    def test_data_must_grow_as_size_to_the_074_to_keep_overfitting_the_same(self, kaplan):
        """Kaplan et al. 2020, section 4: D ~ N^(alpha_N / alpha_D), 0.74."""
        N = np.array([1e7, 1e8, 1e9])
        penalty = kaplan.predict(N, 5e3 * N**0.74) / kaplan.predict(N, 1e300)
        assert np.ptp(np.log(penalty)) < 2e-3

    def test_the_best_size_grows_with_compute_as_alpha_d_over_the_sum(self, kaplan):
        front = kaplan.frontier([1e18, 1e20])
        found = np.diff(np.log(front["n_params"]))[0] / np.log(100)
        assert found == pytest.approx(0.103 / 0.179, rel=1e-6)
        assert kaplan.summary.set_index("parameter").loc["a_opt", "estimate"] == pytest.approx(found, rel=1e-6)

    def test_it_fits_its_own_runs_better_than_a_law_with_irreducible_loss_and_the_other_way_round(self):
        for name, other in (("kaplan", "chinchilla"), ("chinchilla", "kaplan")):
            runs = example(name, noise=0.002)
            assert laws[name]().fit(runs).bic < laws[other]().fit(runs).bic


class TestBrokenNeuralScalingLaw:
    def test_slopes_before_and_after_the_break_are_c0_and_c0_plus_c1(self):
        law = laws["bnsl"]().fit(example("bnsl"))
        for compute, slope in ((np.array([1e3, 1e4]), 0.12), (np.array([1e36, 1e37]), 0.28)):
            log_reducible = np.log(law.formula(law.params_.iloc[0].to_dict() | {"E": 0.0}, compute))
            assert -np.diff(log_reducible)[0] / np.log(10) == pytest.approx(slope, rel=1e-3)

    def test_two_breaks_are_recovered(self):
        true = {"E": 1.5, "b": 200.0, "c0": 0.08, "c1": 0.2, "d1": 1e16, "f1": 0.5, "c2": -0.15, "d2": 1e20, "f2": 0.5}
        compute = np.geomspace(1e13, 1e24, 60)
        runs = pd.DataFrame({"compute": compute, "loss": BrokenNeuralScalingLaw.formula(true, compute)})
        law = laws["bnsl"](breaks=2).fit(runs)
        assert law.params_.loc["all"].to_dict() == pytest.approx(true, rel=1e-3)
        np.testing.assert_allclose(law.compute_for(law.predict(compute)), compute, rtol=1e-6)
        with pytest.raises(ValueError, match="breaks is 1 or more"):
            laws["bnsl"](breaks=0)

    def test_a_break_that_is_not_there_is_doubted(self):
        compute = np.geomspace(1e14, 1e22, 25)
        rng = np.random.default_rng(0)
        loss = (1.7 + 400 * compute**-0.14) * np.exp(0.003 * rng.standard_normal(25))
        runs = pd.DataFrame({"compute": compute, "loss": loss})
        with pytest.warns(NotIdentified, match="change of slope c1 could be none"):
            broken = laws["bnsl"]().fit(runs)
        assert laws["power"]().fit(runs).bic < broken.bic

    def test_a_break_that_is_there_is_preferred(self):
        runs = example("bnsl", noise=0.002)
        assert laws["bnsl"]().fit(runs).bic < laws["power"]().fit(runs).bic


class TestRepeatedData:
    def test_a_first_epoch_is_worth_its_tokens_and_many_are_worth_r_d_more(self, law):
        """D' = U at one epoch, and U (1 + R_D) after many: Muennighoff et al. 2023, section 3.1."""
        N, U = 1e8, 1e10  # small enough that no parameter is in excess
        E, A, B, alpha, beta, R_D, _ = law.params_.iloc[0]
        for epochs, worth in ((1, 1.0), (1e5, 1 + R_D)):
            effective = ((law.predict(N, epochs * U, U) - E - A * N**-alpha) / B) ** (-1 / beta)
            assert effective == pytest.approx(worth * U, rel=1e-5)

    def test_four_epochs_are_almost_as_good_as_new_data(self, law):
        """Muennighoff et al. 2023, abstract: up to 4 epochs of repeated data yield negligible changes to loss."""
        N, D = 2e8, 2e10  # no parameter in excess of what 5e9 unique tokens allow
        assert law.predict(N, D, D / 4) / law.predict(N, D, D) - 1 < 0.005
        assert law.predict(N, D, D / 100) / law.predict(N, D, D) - 1 > 0.05

    def test_more_unique_tokens_than_tokens_change_nothing(self, law):
        assert law.predict(1e9, 1e10, 1e13) == law.predict(1e9, 1e10, 1e10)

    def test_with_unlimited_data_the_frontier_is_that_of_chinchilla(self, law):
        compute = np.geomspace(1e18, 1e22, 5)
        plain = laws["chinchilla"]()
        design, _ = laws["chinchilla"].example()
        known = law.params_.iloc[0].to_dict()
        loss = laws["chinchilla"].formula(known, *(design[c].to_numpy() for c in plain.inputs))
        front = plain.fit(design.assign(loss=loss)).frontier(compute)
        pd.testing.assert_frame_equal(law.frontier(compute).drop(columns="unique_tokens"), front, rtol=1e-5)
        np.testing.assert_allclose(law.frontier(compute, unique_tokens=1e15)["loss"], front["loss"], rtol=1e-9)

    def test_with_few_unique_tokens_the_frontier_is_the_best_of_all_sizes(self, law):
        U = 1e10
        for row in law.frontier([1e20, 1e21, 1e22], unique_tokens=U).to_dict("records"):
            N = row["n_params"] * np.geomspace(0.1, 10, 801)
            others = law.predict(N, row["compute"] / 6 / N, U)
            assert others.min() >= row["loss"] * (1 - 1e-10)
            assert others.min() == pytest.approx(row["loss"], rel=1e-5)
            assert row["loss"] >= law.best_loss(row["compute"])
            assert law.best_loss(row["compute"], unique_tokens=U) == pytest.approx(row["loss"], rel=1e-12)

    def test_compute_for_a_loss_with_few_unique_tokens_inverts_the_frontier_or_is_infinite(self, law):
        compute, U = np.array([1e20, 1e21, 1e22]), 1e10
        front = law.frontier(compute, unique_tokens=U)
        np.testing.assert_allclose(law.compute_for(front["loss"], unique_tokens=U), compute, rtol=1e-6)
        unlimited = law.compute_for(front["loss"])
        assert (unlimited < compute).all()
        floor = law.best_loss(1e40, unique_tokens=U)
        assert np.isinf(law.compute_for(floor * 0.999, unique_tokens=U))
        assert np.isfinite(law.compute_for(floor * 0.999))
        with pytest.raises(ValueError, match="unique_tokens is a positive number"):
            law.frontier(compute, unique_tokens=-1.0)

    def test_runs_that_repeat_nothing_are_refused_unless_r_d_is_known(self):
        runs = example("repeated_data")
        once = runs[runs["tokens"] <= runs["unique_tokens"]]
        with pytest.raises(ValueError, match="No run repeats its data"):
            RepeatedData().fit(once)
        law = RepeatedData(fixed={"R_D": 15.4}).fit(once)
        assert law.params_["alpha"].iloc[0] == pytest.approx(0.353, rel=1e-3)

    def test_runs_without_excess_parameters_do_not_identify_r_n(self):
        runs = example("repeated_data", noise=1e-4)
        small = runs[runs["n_params"] < 0.03 * runs["unique_tokens"]]
        with pytest.warns(NotIdentified, match="R_N is not identified"):
            law = RepeatedData().fit(small)
        assert law.params_["R_D"].iloc[0] == pytest.approx(15.4, rel=0.2)

    def test_one_amount_of_unique_data_is_enough(self):
        runs = example("repeated_data")
        axes = np.geomspace(5e7, 8e9, 8), np.geomspace(1, 60, 8)
        N, epochs = (g.ravel() for g in np.meshgrid(*axes))
        _, parameters = RepeatedData.example()
        one = pd.DataFrame({"n_params": N, "tokens": epochs * 1e10, "unique_tokens": 1e10})
        loss = RepeatedData.formula(parameters, *(one[c].to_numpy() for c in one))
        law = RepeatedData().fit(one.assign(loss=loss))
        assert law.params_.loc["all"].to_dict() == pytest.approx(parameters, rel=1e-2)
        assert set(runs) == {*one, "loss"}
