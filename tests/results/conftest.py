"""A store with a study in it, and two real ways for a disk to refuse."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from algoprogress.results import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "store")


@pytest.fixture
def filled(store, make_run) -> Store:
    """A store with a study of three arms and five runs, one of them diverged, and one run that belongs to no study."""
    arms: dict[str, list] = {"zebra": [], "lstm": [], "modern": []}
    for arm, architecture, width, budget in [
        ("zebra", "transformer", 32, 3e11),
        ("zebra", "transformer", 16, 1e11),
        ("lstm", "lstm", 32, 3e11),
        ("lstm", "lstm", 16, None),
    ]:
        record, curve = make_run(architecture=architecture, width=width)
        store.publish(record, curve)
        arms[arm].append({"run_id": record["run_id"], "compute_budget": budget})
    record, curve = make_run(width=48, status="diverged", loss=5.0, loss_se=None, bits_per_byte=float("nan"))
    store.publish(record, curve)
    arms["modern"].append({"run_id": record["run_id"], "compute_budget": 1e11})
    store.publish(*make_run(width=64))
    store.save_study(
        {"name": "demo", "question": "Which is better?", "baseline": "lstm", "arms": arms, "differences": {}}
    )
    return store


def _mounted(path: Path, options: str) -> bool:
    if os.geteuid() != 0:
        return False
    path.mkdir()
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB. Needs the right to mount."""
    path = tmp_path / "small disk"
    if not _mounted(path, "size=256k"):
        pytest.skip("needs the right to mount a tmpfs; test_a_write_that_fails_half_way covers the code without it")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


@pytest.fixture
def read_only_disk(tmp_path: Path, make_run) -> Iterator[Path]:
    """A read-only file system with a store of one run in it. Needs the right to mount."""
    path = tmp_path / "read-only disk"
    if not _mounted(path, "size=1m"):
        pytest.skip("needs the right to mount a tmpfs; test_a_path_through_a_file covers the code without it")
    Store(path / "store").publish(*make_run())
    subprocess.run(["mount", "-o", "remount,ro", path], check=True)
    yield path
    subprocess.run(["umount", "-l", path], check=True)
