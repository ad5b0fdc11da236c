"""Clusters that start without a node for runs, as the shipped cloud clusters do: nodes come because a submit waits."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import kill_all, temporary_folder, until

pytestmark = pytest.mark.slow

HEAD = "f" * 51 + "00000"  # the node id that Ray's emulated provider gives the head


def configuration(address: str) -> dict:
    """Of a head without CPUs and at most two nodes of one CPU, started as processes by Ray's own emulated provider."""
    empty_lists = ("cluster_synced_files", "rsync_exclude", "rsync_filter", "initialization_commands", "setup_commands")
    commands = ("head_setup_commands", "worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
    provider = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
    worker = {"CPU": 1, "object_store_memory": 90_000_000}
    return {
        "cluster_name": "emulated",
        "max_workers": 2,
        "idle_timeout_minutes": 5,
        "upscaling_speed": 1.0,
        "provider": {"type": "external", "module": provider, "gcs_address": address, "launch_multiple": True},
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {"resources": worker, "node_config": {}, "min_workers": 0, "max_workers": 2},
        },
        "head_node_type": "ray.head.default",
        "auth": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        **{name: [] for name in (*empty_lists, *commands)},
    }


class Head:
    """`ray start --head`, with an autoscaler of the first or second generation."""

    def __init__(self, folder: Path, second: bool) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self.environment = {
            "RAY_TMPDIR": str(folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": os.urandom(32).hex(),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        }
        told = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD}
        if second:  # what `ray up` says to its head
            names = {"RAY_NODE_TYPE_NAME": "ray.head.default", "RAY_CLOUD_INSTANCE_ID": HEAD}
            told |= {"RAY_enable_autoscaler_v2": "1", **names}
        config, log = folder / "cluster.json", folder / "head.log"
        config.write_text(json.dumps(configuration(self.address)))
        ray = shutil.which("ray", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        words = ["--head", "--block", f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=0"]
        words += ["--include-dashboard=false", "--object-store-memory=90000000", f"--autoscaling-config={config}"]
        with open(log, "w", encoding="utf-8") as out:
            self.process = subprocess.Popen(
                [ray, "start", *words], stdout=out, stderr=out, env={**os.environ, **self.environment, **told}
            )
        until(lambda: "Ray runtime started" in log.read_text() or self.process.poll() is not None, "no head")
        assert self.process.poll() is None, log.read_text()[-2000:]

    def close(self) -> None:
        kill_all("RAY_TMPDIR", self.environment["RAY_TMPDIR"])
        self.process.wait()


@pytest.fixture
def head() -> Iterator[Callable[[bool], Head]]:
    with temporary_folder() as folder:
        started: list[Head] = []

        def start(second: bool) -> Head:
            started.append(Head(folder, second))
            return started[-1]

        yield start
        for one in started:
            one.close()


@pytest.mark.parametrize("second", [False, True], ids=["first", "second"])
def test_a_cluster_without_nodes_is_waited_for_and_starts_them(second, study_file, store, head, submitted):
    cluster = head(second)
    study = study_file(compute=[2e8], seeds=1)
    facts = (submit := submitted(study, store, "--address", cluster.address, **cluster.environment)).facts()
    assert submit.wait() == 0
    assert (facts["trained"], facts["failed"], facts["left"]) == (2, [], 0)
    assert "no node of the cluster can take a run: waiting for one" in submit.err
    assert "a node can take runs again" in submit.err


def test_what_no_type_of_node_has_is_refused_and_not_waited_for(study_file, store, head, submitted):
    cluster, begun = head(True), time.monotonic()
    refused = submitted(study_file(), store, "--address", cluster.address, "--gpus-per-run", "1", **cluster.environment)
    assert refused.wait() == 3
    assert "a run asks for 1 CPU and 1 GPU on one node; the cluster has 0 CPU and 0 GPU" in refused.err
    assert time.monotonic() - begun < 60
