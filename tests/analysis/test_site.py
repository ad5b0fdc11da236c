"""The site of a store: every page is there, every link leads somewhere, and what is doubtful is said on the page."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

from algoprogress.analysis.site import write_site
from algoprogress.analysis.site.account_page import views
from algoprogress.analysis.site.tables import table
from algoprogress.results import Store

SPEC = re.compile(r'<script type="application/json" id="([^"]+)">(.*?)</script>', re.S)


class Links(HTMLParser):
    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [v for k, v in attrs if k in ("href", "src") and v and not v.startswith(("data:", "#"))]


def pages(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def test_there_is_a_page_for_every_study_arm_and_run(site, small_store):
    assert {p.stem for p in (site / "runs").iterdir()} == small_store.run_ids()
    assert {p.stem for p in (site / "studies").glob("*.html")} == {"swap", "lost", "none"}
    assert len(list((site / "studies" / "swap").iterdir())) == 2


def test_every_link_leads_to_a_file_of_the_site(site):
    for page in pages(site):
        for link in Links(page).found:
            target = (page.parent / unquote(link.split("#")[0])).resolve()
            assert target.is_file(), f"{page.name} links to {link}"
            assert target.is_relative_to(site.resolve())


def test_the_pages_name_nothing_outside_the_site(site):
    for page in pages(site):
        assert not re.search(r"https?://|//[a-z]+\.", page.read_text(encoding="utf-8"))


def test_text_of_a_study_is_text(site):
    html = (site / "studies" / "swap.html").read_text(encoding="utf-8")
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html
    assert "<b>&" not in html


def test_data_of_the_figures_is_json_that_says_what_the_tables_say(site):
    specs = {k: json.loads(v) for k, v in SPEC.findall((site / "studies" / "swap.html").read_text(encoding="utf-8"))}
    gains = pd.read_csv(site / "data" / "swap" / "efficiency.csv").query("method == 'interpolated'")
    drawn = next(t for t in specs["gains-spec"]["data"] if t["mode"] == "markers")
    np.testing.assert_allclose(drawn["y"], gains["ceg"].dropna(), rtol=1e-4)


def test_downloads_hold_the_numbers_and_agree(site, small_store):
    for csv in site.rglob("*.csv"):
        pd.testing.assert_index_equal(pd.read_csv(csv).columns, pd.read_parquet(csv.with_suffix(".parquet")).columns)
    runs = pd.read_parquet(site / "data" / "runs.parquet")
    assert set(runs["run_id"]) == small_store.run_ids()
    np.testing.assert_array_equal(runs["loss"], small_store.runs(status=None)["loss"])


def test_the_front_page_begins_with_the_answer_of_the_study_with_gains(site):
    html = (site / "index.html").read_text(encoding="utf-8")
    answer = re.search(r'class="answer">(.*?)</p>', html, re.S)[1]
    assert "rotary" in answer
    assert "times less compute" in answer
    assert "Nothing can be concluded yet" in html


def test_what_is_doubtful_stands_on_the_page_that_it_concerns(site, small_store):
    runs = small_store.runs(status=None)
    diverged = runs.loc[runs["status"] == "diverged", "run_id"].iloc[0]
    html = (site / "runs" / f"{diverged}.html").read_text(encoding="utf-8")
    assert "Diverged: the loss is the last finite training loss" in html
    assert "It saw its data 2.50 times" in html
    assert "has no runs yet" in (site / "studies" / "none.html").read_text(encoding="utf-8")
    account = (site / "account.html").read_text(encoding="utf-8")
    for said in (
        "were taken as exact",
        "are extrapolated",
        "cross within the frontier",
        "rests on the study demo_wide",
    ):
        assert said in account


def test_a_run_is_told_by_what_differs_from_its_baselines_run_at_the_same_compute(site, small_store):
    runs = small_store.runs("swap", status=None)
    run = runs[(runs["arm"] != "lstm") & (runs["compute_budget"] == 1e12) & (runs["seed"] == 1)].iloc[0]
    html = (site / "runs" / f"{run['run_id']}.html").read_text(encoding="utf-8")
    other = re.search(r'Unlike <a href="../runs/(\w+).html">a run of lstm</a>', html)[1]
    there = runs.set_index("run_id").loc[other]
    assert (there["arm"], there["compute_budget"], there["seed"]) == ("lstm", 1e12, 1)
    rows = {f: (a, b) for f, a, b in re.findall(r'row">([\w.]+)</th><td[^>]*>(.*?)</td><td[^>]*>(.*?)</td>', html)}
    assert rows["architecture.name"] == ("lstm", "transformer")
    assert "seed" not in rows
    base = (site / "runs" / f"{other}.html").read_text(encoding="utf-8")
    assert "Unlike" not in base
    assert "architecture.name" in base


def test_the_file_of_a_run_is_that_of_the_store(site, small_store):
    for run_id in small_store.run_ids():
        file = site / "data" / "runs" / f"{run_id}.parquet"
        assert f"../data/runs/{run_id}.parquet" in (site / "runs" / f"{run_id}.html").read_text(encoding="utf-8")
        assert file.read_bytes() == small_store.folder.read(f"runs/{run_id}.parquet")
    assert len(pd.read_parquet(file)) > 1


def test_an_account_of_the_users_own_is_shown_and_a_wrong_one_refused(site, tmp_path):
    assert "2.00 [1.5, 3.0]" in (site / "account.html").read_text(encoding="utf-8")
    (tmp_path / "mine.csv").write_text("key,innovation,year,multiplier\nmoe,dense -> MoE,2022,0\n", encoding="utf-8")
    with pytest.raises(ValueError, match="A multiplier is a number above 0, not 0"):
        views([str(tmp_path / "mine.csv")], {}.__getitem__, 0.95, 0, lambda *_: [])


def test_an_empty_store_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="holds no run: train some"):
        write_site(Store(tmp_path / "empty"), tmp_path / "out")


def test_arms_whose_names_are_alike_to_a_file_system_have_pages_of_their_own(make_run, tmp_path):
    there = Store(tmp_path / "store")
    arms = {}
    for k, arm in enumerate(("a/b", "a b", "A-B", "é")):
        record, curve = make_run(seed=k)
        there.publish(record, curve)
        arms[arm] = [{"run_id": record["run_id"], "compute_budget": None}]
    there.save_study({"name": "same", "question": "?", "baseline": "a/b", "arms": arms, "differences": {}})
    write_site(there, tmp_path / "out", n_resamples=20)
    assert len({p.name.lower() for p in (tmp_path / "out" / "studies" / "same").iterdir()}) == 4


def test_columns_of_numbers_are_known_from_columns_of_text():
    shown = pd.DataFrame(
        {
            "gain": ["> 1.43", "3.3 [2.2, ∞] (extrapolated)", "–"],
            "tokens": ["12,640", "1e9", ""],
            "note": ["3 of 4 computes", "", ""],
            "run": ["0123456789", "a123456789", "bb"],
        }
    )
    assert [numeric for _, numeric in table(shown, "t", "").columns] == [True, True, False, False]


@pytest.mark.slow
def test_ten_thousand_runs_make_no_page_above_five_megabytes(make_run, tmp_path):
    store, (record, curve) = Store(tmp_path / "store"), make_run()
    ids = [f"{k:020x}" for k in range(10_000)]
    for k, run_id in enumerate(ids):
        loss = 1 + 60 * record["compute"] ** -0.15 + 0.01 * (k % 7)
        store.publish({**record, "run_id": run_id, "configuration_id": f"{k // 2:020x}", "loss": loss}, curve)
    arms = {
        arm: [{"run_id": r, "compute_budget": 1e11} for r in part] for arm, part in (("a", ids[::2]), ("b", ids[1::2]))
    }
    store.save_study({"name": "many", "question": "?", "baseline": "a", "arms": arms, "differences": {}})
    write_site(store, tmp_path / "site", n_resamples=20)
    sizes = {page: page.stat().st_size for page in pages(tmp_path / "site")}
    assert len(sizes) > 10_000
    assert max(sizes.values()) < 5e6


def test_processes_change_no_page(site, small_store, tmp_path):
    write_site(small_store, tmp_path, n_resamples=60, processes=2)
    made = re.compile(r"Made [\d :-]+UTC")
    for page in pages(tmp_path):
        there = site / page.relative_to(tmp_path)
        if page.name not in ("account.html", "index.html"):  # the others have an account of the user's own
            text, expected = (made.sub("", p.read_text(encoding="utf-8")) for p in (page, there))
            assert text == expected, page
    assert len(pages(tmp_path)) == len(pages(site))
