"""The exponents of isoFLOP grids come out in either convention, each beside what was published for its protocol."""

import numpy as np
import pandas as pd
import pytest

from algoprogress.analysis.exponent_table import METHOD, counted_as, exponent_table, shown_exponents

E, A, B, ALPHA, BETA = 1.7, 20.0, 60.0, 0.4, 0.3
EMBEDDING = 1000
PAPER = {"by": "A paper", "published": 0.73, "porian": 0.835, "porian_low": 0.8, "porian_high": 0.86, "source": "s"}
STUDY = {
    "name": "s",
    "baseline": "rule",
    "arms": {"rule": [], "grid": []},
    "innovations": {"grid": {"isoflop": {"protocol": "p", "6n": PAPER, "standard": {}}}, "rule": {}},
}


def grid(of: str, seed: int = 0, noise: float = 0.0, budgets: tuple[float, ...] = (3e10, 1e11, 3e11)) -> pd.DataFrame:
    """Runs at equal FLOP with the output layer, whose loss is Hoffmann's law in the column `of` and in tokens."""
    rng, rows = np.random.default_rng(seed), []
    for budget in budgets:
        best = (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA)) * (budget / 6) ** (BETA / (ALPHA + BETA))
        for n in best * np.geomspace(0.1, 10, 9):
            total = n + EMBEDDING
            tokens = budget / 6 / total
            size = n if of == "n_params" else total
            loss = E + A * size**-ALPHA + B * tokens**-BETA + noise * rng.standard_normal()
            rows.append({"arm": "grid", "stage": "main", "n_params": n, "n_params_total": total, "tokens": tokens,
                         "compute": budget, "compute_6n": 6 * n * tokens, "compute_budget": budget, "loss": loss,
                         "seed": 0, "status": "done", "epochs_seen": 0.1})  # fmt: skip
    return pd.DataFrame(rows)


def of(table: pd.DataFrame, counted: str, quantity: str = "n_params") -> pd.Series:
    (row,) = [r for _, r in table.iterrows() if r["counted"] == counted and r["quantity"] == quantity]
    return row


@pytest.mark.parametrize(("counted", "size"), [("6n", "n_params"), ("standard", "n_params_total")])
def test_the_exponents_of_a_known_law_are_recovered_however_flop_are_counted(counted, size):
    table = exponent_table(STUDY, grid(size), n_resamples=0)
    a = BETA / (ALPHA + BETA)  # N* = G C^a where C = 6 N D
    assert of(table, counted)["exponent"] == pytest.approx(a, abs=0.02)
    assert of(table, counted, "tokens")["exponent"] == pytest.approx(1 - a, abs=0.02)


def test_leaving_out_the_output_layer_makes_the_best_size_seem_to_grow_faster():
    # the first step of the gap that Porian et al. 2024 take apart
    table = exponent_table(STUDY, grid("n_params_total"), n_resamples=0)
    assert of(table, "6n")["exponent"] > of(table, "standard")["exponent"] + 0.05


def test_each_row_stands_beside_what_was_published_with_its_interval_runs_and_method():
    table = exponent_table(STUDY, grid("n_params", noise=0.005), n_resamples=200)
    n, d = of(table, "6n"), of(table, "6n", "tokens")
    assert (n["published"], d["published"], n["porian"]) == (0.73, pytest.approx(0.27), 0.835)
    assert pd.isna(d["porian"])
    assert pd.isna(of(table, "standard")["published"])
    assert n["low"] < n["exponent"] < n["high"]
    assert (n["n_runs"] > 3, n["n_budgets"], n["estimator"], n["interval"]) == (True, 3, "parabola", METHOD)
    assert "losses moved by law" in n["note"]
    assert "moved" not in of(table, "standard")["note"]
    shown = shown_exponents(table)
    assert shown["published N*"].tolist() == ["0.73 (A paper)", "–"]


@pytest.mark.slow
def test_an_interval_holds_the_exponent_of_the_law_about_as_often_as_it_says():
    a, held = BETA / (ALPHA + BETA), []
    for seed in range(25):
        row = of(exponent_table(STUDY, grid("n_params_total", seed, 0.005), n_resamples=200), "standard")
        held.append(row["low"] <= a <= row["high"])
    assert np.mean(held) >= 0.8


def test_budgets_in_another_convention_are_the_means_of_its_computes():
    runs = counted_as(grid("n_params"), "compute_6n", "n_params")
    assert runs["compute_budget"].nunique() == 3
    for budget, part in runs.groupby("compute_budget"):
        assert np.log(part["compute"]).mean() == pytest.approx(np.log(budget))


def test_a_grid_that_has_no_exponent_says_why_and_a_study_without_grids_has_no_table():
    few = exponent_table(STUDY, grid("n_params").groupby("compute_budget").head(2), n_resamples=0)
    assert few["note"].str.contains("No compute budget has 3 sizes").all()
    assert few["exponent"].isna().all()
    assert exponent_table({**STUDY, "innovations": {}}, grid("n_params")).empty
