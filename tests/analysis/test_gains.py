import copy

import numpy as np
import pandas as pd
import pytest

from algoprogress.analysis import (
    Extrapolation,
    FewSeeds,
    LawsDisagree,
    compute_equivalent_gain,
    laws,
    scale_dependence,
)
from algoprogress.analysis.simulation import simulate_runs


def points(**arms: list[tuple[float, float]]) -> pd.DataFrame:
    return pd.DataFrame([{"arm": a, "compute": c, "loss": x} for a, p in arms.items() for c, x in p])


LINEAR = points(old=[(1e11, 2.5), (1e12, 2.0), (1e13, 1.7)], new=[(1e11, 2.25), (1e12, 1.85), (1e13, 1.6)])


def interpolated(runs, **options):
    return compute_equivalent_gain(runs, "old", method="interpolated", n_resamples=0, **options)


def test_interpolation_is_exact_on_a_piecewise_linear_frontier():
    gains = interpolated(LINEAR, at_compute=[1e11, 1e12])
    # 2.25 lies half way from 2.5 to 2.0, so at 10^11.5; 1.85 half way from 2.0 to 1.7, at 10^12.5
    np.testing.assert_allclose(gains["ceg"], [10**0.5, 10**0.5], rtol=1e-12)
    assert (gains["censored"] == "").all()


def test_a_loss_that_the_baseline_never_reaches_gives_a_lower_bound():
    gains = interpolated(points(old=[(1e11, 2.5), (1e12, 2.0)], new=[(1e11, 1.9), (1e12, 1.5)]))
    assert gains["censored"].tolist() == [">", ">"]
    np.testing.assert_allclose(gains["ceg"], [10, 1])


def test_a_loss_above_the_smallest_of_the_baseline_gives_an_upper_bound():
    gains = interpolated(points(old=[(1e11, 2.0), (1e12, 1.5)], new=[(1e11, 2.6), (1e12, 2.4)]))
    assert gains["censored"].tolist() == ["<", "<"]
    np.testing.assert_allclose(gains["ceg"], [1, 0.1])


def test_censoring_turns_round_with_the_reference():
    gains = interpolated(points(old=[(1e11, 2.0), (1e12, 1.5)], new=[(1e11, 2.6), (1e12, 2.4)]), reference="old")
    assert gains["censored"].tolist() == ["<", "<"]
    np.testing.assert_allclose(gains["ceg"], [0.1, 1])


def test_a_frontier_that_rises_is_replaced_by_its_envelope():
    bumpy = points(old=[(1e11, 2.5), (1e12, 2.0), (1e13, 2.2), (1e14, 1.5)], new=[(1e13, 2.0), (1e14, 1.4)])
    assert interpolated(bumpy, at_compute=1e13).loc[0, "ceg"] == pytest.approx(0.1)


def test_gains_are_equal_at_the_loss_and_at_the_compute_where_it_is_reached():
    at_compute = interpolated(LINEAR, at_compute=3e11)
    at_loss = interpolated(LINEAR, at_loss=float(at_compute.loc[0, "loss"]))
    assert at_loss.loc[0, "ceg"] == pytest.approx(at_compute.loc[0, "ceg"])
    assert at_loss.loc[0, "compute"] == pytest.approx(3e11)


@pytest.mark.parametrize("method", ["interpolated", "law"])
def test_the_gain_at_the_old_compute_is_that_at_the_new_compute_it_leads_to(method, growing):
    """With C' = C_arm(L_baseline(C)): CEG_old(C) = C / C' = C_baseline(L_arm(C')) / C' = CEG_new(C')."""
    runs = simulate_runs({a: growing[a] for a in ("lstm", "modern")}, budget_error=0)
    options = {"method": method, "n_resamples": 0}
    old = compute_equivalent_gain(runs, "lstm", at_compute=5e11, reference="old", **options).iloc[0]
    new = compute_equivalent_gain(runs, "lstm", at_compute=5e11 / old["ceg"], reference="new", **options).iloc[0]
    assert new["ceg"] == pytest.approx(old["ceg"], rel=1e-9)


def test_the_law_recovers_the_true_gain(growing, true_gain):
    gains = compute_equivalent_gain(simulate_runs(growing), "lstm", method="law", n_resamples=0)
    for row in gains.itertuples():
        assert row.ceg == pytest.approx(true_gain(growing, row.arm, row.compute), rel=1e-5)


def test_an_arm_equal_to_the_baseline_has_gain_one(growing):
    runs = simulate_runs({"lstm": growing["lstm"]}, noise=0.02)
    gains = compute_equivalent_gain(pd.concat([runs, runs.assign(arm="twin")]), "lstm", n_resamples=0)
    np.testing.assert_allclose(gains["ceg"], 1, rtol=1e-6)
    assert (gains["censored"] == "").all()


def test_recovers_a_known_scale_dependence(growing):
    runs = simulate_runs(growing, budget_error=0)
    slopes = scale_dependence(compute_equivalent_gain(runs, "lstm", method="law", n_resamples=0))
    slopes = slopes.drop_duplicates("arm", keep="last").set_index("arm")  # with what is extrapolated
    assert slopes.loc["modern", "slope"] == pytest.approx(0.165 / 0.14 - 1, rel=1e-4)
    assert slopes.loc["modern", "p_equal_exponents"] < 1e-6
    old = compute_equivalent_gain(runs, "lstm", method="law", n_resamples=0, reference="old")
    slopes = scale_dependence(old).drop_duplicates("arm", keep="last").set_index("arm")
    assert slopes.loc["modern", "slope"] == pytest.approx(1 - 0.14 / 0.165, rel=1e-4)


def test_slopes_inside_the_measured_range_and_beyond_it_are_told_apart(growing):
    runs = simulate_runs(growing, (1e11, 3e11, 1e12, 3e12, 1e13), budget_error=0)
    short = runs[~((runs["arm"] == "lstm") & (runs["compute"] > 5e12))]
    table = scale_dependence(compute_equivalent_gain(short, "lstm", method="law", n_resamples=50))
    for _, part in table.groupby("arm"):
        assert part["range"].tolist() == ["measured", "extrapolated"]
    retro = table[table["arm"] == "retro"].set_index("range")["note"]
    assert retro["measured"].startswith("3 of 5 computes")
    assert retro["extrapolated"].startswith("5 of 5 computes")


def test_a_constant_gain_has_slope_zero(constant):
    runs = simulate_runs(constant, budget_error=0, budgets=(1e11, 2e11, 5e11, 1e12, 3e12))
    slopes = scale_dependence(compute_equivalent_gain(runs, "lstm", n_resamples=0))
    assert slopes[slopes["method"] == "law"]["slope"].abs().max() < 1e-4
    assert slopes[slopes["method"] == "interpolated"]["slope"].abs().max() < 0.03


def test_a_law_without_irreducible_loss_fakes_scale_dependence(constant):
    runs = simulate_runs({a: (1.0, A, alpha) for a, (_, A, alpha) in constant.items()}, budget_error=0)
    options = {"method": "law", "n_resamples": 0}
    without = compute_equivalent_gain(runs, "lstm", law=laws["power"](fixed={"E": 0.0}), **options)
    with_E = compute_equivalent_gain(runs, "lstm", **options)
    fake, true = (scale_dependence(g).query("arm == 'modern'")["slope"].iloc[-1] for g in (without, with_E))
    assert fake < -0.02
    assert abs(true) < 1e-4
    assert without["law"].iloc[0] == "power, E = 0"


def test_intervals_hold_their_estimate_and_name_their_runs(noisy_runs):
    gains = compute_equivalent_gain(noisy_runs, "lstm", n_resamples=100)
    known = gains.dropna(subset=["ceg"])
    assert (known["ceg_low"] <= known["ceg"]).all()
    assert (known["ceg"] <= known["ceg_high"]).all()
    n = noisy_runs.groupby("arm").size()
    assert set(gains[gains["arm"] == "modern"]["n_runs"]) == {n["modern"] + n["lstm"]}
    assert np.isinf(gains[gains["censored"] == ">"]["ceg_high"]).all()
    assert (gains[gains["censored"] == "<"]["ceg_low"] == 0).all()


def test_the_same_seed_gives_the_same_intervals(noisy_runs):
    one, two = (compute_equivalent_gain(noisy_runs, "lstm", n_resamples=50, seed=4) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)


def test_without_a_repeated_seed_the_interval_rests_on_the_scatter_about_the_law_and_says_so(growing):
    runs = simulate_runs(growing, noise=0.03, n_best_seeds=1)
    with pytest.warns(FewSeeds, match="No configuration was repeated"):
        gains = compute_equivalent_gain(runs, "lstm", n_resamples=100)
    known = gains.dropna(subset=["ceg"])
    assert known[["ceg_low", "ceg_high"]].notna().all(axis=None)
    assert known["note"].str.contains("interval by the scatter about a law and of neighbours about a quadratic").all()
    one_each = simulate_runs(growing, noise=0.03, sizes=(0,), rates=(0,), n_best_seeds=1)
    with pytest.warns(FewSeeds, match="rest on the scatter about a law. Run"):
        gains = compute_equivalent_gain(one_each, "lstm", n_resamples=100)
    assert gains.dropna(subset=["ceg"])["note"].str.endswith("interval by the scatter about a law").any()


def test_without_a_repeated_seed_or_a_rung_to_spare_there_is_no_interval_and_a_note(growing):
    alone = {"sizes": (0,), "rates": (0,), "n_best_seeds": 1}
    runs = simulate_runs({a: growing[a] for a in ("lstm", "modern")}, budgets=(1e11, 1e12), **alone)
    with pytest.warns(FewSeeds, match="there is no interval"):
        gains = compute_equivalent_gain(runs, "lstm", n_resamples=100)
    assert gains[["ceg_low", "ceg_high"]].isna().all(axis=None)
    assert gains["note"].str.contains("no configuration was repeated with another seed: no interval").any()
    assert scale_dependence(gains)["slope_low"].isna().all()


def test_beyond_the_measured_compute_the_law_says_so_and_interpolation_gives_nothing(growing):
    runs = simulate_runs(growing)
    with pytest.warns(Extrapolation):
        gains = compute_equivalent_gain(runs, "lstm", at_compute=1e15, n_resamples=0)
    by = gains[gains["arm"] == "modern"].set_index("method")
    assert np.isnan(by.loc["interpolated", "ceg"])
    assert "outside the measured compute" in by.loc["interpolated", "note"]
    assert by.loc["law", "note"].startswith("extrapolated: modern at 1e15")


def test_law_and_interpolation_that_differ_warn():
    bent = points(
        old=[(1e11, 2.5), (1e12, 2.0), (1e13, 1.7), (1e14, 1.5)],
        new=[(1e11, 2.3), (1e12, 2.29), (1e13, 1.55), (1e14, 1.3)],
    )
    with pytest.warns(LawsDisagree, match="new at 1e12"):
        compute_equivalent_gain(bent, "old", n_resamples=0)


def test_slopes_keep_their_intervals_when_rows_are_dropped_or_copied(noisy_runs):
    gains = compute_equivalent_gain(noisy_runs, "lstm", n_resamples=100)
    whole = scale_dependence(gains).query("arm == 'modern'").reset_index(drop=True)
    part = scale_dependence(gains[gains["arm"] == "modern"].reset_index(drop=True))
    pd.testing.assert_frame_equal(whole, part)
    pd.testing.assert_frame_equal(scale_dependence(copy.deepcopy(gains)), scale_dependence(gains))


def test_a_gain_table_survives_parquet_without_its_resamples(noisy_runs, tmp_path):
    gains = compute_equivalent_gain(noisy_runs, "lstm", n_resamples=20)
    gains.to_parquet(tmp_path / "gains.parquet")
    slopes = scale_dependence(pd.read_parquet(tmp_path / "gains.parquet"))
    assert slopes["slope"].notna().any()
    assert slopes["slope_low"].isna().all()
    assert slopes["note"].str.contains("no interval").any()


def test_one_rung_gives_gains_by_interpolation_and_a_note_for_the_law():
    gains = compute_equivalent_gain(points(old=[(1e11, 2.5), (1e12, 2.0)], new=[(1e12, 1.9)]), "old", at_compute=1e12)
    by = gains.set_index("method")
    assert by.loc["interpolated", "censored"] == ">"
    assert np.isnan(by.loc["law", "ceg"])
    assert by.loc["law", "note"]


def test_wrong_input_is_refused_with_what_is_allowed(noisy_runs):
    with pytest.raises(ValueError, match="the arms are lstm, modern, retro"):
        compute_equivalent_gain(noisy_runs, "gru")
    with pytest.raises(ValueError, match="not both"):
        compute_equivalent_gain(noisy_runs, "lstm", at_compute=1e12, at_loss=2.0)
    with pytest.raises(ValueError, match="method is one of interpolated, law, both"):
        compute_equivalent_gain(noisy_runs, "lstm", method="guess")
    with pytest.raises(ValueError, match="positive"):
        compute_equivalent_gain(noisy_runs, "lstm", at_compute=-1.0)
    with pytest.raises(ValueError, match="can not determine"):
        compute_equivalent_gain(
            points(old=[(1e11, 2.5), (1e12, 2.0)], new=[(1e11, 2.4), (1e12, 1.9)]), "old", method="law"
        )
    with pytest.raises(ValueError, match="no column compute, loss, ceg"):
        scale_dependence(pd.DataFrame({"arm": []}))


def test_losses_that_do_not_fall_give_no_gain():
    compute = np.geomspace(1e15, 1e19, 6)
    flat = pd.DataFrame({"arm": "old", "compute": compute, "loss": 3.0})
    falling = pd.DataFrame({"arm": "new", "compute": compute, "loss": 1.7 + 3e3 * compute**-0.2})
    for runs in (pd.concat([flat, falling]), pd.concat([flat, flat.assign(arm="new")])):
        found = compute_equivalent_gain(runs, "old", at_compute=1e17, method="interpolated", n_resamples=0).iloc[0]
        assert np.isnan(found["ceg"])
        assert "do not fall with compute" in found["note"]


def test_one_arm_has_no_gain(noisy_runs):
    one = noisy_runs[noisy_runs["arm"] == noisy_runs["arm"].iloc[0]]
    with pytest.raises(ValueError, match="no arm but the baseline"):
        compute_equivalent_gain(one, one["arm"].iloc[0])


def test_a_loss_that_nobody_reaches_has_no_compute(noisy_runs):
    found = compute_equivalent_gain(noisy_runs, noisy_runs["arm"].iloc[0], at_loss=1e-3, n_resamples=0)
    assert found[["compute", "ceg"]].isna().all(axis=None)
