import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from algoprogress.analysis import study_tables
from algoprogress.analysis.answer import answer
from algoprogress.analysis.formatting import flop_text, gain_text, markdown, number
from algoprogress.analysis.palette import colours
from algoprogress.analysis.report import write_report
from algoprogress.analysis.simulation import simulate_runs
from algoprogress.analysis.tables import as_text, write


@pytest.fixture(scope="module")
def tables(study, noisy_runs):
    runs = pd.concat([noisy_runs, noisy_runs.iloc[[0]].assign(run_id="bad", status="diverged", loss=np.nan)])
    return study_tables(study, runs, n_resamples=60)


@pytest.fixture(scope="module")
def page(tables, study, noisy_runs, curves, tmp_path_factory):
    runs = noisy_runs.assign(corpus="english", git_sha="abc123", device="cpu")
    return write_report(study, runs, curves, tmp_path_factory.mktemp("report"), tables=tables)


def test_arms_stand_in_the_order_of_the_study(tables):
    assert list(pd.unique(tables.efficiency["arm"])) == ["lstm", "retro", "modern"]


def test_the_efficiency_table_has_each_arm_at_each_rung_with_the_baseline_at_one(tables):
    table = tables.efficiency
    assert len(table) == 4 + 2 * 2 * 4
    assert (table[table["arm"] == "lstm"]["ceg"] == 1).all()
    assert table["loss"].notna().all()
    assert len(tables.shown()["efficiency"]) == 12


def test_diverged_runs_are_counted_and_left_out(tables):
    lstm = tables.counts.set_index("arm").loc["lstm"]
    assert (lstm["n_diverged"], lstm["n_used"]) == (1, lstm["n_runs"] - 1)


def test_warnings_stand_beside_the_tables(tables):
    assert any(w.startswith("NotIdentified") for w in tables.warnings)
    assert "NotIdentified" in as_text(tables)


def test_tables_are_written_as_csv_and_markdown(tables, tmp_path):
    files = write(tables, tmp_path)
    assert all(f.stat().st_size > 0 for f in files)
    again = pd.read_csv(tmp_path / "efficiency.csv")
    np.testing.assert_allclose(again["ceg"], tables.efficiency["ceg"])
    assert (tmp_path / "efficiency.md").read_text().startswith("| arm")


def test_the_answer_is_two_sentences_that_name_both_arms(tables):
    text = answer(tables)
    assert len(re.findall(r"\.(?: |$)", text)) == 2
    assert "lstm" in text
    assert "modern" in text


def test_the_page_needs_no_network_and_names_every_arm(page, study):
    html = page.read_text()
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)
    assert not re.search(r"<(script|link|iframe)", html)
    assert html.count("data:image/svg+xml;base64,") == 3
    for arm in study["arms"]:
        assert arm in html


def test_text_of_the_study_is_escaped(page):
    html = page.read_text()
    assert "<script>" not in html
    assert "demo &lt;script&gt;" in html


def test_the_page_says_where_the_runs_come_from(page):
    html = page.read_text()
    for fact in ("english", "abc123", "cpu"):
        assert fact in html


def test_figures_are_written_as_png_and_svg(page):
    for name in ("loss", "gains", "curves"):
        assert (page.parent / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (page.parent / f"{name}.svg").read_text()


def test_a_small_study_without_seeds_or_rungs_still_has_a_report(tmp_path):
    laws = {"lstm": (0.6, 60.0, 0.14), "gru": (0.6, 62.0, 0.14)}
    runs = simulate_runs(laws, budgets=(1e11,), sizes=(0.0,), rates=(0.0,), n_best_seeds=1)
    study = {
        "name": "smoke",
        "question": "Does it run?",
        "baseline": "lstm",
        "arms": {"lstm": [], "gru": []},
        "differences": {},
    }
    page = write_report(study, runs, None, tmp_path)
    assert "no interval" in page.read_text()
    alone = {**study, "arms": {"lstm": []}}
    assert "Only lstm" in write_report(alone, runs[runs["arm"] == "lstm"], None, tmp_path).read_text()


def test_a_study_without_runs_says_what_to_do(study, noisy_runs):
    with pytest.raises(ValueError, match="has no runs yet"):
        study_tables(study, noisy_runs.iloc[:0])
    with pytest.raises(ValueError, match="belong to no arm"):
        study_tables({**study, "arms": {"lstm": []}}, noisy_runs)


def test_numbers_read_as_people_write_them():
    assert gain_text(1.62, 1.31, 2.04) == "1.62 [1.3, 2.0]"
    assert gain_text(1.43, 1.4, np.inf, ">") == "> 1.43"
    assert [number(x) for x in (0, 0.0123, 9.996, 123456.0)] == ["0", "0.0123", "10.0", "1.23e5"]
    assert flop_text(3.0e12) == "3e12"
    assert markdown(pd.DataFrame({"a|b": ["x|y"]})).count("\\|") == 2


def test_colours_differ_between_arms_and_follow_their_order():
    arms = list("abcdef")
    assert len(set(colours(arms).values())) == 6
    assert colours(arms)["a"] == colours(["a", "z"])["a"]


def test_importing_analysis_loads_no_torch_ray_or_plotting():
    heavy = "{'torch', 'ray', 'matplotlib', 'seaborn', 'statsmodels'}"
    code = f"import sys, algoprogress.analysis; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_answer_is_at_the_largest_compute_that_arms_have_in_common(study, noisy_runs):
    runs, top = noisy_runs, noisy_runs["compute"].max() / 2
    alone = runs[(runs["arm"] == study["baseline"]) | (runs["compute"] < top)]
    text = answer(study_tables(study, alone, n_resamples=20))
    assert "No other arm" not in text
    assert "FLOP" in text
