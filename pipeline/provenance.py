"""Where a record comes from: code, packages, machine. Never part of a run's identity."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

# Set for a job on a cluster, whose copy of the code has no git folder: the state of the code that submitted it.
VARIABLES = {
    "git_sha": "ALGOPROGRESS_GIT_SHA",
    "git_dirty": "ALGOPROGRESS_GIT_DIRTY",
    "package_version": "ALGOPROGRESS_VERSION",
    "source": "ALGOPROGRESS_SOURCE",
}
SOURCE = ("ablations/**/*.py", "ablations/**/*.c", "analysis/**/*.py", "pipeline/**/*.py", "results/*.py")


def now() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def code() -> dict[str, Any]:
    """The commit that the code was at, and a hash of what differed from it; None outside a checkout.

    Asked once by the driver and sent to the workers, which may have no checkout.
    """
    if VARIABLES["git_sha"] in os.environ:
        return {key: os.environ.get(VARIABLES[key]) for key in ("git_sha", "git_dirty")}
    root = Path(__file__).resolve().parents[1]
    sha = _git(root, "rev-parse", "HEAD")
    if sha is None or _git(root, "ls-files", "--error-unmatch", "pyproject.toml") is None:
        return {"git_sha": None, "git_dirty": None}
    difference = _git(root, "diff", "HEAD") or ""
    return {
        "git_sha": sha.strip(),
        "git_dirty": hashlib.sha256(difference.encode()).hexdigest()[:12] if difference else None,
    }


@cache
def source() -> str:
    """SHA-256 of the code that runs here, 12 digits: a commit is what somebody says of it, and this is what it is."""
    root, found = Path(__file__).resolve().parents[1], hashlib.sha256()
    for path in sorted(path for pattern in SOURCE for path in root.glob(pattern)):
        found.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return found.hexdigest()[:12]


def _git(root: Path, *args: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


@cache
def machine() -> Mapping[str, Any]:
    """The machine and the versions of what decides numbers, asked by the worker; reading the versions takes 3 ms."""
    return {
        "host": platform.node(),
        "python_version": platform.python_version(),
        "torch_version": importlib.metadata.version("torch"),
        "package_version": package_version(),
    }


def package_version() -> str:
    return importlib.metadata.version("algoprogress")
