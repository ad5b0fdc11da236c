"""An own Ray cluster on this machine: bound to loopback, with a token of its own, and nothing left of it afterwards.

Ray leaves agents behind when its driver is killed. So a reaper, a small process that does nothing but wait for the
driver's end, ends whatever still belongs to the cluster's folder and removes it; should the reaper be killed too, the
next submit does the same.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

# set before ray is imported; all but the loopback switch also hold for a remote cluster
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry
    "RAY_SCHEDULER_EVENTS": "0",  # no autoscaler chatter on stdout
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a CPU task leaves CUDA_VISIBLE_DEVICES alone
}
# On Linux this value makes Ray bind every socket to 127.0.0.1; without it most listen on all interfaces.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
PREFIX = "algoprogress-ray-"
TOKEN = secrets.token_hex(32)  # one for the life of this process: Ray reads it once
OBJECT_STORE_BYTES = 100 * 2**20  # the least that Ray likes: tasks and outcomes are small, tokens are memory-mapped
PATIENCE = 10.0  # seconds for Ray's processes to end by themselves when their driver has


class LocalCluster:
    """The folder and the reaper of one local cluster; Ray itself is started with `options`."""

    def __init__(self, slots: int | None) -> None:
        # other users of this machine cannot use the cluster, and the home folder is left alone
        os.environ.update(LOOPBACK | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN})
        sweep_up()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=_short_folder()))
        self._reaper = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is not meant for it
        )
        self.options: dict[str, Any] = {
            "address": "local",
            "num_cpus": slots or os.cpu_count() or 1,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_temp_dir": str(self.folder),
        }

    def close(self) -> None:
        """Removes the folder once Ray has been shut down, and ends the reaper."""
        clear(self.folder)
        assert self._reaper.stdin is not None
        with contextlib.suppress(OSError):
            self._reaper.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._reaper.wait(PATIENCE)

    def end_processes(self) -> None:
        """Ends what a start that failed has left, so that it can be tried again."""
        for process in members(self.folder):
            with contextlib.suppress(psutil.Error):
                process.kill()

    def printed(self, pid: int) -> str:
        """What a worker of this cluster wrote to its streams."""
        found = sorted(self.folder.glob(f"session_*/logs/worker-*-{pid}.err"))
        return "".join(path.read_text(encoding="utf-8", errors="replace") for path in found)


def reap(folder: Path) -> None:
    """Waits for the end of standard input, which the driver holds open while it lives, and clears the folder."""
    sys.stdin.buffer.read()
    deadline = time.monotonic() + PATIENCE
    while folder.exists() and members(folder) and time.monotonic() < deadline:
        time.sleep(0.2)
    clear(folder)


def clear(folder: Path) -> None:
    """Ends every process of a cluster by its folder, and removes the folder."""
    deadline = time.monotonic() + PATIENCE
    while folder.exists() and time.monotonic() < deadline:
        for process in members(folder):
            with contextlib.suppress(psutil.Error):
                process.kill()
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            time.sleep(0.1)  # something still wrote to it


def sweep_up() -> None:
    """Remove what a local cluster of ours left when its driver and its reaper were killed."""
    for folder in Path(_short_folder() or tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = folder.name.removeprefix(PREFIX).split("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            clear(folder)


def members(folder: Path) -> list[psutil.Process]:
    """Processes of the cluster in a folder, this one and the reaper excepted."""
    return [process for process in psutil.process_iter(["name", "cmdline"]) if _belongs(process, folder)]


def _belongs(process: psutil.Process, folder: Path) -> bool:
    """Ray's servers have the folder on their command line; its agents rename themselves, but keep their logs open."""
    words = process.info["cmdline"] or []
    if process.pid == os.getpid() or __name__ in words:
        return False
    if any(str(folder) in word for word in words):
        return True
    with contextlib.suppress(psutil.Error):
        return "ray::" in " ".join(words) and any(f.path.startswith(str(folder)) for f in process.open_files())
    return False


def _short_folder() -> str | None:
    """Ray puts sockets below its folder, and a socket's path may have 107 bytes: a long TMPDIR would not do."""
    short = os.sep + "tmp"
    return short if sys.platform != "win32" and len(tempfile.gettempdir()) > 30 and Path(short).is_dir() else None


if __name__ == "__main__":
    reap(Path(sys.argv[1]))
