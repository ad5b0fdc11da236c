"""The table of all optimizers is made of runs, and the one in the documentation is the one that its command prints."""

from pathlib import Path

import pytest

from algoprogress.ablations.optimizers import optimizers
from algoprogress.ablations.optimizers.__main__ import markdown
from algoprogress.pipeline.optimizer_table import main, rows
from algoprogress.results import Store

ROOT = Path(__file__).parents[2]


@pytest.mark.filterwarnings("ignore")
def test_the_table_in_the_documentation_is_the_one_that_its_command_prints():
    table = markdown(rows(Store(ROOT / "results" / "published"), "optimizer_swap"))
    assert table in (ROOT / "docs" / "optimizers.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in table for name in optimizers)


def test_a_study_that_is_not_of_optimizers_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["optimizer_swap_small", "--store", str(tmp_path)])
    assert "has no study" in capsys.readouterr().err
