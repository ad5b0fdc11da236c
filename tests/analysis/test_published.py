"""Published numbers come out of the published runs."""

import pytest

from algoprogress.analysis.isoflop import isoflop
from algoprogress.analysis.published import (
    AS_PORIAN,
    CHECKS,
    GAINS,
    NOISE,
    RECIPE,
    STEPS,
    allocation_exponents,
    compared,
    main,
)


@pytest.mark.parametrize(
    "check", [c for c in CHECKS if c != "optima"] + [pytest.param("optima", marks=pytest.mark.slow)]
)
def test_every_published_number_comes_out(published, check):
    table = compared(published.folder, [check])
    assert len(table)
    assert table["holds"].all(), table[~table["holds"]].to_string()


def test_each_correction_of_porian_et_al_lowers_the_exponent(published):
    found = allocation_exponents(published)
    steps = [found[key] for key in STEPS]
    assert steps == sorted(steps, reverse=True)


def test_the_intervals_of_porian_et_al_come_out_by_their_method(published):
    runs = published.recipes()
    for row in published.read("porian_published_exponents.csv").itertuples():
        found = isoflop(runs[tuple(getattr(row, c) for c in RECIPE)], noise=NOISE, **AS_PORIAN).exponents.iloc[0]
        assert (found["low"], found["high"]) == pytest.approx((row.ci_lo, row.ci_hi), abs=0.0015)


def test_the_table_says_what_does_not_come_out(published, monkeypatch, capsys):
    assert main([str(published.folder), "--check", "gadre"]) == 0
    monkeypatch.setitem(GAINS, 1.25e16, "9.9")
    assert main([str(published.folder), "--check", "gains"]) == 1
    assert "9.9" in capsys.readouterr().out


def test_a_folder_or_a_check_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is no folder"):
        compared(tmp_path / "none")
    with pytest.raises(ValueError, match="no check magic; there are hoffmann"):
        compared(tmp_path, ["magic"])
