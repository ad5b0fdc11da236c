"""IsoFLOP minima: known minima are recovered, the parabola's bias is what is stated, edges and noise are said."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from algoprogress.analysis import ConvergenceError, NotIdentified
from algoprogress.analysis.isoflop import ESTIMATORS, isoflop, isoflop_points, minimum_bias
from algoprogress.analysis.isoflop.minima import Curves
from algoprogress.analysis.isoflop.noise import local_noise
from algoprogress.analysis.isoflop.powers import power
from algoprogress.analysis.isoflop.surface import Surface

BUDGETS = np.geomspace(1e18, 1e21, 6)


class Truth:
    """L = E + A N^-alpha + B D^-beta (Hoffmann et al. 2022, table A3) with C = 6 N D."""

    def __init__(self, E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28):
        self.E, self.A, self.B, self.alpha, self.beta = E, A, B, alpha, beta

    def predict(self, n_params, tokens):
        N, D = np.asarray(n_params, float), np.asarray(tokens, float)
        return self.E + self.A * N**-self.alpha + self.B * D**-self.beta

    @property
    def a(self):
        return self.beta / (self.alpha + self.beta)

    def n_opt(self, compute):
        G = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        return G * (np.asarray(compute, float) / 6) ** self.a

    def runs(self, budgets=BUDGETS, n=9, width=4.0, off=1.0, drift=1.0, noise=0.0, seed=0):
        """n sizes within a factor `width` of `off` times the best one; `drift` more with each budget."""
        rng, rows = np.random.default_rng(seed), []
        for k, C in enumerate(budgets):
            N = self.n_opt(C) * np.geomspace(1 / width, width, n) * off * drift**k
            loss = self.predict(N, C / 6 / N) + noise * rng.standard_normal(n)
            rows.append(pd.DataFrame({"compute": C, "n_params": N, "tokens": C / 6 / N, "loss": loss}))
        return pd.concat(rows, ignore_index=True)


TRUTH = Truth()
LOPSIDED = Truth(alpha=0.5, beta=0.2, A=5000.0, B=100.0)


@pytest.mark.parametrize("name", ESTIMATORS)
class TestEveryEstimator:
    def test_recovers_exponents_where_the_design_is_even(self, name):
        fit = isoflop(TRUTH.runs(), name, n_resamples=0, law=TRUTH)
        found = fit.exponents.set_index("quantity")["exponent"]
        assert found["n_params"] == pytest.approx(TRUTH.a, abs=1e-3)
        assert found.sum() == pytest.approx(1, abs=1e-9)
        assert (fit.minima["n_params"] * fit.minima["tokens"] * 6).to_numpy() == pytest.approx(
            fit.minima["compute"].to_numpy(), rel=1e-9
        )

    def test_bias_is_what_an_estimate_without_noise_is_off_by(self, name):
        runs = LOPSIDED.runs(width=6, off=1 / 1.7, drift=1.15)
        fit = isoflop(runs, name, n_resamples=0, law=LOPSIDED)
        off = np.log(fit.minima["n_params"] / LOPSIDED.n_opt(fit.minima["compute"]))
        assert fit.minima["bias"].to_numpy() == pytest.approx(off.to_numpy(), abs=1e-5)
        exponent = fit.exponents.iloc[0]
        assert exponent["bias"] == pytest.approx(exponent["exponent"] - LOPSIDED.a, abs=1e-5)

    def test_the_order_of_the_runs_and_the_unit_of_compute_do_not_matter(self, name):
        runs = TRUTH.runs(noise=0.01)
        one = isoflop(runs, name, n_resamples=0, law=TRUTH).minima
        other = isoflop(runs.sample(frac=1, random_state=1), name, n_resamples=0, law=TRUTH).minima
        assert other["n_params"].to_numpy() == pytest.approx(one["n_params"].to_numpy(), rel=1e-6)
        scaled = isoflop(runs.assign(compute=runs["compute"] / 1e15), name, n_resamples=0, law=TRUTH).minima
        assert scaled["n_params"].to_numpy() == pytest.approx(one["n_params"].to_numpy(), rel=1e-6)

    def test_a_best_size_beyond_those_tried_is_said_and_left_out_of_the_power_law(self, name):
        runs = TRUTH.runs()
        first = runs["compute"] == runs["compute"].min()
        runs = runs[~first | (runs["n_params"] > 1.5 * TRUTH.n_opt(runs["compute"]))]
        with pytest.warns(NotIdentified, match=r"beyond those tried at 1e18 FLOP"):
            fit = isoflop(runs, name, n_resamples=50, noise=1e-4, law=TRUTH)
        assert fit.minima["at_edge"].tolist() == ["<", "", "", "", "", ""]
        assert "falls at the smallest size" in fit.minima["note"][0]
        assert fit.exponents["n_budgets"].tolist() == [5, 5]
        assert fit.exponents["exponent"][0] == pytest.approx(TRUTH.a, abs=1e-3)

    def test_the_line_has_its_minimum_where_the_table_says(self, name):
        fit = isoflop(TRUTH.runs(noise=0.005), name, n_resamples=0, law=TRUTH)
        lines = fit.lines(2001)
        lowest = lines.loc[lines.groupby("budget")["loss"].idxmin()]
        step = 0.02 if name.endswith("grid") else 2e-3  # 25 sizes for a gap, 2,001 in all
        assert lowest["n_params"].to_numpy() == pytest.approx(fit.minima["n_params"].to_numpy(), rel=step)
        assert lowest["loss"].to_numpy() == pytest.approx(fit.minima["loss"].to_numpy(), rel=step**2)


def test_the_parabola_is_biased_and_the_surface_is_not():
    runs = LOPSIDED.runs(width=6, off=1 / 1.7, drift=1.15)
    bias = {name: minimum_bias(isoflop_points(runs), LOPSIDED, name)["bias"].abs().max() for name in ESTIMATORS}
    assert bias["parabola"] > 0.1
    assert bias["akima"] < 0.02
    assert bias["surface"] < 1e-4


def test_a_narrow_window_takes_most_of_the_parabolas_bias_away():
    runs = LOPSIDED.runs(width=6, off=1 / 1.7, n=31)
    wide, narrow = (isoflop(runs, n_resamples=0, law=LOPSIDED, window=w).minima["bias"].abs().max() for w in (1e9, 2.0))
    assert narrow < wide / 4


def test_the_surface_holds_the_law_of_hoffmann_as_a_special_case():
    runs = TRUTH.runs()
    found = Surface().fit(_curves(runs), runs["loss"].to_numpy()).params_.loc["all"]
    gamma = TRUTH.alpha * TRUTH.beta / (TRUTH.alpha + TRUTH.beta)
    wanted = {"E": TRUTH.E, "gamma": gamma, "a": TRUTH.a, "p": TRUTH.alpha, "s": TRUTH.beta}
    assert found[list(wanted)].to_dict() == pytest.approx(wanted, rel=1e-5)


def test_a_robust_parabola_does_not_follow_one_failed_run():
    runs = TRUTH.runs(n=11, noise=0.002)
    runs.loc[[9, 31, 42], "loss"] += 0.3
    true = TRUTH.n_opt(BUDGETS)
    off = {
        name: np.log(isoflop(runs, name, n_resamples=0, law=TRUTH).minima["n_params"] / true)
        for name in ("parabola", "robust_parabola")
    }
    assert off["robust_parabola"].abs().max() < 0.1 < off["parabola"].abs().max() / 2


def _curves(runs: pd.DataFrame) -> Curves:
    return Curves.of(runs["n_params"].to_numpy(), runs["compute"].to_numpy())


def test_noise_is_measured_from_the_points_alone():
    runs = TRUTH.runs(budgets=np.geomspace(1e18, 1e21, 12), n=60, width=5, noise=0.01)
    known = local_noise(_curves(runs), runs["loss"].to_numpy())
    assert known.sd_K == pytest.approx(np.full(12, 0.01), rel=0.15)
    exact = TRUTH.runs(n=9)
    assert local_noise(_curves(exact), exact["loss"].to_numpy()).sd_K.max() < 2e-3


def test_noise_that_falls_with_compute_is_measured_so():
    budgets = np.geomspace(1e18, 1e21, 12)
    runs = TRUTH.runs(budgets, n=40)
    runs["loss"] += 0.02 * (runs["compute"] / 1e18) ** -0.25 * np.random.default_rng(5).standard_normal(len(runs))
    known = local_noise(_curves(runs), runs["loss"].to_numpy())
    assert known.sd_K == pytest.approx(0.02 * (budgets / 1e18) ** -0.25, rel=0.25)


def test_points_that_scatter_more_than_their_errors_have_their_scatter_estimated():
    rng = np.random.default_rng(0)
    x = np.linspace(0, 10, 200)
    fit = power(x, 0.5 * x + 0.3 * rng.standard_normal(200), np.full(200, 0.1))
    assert fit.tau == pytest.approx(np.sqrt(0.3**2 - 0.1**2), rel=0.15)
    assert abs(fit.exponent - 0.5) < 3 * fit.stderr
    quiet = power(x, 0.5 * x + 0.1 * rng.standard_normal(200), np.full(200, 0.1))
    assert quiet.tau < 0.04


def test_a_point_with_a_large_error_hardly_counts():
    x = np.arange(4.0)
    y = 0.5 * x + np.array([0, 0, 0, 1.0])
    assert power(x, y, np.array([0.01, 0.01, 0.01, 3.0])).exponent == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(("name", "least"), [("parabola", 0.9), ("akima", 0.9)])
def test_intervals_of_the_exponent_cover_the_truth(name, least):
    hits = []
    for seed in range(40):
        fit = isoflop(TRUTH.runs(noise=0.01, seed=seed), name, n_resamples=100, law=TRUTH)
        low, high = fit.exponents.loc[0, ["low", "high"]]
        hits.append(low <= TRUTH.a <= high)
    assert np.mean(hits) >= least


@pytest.mark.slow
@pytest.mark.parametrize("name", ["parabola", "akima", "surface"])
def test_nominal_intervals_cover_as_they_say(name):
    hits, at_budgets = [], []
    for seed in range(200):
        fit = isoflop(TRUTH.runs(noise=0.01, width=3, seed=seed), name, n_resamples=400, law=TRUTH)
        low, high = fit.exponents.loc[0, ["low", "high"]]
        hits.append(low <= TRUTH.a <= high)
        true = TRUTH.n_opt(fit.minima["compute"])
        at_budgets.append(((fit.minima["n_params_low"] <= true) & (true <= fit.minima["n_params_high"])).mean())
    assert 0.92 <= np.mean(hits) <= 1.0
    assert 0.9 <= np.mean(at_budgets) <= 0.99


def test_resamples_of_one_seed_are_the_same():
    one, other, third = (isoflop(TRUTH.runs(noise=0.01), n_resamples=50, seed=s, law=TRUTH) for s in (1, 1, 2))
    pd.testing.assert_frame_equal(one.minima, other.minima)
    assert not one.minima["n_params_low"].equals(third.minima["n_params_low"])


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_frontier_follows_the_minima_and_holds_the_truth_in_its_interval(name):
    fit = isoflop(TRUTH.runs(noise=0.004), name, n_resamples=200, law=TRUTH)
    table = fit.frontier([1e19, 1e22])
    exponent = fit.exponents["exponent"][0]
    assert np.log(table["n_params"][1] / table["n_params"][0]) / np.log(1e3) == pytest.approx(exponent)
    best = TRUTH.n_opt([1e19, 1e22])
    wanted = {"n_params": best, "tokens": [1e19, 1e22] / best / 6, "loss": TRUTH.predict(best, [1e19, 1e22] / best / 6)}
    for quantity, true in wanted.items():
        low, high = table[f"{quantity}_low"].to_numpy(), table[f"{quantity}_high"].to_numpy()
        slack = (high - low) / 2  # an interval of 95 % misses now and then
        assert ((low - slack <= true) & (true <= high + slack)).all()
        assert table[quantity].between(low, high).all()
    assert table["extrapolated"].tolist() == [False, True]


# ---- what is asked of the runs -----------------------------------------------------------------------------------


def test_a_sweep_at_one_size_counts_by_its_best_configuration_and_repeats_by_their_mean():
    runs = TRUTH.runs(n=5).assign(learning_rate=0.1, seed=0)
    worse = runs.assign(learning_rate=0.2, loss=runs["loss"] + 0.1)
    lucky = runs.assign(seed=1, loss=runs["loss"] + 0.02)
    points = isoflop_points(pd.concat([runs, worse, lucky], ignore_index=True))
    assert points["loss"].to_numpy() == pytest.approx(runs["loss"].to_numpy() + 0.01)
    assert (points["n_runs"] == 3).all()


def test_runs_off_their_budget_are_moved_to_it_by_the_law():
    runs = TRUTH.runs(width=3)
    off = np.exp(np.random.default_rng(0).uniform(-0.08, 0.08, len(runs)))
    tokens = runs["tokens"] * off
    moved = runs.assign(tokens=tokens, loss=TRUTH.predict(runs["n_params"], tokens), compute_budget=runs["compute"])
    moved["compute"] *= off
    straight, by_law = (isoflop(r, "akima", n_resamples=0, law=TRUTH) for r in (runs, moved))
    assert by_law.minima["n_params"].to_numpy() == pytest.approx(straight.minima["n_params"].to_numpy(), rel=1e-6)
    assert "off its budget: moved by law" in by_law.minima["note"][0]


def test_named_budgets_choose_the_runs():
    runs = TRUTH.runs()
    points = isoflop_points(runs, budgets=[1e18, 1.05e21])
    assert points["budget"].unique().tolist() == [1e18, 1.05e21]
    with pytest.raises(ValueError, match=r"within 15 % of the budgets 1e\+25 FLOP"):
        isoflop_points(runs, budgets=[1e25])


def test_one_budget_has_a_minimum_and_no_power_law():
    fit = isoflop(TRUTH.runs(budgets=[1e20]), noise=0.01, law=TRUTH)
    assert fit.minima.loc[0, "n_params_low"] < TRUTH.n_opt(1e20) < fit.minima.loc[0, "n_params_high"]
    assert fit.exponents["exponent"].isna().all()
    with pytest.raises(ValueError, match="no power law"):
        fit.frontier(1e21)


def test_three_sizes_a_budget_say_nothing_of_the_noise():
    fit = isoflop(TRUTH.runs(n=3), law=TRUTH)
    assert fit.minima["n_params_low"].isna().all()
    assert fit.minima["note"].str.contains("noise is not known").all()
    assert fit.exponents["note"].str.contains("scatter").all()


def test_bad_input_is_refused_with_what_was_given():
    runs = TRUTH.runs()
    with pytest.raises(
        ValueError, match=r"no estimator 'cubic'.*parabola, robust_parabola, akima, akima_grid, surface"
    ):
        isoflop(runs, "cubic")
    with pytest.raises(ValueError, match="one arm at a time; there are a, b"):
        isoflop(pd.concat([runs.assign(arm="a"), runs.assign(arm="b")]))
    with pytest.raises(ValueError, match="No compute budget has 3 sizes"):
        isoflop(runs.groupby("compute").head(2))
    with pytest.raises(ValueError, match="no runs for an isoFLOP curve"):
        isoflop(runs.iloc[:0])
    with pytest.raises(ValueError, match="loss that is not a positive number"):
        isoflop(runs.assign(loss=np.nan))
    with pytest.raises(ValueError, match=r"window is a factor above 1 in n_params, not 0\.5"):
        isoflop(runs, window=0.5)
    with pytest.raises(ValueError, match="one for each of 6 budgets"):
        isoflop(runs, noise=[0.1, 0.2], law=TRUTH)
    with pytest.raises(ValueError, match="2 budgets can not tell"):
        isoflop(TRUTH.runs(budgets=[1e18, 1e19]), "surface", law=TRUTH)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from([1e17, 1e18, 1e19, 1e20]),
            st.floats(1e5, 1e10),
            st.one_of(st.floats(0.5, 12), st.sampled_from([2.0, 1e-8, 1e6])),
        ),
        min_size=1,
        max_size=30,
    ),
    st.sampled_from(sorted(ESTIMATORS)),
)
def test_any_runs_give_minima_between_the_sizes_tried_or_a_reason(rows, name):
    runs = pd.DataFrame(rows, columns=["compute", "n_params", "loss"])
    runs["tokens"] = runs["compute"] / 6 / runs["n_params"]
    try:
        fit = isoflop(runs, name, n_resamples=20)
    except (ValueError, ConvergenceError) as error:
        assert len(str(error)) > 20
        return
    tried = fit.points.groupby("budget")["n_params"].agg(["min", "max"]).reset_index()
    inside = fit.minima[fit.minima["at_edge"] == ""]
    of = inside.merge(tried, left_on="compute", right_on="budget")
    assert of["n_params"].between(of["min"] * (1 - 1e-9), of["max"] * (1 + 1e-9)).all()
    assert (inside["n_params_low"].isna() | (inside["n_params_low"] <= inside["n_params_high"])).all()
    assert inside["tokens"].gt(0).all()
    assert fit.exponents["n_budgets"].eq(len(inside)).all()
