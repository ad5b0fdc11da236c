"""Leads, gains and correlations come out as they were put in, from runs and probes that are made up."""

import numpy as np
import pandas as pd
import pytest

from algoprogress.analysis.curvature.frames import block_table, quadratures, rows_of
from algoprogress.analysis.curvature.quadrature import Quadrature
from algoprogress.analysis.curvature.ratios import along_updates, with_ratios
from algoprogress.analysis.figures import draw
from algoprogress.analysis.figures.lead import lead_against_heterogeneity, ratios_over_steps
from algoprogress.analysis.lead import (
    best_configurations,
    clipping_table,
    correlations,
    gains_of_pairs,
    heterogeneity_table,
    leads,
    model_of,
    sharpness_summary,
    with_heterogeneity,
)

RATES = (0.1, 0.2, 0.4)
BUDGETS = (1e9, 1e10, 1e11)
SAVED = {"cnn": 1.0, "vit": 3.0, "gpt": 8.0, "mlp": 1.5}  # the true gain of compute of Adam
PAIRS = {f"{model}_adam": f"{model}_sgd" for model in SAVED}


def loss(compute: float) -> float:
    return 20 * compute**-0.1


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    rng, rows = np.random.default_rng(0), []
    for model, saved in SAVED.items():
        for optimizer in ("adam", "sgd"):
            for budget in BUDGETS:
                for rate in RATES:
                    for seed in range(3 if rate == 0.2 else 1):
                        found = loss(budget * (saved if optimizer == "adam" else 1.0)) * np.exp(rng.normal(0, 1e-3))
                        rows.append(
                            {
                                "arm": f"{model}_{optimizer}",
                                "run_id": f"{len(rows):020x}",
                                "compute_budget": budget,
                                "compute": budget,
                                "configuration_id": f"{model}{optimizer}{budget}{rate}",
                                "learning_rate": rate,
                                "seed": seed,
                                "loss": found * (1 + 0.05 * abs(np.log(rate / 0.2))),
                                "status": "done",
                                "epochs_seen": 3.0,
                            }
                        )
    return pd.DataFrame(rows)


def test_every_seed_of_the_best_rate_is_kept_and_diverged_runs_are_not(runs):
    best = best_configurations(runs)
    assert set(best["learning_rate"]) == {0.2}
    assert len(best) == len(PAIRS) * 2 * len(BUDGETS) * 3
    broken = runs.assign(status=np.where(runs["learning_rate"] == 0.2, "diverged", "done"))
    assert not (best_configurations(broken)["learning_rate"] == 0.2).any()


def test_leads_are_the_logarithms_of_true_ratios_within_their_intervals(runs):
    table = leads(runs, PAIRS)
    truth = table["model"].map(lambda model: 0.1 * np.log(SAVED[model]))
    np.testing.assert_allclose(table["lead"], truth, atol=4e-3)
    assert ((table["low"] <= truth) & (truth <= table["high"])).mean() >= 0.75  # 95 % each, of twelve
    assert set(table["n_seeds"]) == {3}
    single = leads(runs[runs["seed"] == 0], PAIRS)
    assert single["low"].isna().all()


def test_gains_of_compute_are_those_that_were_put_in(runs):
    gains = gains_of_pairs(runs, PAIRS, n_resamples=50)
    inside = gains[(gains["censored"] == "") & gains["ceg"].notna()]
    assert set(inside["model"]) == set(SAVED)
    truth = inside["model"].map(SAVED)
    # straight lines in ln C between rungs a factor 10 apart, of a loss that is a power of C
    np.testing.assert_allclose(np.log(inside["ceg"]), np.log(truth), atol=0.15)


def test_a_known_correlation_is_recovered_and_covered_by_its_intervals():
    rng, covered = np.random.default_rng(1), {"pearson": 0, "spearman": 0}
    truth = {"pearson": 0.7, "spearman": 6 / np.pi * np.arcsin(0.35)}  # Pearson 1907, of two normal variables
    for _ in range(200):
        x = rng.normal(size=25)
        table = pd.DataFrame({"x": x, "y": 0.7 * x + np.sqrt(1 - 0.49) * rng.normal(size=25)})
        for row in correlations(table, "x", "y").to_dict("records"):
            covered[row["method"]] += row["low"] <= truth[row["method"]] <= row["high"]
    assert all(180 <= count <= 198 for count in covered.values()), covered
    with pytest.raises(ValueError, match="takes 4 rows or more, not 3"):
        correlations(table.iloc[:3], "x", "y")


def quadrature(*largest: float) -> Quadrature:
    return Quadrature((np.array([0.0, *largest]),), (np.full(1 + len(largest), 1 / (1 + len(largest))),), 10)


def test_spectra_survive_being_rows_and_say_of_which_block_they_are():
    of = Quadrature((np.array([-1.0, 2.0]), np.array([3.0])), (np.array([0.5, 0.5]), np.array([1.0])), 7)
    rows = pd.concat([rows_of("a", "q", of), rows_of("b", "norm", quadrature(4.0))])
    found = quadratures(rows)
    assert list(found) == ["a", "b"]
    assert found["a"].n == 7
    assert [list(theta) for theta in found["a"].nodes] == [[-1.0, 2.0], [3.0]]
    table = block_table(rows).set_index("block")
    assert table.loc["a", "largest"] == 3.0
    assert table.loc["a", "trace"] == of.trace.value  # none was measured
    with pytest.raises(ValueError, match="2 probes"):
        quadratures(rows.assign(probe_id=["x", "x", "x", "y", "y"]))


def test_heterogeneity_is_told_of_each_probe_and_joined_to_its_model():
    parts = []
    for i, (model, factor) in enumerate([("vit", 100.0), ("cnn", 1.0)]):
        blocks = [rows_of(name, "q", quadrature(factor**k)) for k, name in enumerate("abc")]
        blocks.append(rows_of("norm", "norm", quadrature(1e9)))  # vectors are left out
        parts.append(pd.concat(blocks).assign(probe_id=str(i), run_id=model, step=0, seed=0, how_steps=3))
    table = heterogeneity_table(pd.concat(parts), points=500)
    kept = table[table["blocks"] == "without_ends"].set_index("run_id")
    assert kept.loc["vit", "log_spread"] == pytest.approx(2.0)
    assert kept.loc["cnn", "log_spread"] == 0.0
    assert set(kept["n_blocks"]) == {3}
    both = with_heterogeneity(
        pd.DataFrame({"model": ["cnn", "vit"], "lead": [0.0, 1.0]}), kept.reset_index(), {"vit": "vit", "cnn": "cnn"},
        ["log_spread"],
    )  # fmt: skip
    assert list(both["log_spread"]) == [0.0, pytest.approx(2.0)]


def updates() -> pd.DataFrame:
    rows = []
    for run_id, unit in (("r1", 4.0), ("r2", -2.0)):
        for step in (10, 100, 200):
            for name, part in (("sgd", 1.0), ("adam", 0.1 if step >= 100 else 3.0)):
                for clip in (0.1, 0.5):
                    rows.append(
                        {
                            "probe_id": f"{run_id} {step} {clip}",
                            "run_id": run_id,
                            "step": step,
                            "update_of": name,
                            "sharpness": unit * part,
                            "clipped": unit * part * (1 - clip),
                            "how_clip": clip,
                            "loss_along": [1.0, 0.5],
                        }
                    )
    return pd.DataFrame(rows)


def test_ratios_are_to_the_absolute_sharpness_of_the_reference_at_the_same_place():
    rows = updates()
    found = with_ratios(rows, "sgd").set_index(["how_clip", "run_id", "step", "update_of"]).loc[0.5]
    assert found.loc[("r2", 100, "sgd"), "ratio"] == -1.0
    assert found.loc[("r1", 100, "adam"), "ratio"] == pytest.approx(0.1)
    assert found.loc[("r1", 100, "sgd"), "clipped_ratio"] == 0.5
    with pytest.raises(ValueError, match="no update of 'lion'; updates are those of sgd, adam"):
        with_ratios(rows, "lion")
    table = sharpness_summary(rows, {"r1": "gpt_adam"}, since=100)
    adam = table[table["update_of"] == "adam"]
    assert list(adam["clipped"]) == [False, True, True]
    assert list(adam["clip"].iloc[1:]) == [0.1, 0.5]
    assert list(adam["median"]) == pytest.approx([0.1, 0.09, 0.05])
    assert list(zip(adam["below"], adam["n"], strict=True)) == [(2, 2)] * 3
    lines = along_updates(rows.assign(at=rows["step"]))
    assert set(lines["length"]) == {0.0, 1.0}


def test_the_gap_that_clipping_closes_stands_beside_the_sharpness_it_removes():
    losses = {"sgd": 3.0, "adam": 2.0, "sgd_0.1": 2.75, "sgd_0.5": 2.5}
    columns = {"seed": 0, "status": "done"}
    runs = pd.DataFrame(
        [
            {"arm": a, "loss": v, "compute_budget": c, "configuration_id": f"{a}{c}", "run_id": f"{a}{c:g}", **columns}
            for c in (1e9, 1e10)
            for a, v in losses.items()
        ]
    )
    # along SGD's run at each budget, and along Adam's, which says nothing of what clipping takes from SGD
    along = {"r1": "sgd1e+09", "r2": "sgd1e+10"}
    own = updates().assign(run_id=lambda t: t["run_id"].map(along))
    own.loc[own["run_id"] == "sgd1e+10", "clipped"] *= 0.5
    others = updates().assign(run_id="adam1e+09", clipped=0.0)
    sharpness = pd.concat([own, others], ignore_index=True)
    table = clipping_table(runs, sharpness, {"sgd_0.1": 0.1, "sgd_0.5": 0.5}, "sgd", "adam", since=100)
    assert list(table["gap_closed"]) == [0.25, 0.25, 0.5, 0.5]
    assert list(table["sharpness_removed"]) == pytest.approx([0.1, 0.55, 0.5, 0.75])
    assert list(table["n_places"]) == [2] * 4
    with pytest.raises(ValueError, match="'lion' has no finished run"):
        clipping_table(runs, updates(), {"lion": 0.1}, "sgd", "adam", since=100)


@pytest.mark.parametrize(
    ("pair", "model"),
    [
        (("vit_adam", "vit_sgd"), "vit"),
        (("gpt_large_adam", "gpt_large_sgd"), "gpt_large"),
        (("adam", "sgd"), "adam"),
    ],
)
def test_a_model_is_what_two_arms_have_in_common(pair, model):
    assert model_of(*pair) == model


def test_figures_show_each_model_and_each_optimizer():
    table = pd.DataFrame(
        {
            "model": ["cnn", "vit"],
            "js_nats": [0.01, 0.1],
            "lead": [0.0, 0.5],
            "low": [np.nan, 0.4],
            "high": [np.nan, 0.7],
        }
    )
    (ax,) = draw(lead_against_heterogeneity, table).axes
    assert ax.get_legend_handles_labels()[1] == ["cnn", "vit"]
    rows = with_ratios(updates()[lambda t: t["how_clip"] == 0.5], "sgd")
    (ax,) = draw(ratios_over_steps, rows).axes
    assert set(ax.get_legend_handles_labels()[1]) == {"adam", "sgd"}
