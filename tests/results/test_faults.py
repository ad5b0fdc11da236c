"""Real faults: flipped bits, kill -9, full and read-only disks, many writers. No number is ever silently wrong."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from algoprogress.results import CorruptRun, Store, StoreError, runfile
from algoprogress.results.problems import Unreadable
from algoprogress.results.processes import host_name, process_mark
from algoprogress.results.progress import now


def run_path(store: Store, run_id: str) -> Path:
    return Path(store.url, "runs", f"{run_id}.parquet")


def names(store: Store) -> list[str]:
    return sorted(path.name for path in Path(store.url).rglob("*") if path.is_file())


def test_no_flipped_bit_changes_a_number_unseen(store, make_run):
    record, curve = make_run(curve_rows=40)
    store.publish(record, curve)
    run_id = record["run_id"]
    sound = run_path(store, run_id).read_bytes()
    random.seed(0)
    found = 0
    positions = random.sample(range(len(sound)), 400) + list(range(12)) + list(range(len(sound) - 12, len(sound)))
    for position in positions:
        damaged = bytearray(sound)
        damaged[position] ^= 1 << random.randrange(8)
        with contextlib.suppress(Unreadable):
            assert runfile.read_record(bytes(damaged), run_id) == record
        try:
            pd.testing.assert_frame_equal(pd.DataFrame(runfile.read_curve(bytes(damaged), run_id)), curve)
        except Unreadable:
            found += 1
    assert found > 0.8 * len(positions)  # the others lie where they change nothing, such as the name of the writer


def test_a_store_with_a_flipped_bit_reads_the_right_numbers_or_none(store, make_run):
    record, curve = make_run()
    store.publish(record, curve)
    path = run_path(store, record["run_id"])
    sound = path.read_bytes()
    for position in range(0, len(sound), len(sound) // 20):
        damaged = bytearray(sound)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CorruptRun)
            runs, curves = store.runs(), store.curves()
        assert runs.empty or store.record(record["run_id"]) == record
        if curves.empty:
            assert store.verify()["run_id"].tolist() == [record["run_id"]]
        else:
            pd.testing.assert_frame_equal(curves.drop(columns="run_id"), curve)


def test_once_indexed_every_flipped_bit_is_found_by_verify(store, make_run):
    record, curve = make_run()
    store.publish(record, curve)
    store.compact()
    path = run_path(store, record["run_id"])
    sound, status = path.read_bytes(), path.stat()
    for position in range(0, len(sound), 97):
        damaged = bytearray(sound)
        damaged[position] ^= 4
        path.write_bytes(damaged)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # a disk that rots does not touch the time stamp
        assert store.verify()["run_id"].tolist() == [record["run_id"]]


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda data: b"", "it is empty"),
        (lambda data: data[:-1], "not a whole Parquet file"),
        (lambda data: data[: len(data) // 2], "not a whole Parquet file"),
        (lambda data: b"\0" * len(data), "not a whole Parquet file"),
    ],
)
def test_a_damaged_file_is_named_and_the_other_runs_are_read(filled, damage, problem):
    run_id = filled.study("demo")["arms"]["zebra"][0]["run_id"]
    path = run_path(filled, run_id)
    path.write_bytes(damage(path.read_bytes()))
    for read in (filled.runs, filled.curves):
        with pytest.warns(CorruptRun, match=rf"runs/{run_id}.parquet was left out: .*{problem}.*verify --set-aside"):
            table = read("demo")
        assert table["run_id"].nunique() == (3 if read == filled.runs else 4)
        assert [(p["run_id"], p["file"]) for p in table.attrs["corrupt"]] == [(run_id, f"runs/{run_id}.parquet")]
    with pytest.raises(StoreError, match="can not be used"):
        filled.record(run_id)
    verified = filled.verify()
    assert verified["run_id"].tolist() == [run_id] and problem in verified["problem"][0]


def test_a_damaged_run_that_is_set_aside_can_be_trained_again(filled, make_run):
    record, curve = make_run(architecture="transformer", width=32)
    path = run_path(filled, record["run_id"])
    path.write_bytes(b"damaged")
    assert filled.publish(record, curve) is False
    filled.set_aside(record["run_id"], "it was damaged")
    quarantine = Path(filled.url, "quarantine")
    assert (quarantine / f"{record['run_id']}.1.parquet").read_bytes() == b"damaged"
    assert "it was damaged" in (quarantine / f"{record['run_id']}.1.txt").read_text()
    verified = filled.verify("demo")
    assert len(verified) == 1 and "1 of 5 runs are missing" in verified["problem"][0]
    assert filled.publish(record, curve) is True
    assert filled.verify().empty
    filled.set_aside(record["run_id"], "once more")
    assert len(list(quarantine.iterdir())) == 4


def test_a_file_under_another_runs_name_is_not_believed(filled):
    run_id, other = sorted(filled.run_ids())[:2]
    run_path(filled, run_id).write_bytes(run_path(filled, other).read_bytes())
    with pytest.warns(CorruptRun, match=f"it holds run {other}"):
        assert run_id not in set(filled.curves()["run_id"])


def test_a_damaged_curve_leaves_the_run_where_all_is_read_at_once(filled):
    damaged = min(filled.run_ids())
    path = run_path(filled, damaged)
    data = bytearray(path.read_bytes())
    data[60] ^= 1  # in the numbers: the footer with the record is at the end
    path.write_bytes(data)
    with pytest.warns(CorruptRun, match=f"{damaged}.*can not be read|{damaged}.*SHA-256"):
        runs, records, curves = filled.everything()
    assert damaged in set(runs["run_id"]) and damaged in records and damaged not in curves
    assert len(records) == len(filled.run_ids()) == len(curves) + 1


def test_a_damaged_study_does_not_hide_the_runs(filled):
    path = Path(filled.url, "studies", "demo.json")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.warns(CorruptRun, match=r"studies/demo.json .*submit demo"):
        table = filled.runs()
    assert len(table) == 5 and table["study"].isna().all()
    with pytest.raises(StoreError, match="submit demo"):
        filled.runs("demo")
    assert filled.verify()["file"].tolist() == ["studies/demo.json"]


def test_strange_files_among_the_runs_are_ignored_and_reported(filled):
    copy = Path(filled.url, "runs", "copy of a run.parquet")
    copy.write_bytes(b"?")
    assert len(filled.runs(status=None)) == 6
    assert filled.verify()["file"].tolist() == ["runs/copy of a run.parquet"]


PUBLISH = """
import importlib.util, os, signal, sys
from algoprogress.results import Store
spec = importlib.util.spec_from_file_location("simulated", sys.argv[2])
simulated = importlib.util.module_from_spec(spec)
spec.loader.exec_module(simulated)
record, curve = simulated._run()
"""
CONFTEST = str(Path(__file__).parents[1] / "conftest.py")


def run_python(code: str, store: Store, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", PUBLISH + code, store.url, CONFTEST], **options)


def test_of_many_processes_one_publishes_a_run(store):
    code = """
wins = sum(Store(sys.argv[1]).publish(dict(record, run_id=f"{i:020x}", attempt=os.getpid()), curve) for i in range(20))
print(wins)
"""
    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(lambda _: run_python(code, store, capture_output=True, check=True), range(4)))
    assert sum(int(process.stdout) for process in ended) == 20
    assert len(store.runs()) == 20 and store.verify().empty
    assert names(store) == [f"{i:020x}.parquet" for i in range(20)]


@pytest.mark.parametrize(
    ("moment", "published"),
    [("os.fsync = kill", False), ("os.link = kill", False), ("pathlib.Path.unlink = kill", True)],
    ids=["while it is written", "before it has its name", "before the temporary name is gone"],
)
def test_a_writer_killed_in_the_middle_leaves_nothing_that_readers_see(store, make_run, moment, published):
    code = f"""
import pathlib
def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
{moment}
Store(sys.argv[1]).publish(record, curve)
"""
    assert run_python(code, store).returncode == -signal.SIGKILL
    record, curve = make_run()
    assert store.run_ids() == ({record["run_id"]} if published else set())
    assert len(store.runs()) == len(store.run_ids())
    assert store.verify()["problem"].str.contains("temporary file").tolist() == [True]
    removed = store.clean()
    assert len(removed) == 1 and removed[0].endswith(".tmp")
    assert store.publish(record, curve) is not published
    assert names(store) == [f"{record['run_id']}.parquet"]
    assert store.verify().empty


def test_clean_leaves_the_files_of_living_processes(store):
    folder = Path(store.url, "runs")
    folder.mkdir(parents=True)
    mine = folder / f".x.parquet.{host_name()}.{process_mark()}.0123abcd.tmp"
    elsewhere = folder / ".x.parquet.another-host.1-1-1.0123abcd.tmp"
    mine.touch(), elsewhere.touch()
    assert store.claim("ab" * 10, {})
    Path(store.url, "active").joinpath(f"{'cd' * 10}.1.json").write_text(
        json.dumps({"run_id": "cd" * 10, "host": "another-host", "pid": 1, "process": "1-1-1", "at": now()})
    )
    assert store.clean() == []
    assert store.verify().empty
    os.utime(elsewhere, (0, 0))
    assert store.verify()["file"].tolist() == ["runs/" + elsewhere.name]


def test_the_claim_of_a_killed_process_is_stale(store, make_run):
    code = "Store(sys.argv[1]).claim('ab' * 10, {'step': 3}); os.kill(os.getpid(), signal.SIGKILL)"
    run_python(code, store)
    assert store.active()["stale"].tolist() == [True]
    assert store.verify()["problem"].str.contains("claim of process").tolist() == [True]
    assert store.clean() == [f"active/{'ab' * 10}.1.json"]
    assert store.active().empty


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(small_disk, make_run):
    store = Store(small_disk / "store")
    record, curve = make_run()
    study = {"name": "demo", "baseline": "a", "arms": {"a": [{"run_id": record["run_id"]}]}}
    store.save_study(study)
    before = store.study("demo")
    with pytest.raises(StoreError, match="disk is full"):
        store.writable()  # it wants more than the disk has
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"), open(filler, "wb") as file:
        while True:
            file.write(b"\0" * 4096)
            file.flush()
    for write in (
        lambda: store.publish(record, curve),
        lambda: store.save_study(study | {"question": "?" * 20_000}),
        lambda: store.claim(record["run_id"], {"step": 1}),
        lambda: store.record_failure(record["run_id"], {"message": "!"}),
    ):
        with pytest.raises(
            StoreError, match=r"^Cannot write .*store.*: the disk is full; free some space.*--store.*\.$"
        ):
            write()
    assert names(store) == ["demo.json"] and store.study("demo") == before
    filler.unlink()
    assert store.publish(record, curve) and store.verify().empty


def test_a_write_that_fails_half_way_leaves_nothing(store, make_run, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="disk is full"):
        store.publish(*make_run())
    assert names(store) == []


def test_a_read_only_store_is_read_and_says_why_it_is_not_written(read_only_disk, make_run):
    store = Store(read_only_disk / "store")
    record, curve = make_run(width=99)
    assert len(store.runs()) == 1 and len(store.curves()) == 12 and store.verify().empty
    for write in (
        store.writable,
        store.compact,
        lambda: store.publish(record, curve),
        lambda: store.save_study({"name": "demo", "arms": {}}),
        lambda: store.set_aside(make_run()[0]["run_id"], "why"),
    ):
        with pytest.raises(
            StoreError, match=r"^Cannot write .*read-only disk.*: the file system is read-only; .*--store"
        ):
            write()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write where permissions forbid it")
def test_a_folder_without_permission_says_so(tmp_path, make_run):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="permission is denied"):
        Store(tmp_path / "store").publish(*make_run())


def test_a_path_through_a_file_says_so(tmp_path, make_run):
    file = tmp_path / "a file"
    file.write_text("not a folder")
    for url in (file, file / "store"):
        for use in (Store(url).runs, Store(url).writable, lambda url=url: Store(url).publish(*make_run())):
            with pytest.raises(
                StoreError, match=r"a file.*: a part of that path is a file and not a folder; choose another"
            ):
                use()
    assert file.read_text() == "not a folder"


def test_a_file_system_without_hard_links_is_refused_before_training(store, make_run, monkeypatch):
    def no_links(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    for write in (store.writable, lambda: store.publish(*make_run())):
        with pytest.raises(StoreError, match="no hard links"):
            write()
    assert names(store) == []


def test_a_writable_store_is_left_as_it_was(store):
    store.writable()
    assert names(store) == []


def test_a_store_deleted_while_runs_train_is_made_again(filled, make_run, tmp_path):
    Path(filled.url).rename(tmp_path / "gone")
    assert filled.runs().empty
    assert filled.publish(*make_run())
    assert len(filled.runs()) == 1
