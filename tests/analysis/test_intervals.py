"""Every way to an interval: of a law that is linear in log loss against statsmodels, and of all laws in simulation."""

import itertools

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from algoprogress.analysis import Law, NotIdentified, intervals, laws
from algoprogress.analysis.resampling import WEBB, wild_weights
from algoprogress.analysis.warnings import FewSeeds


def clustered(
    n_clusters: int = 8, size: int = 5, noise: float = 0.01, shared: float = 0.01, seed: int = 0
) -> pd.DataFrame:
    """Runs on L = 40 C^-0.1 with noise of each run and noise that a cluster shares."""
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(n_clusters), size)
    compute = 10 ** rng.uniform(15, 20, len(cluster))
    off = noise * rng.standard_normal(len(cluster)) + shared * rng.standard_normal(n_clusters)[cluster]
    return pd.DataFrame({"compute": compute, "loss": 40 * compute**-0.1 * np.exp(off), "run": cluster})


def line(runs: pd.DataFrame) -> tuple[Law, sm.regression.linear_model.RegressionResults]:
    """L = A C^-alpha by least squares: ordinary least squares of ln L on ln C, here and in statsmodels."""
    law = laws["power"](huber=np.inf, fixed={"E": 0.0}).fit(runs)
    design = sm.add_constant(np.log(runs["compute"].to_numpy()))
    return law, sm.OLS(np.log(runs["loss"].to_numpy()), design).fit()


def of(table: pd.DataFrame, parameter: str) -> pd.Series:
    return table[table["parameter"] == parameter].iloc[0]


def check(table: pd.DataFrame, ols: sm.regression.linear_model.RegressionResults, rtol: float = 1e-5) -> None:
    """Interval of alpha, and of A in ln, equal those of the regression."""
    low, high = ols.conf_int()[1]
    row = of(table, "alpha")
    assert row["stderr"] == pytest.approx(ols.bse[1], rel=rtol)
    assert (row["low"], row["high"]) == (pytest.approx(-high, rel=rtol), pytest.approx(-low, rel=rtol))
    low, high = ols.conf_int()[0]
    row = of(table, "A")
    assert (np.log(row["low"]), np.log(row["high"])) == (pytest.approx(low, rel=rtol), pytest.approx(high, rel=rtol))


class TestOfALine:
    def test_the_estimate_is_that_of_ordinary_least_squares(self):
        law, ols = line(clustered())
        assert law.params_.loc["all", "alpha"] == pytest.approx(-ols.params[1], rel=1e-8)
        assert law.summary.set_index("parameter").loc["alpha", "stderr"] == pytest.approx(ols.bse[1], rel=1e-6)

    def test_the_profile_is_the_interval_of_student(self):
        law, ols = line(clustered())
        low, high = ols.conf_int()[1]
        row = of(law.intervals("profile"), "alpha")
        assert (row["low"], row["high"]) == (pytest.approx(-high, rel=1e-4), pytest.approx(-low, rel=1e-4))

    def test_the_sandwich_is_that_of_white(self):
        runs = clustered()
        law, ols = line(runs)
        check(law.intervals("sandwich"), ols.get_robustcov_results("HC1", use_t=True))

    def test_the_clustered_sandwich_is_that_of_statsmodels(self):
        runs = clustered()
        law, ols = line(runs)
        with pytest.warns(FewSeeds, match="8 clusters only"):
            table = law.intervals("sandwich", cluster="run")
        check(table, ols.get_robustcov_results("cluster", groups=runs["run"].to_numpy(), use_t=True))

    def test_leaving_out_one_run_gives_the_variance_called_hc3(self):
        """The jackknife about the estimate is (n - 1) / n times HC3 (MacKinnon and White 1985)."""
        runs = clustered()
        law, ols = line(runs)
        found, n = of(law.intervals("jackknife"), "alpha")["stderr"], len(runs)
        assert found == pytest.approx(ols.get_robustcov_results("HC3").bse[1] * np.sqrt((n - 1) / n), rel=1e-4)

    def test_leaving_out_one_cluster_is_ordinary_regression_without_it(self):
        runs = clustered()
        law, ols = line(runs)
        slopes = []
        for run in runs["run"].unique():
            part = runs[runs["run"] != run]
            slopes.append(sm.OLS(np.log(part["loss"]), sm.add_constant(np.log(part["compute"]))).fit().params.iloc[1])
        G = len(slopes)
        stderr = np.sqrt((G - 1) / G * ((np.array(slopes) - ols.params[1]) ** 2).sum())
        row = of(law.intervals("jackknife", cluster="run"), "alpha")
        assert row["stderr"] == pytest.approx(stderr, rel=1e-5)
        half = stats.t.ppf(0.975, G - 1) * stderr
        assert row["high"] - row["low"] == pytest.approx(2 * half, rel=1e-5)

    def test_turning_over_residuals_in_every_way_gives_the_variance_of_clusters(self):
        """Over all 2^G sign patterns the variance of a refitted slope is the clustered sandwich without factors."""
        runs = clustered(n_clusters=6)
        law, ols = line(runs)
        signs = np.array(list(itertools.product([-1.0, 1.0], repeat=6)))
        fitted, residual = ols.fittedvalues, ols.resid
        theta = law.refit(y_Bn=fitted + signs[:, runs["run"]] * residual)
        slopes = law.parameters_of(None, theta)[:, 2]
        X, G = sm.add_constant(np.log(runs["compute"].to_numpy())), 6
        scores = np.stack([X[runs["run"] == g].T @ residual[runs["run"] == g] for g in range(G)])
        bread = np.linalg.inv(X.T @ X)
        assert slopes.var() == pytest.approx((bread @ scores.T @ scores @ bread)[1, 1], rel=1e-4)

    def test_wild_clusters_are_studentised(self):
        runs = clustered(n_clusters=30)
        law, ols = line(runs)
        groups = runs["run"].to_numpy()
        clustered_ols = ols.get_robustcov_results("cluster", groups=groups, use_t=True)
        row = of(law.intervals("wild-cluster", cluster="run", n=3000), "alpha")
        half = (row["high"] - row["low"]) / 2
        student = stats.t.ppf(0.975, 29) * clustered_ols.bse[1]
        assert half == pytest.approx(student, rel=0.1)  # near Student's where clusters are many and alike

    def test_pairs_and_clusters_drawn_have_the_variance_of_the_sandwich(self):
        runs = clustered(n_clusters=60)
        law, _ = line(runs)
        for cluster in (None, "run"):
            drawn = of(law.intervals("cluster" if cluster else "pairs", cluster, n=2000), "alpha")
            at_once = of(law.intervals("sandwich", cluster), "alpha")
            assert drawn["stderr"] == pytest.approx(at_once["stderr"], rel=0.1)
            assert drawn["n_resamples"] == 2000

    def test_shared_noise_is_seen_by_clusters_only(self):
        runs = clustered(n_clusters=40, size=20, noise=0.002, shared=0.0)
        budget = runs.groupby("run")["compute"].transform("first")
        noise = 0.02 * np.random.default_rng(1).standard_normal(40)[runs["run"]]
        law, _ = line(runs.assign(compute=budget, loss=40 * budget**-0.1 * np.exp(noise)))
        alone, together = (of(law.intervals("sandwich", c), "alpha")["stderr"] for c in (None, "run"))
        assert together == pytest.approx(np.sqrt(20) * alone, rel=0.1)

    def test_huber_errors_are_those_of_a_robust_regression(self):
        """H1 of Huber 1981 in statsmodels differs from the sandwich in its moments only: equal for symmetric noise."""
        rng = np.random.default_rng(0)
        runs = clustered(n_clusters=400, noise=0.0, shared=0.0)
        runs["loss"] *= np.exp(0.01 * rng.standard_t(3, len(runs)))
        law = laws["power"](huber=0.01, fixed={"E": 0.0}).fit(runs)
        X, y = sm.add_constant(np.log(runs["compute"].to_numpy())), np.log(runs["loss"].to_numpy())
        peer = sm.RLM(y, X, M=sm.robust.norms.HuberT(1.0)).fit(scale_est=FixedScale(0.01), cov="H1")
        assert law.params_.loc["all", "alpha"] == pytest.approx(-peer.params[1], rel=1e-6)
        assert of(law.intervals("sandwich"), "alpha")["stderr"] == pytest.approx(peer.bse[1], rel=0.05)


class FixedScale:
    """A scale for statsmodels that is known: its Huber threshold is then in units of the residual."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, model, resid):
        return self.scale


METHODS = (
    ("pairs", None),
    ("cluster", "lab"),
    ("wild-cluster", "lab"),
    ("wild-cluster", None),
    ("jackknife", None),
    ("jackknife", "lab"),
    ("sandwich", None),
    ("sandwich", "lab"),
    ("profile", None),
)


def example(name: str) -> pd.DataFrame:
    design, parameters = laws[name].example()
    design = pd.concat([design] * 2, ignore_index=True)
    loss = laws[name].formula(parameters, *(design[c].to_numpy(float) for c in laws[name].inputs))
    rng = np.random.default_rng(0)
    return design.assign(loss=loss * np.exp(0.002 * rng.standard_normal(len(loss))), lab=np.arange(len(loss)) % 12)


FITTED: dict[str, Law] = {}


@pytest.mark.parametrize(("method", "cluster"), METHODS)
@pytest.mark.parametrize("name", laws)
def test_every_method_gives_every_law_an_interval_around_its_estimate(name, method, cluster):
    law = FITTED.setdefault(name, laws[name](huber=0.02).fit(example(name)))
    table = law.intervals(method, cluster, n=60, seed=1)
    names = [*law.parameters, *law.derived]
    assert list(table["parameter"]) == names
    assert list(table.columns) == [
        *("arm", "parameter", "estimate", "stderr", "low", "high", "method", "level", "n_resamples")
    ]
    known = table[~table["low"].isna()]
    assert set(names) - set(known["parameter"]) <= {"b"}
    assert (known["low"] <= known["estimate"] * (1 + 1e-9)).all()
    assert (known["high"] >= known["estimate"] * (1 - 1e-9)).all()
    narrow = law.intervals(method, cluster, level=0.5, n=60, seed=1)
    assert ((narrow["high"] - narrow["low"]) <= (table["high"] - table["low"]) * (1 + 1e-9))[~table["low"].isna()].all()


def test_intervals_of_two_arms_that_share_nothing_are_those_of_each():
    runs = pd.concat([clustered(seed=s).assign(arm=arm) for s, arm in enumerate("ab")])
    make = lambda: laws["power"](huber=np.inf, fixed={"E": 0.0})  # noqa: E731
    both = make().fit(runs)
    for method in ("profile", "jackknife"):
        together = both.intervals(method).set_index(["arm", "parameter"])
        for arm, part in runs.groupby("arm"):
            alone = make().fit(part).intervals(method).set_index("parameter")
            # the joint fit has one variance and one count of freedom for both
            ratio = (together.loc[arm, "stderr"] / alone["stderr"])["alpha"]
            assert 0.7 < ratio < 1.4


def test_arms_that_share_seeds_are_drawn_together():
    rng = np.random.default_rng(0)
    noise, parts = 0.05 * rng.standard_normal(30), []
    for arm, A in (("a", 40.0), ("b", 20.0)):
        compute = 10 ** rng.uniform(15, 20, 30)
        loss = A * compute**-0.1 * np.exp(noise)
        parts.append(pd.DataFrame({"arm": arm, "compute": compute, "loss": loss, "seed": np.arange(30)}))
    law = laws["power"](huber=np.inf, fixed={"E": 0.0, "alpha": 0.1}).fit(pd.concat(parts))
    law.intervals("cluster", "seed", n=400)
    drawn = law.resamples_.pivot_table(index=law.resamples_.groupby("arm").cumcount(), columns="arm", values="A")
    assert np.corrcoef(np.log(drawn["a"]), np.log(drawn["b"]))[0, 1] > 0.99
    law.intervals("pairs", n=400)
    drawn = law.resamples_.pivot_table(index=law.resamples_.groupby("arm").cumcount(), columns="arm", values="A")
    assert abs(np.corrcoef(np.log(drawn["a"]), np.log(drawn["b"]))[0, 1]) < 0.2


def test_a_profile_plot_has_its_minimum_at_the_estimate_and_crosses_at_the_interval():
    runs = example("chinchilla")
    law = laws["chinchilla"](huber=0.02).fit(runs)
    table = law.intervals("profile").set_index("parameter")
    for parameter in ("E", "A", "alpha", "a_opt"):
        curve = law.profile(parameter)
        inside = curve[curve["statistic"] <= curve["threshold"]]["value"]
        low, high = table.loc[parameter, ["low", "high"]]
        step = np.diff(curve["value"]).max()
        assert abs(inside.min() - low) <= step
        assert abs(inside.max() - high) <= step
        best = curve.loc[curve["statistic"].idxmin(), "value"]
        assert abs(best - table.loc[parameter, "estimate"]) <= step
        assert (curve["objective"] >= law.diagnostics_["objective"] * (1 - 1e-9)).all()


def test_a_profile_that_is_open_at_zero_says_so():
    runs = clustered(n_clusters=6, size=2, noise=0.02)
    with pytest.warns(NotIdentified):
        law = laws["power"](huber=np.inf).fit(runs)
    assert of(law.intervals("profile"), "E")["low"] == 0


class TestRefusals:
    def test_wrong_words_are_named(self):
        law, _ = line(clustered())
        with pytest.raises(ValueError, match="one of pairs, cluster, wild-cluster"):
            law.intervals("magic")
        with pytest.raises(ValueError, match="Name a column"):
            law.intervals("cluster")
        with pytest.raises(ValueError, match="Name a column"):
            law.intervals("pairs", "run")
        with pytest.raises(ValueError, match="level is a share"):
            law.intervals(level=1.0)
        with pytest.raises(ValueError, match="no column 'nowhere'"):
            law.intervals("cluster", "nowhere")
        with pytest.raises(ValueError, match="no parameter 'gamma'"):
            law.profile("gamma")
        with pytest.raises(ValueError, match="fixed in this fit"):
            law.profile("E")

    def test_resamples_of_a_few_points_mean_nothing(self):
        design, parameters = laws["power"].example()
        runs = design.iloc[::2].assign(
            loss=lambda t: laws["power"].formula(parameters, t["compute"]) * [1, 1.01, 1, 0.99, 1]
        )
        law = laws["power"]().fit(runs)
        with pytest.raises(ValueError, match="fewer different points than power has parameters"):
            law.intervals("pairs", n=200)

    def test_a_jackknife_needs_a_point_to_spare(self):
        design, parameters = laws["power"].example()
        runs = design.iloc[::4].assign(loss=lambda t: laws["power"].formula(parameters, t["compute"]))
        with pytest.raises(ValueError, match="too few different points are left"):
            laws["power"]().fit(runs).intervals("jackknife")

    def test_few_clusters_are_said(self):
        law, _ = line(clustered(n_clusters=4))
        for method in ("cluster", "wild-cluster", "jackknife", "sandwich"):
            with pytest.warns(FewSeeds, match="4 clusters only"):
                law.intervals(method, "run", n=50)


def test_wild_weights_have_mean_zero_and_variance_one():
    rng = np.random.default_rng(0)
    for n_clusters in (5, 20):
        weights = wild_weights(rng, 100_000 // n_clusters, n_clusters)
        assert weights.mean() == pytest.approx(0, abs=0.02)
        assert weights.var() == pytest.approx(1, abs=0.02)
    assert set(np.round(np.abs(wild_weights(rng, 200, 5)), 6).ravel()) == set(np.round(WEBB, 6))
    assert set(np.abs(wild_weights(rng, 200, 20)).ravel()) == {1.0}


@pytest.mark.parametrize(("method", "cluster"), [("pairs", None), ("sandwich", None), ("profile", None)])
def test_resampling_in_parts_is_resampling_at_once(method, cluster, monkeypatch):
    law, _ = line(clustered())
    once = law.intervals(method, cluster, n=50)
    monkeypatch.setattr(intervals, "AT_ONCE", 300)
    pd.testing.assert_frame_equal(once, law.intervals(method, cluster, n=50), rtol=1e-6)
