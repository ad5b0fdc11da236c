"""Clusters that start nodes when tasks wait: is this one of them, will it start one for this, how long to wait?

Ray tells what its autoscaler does to `ray status` alone; what that reads is read here (Ray 2.59 to 2.61).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from algoprogress.pipeline.executors import ClusterLost

NODE_SECONDS = 1200.0  # for a cloud to grant a node, boot it and install torch there
ASK_SECONDS = 8.0  # for an autoscaler to look at what waits, which it does every 5 s
READ_ONLY = "node_"  # Ray's monitor makes up a type for each node that no autoscaler has started


class Patience:
    """Waits for nodes that can take a run, and says so; not for ever.

    Args:
        say: told when the wait begins and ends.
        seconds: without any such node.
    """

    def __init__(self, say: Callable[[str], None], seconds: float = NODE_SECONDS) -> None:
        self.say, self.seconds = say, seconds
        self._since: float | None = None

    def enough(self, slots: int) -> bool:
        """Whether there are slots.

        Raises:
            ClusterLost: there have been none for too long.
        """
        now, since = time.monotonic(), self._since
        if slots:
            if since is not None:
                self.say(f"a node can take runs again, after {now - since:.0f} s: going on")
            self._since = None
            return True
        if since is None:
            self.say(f"no node of the cluster can take a run: waiting for one, at most {self.seconds / 60:.3g} minutes")
            self._since = now
        elif now - since > self.seconds:
            raise ClusterLost(
                f"no node of the cluster could take a run for {self.seconds / 60:.3g} minutes: see `ray status` on its "
                "head for what its nodes wait for; what was finished is kept, and the same command goes on from there"
            )
        return False


def will_grow(asked: Mapping[str, float], came: Callable[[], bool]) -> bool:
    """Whether a cluster without a node for a task that is queued there will start one.

    Args:
        asked: resources of that task.
        came: whether there is such a node by now.
    """
    deadline = time.monotonic() + ASK_SECONDS
    while not came():
        if _is_second():
            state = _second()
            found, works = None if state is None else answer(state, asked), state is not None
        else:
            found, works = starts_nodes(_first()), False
        if found is not None:
            return found
        if time.monotonic() > deadline:
            return works  # it has not come to this task yet: it may be slow
        time.sleep(0.2)
    return True


def starts_nodes(types: Iterable[str]) -> bool | None:
    """Whether types of nodes are those of an autoscaler's configuration; None if there are none yet."""
    found = [not kind.startswith(READ_ONLY) for kind in types]
    return any(found) if found else None


def answer(state: Mapping[str, Any], asked: Mapping[str, float]) -> bool | None:
    """What the state of the second autoscaler says of a request: no type of node has that, one comes, or nothing.

    Args:
        state: {"infeasible": resources of each request that no type of node has, "coming": nodes it has asked for}.
        asked: resources of the request.
    """
    if any(all(bundle.get(name, 0.0) == amount for name, amount in asked.items()) for bundle in state["infeasible"]):
        return False
    return True if state["coming"] else None


def _is_second() -> bool:
    from ray.autoscaler.v2.utils import is_autoscaler_v2

    return bool(is_autoscaler_v2(fetch_from_server=True))


def _first() -> list[str]:
    """The types of nodes that the first autoscaler knows; none before its first look."""
    from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
    from ray.experimental.internal_kv import _internal_kv_get

    said = _internal_kv_get(DEBUG_AUTOSCALING_STATUS)
    report = json.loads(said).get("autoscaler_report") if said else None
    return list(((report or {}).get("node_type_mapping") or {}).values())


def _second() -> dict[str, Any] | None:
    """What the second autoscaler has last said to the head; None before its first look."""
    import ray
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply  # type: ignore[attr-defined]

    client = GcsClient(address=ray.get_runtime_context().gcs_address)
    state = GetClusterStatusReply.FromString(client.get_cluster_status(timeout_s=ASK_SECONDS)).autoscaling_state
    if not state.autoscaler_state_version:
        return None
    return {
        "infeasible": [dict(request.resources_bundle) for request in state.infeasible_resource_requests],
        "coming": len(state.pending_instance_requests) + len(state.pending_instances),
    }
