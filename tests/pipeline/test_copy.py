"""A study goes from one store to another as it is: the same bytes, the same tables, and nothing besides."""

from __future__ import annotations

import json

import pytest

from algoprogress.results import Store


@pytest.fixture
def full(tmp_path, make_run) -> Store:
    """Two studies that share a run, and a run that belongs to none."""
    store = Store(tmp_path / "full")
    ids = []
    for seed in range(4):
        record, curve = make_run(seed=seed)
        store.publish(record, curve)
        ids.append({"run_id": record["run_id"], "compute_budget": 1e9})
    for name, runs in (("one", ids[:2]), ("two", ids[1:3])):
        store.save_study({"name": name, "question": "?", "baseline": "a", "arms": {"a": runs}, "differences": {}})
    return store


def test_a_study_and_its_runs_are_copied_and_no_others(cli, full, tmp_path):
    to = tmp_path / "published"
    code, out, _ = cli("copy", "one", "two", "--store", full.url, "--to", to, "--json")
    assert code == 0
    assert json.loads(out) == [
        {"study": "one", "runs": 2, "new": 2, "new_probes": 0},
        {"study": "two", "runs": 2, "new": 1, "new_probes": 0},
    ]
    there = Store(to)
    assert there.verify().empty
    assert len(there.run_ids()) == 3
    assert there.runs("two").equals(full.runs("two"))
    assert there.study("one") == full.study("one")
    for run_id in there.run_ids():
        name = f"runs/{run_id}.parquet"
        assert there.folder.read(name) == full.folder.read(name)


def test_copying_again_copies_nothing(cli, full, tmp_path):
    for new in (2, 0):
        out = cli("copy", "one", "--store", full.url, "--to", tmp_path / "published", "--json")[1]
        assert json.loads(out)[0]["new"] == new


def test_a_damaged_run_is_not_copied(cli, full, tmp_path):
    run_id = full.study("one")["arms"]["a"][0]["run_id"]
    file = tmp_path / "full" / "runs" / f"{run_id}.parquet"
    file.write_bytes(file.read_bytes()[:-40])
    code, _, err = cli("copy", "one", "--store", full.url, "--to", tmp_path / "published")
    assert code == 2
    assert run_id in err
    assert run_id not in Store(tmp_path / "published").run_ids()


def test_a_store_is_not_copied_onto_itself_and_an_unknown_study_is_named(cli, full):
    assert "give another with --to" in cli("copy", "one", "--store", full.url, "--to", full.url)[2]
    assert "no study 'three'" in cli("copy", "three", "--store", full.url, "--to", f"{full.url}-2")[2]
