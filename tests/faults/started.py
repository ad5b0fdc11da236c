"""A cluster of separate `ray start` processes, as people start one by hand."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from harness import STARTS, kill_all, until


class Started:
    """Nodes as separate `ray start` processes, as on a real cluster; their address is this machine's own."""

    def __init__(self, folder: Path):
        ray = shutil.which("ray", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        assert ray is not None
        self.ray, self.folder = ray, folder
        self.environment = {
            "RAY_TMPDIR": str(folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": os.urandom(32).hex(),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        with socket.socket() as free:
            free.bind(("", 0))
            self.port = free.getsockname()[1]
        self.nodes: list[subprocess.Popen] = []
        said = self.start("--head", f"--port={self.port}", "--num-cpus=0", "--include-dashboard=false")
        self.address = said.partition("--address='")[2].split("'")[0]

    def start(self, *words: str) -> str:
        """Starts a node, in several tries if it must be. Returns what it printed."""
        path = self.folder / f"node-{len(self.nodes)}.log"
        for _ in range(STARTS):
            node = self.try_to_start(path, *words)
            until(lambda node=node: "Ray runtime started" in path.read_text() or node.poll() is not None, "no node")
            if node.poll() is None:
                self.nodes.append(node)
                return path.read_text()
            kill_all("ALGOPROGRESS_NODE", str(path))
        raise AssertionError(f"no node starts: {path.read_text()[-1000:]}")

    def try_to_start(self, path: Path, *words: str) -> subprocess.Popen:
        log = open(path, "w", encoding="utf-8")  # noqa: SIM115
        command = [self.ray, "start", "--block", "--object-store-memory=90000000", "--disable-usage-stats", *words]
        environment = {k: v for k, v in os.environ.items() if k != "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"}
        environment |= {**self.environment, "ALGOPROGRESS_NODE": str(path)}
        node = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        log.close()
        return node

    def family(self, node: int) -> list:
        import psutil

        parent = psutil.Process(self.nodes[node].pid)
        return [parent, *parent.children(recursive=True)]

    def close(self) -> None:
        kill_all("RAY_TMPDIR", self.environment["RAY_TMPDIR"])
        for node in self.nodes:
            node.wait()
