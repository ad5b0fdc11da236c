"""Disks fill up, rot, vanish and refuse; a number in a table is right or it is not there."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from harness import check_whole, run, science, until

from algoprogress.results import CorruptRun, Store, StoreError
from algoprogress.results.runfile import encode

PROCESS = ["--executor", "process", "--slots", "2"]
GOLDEN = Path(__file__).parents[1] / "results" / "golden" / "9e4c73de5af242f02538.parquet"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB. Needs the right to mount."""
    path = tmp_path / "small disk"
    path.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path]).returncode:
        pytest.skip("needs the right to mount a tmpfs; the test with a limit on file sizes needs none")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def files(store: Store) -> list[str]:
    return sorted(p.relative_to(store.url).as_posix() for p in Path(store.url).rglob("*") if p.is_file())


@pytest.mark.slow
@pytest.mark.fault(12, "the disk fills up while runs train")
def test_a_disk_that_fills_up_stops_the_submit_and_tears_nothing(
    study_file, undisturbed, small_disk, submitted, outcome
):
    store = Store(small_disk / "store")
    first = submitted(study_file(), store, *PROCESS)
    until(lambda: store.run_ids(), "nothing is trained")
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    begun = time.monotonic()
    assert first.wait() == 2
    waited = time.monotonic() - begun
    assert "the disk is full; free some space" in first.err
    assert "Traceback" not in first.err
    done = store.run_ids()
    assert 0 < len(done) < 8
    assert [name for name in files(store) if name.startswith("runs/")] == [f"runs/{r}.parquet" for r in sorted(done)]
    refused = submitted(study_file(), store, *PROCESS)
    begun = time.monotonic()
    assert refused.wait() == 2
    assert "full" in refused.err or "free" in refused.err
    filler.unlink()
    assert submitted(study_file(), store, *PROCESS).facts()["trained"] == 8 - len(done)
    check_whole(store, undisturbed())
    assert waited < 10
    said = f"the submit ends {waited:.0f} s later with the sentence that says so"
    outcome(f"{said}, no torn file; with space the rest is trained")


@pytest.mark.slow
@pytest.mark.fault(12, "files may not grow (a limit on their size)")
def test_a_file_that_may_not_be_written_whole_is_not_there(study_file, undisturbed, store, submitted, outcome):
    undisturbed()  # now the corpus is in the cache, whose files are larger
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # inherited: a run's file is larger
    try:
        limited = submitted(study_file(), store, *PROCESS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert limited.wait() == 2
    assert "larger than this process may write; raise the limit (ulimit -f)" in limited.err
    assert files(store) == []
    assert run(study_file(), store, "inline").trained == 8
    check_whole(store, undisturbed())
    outcome("refused before anything is trained, by a sentence; nothing half-written")


@pytest.mark.fault(12, "too little disk for the study")
def test_a_study_that_will_not_fit_is_refused_before_it_begins(study_file, small_disk, outcome, submitted):
    store = Store(small_disk / "store")
    big = submitted(study_file([1e9, 2e9], seeds=40), store, *PROCESS)
    assert big.wait() == 2
    assert "160 runs with their checkpoints need" in big.err
    assert "free some space, or choose another store" in big.err
    assert store.run_ids() == set()
    outcome("refused before anything is trained: what the runs need, what is free")


DAMAGE = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "zeros": lambda data: b"\0" * len(data),
    "text": lambda data: b"404 Not Found",
}


def flipped(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


@pytest.fixture
def trained(study_file, undisturbed, tmp_path) -> Store:
    """A store in which the study is trained."""
    store = Store(tmp_path / "store")
    run(study_file(), store, "inline")
    return store


@pytest.mark.fault(13, "files that are empty, truncated, zeroed, replaced, or have one bit flipped")
def test_a_damaged_file_is_named_left_out_set_aside_and_trained_again(study_file, undisturbed, trained, outcome):
    expected, rng = undisturbed(), random.Random(0)
    paths = sorted(Path(trained.url, "runs").iterdir())
    for path, damage in zip(paths, DAMAGE.values(), strict=False):
        path.write_bytes(damage(path.read_bytes()))
    damaged = {path.stem for path in paths[: len(DAMAGE)]}
    with pytest.warns(CorruptRun, match=r"was left out: .*verify --set-aside"):
        table = trained.runs("faulty", status=None)
    assert set(table["run_id"]) == set(expected.index) - damaged
    assert {problem["run_id"] for problem in table.attrs["corrupt"]} == damaged
    assert set(trained.verify().query("kind == 'damaged'")["run_id"]) == damaged
    sound = paths[-1].read_bytes()
    silent = 0
    for _ in range(200):
        paths[-1].write_bytes(flipped(sound, rng))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CorruptRun)
            found = science(trained)
        if paths[-1].stem in found.index:
            silent += not found.loc[[paths[-1].stem]].equals(expected.loc[[paths[-1].stem]])
    assert silent == 0
    paths[-1].write_bytes(sound)
    assert run(study_file(), trained, "inline").trained == len(DAMAGE)
    check_whole(trained, expected)
    assert len(list(Path(trained.url, "quarantine").glob("*.parquet"))) == len(DAMAGE)
    outcome(
        "each named and left out with a warning; of 200 flipped bits none gave a wrong number; the next submit set "
        "the damaged files aside and trained those runs again"
    )


@pytest.mark.fault(14, "a run file of an older schema, and one of a newer")
def test_files_of_other_versions_are_upgraded_or_refused_by_name(trained, undisturbed, make_run, outcome):
    shutil.copy(GOLDEN, Path(trained.url, "runs"))
    record, curve = make_run(width=99)
    path = Path(trained.url, "runs", f"{record['run_id']}.parquet")
    from algoprogress.results import record as record_module
    from algoprogress.results import runfile

    kept = record_module.SCHEMA_VERSION
    try:
        record_module.SCHEMA_VERSION = runfile.SCHEMA_VERSION = 99
        path.write_bytes(encode(record | {"schema_version": 99}, curve))
    finally:
        record_module.SCHEMA_VERSION = runfile.SCHEMA_VERSION = kept
    with pytest.warns(CorruptRun, match="schema version 99.*install the version"):
        table = trained.runs()
    assert GOLDEN.stem in set(table["run_id"])
    assert record["run_id"] not in set(table["run_id"])
    assert table["n_params"].dtype == "int64"
    pd.testing.assert_frame_equal(
        table[table["study"] == "faulty"].set_index("run_id")[undisturbed().columns].sort_index(), undisturbed()
    )
    outcome("the older is read as what it means today, the newer is named and left out, the types stay")


@pytest.mark.slow
@pytest.mark.fault(19, "a store that becomes read-only")
def test_a_read_only_store_is_read_and_not_submitted_to(study_file, small_disk, submitted, outcome, undisturbed):
    store = Store(small_disk / "store")
    assert run(study_file(), store, "inline").trained == 8
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    pd.testing.assert_frame_equal(science(store), undisturbed())
    assert store.verify().empty
    refused = submitted(study_file(seeds=3), store, *PROCESS)
    assert refused.wait() == 2
    assert "the file system is read-only; mount it for writing" in refused.err
    outcome("every table is read; a submit is refused by a sentence")


@pytest.mark.slow
@pytest.mark.fault(19, "a store that is deleted while runs train")
def test_a_deleted_store_is_made_again(study_file, undisturbed, store, submitted, tmp_path, outcome):
    first = submitted(study_file(), store, *PROCESS)
    until(lambda: store.run_ids(), "nothing is trained")
    Path(store.url).rename(tmp_path / "deleted")
    assert first.wait() in (0, 1, 2)
    assert "Traceback" not in first.err
    assert Path(store.url).is_dir()
    assert not run(study_file(), store, "inline").failed
    check_whole(store, undisturbed())
    outcome("it is made anew; the next submit trains what was deleted")


def publish_many(store: Store, make_run, count: int, monkeypatch) -> list[str]:
    """Many runs, without waiting for the disk: nobody pulls the plug of a test."""
    record, curve = make_run()
    monkeypatch.setattr(os, "fsync", lambda _: None)
    ids = [f"{i:020x}" for i in range(count)]
    for run_id in ids:
        assert store.publish({**record, "run_id": run_id}, curve)
    monkeypatch.undo()
    arms = {
        "a": [{"run_id": r, "compute": 1.0} for r in ids[::2]],
        "b": [{"run_id": r, "compute": 1.0} for r in ids[1::2]],
    }
    store.save_study({"name": "large", "baseline": "a", "arms": arms})
    return ids


@pytest.mark.slow
@pytest.mark.fault(22, "a store of 10,000 runs")
def test_the_status_of_ten_thousand_runs_takes_less_than_two_seconds(store, make_run, monkeypatch, outcome):
    publish_many(store, make_run, 10_000, monkeypatch)
    store.compact()
    command = [sys.executable, "-m", "algoprogress.pipeline.cli", "status", "--json", "--store", store.url]

    def seconds() -> float:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0
        return used.ru_utime + used.ru_stime

    least = min(seconds() for _ in range(3))  # CPU time: a busy machine makes the wall longer
    assert least < 2.0
    outcome(f"`status` in {least:.1f} s of CPU")


COMPACT = "import sys; from algoprogress.results import Store; print('go', flush=True); Store(sys.argv[1]).compact()"


@pytest.mark.fault(24, "`kill -9` of a compaction, at any moment")
def test_a_compaction_that_is_killed_changes_no_table(store, make_run, monkeypatch, outcome):
    publish_many(store, make_run, 300, monkeypatch)
    before = store.runs(), store.curves()
    begun = time.monotonic()
    store.compact()
    whole = time.monotonic() - begun
    killed = 0
    for i in range(8):
        child = subprocess.Popen([sys.executable, "-c", COMPACT, store.url], stdout=subprocess.PIPE, text=True)
        child.stdout.readline()
        time.sleep(whole * i / 7)
        child.kill()
        child.communicate()
        killed += child.returncode != 0
        for a, b in zip(before, (store.runs(), store.curves()), strict=True):
            pd.testing.assert_frame_equal(a, b)
    store.clean()
    assert store.verify().empty
    assert not [name for name in files(store) if name.endswith(".tmp")]
    assert killed
    outcome(f"{killed} of 8 killed in the middle: every table as before, what they left is swept away")


@pytest.mark.fault(19, "a store behind a path that is a file")
def test_a_path_that_cannot_be_a_store_is_one_sentence(study_file, tmp_path, submitted, outcome):
    (tmp_path / "file").write_text("in the way")
    refused = submitted(study_file(), str(tmp_path / "file" / "store"), *PROCESS)
    assert refused.wait() == 2
    assert "a part of that path is a file and not a folder" in refused.err
    assert "Traceback" not in refused.err
    with pytest.raises(StoreError):
        Store(tmp_path / "file" / "store").writable()
    outcome("refused by a sentence")
