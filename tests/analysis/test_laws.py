"""Contracts of every law in the registry, held by existing, and of the laws in compute that gains rest on."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import least_squares

from algoprogress.analysis import Law, LossLaw, NotIdentified, frontier, laws
from algoprogress.analysis.simulation import simulate_runs

STEP = 1e-5  # step of differences


def example(name: str, noise: float = 0.0, seed: int = 0) -> tuple[pd.DataFrame, dict[str, float]]:
    """The law's own example, with normal noise in log loss."""
    design, parameters = laws[name].example()
    loss = laws[name].formula(parameters, *(design[c].to_numpy(float) for c in laws[name].inputs))
    rng = np.random.default_rng(seed)
    return design.assign(loss=loss * np.exp(noise * rng.standard_normal(len(loss)))), parameters


FITTED: dict[str, Law] = {}


def fitted(name: str) -> Law:
    if name not in FITTED:
        FITTED[name] = laws[name]().fit(example(name)[0])
    return FITTED[name]


def compute_of(name: str) -> np.ndarray:
    """Compute in FLOP over the middle of the example's design."""
    runs = example(name)[0]
    compute = runs["compute"] if "compute" in runs else 6 * runs["n_params"] * runs["tokens"]
    return np.geomspace(*compute.quantile([0.2, 0.8]), 5)


@pytest.mark.parametrize("name", laws)
class TestEveryLaw:
    """What any law in the registry must do."""

    def test_recovers_the_parameters_of_its_example(self, name):
        law, (_, parameters) = fitted(name), example(name)
        assert law.params_.loc["all"].to_dict() == pytest.approx(parameters, rel=1e-4)
        assert law.diagnostics_["gradient_norm"] < 1e-4

    def test_predicts_by_the_formula_of_the_paper(self, name):
        law, (runs, _) = fitted(name), example(name)
        inputs = [runs[c].to_numpy(float) for c in law.inputs]
        by_formula = law.formula(law.params_.loc["all"].to_dict(), *inputs)
        np.testing.assert_allclose(law.predict(*inputs), by_formula, rtol=1e-9)

    def test_the_jacobian_is_the_derivative(self, name):
        law = laws[name]().fit(example(name, noise=0.02)[0])
        w = law.sharing_.working(law.theta_, 0) + 1e-3 * np.cos(np.arange(len(law.parameters)))
        _, J = law.log_loss(w[None], *law.x_)
        for k in range(len(w)):
            step = 1e-6 * max(1, abs(w[k])) * np.eye(len(w))[k]
            above, below = (law.log_loss((w + s * step)[None], *law.x_)[0][0] for s in (1, -1))
            np.testing.assert_allclose(J[0, :, k], (above - below) / (2 * step[k]), rtol=1e-5, atol=1e-8)

    def test_gradient_and_hessian_are_those_of_the_objective(self, name):
        law = laws[name]().fit(example(name, noise=0.02)[0])
        theta, first = law.theta_ + 1e-3 * np.cos(np.arange(len(law.theta_))), np.zeros(1, int)
        _, gradient, H = law.huber_sum_(theta[None], first, 10.0)
        for k in range(len(theta)):
            step = STEP * np.eye(len(theta))[k]
            above, below = (law.huber_sum_((theta + s * step)[None], first, 10.0) for s in (1, -1))
            np.testing.assert_allclose(gradient[0, k], (above[0] - below[0])[0] / (2 * STEP), rtol=1e-5, atol=1e-8)
            slope = (above[1] - below[1])[0] / (2 * STEP)
            np.testing.assert_allclose(H[0, k], slope, rtol=1e-4, atol=1e-5 * np.abs(H).max())

    def test_compute_for_inverts_the_frontier(self, name):
        law, compute = fitted(name), compute_of(name)
        front = law.frontier(compute)
        np.testing.assert_allclose(law.compute_for(front["loss"]), compute, rtol=1e-6)
        np.testing.assert_allclose(law.best_loss(compute), front["loss"], rtol=1e-12)
        twice = np.tile(law.theta_, (5, 1))
        np.testing.assert_allclose(law.compute_for_each(front["loss"].to_numpy(), None, twice), compute, rtol=1e-6)

    def test_predicts_the_frontier(self, name):
        law = fitted(name)
        front = law.frontier(compute_of(name))
        np.testing.assert_allclose(law.predict(*(front[c] for c in law.inputs)), front["loss"], rtol=1e-9)

    def test_no_other_allocation_is_better_than_the_frontier(self, name):
        law = fitted(name)
        if "n_params" not in law.inputs:
            return
        for row in law.frontier(compute_of(name)).to_dict("records"):
            N = row["n_params"] * np.geomspace(0.2, 5, 201)
            other = row | {"n_params": N, "tokens": row["compute"] / 6 / N}
            other |= {"unique_tokens": other["tokens"]}
            assert law.predict(*(other[c] for c in law.inputs)).min() >= row["loss"] * (1 - 1e-9)

    def test_loss_falls_with_compute(self, name):
        assert (np.diff(fitted(name).frontier(compute_of(name))["loss"]) < 0).all()

    def test_resamples_predict_as_the_estimate_does(self, name):
        law, compute = fitted(name), compute_of(name)
        twice = np.stack([law.theta_, law.theta_])
        np.testing.assert_allclose(law.best_loss(compute, "all", twice), np.tile(law.best_loss(compute), (2, 1)))
        np.testing.assert_allclose(law.parameters_of("all", twice), np.tile(law.params_, (2, 1)))

    def test_units_and_summary_are_complete(self, name):
        law = fitted(name)
        assert len(law.units) == len(law.parameters)
        assert set(law.summary["parameter"]) == {*law.parameters, *law.derived}
        wanted = {
            "objective",
            "gradient_norm",
            "condition",
            "starts_agree",
            "at_bound",
            "n",
            "n_free",
            "n_inside_delta",
        }
        assert wanted <= set(law.diagnostics_)
        assert ("E_interval" in law.diagnostics_) == ("E" in law.parameters)

    def test_units_of_loss_and_of_inputs_do_not_matter(self, name):
        runs, _ = example(name, noise=0.003)
        law = laws[name]().fit(runs)
        scale = {"compute": 1e-15, "n_params": 1e-6, "tokens": 1e-9, "unique_tokens": 1e-9, "loss": 1 / np.log(2)}
        other = laws[name]().fit(runs.assign(**{c: runs[c] * scale[c] for c in (*law.inputs, "loss")}))
        one, two = law.predict(*(runs[c] for c in law.inputs)), other.predict(*(runs[c] * scale[c] for c in law.inputs))
        np.testing.assert_allclose(two, one / np.log(2), rtol=1e-5)
        assert other.diagnostics_["objective"] == pytest.approx(law.diagnostics_["objective"], rel=1e-6)

    def test_a_resample_by_weights_is_a_fit_to_repeated_rows(self, name):
        runs, _ = example(name, noise=0.003)
        times = np.random.default_rng(2).integers(1, 3, len(runs))
        law = laws[name]().fit(runs)
        theta = law.refit(times[None].astype(float))[0]
        again = laws[name]().fit(runs.loc[np.repeat(runs.index, times)].reset_index(drop=True))
        inputs = [runs[c].to_numpy(float) for c in law.inputs]
        np.testing.assert_allclose(law.predict(*inputs, theta=theta), again.predict(*inputs), rtol=1e-6)

    def test_a_resample_by_outcomes_is_a_fit_to_them(self, name):
        runs, _ = example(name, noise=0.003)
        other, _ = example(name, noise=0.003, seed=1)
        law = laws[name]().fit(runs)
        theta = law.refit(y_Bn=np.log(other["loss"].to_numpy())[None])[0]
        inputs = [runs[c].to_numpy(float) for c in law.inputs]
        again = laws[name]().fit(other)
        np.testing.assert_allclose(law.predict(*inputs, theta=theta), again.predict(*inputs), rtol=1e-6)

    def test_two_arms_fitted_jointly_with_nothing_shared_are_two_fits(self, name):
        parts = [example(name, noise=0.003, seed=s)[0].assign(arm=arm) for s, arm in enumerate("ab")]
        law = laws[name]().fit(pd.concat(parts))
        objective = 0.0
        for part in parts:
            alone = laws[name]().fit(part)
            objective += alone.diagnostics_["objective"]
            arm = part["arm"].iloc[0]
            inputs = [part[c].to_numpy(float) for c in law.inputs]
            np.testing.assert_allclose(law.predict(*inputs, arm=arm), alone.predict(*inputs), rtol=1e-5)
        assert law.diagnostics_["objective"] == pytest.approx(objective, rel=1e-6)
        assert law.n_free_ == 2 * alone.n_free_

    def test_a_shared_parameter_has_one_value_and_costs_one_degree_of_freedom(self, name):
        parts = [example(name, noise=0.003, seed=s)[0].assign(arm=arm) for s, arm in enumerate("ab")]
        runs = pd.concat(parts)
        apart = laws[name]().fit(runs)
        for parameter in (apart.shareable[0], apart.shareable[-1]):
            law = laws[name]().fit(runs, share={parameter: "all"})
            assert law.params_.loc["a", parameter] == law.params_.loc["b", parameter]
            assert law.n_free_ == apart.n_free_ - 1
            assert law.diagnostics_["objective"] >= apart.diagnostics_["objective"] * (1 - 1e-9)
            shared = law.summary.groupby("parameter")["shared"].all()
            assert shared[parameter]

    def test_recovers_one_compute_multiplier_per_arm(self, name):
        one = example(name)[0]
        runs = pd.concat([one.assign(arm=arm) for arm in "ab"], ignore_index=True)
        law = laws[name]().fit(runs, share="rescaled")
        inputs = [one[c].to_numpy(float) for c in law.inputs]
        moved = law.theta_ + np.where(np.arange(law.n_free_) == law.n_free_ - 1, -0.1, 0.0)
        kappa = law.quantities(1, moved)[-1]
        runs.loc[runs["arm"] == "b", "loss"] = law.predict(*inputs, arm="b", theta=moved)
        law = laws[name]().fit(runs, share="rescaled")
        compute = compute_of(name)
        np.testing.assert_allclose(law.best_loss(compute, "b"), law.best_loss(kappa * compute, "a"), rtol=1e-5)
        found = law.summary[law.summary["parameter"] == "kappa"].set_index("arm")["estimate"]
        assert found.to_dict() == pytest.approx({"a": 1.0, "b": kappa}, rel=1e-4)
        assert abs(np.log(kappa)) > 0.01

    def test_a_fixed_parameter_is_kept(self, name):
        runs, parameters = example(name, noise=0.003)
        for parameter in laws[name].shareable:
            value = 0.9 * parameters[parameter]
            law = laws[name](fixed={parameter: value}).fit(runs)
            assert law.params_.loc["all", parameter] == pytest.approx(value, rel=1e-12)
            assert law.n_free_ == laws[name]().fit(runs).n_free_ - 1

    def test_says_that_it_is_not_fitted(self, name):
        for ask in (lambda law: law.frontier(1e12), lambda law: law.intervals(), lambda law: law.aic):
            with pytest.raises(ValueError, match="before asking"):
                ask(laws[name]())

    def test_the_better_of_two_laws_has_the_lower_criteria(self, name):
        runs, _ = example(name, noise=0.003)
        law = laws[name]().fit(runs)
        worse = laws[name]().fit(runs.assign(loss=runs["loss"].sample(frac=1, random_state=0).to_numpy()))
        for criterion in ("aic", "aicc", "bic"):
            assert np.isfinite(getattr(law, criterion))
            assert getattr(law, criterion) < getattr(worse, criterion)


@pytest.mark.parametrize("name", laws)
class TestEveryLawRefuses:
    @pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1.0, "x", None])
    def test_values_that_are_not_positive_numbers(self, name, bad):
        runs, _ = example(name)
        for column in (*laws[name].inputs, "loss"):
            wrong = runs.astype({column: object})
            wrong.loc[3, column] = bad
            with pytest.raises(
                ValueError, match=f"1 of {len(runs)} runs have a {column} that is not a positive number"
            ):
                laws[name]().fit(wrong)

    def test_a_missing_column_no_runs_and_no_table(self, name):
        runs, _ = example(name)
        with pytest.raises(ValueError, match="needs a column loss"):
            laws[name]().fit(runs.drop(columns="loss"))
        with pytest.raises(ValueError, match="no runs"):
            laws[name]().fit(runs.iloc[:0])
        with pytest.raises(ValueError, match="must be a DataFrame"):
            laws[name]().fit([1.0, 2.0])

    def test_fewer_points_than_parameters_however_often_repeated(self, name):
        runs, _ = example(name)
        few = runs.sample(laws[name]().fit(runs).n_free_ - 1, random_state=1)
        for frame in (few, pd.concat([few] * 5)):
            with pytest.raises(ValueError, match=r"can not determine the \d parameters|All runs have one"):
                laws[name]().fit(frame)

    def test_an_input_that_does_not_vary(self, name):
        runs, _ = example(name)
        for column in laws[name].inputs:
            if column != "unique_tokens":
                with pytest.raises(ValueError, match=f"All runs have one {column}|unique"):
                    laws[name]().fit(runs.assign(**{column: 1e9}))

    def test_what_can_not_be_shared_fixed_or_named(self, name):
        runs, _ = example(name)
        with pytest.raises(ValueError, match="can share"):
            laws[name]().fit(runs, share={"zz": "all"})
        with pytest.raises(ValueError, match="list of arms among all"):
            laws[name]().fit(runs, share={laws[name].shareable[0]: ["all", "zz"]})
        with pytest.raises(ValueError, match="share is 'rescaled'"):
            laws[name]().fit(runs, share="everything")
        with pytest.raises(ValueError, match="can fix"):
            laws[name](fixed={"zz": 1.0})
        with pytest.raises(ValueError, match="can not be fixed at"):
            laws[name](fixed={laws[name].shareable[0]: -1.0})
        with pytest.raises(ValueError, match="huber is a threshold"):
            laws[name](huber=0)
        with pytest.raises(ValueError, match="the arms are all"):
            fitted(name).best_loss(1e20, "zz")

    def test_one_loss_is_doubted(self, name):
        runs, _ = example(name)
        with pytest.warns(NotIdentified, match="all runs have one loss"):
            laws[name]().fit(runs.assign(loss=2.0))


COMPUTE = np.geomspace(1e11, 1e15, 9)


def exact(E=1.7, A=400.0, alpha=0.21, arm="a") -> pd.DataFrame:
    return pd.DataFrame({"arm": arm, "compute": COMPUTE, "loss": E + A * COMPUTE**-alpha})


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


@pytest.mark.parametrize("share", [{"E": "all"}, "rescaled", {"E": "all", "alpha": ["lstm", "retro"]}])
def test_no_solver_of_scipy_finds_a_lower_objective(noisy_runs, share):
    law = laws["power"](huber=np.inf).fit(frontier(noisy_runs), share=share)

    def residual(theta):
        found = np.empty(len(law.y_))
        for a, rows in enumerate(law.rows_):
            found[rows] = law.log_loss(law.sharing_.working(theta, a)[None], law.x_[0][rows])[0][0] - law.y_[rows]
        return found

    rng = np.random.default_rng(0)
    for start in law.start_SP_:
        start = np.clip(start + 0.1 * rng.standard_normal(len(start)), law.lower_ + 1e-6, law.upper_ - 1e-6)
        bounds = (law.lower_, law.upper_)
        other = least_squares(residual, start, bounds=bounds, xtol=1e-14, ftol=1e-14, gtol=1e-14, x_scale="jac")
        assert law.diagnostics_["objective"] <= other.cost * (1 + 1e-9)


def test_one_failed_rung_does_not_bend_a_huber_fit():
    runs = exact()
    runs.loc[4, "loss"] *= 1.5
    robust = laws["power"](huber=0.002).fit(runs).params_.loc["a", "alpha"]
    squares = laws["power"](huber=np.inf).fit(runs).params_.loc["a", "alpha"]
    assert abs(robust - 0.21) < 0.02 < abs(squares - 0.21)


def test_an_irreducible_loss_that_is_not_identified_is_said(noisy_runs):
    with pytest.warns(NotIdentified, match=r"every value from 0"):
        laws["power"]().fit(frontier(noisy_runs), share={"E": "all"})


def test_an_arm_with_fewer_points_than_its_own_parameters_is_refused():
    lopsided = pd.concat([exact(), exact(arm="b").iloc[:1]])
    with pytest.raises(ValueError, match="Arm 'b' was measured at 1 compute"):
        laws["power"]().fit(lopsided, share={"E": "all"})


def test_as_many_points_as_parameters_are_doubted():
    with pytest.warns(NotIdentified, match="nothing is left to judge them"):
        laws["power"]().fit(exact().iloc[::4])


def test_unknown_laws_list_the_known():
    with pytest.raises(ValueError, match=r"the laws are .*power"):
        laws["powr"]


def test_a_loss_below_the_irreducible_takes_infinite_compute():
    for name in laws:
        if "E" in laws[name].parameters:
            law = fitted(name)
            assert np.isinf(law.compute_for(0.9 * law.params_["E"].iloc[0]))


def test_every_law_in_compute_is_its_own_frontier():
    for name in laws:
        if issubclass(laws[name], LossLaw):
            compute = compute_of(name)
            np.testing.assert_array_equal(fitted(name).frontier(compute)["compute"], compute)
            np.testing.assert_array_equal(fitted(name).predict(compute), fitted(name).best_loss(compute))


def test_a_fit_that_nothing_speaks_against_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in laws:
            laws[name]().fit(example(name, noise=1e-4)[0])
