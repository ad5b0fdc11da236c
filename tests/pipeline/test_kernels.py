"""Building the kernels: once, checked by their results, and never in the way where they cannot be had."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from algoprogress.pipeline import kernels as building

COMPILER = building.find_compiler()
needs_a_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler here")


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """An empty cache, and nothing remembered."""
    monkeypatch.setenv("ALGOPROGRESS_CACHE", str(tmp_path))
    building.kernels.cache_clear()
    yield tmp_path
    building.kernels.cache_clear()


@needs_a_compiler
def test_the_kernels_are_built_once_and_agree_with_torch(fresh, monkeypatch):
    found, name = building.kernels()
    assert found is not None, name
    assert building.largest_error(found) < building.TOLERANCE
    (library,) = (fresh / "kernels").iterdir()
    assert library.stem == name
    building.kernels.cache_clear()
    monkeypatch.setattr(building.subprocess, "run", only_version(building.subprocess.run))
    assert building.kernels()[1] == name


def only_version(run):
    def refuse(command, **options):
        assert command[1] == "--version", "compiled again"
        return run(command, **options)

    return refuse


def test_without_a_compiler_torch_does_the_work_and_the_reason_is_given(fresh, monkeypatch):
    monkeypatch.setattr(building.shutil, "which", lambda name: None)
    found, reason = building.kernels()
    assert found is None
    assert "no C compiler" in reason


def test_the_environment_can_switch_them_off(fresh, monkeypatch):
    monkeypatch.setenv(building.SWITCH, "0")
    assert building.kernels() == (None, "ALGOPROGRESS_KERNELS is 0")


def test_a_compiler_that_fails_is_a_reason_and_no_error(fresh, monkeypatch, tmp_path):
    compiler = tmp_path / "cc"
    compiler.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo one && exit 0\necho "no room on the disk" >&2\nexit 1\n'
    )
    compiler.chmod(compiler.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("CC", str(compiler))
    found, reason = building.kernels()
    assert found is None
    assert "no room on the disk" in reason


@needs_a_compiler
def test_kernels_with_a_wrong_result_are_not_used(fresh, monkeypatch, tmp_path):
    from algoprogress.ablations.ops import compiled

    folder = tmp_path / "sources"
    folder.mkdir()
    for path in compiled.SOURCES:
        shutil.copy(path, folder)
    activations = folder / "activations.c"
    text = activations.read_text()
    assert "0.3989422804f" in text  # 1 / sqrt(2 pi), in the gradient of GELU
    activations.write_text(text.replace("0.3989422804f", "0.3990422804f"))
    monkeypatch.setattr(compiled, "SOURCES", sorted(Path(folder).glob("*.[ch]")))
    found, reason = building.kernels()
    assert found is None
    assert "wrong here" in reason
