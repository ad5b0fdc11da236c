"""The index is a copy: with it, without it, or with half of it, every table is the same."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from algoprogress.results import CorruptRun
from algoprogress.results import store as store_module
from algoprogress.results.frames import curves_table


@pytest.fixture(autouse=True)
def _index_for_every_curve(monkeypatch):
    monkeypatch.setattr(store_module, "_FEW", 0)


PARTS = ["facts", "records", "curves"]


def tables(store):
    records = pd.Series(store.records()).sort_index().to_frame()
    runs, at_once, curves = store.everything()
    assert_same([runs, pd.Series(at_once).to_frame()], [store.runs(status=None), records])
    assert_same(
        [curves_table(curves).set_index("run_id").sort_index()], [store.curves().set_index("run_id").sort_index()]
    )
    return [store.runs(status=None), store.runs("demo"), store.curves(), store.curves("demo"), records]


def part(store, name):
    """A file of the index; that of the facts is named by its content."""
    (path,) = Path(store.url, "index").glob(f"{name}.*")
    return path


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        pd.testing.assert_frame_equal(a, b)


def test_the_index_changes_no_table(filled, monkeypatch):
    before = tables(filled)
    assert filled.compact() == 6
    monkeypatch.setattr(filled.folder, "read", only(filled.folder.read, ("index/", "studies/")))
    assert_same(before, tables(filled))


def only(read, prefixes):
    def checked(name):
        assert name.startswith(prefixes), f"{name} was read though it is in the index"
        return read(name)

    return checked


def test_the_index_may_be_deleted(filled):
    before = tables(filled)
    filled.compact()
    for name in PARTS:
        part(filled, name).unlink()
        assert_same(before, tables(filled))


def test_runs_published_after_compaction_are_read_too(filled, make_run):
    filled.compact()
    record, curve = make_run(width=80)
    filled.publish(record, curve)
    assert record["run_id"] in set(filled.runs()["run_id"])
    assert record["run_id"] in set(filled.curves()["run_id"])


def test_a_run_whose_file_is_gone_is_not_read_from_the_index(filled):
    filled.compact()
    run_id = min(filled.run_ids())
    Path(filled.url, "runs", f"{run_id}.parquet").unlink()
    assert run_id not in set(filled.runs(status=None)["run_id"])
    assert run_id not in set(filled.curves()["run_id"])


def test_a_run_trained_anew_is_not_read_from_the_index(filled, make_run):
    filled.compact()
    record, curve = make_run(width=64)
    filled.set_aside(record["run_id"], "the corpus was wrong")
    filled.publish(record | {"loss": 1.25}, curve)
    assert filled.runs().set_index("run_id").loss[record["run_id"]] == 1.25


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"x" * 100])
def test_a_damaged_index_is_named_and_the_files_are_read(filled, name, damage):
    before = tables(filled)
    filled.compact()
    path = part(filled, name)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(CorruptRun, match="algoprogress compact"):
        after = tables(filled)
    assert_same([t.reset_index() for t in before], [t.reset_index() for t in after])


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.filterwarnings("ignore::algoprogress.results.CorruptRun")
def test_a_flipped_bit_in_the_index_changes_no_number(filled, name):
    before = tables(filled)
    filled.compact()
    path = part(filled, name)
    sound = path.read_bytes()
    for position in range(3, len(sound), len(sound) // 25):
        damaged = bytearray(sound)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        assert_same(before, tables(filled))


def test_a_killed_compaction_leaves_the_tables_as_they_were(filled, make_run):
    filled.compact()
    filled.publish(*make_run(width=80))
    before = tables(filled)
    code = (
        "import os, signal, sys\n"
        "from algoprogress.results import Store\n"
        "replace, calls = os.replace, []\n"
        "def killed(a, b):\n"
        "    calls.append(b)\n"
        "    len(calls) == int(sys.argv[2]) and os.kill(os.getpid(), signal.SIGKILL)\n"
        "    replace(a, b)\n"
        "os.replace = killed\n"
        "Store(sys.argv[1]).compact()\n"
    )
    for call in ("1", "2", "3"):
        ended = subprocess.run([sys.executable, "-c", code, filled.url, call])
        assert ended.returncode == -signal.SIGKILL
        assert_same(before, tables(filled))
    assert len(filled.clean()) == 3
    assert filled.verify().empty
    assert filled.compact() == 7
    assert len(list(Path(filled.url, "index").iterdir())) == 3


def test_damaged_runs_are_left_out_of_the_index(filled):
    run_id = min(filled.run_ids())
    Path(filled.url, "runs", f"{run_id}.parquet").write_bytes(b"PAR1 no more PAR1")
    with pytest.warns(CorruptRun, match=run_id):
        assert filled.compact() == 5


def test_hundreds_of_runs_are_read_from_the_index_in_a_moment(store, make_run):
    for seed in range(300):
        store.publish(*make_run(seed=seed))
    store.compact()
    started = time.process_time()
    assert len(store.runs()) == 300
    assert time.process_time() - started < 0.5
