"""Which nodes of a Ray cluster may be given runs: those that have been examined, whenever they came.

The driver examines each node when it first appears. Until a node is found fit, tasks are sent with a label selector
that keeps them from it. What Ray has placed there before the driver saw the node is held back by the worker itself,
which looks around before its first run.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from algoprogress.pipeline.examination import Examination, look_around
from algoprogress.pipeline.executors import Unfit
from algoprogress.results import StoreError

PROMPT_SECONDS = 4.0  # for nodes to answer before the submit goes on without them; a new worker process takes two
LAST_SECONDS = 60.0  # for the first of them, which on a cold or busy machine may take many more
AGAIN_SECONDS = 60.0  # until a node that was not fit is asked again: a folder may be mounted after Ray was started
POLL_SECONDS = 0.05  # between two looks for an answer
NODE_ID = "ray.io/node-id"  # the label that Ray gives each node
HELD_BACK = "held back"


class Admission:
    """Examines nodes, and remembers what came of it.

    Args:
        ray: the module, connected to the cluster.
        examination: what is asked of a node, and what its answer means.
    """

    def __init__(self, ray: Any, examination: Examination) -> None:
        self._ray, self.examination = ray, examination
        self._ask = ray.remote(num_cpus=0, max_retries=0)(look_around)
        self._names: dict[str, str] = {}  # node id -> how it is called in sentences
        self._asked: dict[str, tuple[Any, float]] = {}  # node id -> (its answer to come, since when)
        self._silent: set[str] = set()  # asked, and late
        self._fit: set[str] = set()
        self._unfit: dict[str, float] = {}  # node id -> when that was found
        self._written = -math.inf  # when what nodes have to read was last found removed, and written again
        self._begun = False  # the nodes that were there at first have been asked
        self._strict = True  # until then, and until one is fit, a node that is not ends the submit

    def begin(self, nodes: Mapping[str, str]) -> None:
        """Asks the nodes that are there, and waits for the answers of those that are prompt.

        Where there is none yet, the first that come may still end the submit.

        Args:
            nodes: node id -> name.

        Raises:
            Unfit: one of them is not fit, or none has answered.
            StoreError: the store cannot be written.
        """
        begun = time.monotonic()
        self.examination.renew()
        self.look(nodes)
        while self._asked and time.monotonic() - begun < (PROMPT_SECONDS if self._fit else LAST_SECONDS):
            self._warn_of_silence()
            time.sleep(POLL_SECONDS)
            self.look(nodes)
        if self._asked and not self._fit:
            name = self._names[next(iter(self._asked))]
            raise Unfit(
                f"the node {name} cannot work: it has not answered within {LAST_SECONDS:g} s; no worker starts there, "
                "or the store does not answer there: see the logs that Ray keeps on that node"
            )
        self._warn_of_silence()
        self._begun, self._strict = True, not self._fit

    def look(self, nodes: Mapping[str, str]) -> None:
        """Forgets nodes that are gone, asks those that are new, and takes what answers there are.

        Args:
            nodes: node id -> name, of those that are alive and that a run fits on.

        Raises:
            Unfit: a node is not fit, and none has been before.
        """
        self._names = dict(nodes)
        for gone in self._asked.keys() - nodes.keys():
            self._ray.cancel(self._asked.pop(gone)[0], force=True)
        self._fit &= nodes.keys()
        self._silent &= nodes.keys()
        self._unfit = {node: since for node, since in self._unfit.items() if node in nodes}
        for node in nodes.keys() - self._asked.keys() - self._fit:
            if time.monotonic() - self._unfit.get(node, -math.inf) > AGAIN_SECONDS:
                self._send(node)
        if self._asked:
            references = {reference: node for node, (reference, _) in self._asked.items()}
            ready, _ = self._ray.wait(list(references), num_returns=len(references), timeout=0)
            for reference in ready:
                self._take(references[reference], reference)
        if self._begun:
            self._warn_of_silence()

    def _send(self, node: str) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node, soft=False)
        reference = self._ask.options(scheduling_strategy=there).remote(self.examination.question)
        self._asked[node] = (reference, time.monotonic())

    def _take(self, node: str, reference: Any) -> None:
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            answer = {"error": str(error).strip().splitlines()[-1]}
        except self._ray.exceptions.RayError:  # its worker has died, or the node, which Ray may notice later
            since = self._asked[node][1]
            self._send(node)
            self._asked[node] = (self._asked[node][0], since)
            return
        try:
            self.examination.judge(self._names[node], answer)
        except StoreError:
            if self._strict:
                raise
            return  # the store is out of reach for a moment: the same answer is looked at again
        except Unfit as error:
            if self._renewed(since=self._asked[node][1]):
                self._send(node)
            else:
                self._refuse(node, str(error))
            return
        del self._asked[node]
        self._fit.add(node)
        self._strict &= not self._begun
        if node in self._silent or node in self._unfit:
            self.examination.say(f"the node {self._names[node]} is fit now: it is given runs")
        self._silent.discard(node)
        self._unfit.pop(node, None)

    def _renewed(self, since: float) -> bool:
        """Whether a node that looked then could not see what it has to, because it was removed; it is there again."""
        try:
            if self.examination.renew():
                self._written = time.monotonic()
        except StoreError:
            return False
        return since <= self._written

    def refuse(self, node: str, why: str) -> None:
        """A worker on the node has held a run back.

        Args:
            node: its id.
            why: what it found, as what is said of "the node ...".
        """
        if node in self._names and not self._renewed(since=time.monotonic() - PROMPT_SECONDS):
            self._refuse(node, f"the node {self._names[node]} {why}")

    def _refuse(self, node: str, why: str) -> None:
        if self._strict:
            raise Unfit(why)
        self._asked.pop(node, None)
        self._silent.discard(node)
        self._fit.discard(node)
        if node not in self._unfit:
            self.examination.say(f"warning: {why}. It is given no run; the study goes on without it")
        self._unfit[node] = time.monotonic()

    def _warn_of_silence(self) -> None:
        for node, (_, since) in self._asked.items():
            told = node in self._silent or node in self._unfit
            if not told and time.monotonic() - since >= PROMPT_SECONDS:
                self._silent.add(node)
                self.examination.say(
                    f"warning: the node {self._names[node]} has not answered within {PROMPT_SECONDS:g} s: it is given "
                    "no run until it does"
                )

    def fit(self, node: str) -> bool:
        """Whether a node may be given runs."""
        return node in self._fit

    @property
    def silent(self) -> frozenset[str]:
        """Ids of the nodes that are late with their answer: what Ray has placed there may never be begun."""
        return frozenset(self._silent)

    @property
    def waits(self) -> bool:
        """Whether a node has still to answer."""
        return bool(self._asked)

    def selector(self) -> dict[str, str]:
        """The label selector of tasks, by which Ray places them on no node that is known and not fit."""
        others = sorted(self._names.keys() - self._fit)
        return {NODE_ID: f"!in({','.join(others)})"} if others else {}


def held_back_unless_fit(work: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """`work(task)` as (task, question) -> what it returns, or {HELD_BACK: why, "node": id} where it was not begun.

    The function that is sent is one of no module: on a node without this package it must still be able to say so.
    """
    module, name, key = work.__module__, work.__qualname__, HELD_BACK
    by_name = module != "__main__" and getattr(sys.modules.get(module), name, None) is work
    itself = None if by_name else work

    def look_around_and_work(task: dict[str, Any], question: dict[str, Any] | None) -> dict[str, Any]:
        import importlib
        import signal

        import ray

        if question is not None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # with which Ray takes back tasks, and would end begun ones

        try:
            from algoprogress.pipeline.examination import refusal

            why = refusal(question) if question is not None else ""
            begin = itself or getattr(importlib.import_module(module), name)
        except Exception as error:
            if question is None:
                raise
            why = f"cannot work: {type(error).__name__}: {error}"
        return {key: why, "node": ray.get_runtime_context().get_node_id()} if why else begin(task)

    return look_around_and_work
