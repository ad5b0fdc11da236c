"""Do nominal 95 % intervals cover the truth?  And the noise behind them: is it found as it was put in?"""

import numpy as np
import pandas as pd
import pytest

from algoprogress.analysis.bootstrap import draw_seeds
from algoprogress.analysis.coverage import DESIGNS, coverage, main, summarise
from algoprogress.analysis.coverage_methods import BY_RUN
from algoprogress.analysis.coverage_methods import main as methods
from algoprogress.analysis.frontier import frontier
from algoprogress.analysis.lawfit import fit_frontier
from algoprogress.analysis.laws import laws
from algoprogress.analysis.noise import seed_noise
from algoprogress.analysis.resampling import fractional_resamples
from algoprogress.analysis.scatter import scatter_about
from algoprogress.analysis.simulation import simulate_runs
from algoprogress.analysis.surface import smoothed

BAND = (0.92, 0.98)


@pytest.mark.parametrize("design", ["as thin as the demo", "isoFLOP"])
def test_intervals_cover_in_a_few_studies(design):
    table = coverage([design], n_studies=6, first=900, n_resamples=100)
    assert table["missing"].max() == 0
    assert table["coverage"].mean() > 0.8  # a few studies: only a gross fault shows


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
def test_nominal_95_percent_intervals_cover_92_to_98_percent(design):
    """To two errors of 400 studies; longer where a design says that so few rungs do not determine a parameter."""
    table = coverage([design], n_studies=400, first=20_000)
    error, cover = 2 * table["stderr"], table["coverage"]
    long = (cover - error > BAND[1]) & ~table["quantity"].isin(DESIGNS[design].unidentified)
    outside = table[(cover + error < BAND[0]) | long]
    assert outside.empty, outside.round(3).to_string(index=False)


def test_cover_is_the_share_of_intervals_that_hold_the_truth():
    rows = pd.DataFrame(
        {
            "study": [0, 0, 1, 1],
            "quantity": "gain",
            "method": "law",
            "low": [0.0, 2.0, 0.0, np.nan],
            "truth": 1.0,
            "high": [2.0, 3.0, 0.5, np.nan],
        }
    )
    found = summarise(rows).iloc[0]
    assert (found["n"], found["missing"]) == (3, 0.25)
    assert found["coverage"] == pytest.approx(1 / 3)
    assert (found["above"], found["below"]) == (pytest.approx(1 / 3), pytest.approx(1 / 3))


def test_the_true_gains_of_a_design_are_those_of_its_laws():
    design = DESIGNS["isoFLOP"]
    runs = design.simulate(0)
    free = laws["chinchilla"]().fit(runs.assign(loss=[true_loss(design, r) for r in runs.itertuples()]))
    for compute in design.asked:
        for arm in design.laws:
            assert float(free.best_loss(compute, arm)) == pytest.approx(design.best_loss(arm, compute), rel=1e-6)
        gain = float(free.compute_for(free.best_loss(compute, "modern"), "lstm")) / compute
        assert gain == pytest.approx(design.gain("modern", compute), rel=1e-5)


def true_loss(design, run) -> float:
    E, A, B, alpha, beta = design.laws[run.arm]
    return E + A * run.n_params**-alpha + B * run.tokens**-beta


def test_the_command_prints_the_table_and_draws_the_figure(tmp_path, capsys):
    main(["--studies", "2", "--resamples", "20", "--design", "isoFLOP", "--figure", str(tmp_path / "cover.png")])
    assert "isoFLOP" in capsys.readouterr().out
    assert (tmp_path / "cover.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit):
        main(["--design", "none"])
    assert "There is no design 'none'" in capsys.readouterr().err


@pytest.mark.slow
def test_each_method_of_intervals_is_simulated_and_drawn(tmp_path, capsys):
    figure = tmp_path / "methods.png"
    methods(["--studies", "2", "--resamples", "40", "--design", "isoFLOP", "--figure", str(figure)])
    printed = capsys.readouterr().out
    assert all(name in printed for name in BY_RUN)
    assert figure.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit):
        methods(["--design", "no repeats"])
    assert "There is no design 'no repeats'; there are isoFLOP" in capsys.readouterr().err


# ---- noise ---------------------------------------------------------------------------------------------------------


def test_recovers_the_noise_between_seeds():
    runs = simulate_runs({"a": (0.6, 60, 0.14)}, noise=0.05, noise_exponent=0.3, n_seeds=8, n_best_seeds=8)
    noise = seed_noise(runs)
    assert noise is not None
    assert float(noise.sd("a", 1e11)) == pytest.approx(0.05, rel=0.15)
    assert noise.exponent == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize("alone", [False, True])
def test_recovers_the_noise_of_runs_that_were_never_repeated_from_their_neighbours(alone):
    """By size and rate, and by rate alone; best at, or between, the rates that were tried."""
    tried = {"sizes": (0.0,), "rates": (-0.6, -0.3, 0, 0.3, 0.6)} if alone else {}
    laws_of = dict.fromkeys("abc", (0.6, 60, 0.14))
    budgets = np.geomspace(1e11, 3e13, 6)
    runs = simulate_runs(laws_of, budgets, 0.05, 0.3, n_best_seeds=1, tuning_error=0.25, **tried)
    noise = seed_noise(runs)
    assert noise is not None
    assert not noise.repeated
    assert len(noise.contrasts) == 18 * (2 if alone else 3)  # 5 points less 3 coefficients, 9 less 6
    assert float(noise.sd("a", 1e11)) == pytest.approx(0.05, rel=0.25)
    assert noise.exponent == pytest.approx(0.3, abs=0.1)


def test_neighbours_on_a_quadratic_have_no_noise_and_too_few_tell_of_none():
    runs = simulate_runs({"a": (0.6, 60, 0.14)}, n_best_seeds=1, budget_error=0.0, tuning_error=0.25)
    noise = seed_noise(runs)
    assert noise is not None
    assert noise.scale["a"] < 1e-12
    assert seed_noise(runs[runs["n_params"] == runs["n_params"].min()]) is None  # three rates: a parabola through them
    assert seed_noise(runs[["arm", "compute", "loss"]]) is None


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


def found_noise(growing: dict, **design):
    """Means over a few studies of the scale of the seed noise, its shared part, and rung noise over seed noise."""
    found = []
    for s in range(6):
        runs = simulate_runs(growing, noise=0.03, sizes=(0,), rates=(0,), seed=s, n_best_seeds=3, **design)
        law, draws = fit_frontier(laws["power"](), frontier(runs)).law, draw_seeds(runs, 100, s)
        noise = scatter_about(law, draws)
        assert noise is not None
        found.append([noise.scale_B.mean(), noise.shared_B.mean(), (noise.rung_B / noise.sd_B).mean()])
    return np.mean(found, axis=0)


def test_noise_of_rungs_and_of_seeds_in_common_are_told_from_noise_of_seeds(growing):
    six = {"budgets": np.geomspace(1e11, 3e13, 6)}
    plain, rungs, shared = (found_noise(growing, **six, **d) for d in ({}, {"rung_noise": 0.05}, {"shared": 0.9}))
    assert rungs[2] > 0.8 > 0.5 > plain[2]
    assert shared[1] > 0.7 > 0.4 > plain[1]
    assert 0.7 < plain[0] < 1.4


def test_how_fast_the_noise_falls_with_compute_is_drawn_as_well_as_it_is_known(growing):
    spread, budgets = {}, np.geomspace(1e11, 3e13, 6)
    for n_seeds in (2, 12):
        runs = simulate_runs(growing, budgets, 0.05, 0.3, sizes=(0,), rates=(0,), n_best_seeds=n_seeds)
        law, draws = fit_frontier(laws["power"](), frontier(runs)).law, draw_seeds(runs, 400)
        noise = scatter_about(law, draws)
        assert noise is not None
        assert draws.noise is not None
        k = draws.noise.exponent + noise.faster_B
        assert 0 <= k.min() <= k.max() <= 0.5
        spread[n_seeds] = k.std()
        assert k.mean() == pytest.approx(0.3, abs=0.15)
    assert spread[2] > 0.05
    assert spread[12] < 0.7 * spread[2]


def test_noise_that_arms_share_widens_their_frontiers_and_not_their_gains(growing):
    from algoprogress.analysis import compute_equivalent_gain

    pair = {a: growing[a] for a in ("lstm", "modern")}
    design = {"noise": 0.05, "sizes": (0,), "rates": (0,), "n_best_seeds": 4, "budgets": np.geomspace(1e11, 3e13, 6)}
    width = {}
    for shared in (0.0, 0.95):
        runs = simulate_runs(pair, seed=1, shared=shared, **design)
        gains = compute_equivalent_gain(runs, "lstm", at_compute=1e12, method="interpolated", n_resamples=400)
        width[shared] = float(np.log(gains["ceg_high"] / gains["ceg_low"]).iloc[0])
    assert width[0.95] < 0.6 * width[0.0]


def test_resampling_takes_off_some_of_the_winners_curse():
    """Nine configurations that are truly equal, the hardest case: about half the bias goes, none turns round."""
    design = {"budgets": (1e12,), "noise": 0.05, "penalties": (0, 0), "budget_error": 0, "n_seeds": 2}
    truth = 0.6 + 60 * 1e12**-0.14
    measured, centre = [], []
    for s in range(30):
        runs = simulate_runs({"a": (0.6, 60, 0.14)}, seed=s, **design)
        draws = draw_seeds(runs, 200, s)
        noise = scatter_about(None, draws)
        assert noise is not None
        measured.append(runs.groupby("configuration_id")["loss"].mean().min() - truth)
        centre.append(np.median(noise.resample(draws).loss_Bn) - truth)
    assert np.mean(measured) < -0.04
    assert 0.75 * np.mean(measured) < np.mean(centre) < 0


# ---- weights and surfaces ------------------------------------------------------------------------------------------


def test_fractional_weights_are_one_on_average_and_never_nothing():
    """Uniform on the simplex of G clusters: mean 1, variance (G - 1) / (G + 1); all runs of a cluster alike."""
    rows, groups = [np.arange(12), np.arange(12, 20)], np.repeat(np.arange(5), 4)
    weight = np.concatenate(list(fractional_resamples(rows, groups, 4000, 0, at_once=10_000)))
    assert weight.min() > 0
    for r, G in zip(rows, (3, 2), strict=True):
        assert weight[:, r].mean(1) == pytest.approx(np.ones(4000))
        assert weight[:, r].var() == pytest.approx((G - 1) / (G + 1), rel=0.05)
    assert (weight[:, :4] == weight[:, :1]).all()
    whole = next(fractional_resamples(rows, np.tile(np.arange(4), 5), 10, 0, at_once=10_000))  # seeds that arms share
    assert (whole[:, 0] == whole[:, 12]).all()


def of_rungs(curvatures, noise=0.0, seed=0):
    """Rungs of 3 sizes x 3 rates on quadratics with a curvature of their own, each best off the centre."""
    rng, rows = np.random.default_rng(seed), []
    for rung, curvature in enumerate(curvatures):
        for n in (-0.5, 0.0, 0.5):
            for r in (-0.5, 0.0, 0.5):
                loss = 2 - 0.1 * rung + curvature * ((n - 0.1) ** 2 + n * r + 2 * (r + 0.2) ** 2)
                rows.append((1e11 * 3**rung, 1e4 * np.exp(n), np.exp(r), loss + noise * rng.standard_normal()))
    table = pd.DataFrame(rows, columns=["rung", "n_params", "learning_rate", "loss"])
    return table.assign(arm="a", compute=table["rung"])


@pytest.mark.parametrize("curvatures", [[0.3] * 4, [0.1, 0.2, 0.4, 0.8]])
def test_losses_on_quadratics_are_left_as_they_are(curvatures):
    table = of_rungs(curvatures)
    assert smoothed(table, np.full(len(table), 1e-3)) == pytest.approx(table["loss"].to_numpy(), abs=1e-9)


def test_a_surface_lies_nearer_the_truth_than_the_losses_and_nearest_where_rungs_share_their_curvature():
    errors = {}
    for name, curvatures in (("one", [0.3] * 4), ("each", [0.1, 0.4, 1.6, 6.4])):
        truth, off = of_rungs(curvatures)["loss"].to_numpy(), []
        for seed in range(40):
            table = of_rungs(curvatures, 0.05, seed)
            found = smoothed(table, np.full(len(table), 0.05))
            off.append([((found - truth) ** 2).mean(), ((table["loss"] - truth) ** 2).mean()])
        errors[name] = np.divide(*np.mean(off, axis=0))
    assert errors["one"] == pytest.approx((4 * 3 + 3) / 36, rel=0.2)  # parameters over points
    assert errors["each"] == pytest.approx(6 / 9, rel=0.2)
