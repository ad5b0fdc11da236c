"""Ray Core tasks: a local cluster bound to loopback, or a running cluster by its address.

Ray carries tasks and nothing else: identity, results, failures and retries are ours and live in the store. Its own
silent retries are off; a bounded number of tasks is in flight, since a queue of thousands slows its scheduler.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from algoprogress.pipeline.executors import NotEnoughResources
from algoprogress.pipeline.worker import Outcome, Task, work

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


class RayExecutor:
    """A task asks for one CPU, and on request for a share of a GPU.

    Args:
        slots: runs at once on a local cluster; all cores by default.
        address: "local" for an own cluster on this machine, else a running cluster's address or "auto".
        gpus_per_run: share of a GPU that a run reserves.
    """

    def __init__(self, slots: int | None = None, address: str = "local", gpus_per_run: float = 0.0) -> None:
        os.environ.update(ENVIRONMENT)
        options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "error"}
        if address == "local":
            # a token of its own: other users of this machine cannot use the cluster, and the home folder is left alone
            os.environ.update(LOOPBACK | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN})
            sweep_up()
            self._folder = tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-", dir=_short_folder())
            options |= {
                "num_cpus": slots or os.cpu_count() or 1,
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
                "_temp_dir": self._folder.name,
            }
        elif ":" in address and "://" not in address:
            check_answers(address)
        import ray

        self._ray = ray
        try:
            ray.init(**options)
        except ConnectionError:
            raise ValueError(no_answer(address)) from None
        resources = ray.cluster_resources()
        self.slots = int(resources.get("CPU", 0))
        if gpus_per_run:
            self.slots = min(self.slots, int(resources.get("GPU", 0) / gpus_per_run))
        if self.slots < 1:
            self.close()
            raise NotEnoughResources(
                f"a run asks for 1 CPU and {gpus_per_run:g} GPU; the cluster has {resources.get('CPU', 0):g} CPU and "
                f"{resources.get('GPU', 0):g} GPU: leave --gpus-per-run out, or start a larger cluster"
            )
        # max_calls=0: a worker is kept for the next run, so torch is imported once per core, also on GPUs
        self._remote = ray.remote(num_cpus=1, num_gpus=gpus_per_run, max_retries=0, max_calls=0)(work)
        self._running: dict[Any, Task] = {}
        self._stopped: set[str] = set()

    def start(self, task: Task) -> None:
        self._running[self._remote.remote(task.plain())] = task

    def wait(self, seconds: float) -> list[Outcome]:
        if not self._running:
            time.sleep(min(seconds, 0.1))
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        if not ready:
            ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [self._outcome(reference, self._running.pop(reference)) for reference in ready]

    def _outcome(self, reference: Any, task: Task) -> Outcome:
        from ray.exceptions import RayError

        try:
            return Outcome(**self._ray.get(reference))
        except RayError as error:
            if task.run_id in self._stopped:
                self._stopped.discard(task.run_id)
                return Outcome(task.run_id, "timeout", None, "stopped after its time limit")
            return Outcome(task.run_id, "infra", None, f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")

    def stop(self, run_id: str) -> None:
        for reference, task in self._running.items():
            if task.run_id == run_id:
                self._stopped.add(run_id)
                self._ray.cancel(reference, force=True)

    def close(self) -> None:
        self._ray.shutdown()
        folder = getattr(self, "_folder", None)
        if folder is not None:
            with contextlib.suppress(OSError):
                folder.cleanup()


def check_answers(address: str) -> None:
    """Ray tries for minutes; a port that nobody listens on is known at once."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError):
        raise ValueError(no_answer(address)) from None


def no_answer(address: str) -> str:
    return (
        f"no Ray cluster answers at {address!r}: start one with `ray start --head`, or leave --address out to train on "
        "this machine"
    )


def sweep_up() -> None:
    """Remove what a local cluster of ours left when its driver was killed: Ray's agents live on, with their files."""
    for folder in Path(_short_folder() or tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = folder.name.removeprefix(PREFIX).split("-")[0]
        if not owner.isdigit() or psutil.pid_exists(int(owner)):
            continue
        for process in psutil.process_iter(["name", "cmdline"]):
            with contextlib.suppress(psutil.Error):
                if _belongs(process, folder):
                    process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _belongs(process: psutil.Process, folder: Path) -> bool:
    """Ray's servers have the folder on their command line; its agents rename themselves, but keep their logs open."""
    words = process.info["cmdline"] or []
    if any(str(folder) in word for word in words):
        return True
    return "ray::" in " ".join(words) and any(f.path.startswith(str(folder)) for f in process.open_files())


def _short_folder() -> str | None:
    """Ray puts sockets below its folder, and a socket's path may have 107 bytes: a long TMPDIR would not do."""
    return "/tmp" if sys.platform != "win32" and len(tempfile.gettempdir()) > 30 and Path("/tmp").is_dir() else None
