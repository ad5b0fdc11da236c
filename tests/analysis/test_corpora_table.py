"""A gain on one text stands beside the same gain on another, and the table says whether they agree."""

import numpy as np
import pandas as pd
import pytest

from algoprogress.analysis import study_tables
from algoprogress.analysis.corpora_table import corpora_table, shown_corpora
from algoprogress.analysis.tables import as_text

BUDGETS = (3e9, 1e10, 3e10, 1e11)


def runs(gain: float, corpus: str, harder: float = 1.0, noise: float = 0.003) -> pd.DataFrame:
    """Arms `old` and `new`, the second as good as the first with `gain` times its compute; losses of the text's own."""
    rng = np.random.default_rng(len(corpus))
    rows = [
        {"run_id": f"{corpus}-{arm}-{budget:g}-{seed}", "arm": arm, "stage": "main", "compute": budget,
         "compute_budget": budget, "configuration_id": f"{arm}-{budget:g}", "seed": seed, "status": "done",
         "learning_rate": 0.01, "corpus": corpus,
         "loss": harder * 20 * (budget * worth) ** -0.09 + noise * rng.standard_normal()}
        for arm, worth in (("old", 1.0), ("new", gain)) for budget in BUDGETS for seed in range(3)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def study(name: str, **changes) -> dict:
    return {"name": name, "question": "?", "baseline": "old", "arms": {"old": [], "new": []}} | changes


def asked(gain: float, other_gain: float, **changes) -> pd.DataFrame:
    mine, other = study("s", **changes), study("s-python", repeats="s", **changes)
    there = runs(other_gain, "python", harder=1.7)
    return corpora_table((mine, runs(gain, "english")), [(other, there)], n_resamples=300)


def test_gains_on_texts_of_other_losses_stand_side_by_side():
    table = asked(2.0, 2.0).set_index("compute").loc[[1e10, 3e10]]
    assert table["ceg"].to_numpy() == pytest.approx(2.0, rel=0.15)
    assert table["other_ceg"].to_numpy() == pytest.approx(2.0, rel=0.15)
    assert (set(table["corpus"]), set(table["other_corpus"])) == ({"english"}, {"python"})
    assert table["agree"].all()


def test_a_gain_that_does_not_hold_is_told():
    table = asked(2.0, 1.05)
    inside = table[table["compute"].isin([1e10, 3e10])]
    assert not inside["agree"].any()
    shown = shown_corpora(inside)
    assert list(shown["intervals"]) == ["apart", "apart"]
    assert {"CEG on english", "CEG on python"} <= set(shown)


def test_innovations_are_compared_in_the_way_they_were_asked():
    fact = {"innovation": "good", "year": 2020, "direction": "out", "published": None, "source": ""}
    table = asked(1 / 2, 1 / 2, innovations={"new": fact})
    assert set(table["asked"]) == {"good, out of old"}
    assert table.set_index("compute").loc[3e10, "ceg"] == pytest.approx(2.0, rel=0.15)


def test_the_tables_of_a_study_have_it_where_another_text_is_there_and_not_else():
    mine, here = study("s"), runs(2.0, "english")
    alone = study_tables(mine, here, n_resamples=50)
    assert alone.corpora.empty
    assert "other text" not in as_text(alone)
    there = [(study("s-python", repeats="s"), runs(2.0, "python"))]
    assert "CEG on python" in as_text(study_tables(mine, here, n_resamples=50, others=there))


def test_an_arm_that_is_missing_on_the_other_text_is_left_out():
    other = (study("s-python", repeats="s"), runs(2.0, "python").query("arm == 'old'"))
    assert corpora_table((study("s"), runs(2.0, "english")), [other], n_resamples=0).empty
