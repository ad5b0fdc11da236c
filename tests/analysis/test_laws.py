import numpy as np
import pandas as pd
import pytest
from scipy.optimize import least_squares

from algoprogress.analysis import Law, LossLaw, NotIdentified, frontier, laws
from algoprogress.analysis.simulation import simulate_runs

COMPUTE = np.geomspace(1e11, 1e15, 9)


def exact(E=1.7, A=400.0, alpha=0.21, arm="a") -> pd.DataFrame:
    return pd.DataFrame({"arm": arm, "compute": COMPUTE, "loss": E + A * COMPUTE**-alpha})


def exact_grid(E=1.7, A=400.0, B=410.0, alpha=0.34, beta=0.28) -> pd.DataFrame:
    N, D = (g.ravel() for g in np.meshgrid(np.geomspace(1e7, 1e10, 6), np.geomspace(1e9, 1e12, 6)))
    return pd.DataFrame({"n_params": N, "tokens": D, "loss": E + A * N**-alpha + B * D**-beta})


def fitted(name: str) -> Law:
    return laws[name]().fit(exact() if laws[name].inputs == ("compute",) else exact_grid())


IN_COMPUTE = [name for name in laws if issubclass(laws[name], LossLaw)]


@pytest.mark.parametrize("name", laws)
class TestEveryLaw:
    """What any law in the registry must do: held by existing."""

    def test_compute_for_inverts_the_frontier(self, name):
        law = fitted(name)
        front = law.frontier(COMPUTE)
        np.testing.assert_allclose(law.compute_for(front["loss"]), COMPUTE, rtol=1e-6)

    def test_predicts_the_frontier(self, name):
        law = fitted(name)
        front = law.frontier(COMPUTE)
        np.testing.assert_allclose(law.predict(*(front[c] for c in law.inputs)), front["loss"], rtol=1e-12)

    def test_loss_falls_with_compute(self, name):
        assert (np.diff(fitted(name).frontier(COMPUTE)["loss"]) < 0).all()

    def test_units_and_summary_are_complete(self, name):
        law = fitted(name)
        assert len(law.units) == len(law.parameters)
        assert set(law.summary["parameter"]) == {*law.parameters, *law.derived}
        wanted = {"objective", "gradient_norm", "condition", "starts_agree", "at_bound", "n", "n_free", "E_interval"}
        assert wanted <= set(law.diagnostics_)

    def test_says_that_it_is_not_fitted(self, name):
        with pytest.raises(ValueError, match="before asking"):
            laws[name]().frontier(1e12)


@pytest.mark.parametrize("name", IN_COMPUTE)
class TestEveryLawInCompute:
    def test_jacobian_is_the_derivative(self, name):
        law = fitted(name)
        w, x = law._w("a", None), np.linspace(-2, 2, 5)
        point = np.tile(w, (5, 1))
        _, jacobian = law.log_loss(point, x)
        for k in range(len(w)):
            step = np.zeros(len(w))
            step[k] = 1e-6 * max(1, abs(w[k]))
            numeric = (law.log_loss(point + step, x)[0] - law.log_loss(point - step, x)[0]) / (2 * step[k])
            np.testing.assert_allclose(jacobian[:, k], numeric, rtol=1e-5, atol=1e-9)

    def test_resamples_predict_as_the_estimate_does(self, name):
        law = fitted(name)
        twice = np.stack([law.theta_, law.theta_])
        np.testing.assert_allclose(law.predict(COMPUTE, "a", twice), np.tile(law.predict(COMPUTE), (2, 1)))


def test_recovers_known_parameters():
    law = laws["power"]().fit(exact())
    assert law.params_.loc["a"].to_dict() == pytest.approx({"E": 1.7, "A": 400, "alpha": 0.21}, rel=1e-6)
    assert law.diagnostics_["starts_agree"] == 1
    assert law.diagnostics_["gradient_norm"] < 1e-4


def test_recovers_a_shared_irreducible_loss(growing):
    front = frontier(simulate_runs(growing))
    law = laws["power"]().fit(front, share={"E": "all"})
    assert law.n_free_ == 7
    for arm, (E, A, alpha) in growing.items():
        assert law.params_.loc[arm].to_dict() == pytest.approx({"E": E, "A": A, "alpha": alpha}, rel=1e-5)


def test_recovers_the_parameters_of_noisy_runs_within_their_errors():
    rng = np.random.default_rng(0)
    off = []
    for _ in range(40):
        runs = exact()
        runs["loss"] *= np.exp(0.003 * rng.standard_normal(len(runs)))
        s = laws["power"]().fit(runs).summary.set_index("parameter")
        off.append((s.loc["alpha", "estimate"] - 0.21) / s.loc["alpha", "stderr"])
    assert abs(np.mean(off)) < 0.5
    assert 0.6 < np.std(off) < 1.6


def test_no_solver_of_scipy_finds_a_lower_objective(noisy_runs):
    front = frontier(noisy_runs)
    law = laws["power"](huber=np.inf).fit(front, share={"E": "all"})
    model = law._model(law.x_)

    def residual(theta):
        return model(theta[None], np.zeros(1, int))[0][0] - law.y_

    lower, upper = (b[0] for b in law._bounds(law.y_[None]))
    rng = np.random.default_rng(0)
    for start in law._all_starts():
        start = np.clip(start + 0.1 * rng.standard_normal(len(start)), lower + 1e-6, upper - 1e-6)
        other = least_squares(residual, start, bounds=(lower, upper), xtol=1e-14, ftol=1e-14, gtol=1e-14, x_scale="jac")
        assert law.diagnostics_["objective"] <= other.cost * (1 + 1e-9)


def test_one_failed_rung_does_not_bend_a_huber_fit():
    runs = exact()
    runs.loc[4, "loss"] *= 1.5
    robust = laws["power"](huber=0.002).fit(runs).params_.loc["a", "alpha"]
    squares = laws["power"](huber=np.inf).fit(runs).params_.loc["a", "alpha"]
    assert abs(robust - 0.21) < 0.02 < abs(squares - 0.21)


def test_units_of_compute_do_not_matter():
    runs = exact().assign(loss=lambda t: t["loss"] * np.exp(0.01 * np.sin(np.arange(9))))
    one = laws["power"]().fit(runs).params_.loc["a"]
    other = laws["power"]().fit(runs.assign(compute=runs["compute"] / 1e15)).params_.loc["a"]
    assert other["E"] == pytest.approx(one["E"], rel=1e-6)
    assert other["alpha"] == pytest.approx(one["alpha"], rel=1e-6)


def test_an_irreducible_loss_that_is_not_identified_is_said(noisy_runs):
    with pytest.warns(NotIdentified, match="every value from 0"):
        laws["power"]().fit(frontier(noisy_runs), share={"E": "all"})


def test_a_fixed_irreducible_loss_is_kept():
    law = laws["power"](fixed={"E": 0.0}).fit(exact())
    assert law.params_.loc["a", "E"] == 0
    assert law.n_free_ == 2


def test_fewer_points_than_parameters_is_refused():
    with pytest.raises(ValueError, match="2 points can not determine the 3 parameters"):
        laws["power"]().fit(exact().iloc[:2])
    lopsided = pd.concat([exact(), exact(arm="b").iloc[:1]])
    with pytest.raises(ValueError, match="Arm 'b' was measured at 1 compute"):
        laws["power"]().fit(lopsided, share={"E": "all"})


def test_unknown_names_list_the_known():
    with pytest.raises(ValueError, match=r"the laws are .*power"):
        laws["powr"]
    with pytest.raises(ValueError, match="can share E, alpha"):
        laws["power"]().fit(exact(), share={"beta": "all"})
    with pytest.raises(ValueError, match="list of arms among a"):
        laws["power"]().fit(exact(), share={"E": ["a", "zz"]})
    with pytest.raises(ValueError, match="the arms are a"):
        laws["power"]().fit(exact()).predict(1e12, "zz")
    with pytest.raises(ValueError, match="before asking"):
        laws["power"]().predict(1e12)


def test_a_loss_below_the_irreducible_takes_infinite_compute():
    assert np.isinf(laws["power"]().fit(exact()).compute_for(1.0))
