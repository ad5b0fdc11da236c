"""Ray Core tasks: a local cluster bound to loopback, or a running cluster by its address.

Ray carries tasks and nothing else: identity, results, failures and retries are ours and live in the store. Its own
silent retries are off; a bounded number of tasks is in flight, since a queue of thousands slows its scheduler.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from algoprogress.pipeline.examination import Examination
from algoprogress.pipeline.executors import ClusterLost, NotEnoughResources
from algoprogress.pipeline.executors.admission import HELD_BACK, Admission, held_back_unless_fit
from algoprogress.pipeline.executors.cluster import (
    NoCluster,
    accelerators,
    check_answers,
    find,
    no_answer,
    only_on_loopback,
    token,
    workers,
)
from algoprogress.pipeline.executors.local_ray import ENVIRONMENT, LOOPBACK, LocalCluster
from algoprogress.pipeline.executors.scaling import will_grow
from algoprogress.pipeline.worker import Outcome, Task, work

CPUS = 1  # of a run: one thread each, so that runs do not wait for each other
ORPHAN_SECONDS = 5.0
STARTS = 3  # Ray gives a node 30 s to start, which a busy machine may not
COUNT_SECONDS = 5.0  # between two looks at how many nodes there are
EMPTY_SECONDS = 1.0  # and where none can take a run, or one has still to answer whether it can


def gpus_here() -> int:
    """GPUs that torch finds on this machine; asked before a cluster is started in vain."""
    import torch

    return torch.cuda.device_count()


def work_under_raylet(task: dict[str, Any]) -> dict[str, Any]:
    """`work`, by a process that does not stay for ever when the node it belonged to has died under it."""
    node = os.getppid()
    outcome = work(task)
    if os.getppid() != node:
        threading.Timer(ORPHAN_SECONDS, os._exit, (1,)).start()  # time enough to deliver the outcome
    return outcome


def nothing() -> None:
    """What is queued where no node can take a run: an autoscaler starts a node for it, as long as this driver lives."""


class RayExecutor:
    """A task asks for one CPU, and on request for a share of a GPU.

    A cluster that starts nodes by itself may have none yet: then it has no slots, and is asked for a node.

    Args:
        slots: runs at once; by default all cores of a local cluster, and all that fit on a running one.
        address: "local" for an own cluster on this machine, else a running cluster's address or "auto".
        gpus_per_run: share of a GPU that a run reserves.
        work: what a worker does with a task.
        accelerator_type: a run is only put on a node with this accelerator, by Ray's name, such as H100.

    Raises:
        NoCluster: no cluster can be used at the address.
        NotEnoughResources: no node has what one run asks for, and none will be started that has.
    """

    def __init__(
        self,
        slots: int | None = None,
        address: str = "local",
        gpus_per_run: float = 0.0,
        work: Callable[[dict[str, Any]], dict[str, Any]] = work_under_raylet,
        accelerator_type: str | None = None,
    ) -> None:
        os.environ.update(ENVIRONMENT)
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        self._local: LocalCluster | None = None
        if address == "local":
            if gpus_per_run and not gpus_here():
                raise NotEnoughResources(
                    f"a run asks for {gpus_per_run:g} GPU, and this machine has 0 GPU that torch can use: leave "
                    "--gpus-per-run out, or give the --address of a cluster that has some"
                )
            self._local = LocalCluster(slots)
            options |= self._local.options
        else:
            address = find(address)
            if "RAY_AUTH_MODE" not in os.environ:
                os.environ["RAY_AUTH_MODE"] = "token" if token() else "disabled"
            check_answers(address)
            if only_on_loopback(address):
                os.environ.update(LOOPBACK)
            options["address"] = address
        import ray

        self._ray = ray
        self._running: dict[Any, Task] = {}
        self._stopped: set[str] = set()
        self._most, self._gpus, self._type = slots, gpus_per_run, accelerator_type
        self._wish: Any = None  # the task that waits for a node
        self._work = work
        self._admission: Admission | None = None  # until it is said what nodes are examined for
        self._selector: dict[str, str] = {}
        self._ask()
        try:
            on_sigterm = signal.getsignal(signal.SIGTERM)
            self._init(options)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own would end this process without a word
            self._count()
        except ConnectionError:
            self.close()
            raise NoCluster(no_answer(address)) from None
        except BaseException:
            self.close()
            raise
        if self.slots < 1 and not self._will_grow():
            has, types = ray.cluster_resources(), accelerators(ray.nodes())
            self.close()
            if accelerator_type is not None and accelerator_type not in types:
                raise NotEnoughResources(
                    f"a run asks for an accelerator of type {accelerator_type}, and the cluster has "
                    f"{', '.join(types) or 'none that it names'}: choose one of these, or leave --accelerator-type out"
                )
            raise NotEnoughResources(
                f"a run asks for {CPUS} CPU and {gpus_per_run:g} GPU on one node; the cluster has "
                f"{has.get('CPU', 0):g} CPU and {has.get('GPU', 0):g} GPU on {len(self._nodes)} nodes: leave "
                "--gpus-per-run out, ask for less, or start a larger cluster"
            )

    def _init(self, options: dict[str, Any]) -> None:
        for attempt in range(STARTS):
            try:
                self._ray.init(**options)
                return
            except Exception as error:  # Ray has no class for it
                if "timed out during startup" not in str(error) or attempt == STARTS - 1:
                    raise
                self._ray.shutdown()
                if self._local is not None:
                    self._local.end_processes()

    def _ask(self) -> None:
        """What each task asks of its node."""
        asked: dict[str, Any] = {"accelerator_type": self._type} if self._type is not None else {}
        # max_calls=0: a worker is kept for the next run, so torch is imported once per core, also on GPUs
        one_run = self._ray.remote(num_cpus=CPUS, num_gpus=self._gpus, max_retries=0, max_calls=0, **asked)
        self._any_node: list[Any] = [one_run(held_back_unless_fit(self._work)), one_run(nothing)]
        self._select()

    def _select(self) -> None:
        """Keeps tasks from nodes that are known and not fit."""
        kept = {"label_selector": self._selector}
        self._remote, self._nothing = (task.options(**kept) if self._selector else task for task in self._any_node)
        if self._wish is not None:
            self._ray.cancel(self._wish)
            self._wish = None  # it waits, or has ended, on a node that is of no use

    def only_cpus(self) -> None:
        self._gpus, self._type = 0.0, None
        self._ask()
        self._count()

    @property
    def slots(self) -> int:
        """Runs at once on the nodes that were alive when they were last counted, a few seconds ago."""
        settled = any(self._nodes.values()) and not (self._admission is not None and self._admission.waits)
        if time.monotonic() - self._counted > (COUNT_SECONDS if settled else EMPTY_SECONDS):
            self._count()
        fit = sum(self._nodes.values())
        return fit if self._most is None else min(fit, self._most)

    def _count(self) -> None:
        nodes = self._ray.nodes()
        self._nodes = workers(nodes, CPUS, self._gpus, self._type)
        if self._admission is not None:
            self._admission.look(self._with_room(nodes))
            self._nodes = {node: fits for node, fits in self._nodes.items() if self._admission.fit(node)}
            if (selector := self._admission.selector()) != self._selector:
                self._selector = selector
                self._select()
        self._counted = time.monotonic()
        if self._local is None and self._wish is None and not any(self._nodes.values()):
            self._wish = self._nothing.remote()
        elif self._wish is not None and any(self._nodes.values()):
            self._ray.cancel(self._wish)
            self._wish = None

    def _with_room(self, nodes: list[dict[str, Any]]) -> dict[str, str]:
        """Node id -> name, of the nodes that a run fits on."""
        fits = [node for node in nodes if self._nodes.get(node["NodeID"])]
        return {node["NodeID"]: f"{node['NodeManagerAddress']} ({node['NodeID'][:6]})" for node in fits}

    def examine(self, examination: Examination) -> bool:
        if self._local is not None:
            return False
        self._admission = Admission(self._ray, examination)
        self._admission.begin(self._with_room(self._ray.nodes()))
        self._count()
        return True

    def _will_grow(self) -> bool:
        if self._local is not None:
            return False
        resources = {"CPU": float(CPUS)} | ({"GPU": self._gpus} if self._gpus else {})
        return will_grow(resources, lambda: self.slots > 0)

    def start(self, task: Task) -> None:
        question = None if self._admission is None else self._admission.examination.question
        self._running[self._remote.remote(task.plain(), question)] = task

    def wait(self, seconds: float) -> list[Outcome]:
        if not self._running:
            time.sleep(min(seconds, 0.1))
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        if not ready:
            ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        found = [self._outcome(reference, self._running.pop(reference)) for reference in ready]
        return [outcome for outcome in found if outcome is not None]

    def _outcome(self, reference: Any, task: Task) -> Outcome | None:
        """How a task ended; None if it was held back, and is sent elsewhere."""
        from ray import exceptions

        try:
            said = self._ray.get(reference)
            if HELD_BACK not in said:
                return Outcome(**said)
            return self._send_elsewhere(task, said)
        except exceptions.RayError as error:
            if task.run_id in self._stopped:
                self._stopped.discard(task.run_id)
                return Outcome(task.run_id, "stopped")
            what = f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
            if isinstance(error, exceptions.LocalRayletDiedError):
                raise ClusterLost(
                    f"Ray has died on this machine ({what}): nothing that was finished is lost, submit again"
                ) from None
            if isinstance(error, exceptions.OutOfMemoryError):  # Ray's memory monitor killed it before the kernel did
                return Outcome(task.run_id, "oom", None, what, cause="crash")
            if isinstance(error, exceptions.RayTaskError):  # it never reached our code: the package does not import
                return Outcome(task.run_id, "failed", None, what, cause="crash")
            node = isinstance(error, exceptions.NodeDiedError | exceptions.ObjectLostError)
            return Outcome(task.run_id, "infra", None, what, cause="node" if node else "crash")

    def _send_elsewhere(self, task: Task, said: dict[str, Any]) -> Outcome | None:
        if task.run_id in self._stopped:
            self._stopped.discard(task.run_id)
            return Outcome(task.run_id, "stopped")
        assert self._admission is not None  # or nobody would have asked
        self._admission.refuse(said["node"], said[HELD_BACK])
        self._count()
        self.start(task)
        return None

    def stop(self, run_id: str) -> None:
        for reference, task in self._running.items():
            if task.run_id == run_id:
                self._stopped.add(run_id)
                self._ray.cancel(reference, force=True)

    def last_words(self, pid: int) -> str:
        return "" if self._local is None else self._local.printed(pid)

    def close(self) -> None:
        self._ray.shutdown()
        if self._local is not None:
            self._local.close()
