"""Tables of tuning, of innovations both ways and of a factorial, on runs whose gains are known."""

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from algoprogress.analysis import study_tables
from algoprogress.analysis.innovation_table import innovation_table
from algoprogress.analysis.interactions import interaction_table
from algoprogress.analysis.runs import usable_runs
from algoprogress.analysis.tables import as_text, write
from algoprogress.analysis.tuning_tables import care_table, tuning_table

BUDGETS = (3e9, 1e10, 3e10, 1e11)
NOISE = 0.003  # nats/token


def loss(compute: float, gain: float) -> float:
    """Of a recipe that is as good as the baseline with `gain` times its compute."""
    return 20 * (compute * gain) ** -0.09


def runs(gains: dict[str, float], budgets=BUDGETS, seeds: int = 3, noise: float = NOISE) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        {
            "run_id": f"{arm}-{budget:g}-{seed}",
            "arm": arm,
            "stage": "main",
            "compute": budget,
            "compute_budget": budget,
            "configuration_id": f"{arm}-{budget:g}",
            "seed": seed,
            "status": "done",
            "learning_rate": 0.01,
            "loss": loss(budget, gain) + noise * rng.standard_normal(),
        }
        for arm, gain in gains.items()
        for budget in budgets
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows)


def fact(innovation: str, direction: str, published: float | None = None) -> dict[str, Any]:
    source = "a paper" if published else ""
    return {"innovation": innovation, "year": 2020, "direction": direction, "published": published, "source": source}


@pytest.fixture(scope="module")
def ablations() -> tuple[dict[str, Any], pd.DataFrame]:
    """The modern recipe is three times the retro one; `good` is worth 1.5 in it and 1.2 in retro, `idle` nothing."""
    gains = {"modern": 3.0, "modern-good": 2.0, "modern-idle": 3.0, "retro": 1.0, "retro+good": 1.2}
    study = {
        "name": "ablations",
        "question": "?",
        "baseline": "modern",
        "arms": {arm: [] for arm in gains},
        "against": {"modern-good": "modern", "modern-idle": "modern", "retro+good": "retro"},
        "innovations": {
            "modern-good": fact("good", "out", 1.4),
            "modern-idle": fact("idle", "out"),
            "retro+good": fact("good", "in", 1.4),
        },
    }
    return study, runs(gains)


def test_an_innovation_is_worth_the_same_way_round_taken_out_or_put_in(ablations):
    table = innovation_table(*ablations, n_resamples=300)
    inside = table[(table["compute"] > 3e9) & (table["compute"] < 1e11) & (table["censored"] == "")]
    for (name, recipe), gain in {("good", "modern"): 1.5, ("good", "retro"): 1.2, ("idle", "modern"): 1.0}.items():
        found = inside[(inside["innovation"] == name) & (inside["recipe"] == recipe)]
        assert len(found) == 2
        assert found["ceg"].to_numpy() == pytest.approx(gain, rel=0.06)
        assert (found["ceg_low"] < found["ceg"]).all()
        assert (found["ceg"] < found["ceg_high"]).all()
    assert set(table.loc[table["innovation"] == "good", "published"]) == {1.4}
    assert (table["n_seeds"] == 3).all()


def test_what_is_worth_something_differs_from_one_and_what_is_not_does_not(ablations):
    table = innovation_table(*ablations, n_resamples=300).query("compute == 3e10").set_index(["innovation", "recipe"])
    assert table.loc[("good", "modern"), "differs"]
    assert not table.loc[("idle", "modern"), "differs"]


def test_the_smallest_compute_tells_no_more_than_a_bound_where_something_good_was_taken_out(ablations):
    table = innovation_table(*ablations, n_resamples=0)
    lowest = table[(table["compute"] == 3e9) & (table["recipe"] == "modern") & (table["innovation"] == "good")]
    assert list(lowest["censored"]) == [">"]


def test_the_tables_of_a_study_hold_its_innovations_and_are_written(ablations, tmp_path):
    made = study_tables(*ablations, n_resamples=50)
    text = as_text(made)
    assert "What each innovation is worth" in text
    assert "out of modern" in text
    names = {path.name for path in write(made, tmp_path)}
    assert "innovations.csv" in names
    assert "interactions.csv" not in names


def test_the_sweep_counts_in_the_care_and_not_in_the_losses():
    main = runs({"a": 1.0, "b": 2.0})
    lucky = main.iloc[[3]].assign(run_id="lucky", configuration_id="lucky", stage="sweep", loss=0.5, learning_rate=0.02)
    both = pd.concat([main, lucky])
    assert len(usable_runs(both)) == len(main)
    assert len(usable_runs(lucky)) == 1, "a study that has nothing else yet shows its sweep"
    size = {"compute_budget": 1e10, "n_params": 5000, "rates": [0.01, 0.02, 0.04], "losses": [2.0, 1.9, 2.0]}
    size |= {"vertex": 0.02, "low": 0.018, "high": 0.022, "at_edge": False}
    chosen = [{"compute_budget": 1e10, "n_params": 5000, "learning_rate": 0.02}]
    study = {"tuning": {"a": {"sweep": [size], "coefficient": 0.02, "exponent": 0.0, "chosen": chosen}}}
    (care,) = care_table(study, both).to_dict("records")
    assert (care["sweep_runs"], care["sweep_compute"], care["width"], care["at_edge"]) == (1, 1e10, 4.0, 0)
    (row,) = tuning_table(study).to_dict("records")
    assert (row["from"], row["best"], row["to"], row["n_rates"]) == (0.01, 0.02, 0.04, 3)


def test_a_factorial_gives_back_its_main_effects_and_its_interaction():
    effects, pair = {"a": 1.5, "b": 1.3, "c": 1.0}, 1.2
    levels, gains = {}, {}
    for bits in itertools.product((-1, 1), repeat=3):
        row = dict(zip(effects, bits, strict=True))
        arm = "+".join(k for k, v in row.items() if v == 1) or "retro"
        levels[arm] = {"levels": row}
        log = sum(math.log(effects[k]) * (v + 1) / 2 for k, v in row.items())
        gains[arm] = math.exp(log + math.log(pair) / 2 * row["a"] * row["b"])
    gains = {arm: gain / gains["retro"] for arm, gain in gains.items()}
    table = runs({arm: g for arm, g in gains.items() if arm != "retro"}, tuple(np.geomspace(1e9, 1e12, 40)[[12, 20]]))
    base = runs({"retro": 1.0}, np.geomspace(1e9, 1e12, 40), noise=0.0)
    found = interaction_table({"name": "f", "baseline": "retro", "innovations": levels}, pd.concat([base, table]))
    found = found.set_index("effect")
    for name, gain in effects.items():
        assert found.loc[name, "gain"] == pytest.approx(gain, rel=0.05)
        assert found.loc[name, "low"] < gain < found.loc[name, "high"]
    assert found.loc["a x b", "gain"] == pytest.approx(pair, rel=0.05)
    assert found.loc["a x c", "p"] > 0.01
    assert (found["n_arms"] == 8).all()


def test_effects_that_cannot_be_told_apart_share_a_row():
    half = [dict(zip("abcd", (a, b, c, a * b * c), strict=True)) for a, b, c in itertools.product((-1, 1), repeat=3)]
    levels = {f"arm{k}": {"levels": row} for k, row in enumerate(half)}
    gains = {arm: 1.0 + 0.1 * k for k, arm in enumerate(levels)}
    table = runs({arm: g for arm, g in gains.items() if arm != "arm0"}, (1e10, 3e10))
    base = runs({"arm0": 1.0}, (3e9, 1e10, 3e10, 1e11, 3e11), noise=1e-4)
    found = interaction_table({"name": "f", "baseline": "arm0", "innovations": levels}, pd.concat([base, table]))
    assert dict(zip(found["effect"], found["aliases"], strict=True))["a x b"] == "c x d"


def test_a_factorial_that_is_not_yet_trained_has_no_effects():
    levels = {"retro": {"levels": {"a": -1, "b": -1}}, "a+b": {"levels": {"a": 1, "b": 1}}}
    table = pd.concat([runs({"retro": 1.0}), runs({"a+b": 1.2}, (1e10,), seeds=1)])
    assert interaction_table({"name": "f", "baseline": "retro", "innovations": levels}, table).empty
