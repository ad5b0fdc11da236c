"""`gains` on anybody's file: laws, intervals, and the same question over every protocol."""

import json

import numpy as np
import pandas as pd
import pytest

from algoprogress.analysis.multiverse import COLUMNS
from algoprogress.analysis.simulation import simulate_isoflop, simulate_runs

ARMS = {"old": (0.6, 60.0, 0.14), "new": (0.6, 56.0, 0.14)}
SIZED = {"old": (1.8, 480.0, 2100.0, 0.35, 0.37), "new": (1.8, 420.0, 2000.0, 0.35, 0.37)}


@pytest.fixture
def ladder(tmp_path):
    file = tmp_path / "runs.csv"
    simulate_runs(ARMS, noise=0.01, sizes=(0,), rates=(0,)).to_csv(file, index=False)
    return file


@pytest.fixture
def grid(tmp_path):
    file = tmp_path / "grid.csv"
    runs = simulate_isoflop(SIZED, n_sizes=5, noise=0.005)
    runs.rename(columns={"n_params": "N", "tokens": "D", "compute": "C", "loss": "nats"}).to_csv(file, index=False)
    return file


def test_several_laws_give_a_row_each_with_columns_of_any_name(cli, grid):
    columns = ("--n-col", "N", "--d-col", "D", "--c-col", "C", "--loss-col", "nats")
    words = ("--arm", "arm", "--baseline", "old", "--at-compute", 1e18, "--law", "power,chinchilla", "--resamples", 50)
    code, out, _ = cli("gains", grid, *words, *columns, "--json")
    rows = json.loads(out)
    assert code == 0
    assert [(r["method"], r["law"]) for r in rows] == [("interpolated", ""), ("law", "power"), ("law", "chinchilla")]
    wanted = {"arm", "compute", "loss", "ceg", "ceg_low", "ceg_high", "method", "law", "n_runs", "censored", "note"}
    assert all(wanted <= set(row) for row in rows)
    assert all(row["ceg"] > 1 for row in rows)


def test_the_level_widens_the_intervals_and_the_seed_repeats_them(cli, ladder):
    def width(*words):
        code, out, _ = cli("gains", ladder, "--arm", "arm", "--baseline", "old", "--at-compute", 1e12, *words, "--json")
        assert code == 0
        row = json.loads(out)[0]
        return row["ceg_low"], row["ceg_high"]

    narrow, wide = width("--level", 0.5), width("--level", 0.95)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert width("--seed", 3) == width("--seed", 3) != width("--seed", 4)
    assert width("--resamples", 0) == (None, None)


def test_the_multiverse_is_one_document(cli, ladder):
    words = ("--arm", "arm", "--baseline", "old", "--multiverse", "--resamples", 5, "--json")
    code, out, err = cli("gains", ladder, *words)
    rows = json.loads(out)
    assert (code, err) == (0, "")
    assert list(rows[0]) == COLUMNS
    assert {row["law"] for row in rows} == {"interpolated", "power", "chinchilla"}
    assert all(row["ceg"] is not None or row["note"] for row in rows)
    assert len({tuple(row[c] for c in ("law", "E", "window", "unit")) for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--law", "powr"), "the laws are"),
        (("--level", 2), "level is a share between 0 and 1"),
        (("--resamples", -1), "n_resamples is 0 (no intervals) or more"),
        (("--multiverse", "--at-compute", "1e11,1e12"), "one compute"),
        (("--multiverse", "--law", "chinchilla"), "tries laws"),
        (("--law", "chinchilla", "--cluster", "lab"), "no column 'lab'"),
        (("--c-col", "flop"), "no column flop; there are"),
    ],
)
def test_wrong_use_is_one_sentence(cli, tmp_path, words, said):
    file = tmp_path / "runs.csv"
    rng = np.random.default_rng(0)
    runs = simulate_isoflop(SIZED, n_sizes=5, noise=0.005)
    pd.concat([runs.assign(other=rng.random(len(runs)))]).to_csv(file, index=False)
    code, out, err = cli("gains", file, "--arm", "arm", "--baseline", "old", *words)
    assert (code, out) == (2, "")
    assert said in err


@pytest.mark.parametrize("suffix", [".png", ""])
def test_gains_are_drawn_where_asked(cli, ladder, tmp_path, suffix):
    words = ("--arm", "arm", "--baseline", "old", "--resamples", 20, "--figure", tmp_path / f"made/gains{suffix}")
    code, out, err = cli("gains", ladder, *words, "--json")
    assert code == 0 and json.loads(out)
    for file in ("made/gains.png", "made/gains.svg"):
        assert (tmp_path / file).stat().st_size > 5_000
        assert f"wrote {tmp_path / file}" in err


def test_a_figure_of_the_multiverse_is_drawn_for_each_arm(cli, tmp_path):
    file = tmp_path / "runs.csv"
    simulate_runs({**ARMS, "newer": (0.6, 52.0, 0.14)}, noise=0.01, sizes=(0,), rates=(0,)).to_csv(file, index=False)
    words = ("--arm", "arm", "--baseline", "old", "--multiverse", "--resamples", 0, "--figure", tmp_path / "many.png")
    assert cli("gains", file, *words)[0] == 0
    assert {p.name for p in tmp_path.glob("*.png")} == {"many-new.png", "many-newer.png"}


def test_a_figure_that_can_not_be_written_is_refused(cli, ladder, tmp_path):
    (tmp_path / "file").write_text("no folder")
    words = ("--arm", "arm", "--baseline", "old", "--resamples", 0, "--figure", tmp_path / "file/gains.png")
    code, _, err = cli("gains", ladder, *words)
    assert code == 2
    assert "--figure" in err and "can not be written" in err


def test_what_can_not_be_asked_is_refused_before_anything_is_fitted(cli, ladder, monkeypatch):
    monkeypatch.setattr("algoprogress.analysis.joint.fit_jointly", lambda *_, **__: pytest.fail("fitted"))
    words = ("--arm", "arm", "--baseline", "old")
    for wrong, said in (
        (("--level", "95"), "level is a share"),
        (("--at-loss", "2", "--at-compute", "1e12"), "not both"),
    ):
        code, _, err = cli("gains", ladder, *words, *wrong)
        assert code == 2 and said in err


def test_tables_of_every_kind_are_read_and_others_refused(tmp_path, cli):
    runs = simulate_isoflop(SIZED, n_sizes=5, noise=0.005)
    runs.to_csv(tmp_path / "a.CSV", index=False)
    runs.to_csv(tmp_path / "b.tsv", sep="\t", index=False)
    runs.to_csv(tmp_path / "c.csv.gz", index=False)
    runs.to_parquet(tmp_path / "d.pq")
    said = [
        cli("gains", tmp_path / name, "--baseline", "old", "--resamples", 0, "--json")[:2]
        for name in ("a.CSV", "b.tsv", "c.csv.gz", "d.pq")
    ]
    assert said[0][0] == 0
    assert len({out for _, out in said}) == 1
    (tmp_path / "e.csv").write_bytes(b"")
    code, _, err = cli("gains", tmp_path / "e.csv", "--baseline", "old")
    assert code == 2
    assert "can not be read as a table" in err
