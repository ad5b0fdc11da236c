"""A Ray cluster of several nodes on this machine, in a process of its own: `python emulated.py NODES GPUS CPUS`.

Prints one line of JSON with its address and the process id of each node's raylet (the head first, and `gcs`). A line of
JSON on its standard input, an object of environment variables, adds a node with them, whose raylet's process id is
printed. The cluster ends when its standard input is closed. The head runs no task.
"""

from __future__ import annotations

import json
import os
import sys

FAST_HEALTH_CHECKS = {  # a lost node is noticed after a few seconds, and a slow one is not taken for it
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 10000,
    "health_check_failure_threshold": 4,
}


def main(nodes: int, gpus: int, cpus: int) -> None:
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # every socket on loopback
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    node = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(
        initialize_head=True, head_node_args={**node, "num_cpus": 0, "_system_config": FAST_HEALTH_CHECKS}
    )
    workers = [cluster.add_node(num_cpus=cpus, num_gpus=gpus, **node) for _ in range(nodes)]
    cluster.wait_for_nodes()

    def pid(n, kind: str) -> int:
        return n.all_processes[kind][0].process.pid

    facts = {
        "address": cluster.address,
        "gcs": pid(cluster.head_node, "gcs_server"),
        "raylets": [pid(n, "raylet") for n in (cluster.head_node, *workers)],
    }
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        added = cluster.add_node(num_cpus=cpus, num_gpus=gpus, env_vars=json.loads(line), **node)
        print(pid(added, "raylet"), flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
