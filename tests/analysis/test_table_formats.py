import io
import re

import pandas as pd
import pytest

from algoprogress.analysis import study_tables
from algoprogress.analysis.table_formats import as_csv, as_latex, latex, write_latex


@pytest.fixture(scope="module")
def tables(study, noisy_runs):
    return study_tables({**study, "name": "demo"}, noisy_runs, n_resamples=30)


def test_latex_escapes_what_latex_would_read():
    text = latex(pd.DataFrame({"50 % of_all": ["a_b & $c$", "> 1.43", "∞"]}), "Caption", "label")
    for said in (r"50 \% of all", r"a\_b \& \$c\$", r"$>$ 1.43", r"$\infty$"):
        assert said in text


def test_every_table_with_rows_is_a_float_with_its_rows(tables):
    text = as_latex(tables)
    shown = {name: t for name, t in tables.shown().items() if len(t)}
    assert text.count(r"\begin{tabular}") == text.count(r"\bottomrule") == len(shown)
    assert re.findall(r"\\label\{tab:demo-(\w+)\}", text) == list(shown)
    assert text.count(r"\\") == sum(len(t) + 1 for t in shown.values())
    assert text.startswith("% ")


def test_csv_holds_the_numbers(tables):
    parts = dict(re.findall(r"# (\w+)\n(.*?)(?=\n# |\Z)", as_csv(tables), re.S))
    assert len(pd.read_csv(io.StringIO(parts["efficiency"]))) == len(tables.efficiency)
    assert pd.read_csv(io.StringIO(parts["laws"]))["estimate"].to_list() == pytest.approx(
        tables.laws["estimate"].to_list()
    )


def test_latex_is_written_a_file_a_table(tables, tmp_path):
    files = write_latex(tables, tmp_path / "out")
    assert {f.name for f in files} >= {"efficiency.tex", "laws.tex"}
    assert all(r"\toprule" in f.read_text(encoding="utf-8") for f in files)
