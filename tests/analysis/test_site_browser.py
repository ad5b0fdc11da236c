"""The site as a browser shows it, opened from the file system; skipped where no Chromium is installed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browser import Browser

from algoprogress.analysis.site.tables import FIRST_ROWS, table
from algoprogress.analysis.site.write import Site

PHONE = 390


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    started = Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def kinds(site: Path) -> list[Path]:
    """A page of each kind."""
    diverged = next(p for p in (site / "runs").iterdir() if "Diverged" in p.read_text(encoding="utf-8"))
    arm = next((site / "studies" / "swap").iterdir())
    return [site / "index.html", site / "account.html", site / "runs.html", site / "studies/swap.html", arm, diverged]


@dataclass(frozen=True)
class Seen:
    """What a page did when it was opened, and the rules of accessibility that it breaks."""

    complaints: list[str]
    requests: list[str]
    violations: list[str]


@pytest.fixture(scope="module")
def seen(browser, kinds) -> dict[Path, Seen]:
    """Each page opened once."""
    found = {}
    for page in kinds:
        browser.open(page)
        found[page] = Seen(browser.complaints(), browser.requests(), browser.violations())
    return found


def test_pages_open_without_a_word_on_the_console_and_without_a_network(seen):
    assert {page: s for page, s in seen.items() if s.complaints or s.requests} == {}


def test_a_request_and_a_complaint_would_be_noticed(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<html data-ready='yes'><img src='http://127.0.0.1:9/x.png'></html>", encoding="utf-8")
    browser.open(page)
    assert browser.requests() == ["http://127.0.0.1:9/x.png"]
    assert browser.complaints()


def test_pages_keep_the_rules_of_accessibility(seen):
    assert {page: s.violations for page, s in seen.items() if s.violations} == {}


def test_a_rule_that_is_broken_would_be_noticed(browser, site):
    browser.open(site / "runs.html")
    browser.run(
        "document.documentElement.lang = ''; document.querySelector('main').innerHTML += '<img src=\"data:,\">'"
    )
    assert {v.split(":")[0] for v in browser.violations()} >= {"html-has-lang", "image-alt"}


def test_pages_are_as_wide_as_a_phone_and_tables_scroll_within(browser, kinds):
    for page in kinds:
        browser.open(page, PHONE)
        assert browser.run("return document.documentElement.scrollWidth") <= PHONE, page


def test_pages_print_with_their_figures_within_the_paper(browser, site):
    browser.open(site / "studies" / "swap.html")
    assert browser.printed().startswith(b"%PDF")
    browser.run("window.dispatchEvent(new Event('beforeprint'))")
    widths = browser.run("return [...document.querySelectorAll('.plot .main-svg')].map((s) => s.clientWidth)")
    assert widths
    assert max(widths) <= 690  # CSS pixels between the margins of A4


def column(browser: Browser, box: str, k: int) -> list[str]:
    rows = "document.querySelectorAll(`#${arguments[0]} tbody tr`)"
    return browser.run(f"return [...{rows}].map((r) => r.cells[arguments[1]].textContent)", box, k)


def test_a_column_sorts_as_numbers_and_says_which_way(browser, site):
    browser.open(site / "studies" / "swap.html")
    heads = browser.run("return [...document.querySelectorAll('#runs thead th')].map((t) => t.textContent.trim())")
    k = heads.index("learning rate")
    click = "document.querySelectorAll('#runs thead th button')[arguments[0]].click()"
    for way, sign in (("ascending", 1), ("descending", -1)):
        browser.run(click, k)
        rates = np.array(column(browser, "runs", k), float)
        assert (sign * np.diff(rates) >= 0).all()
        assert browser.run("return document.querySelectorAll('#runs thead th')[arguments[0]].ariaSort", k) == way


def test_a_filter_leaves_the_rows_that_hold_every_word(browser, site):
    browser.open(site / "studies" / "swap.html")
    write = (
        "const i = document.getElementById('runs-filter'); i.value = arguments[0]; i.dispatchEvent(new Event('input'))"
    )
    browser.run(write, "lstm 0.003")
    rows = column(browser, "runs", 1)
    assert len(rows) == 6
    assert set(rows) == {"lstm"}
    assert browser.run("return document.querySelector('#runs .count').textContent") == "6 of 36 rows"


def test_a_long_table_is_paged_and_sorted_whole(browser, tmp_path):
    n = 5 * FIRST_ROWS + 7
    site = Site(tmp_path)
    site.assets()
    shown = pd.DataFrame({"run": [f"r{k}" for k in range(n)], "loss": [f"{(k * 37) % n}" for k in range(n)]})
    links = {"run": [f"runs/r{k}.html" for k in range(n)]}
    page = site.page("runs", "runs.html", title="Runs", table=table(shown, "runs", "Runs", links), n_runs=n)
    browser.open(page)
    assert len(column(browser, "runs", 0)) == FIRST_ROWS
    browser.run("document.querySelectorAll('#runs thead th button')[1].click()")
    assert column(browser, "runs", 1) == [str(k) for k in range(FIRST_ROWS)]
    browser.run("document.querySelectorAll('#runs .pager button')[1].click()")
    assert column(browser, "runs", 1) == [str(k) for k in range(FIRST_ROWS, 2 * FIRST_ROWS)]
    first = "document.querySelector('#runs tbody a')"
    address, name = browser.run(f"return [{first}.getAttribute('href'), {first}.textContent]")
    assert address == f"runs/{name}.html"


def test_a_point_has_hover_text_and_its_data_are_a_table(browser, site):
    browser.open(site / "studies" / "swap.html")
    browser.run("Plotly.Fx.hover(document.querySelector('.plot'), [{curveNumber: 2, pointNumber: 0}])")
    assert "FLOP" in browser.run("return document.querySelector('.plot .hoverlayer').textContent")
    browser.run("document.querySelector('details.data').open = true")
    rows = "return document.querySelectorAll('details.data table tbody tr').length"
    browser.driver.implicitly_wait(2)
    browser.driver.find_element("css selector", "details.data table")
    assert browser.run(rows) > 3
