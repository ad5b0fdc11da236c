"""A driver in a process of its own, which does what a test says: Ray reads a cluster's token once per process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import Emulated

DRIVER = """
import json, sys, time
from algoprogress.pipeline.examination import Examination
from algoprogress.pipeline.executors import Unfit, admission, ray as executor_module
from algoprogress.pipeline.executors.ray import RayExecutor
from algoprogress.pipeline.worker import Task
from algoprogress.results import Store, submits

address, url, options = sys.argv[1:]
store, said, driver = Store(url), [], submits.new_driver()
submits.announce(store.folder, driver, {})
examination = Examination(store, driver, say=said.append)

def work(task):
    import json, os, time
    begun = time.monotonic()
    time.sleep(task["spec"].get("seconds", 0.0))
    told = {"raylet": os.getppid(), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), "begun": begun}
    return {"run_id": task["run_id"], "status": "done", "message": json.dumps({**told, "ended": time.monotonic()})}

def done(n, seconds=0.0):  # where and when each of n tasks was done
    for k in range(n):
        executor.start(Task(str(k), {"seconds": seconds}, url))
    outcomes = []
    while len(outcomes) < n:
        outcomes += executor.wait(1.0)
    assert sorted(int(outcome.run_id) for outcome in outcomes) == list(range(n))
    return [json.loads(outcome.message) for outcome in outcomes]

def trained(n, seconds=0.0):  # the raylets that n tasks end up under
    return [one["raylet"] for one in done(n, seconds)]

def ask(word):  # the test does something, and says when it is done
    print(json.dumps(word), flush=True)
    return sys.stdin.readline().strip()

executor = RayExecutor(address=address, work=work, **json.loads(options))
"""


class Driven:
    """Runs the body on a cluster, with `executor`, `examination`, `said` (what was warned of), `done` and `trained`.

    Args:
        cluster: whose address the executor has.
        store: a folder.
        body: Python, which prints JSON: a string is a question, and the last thing it prints is its result.
        answers: by question, what is done before the body goes on.
        options: of the executor.
    """

    def __init__(
        self,
        cluster: Emulated,
        store: Path,
        body: str,
        answers: dict[str, Callable[[], object]],
        options: dict[str, Any],
    ) -> None:
        words = [sys.executable, "-c", DRIVER + body, cluster.address, str(store), json.dumps(options)]
        environment = {**os.environ, **cluster.environment}
        self.answers = answers
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def result(self) -> Any:
        said: Any = None
        assert self.process.stdout is not None
        assert self.process.stdin is not None
        for line in self.process.stdout:
            if line[0] not in '{"[':
                continue  # Ray's own, of nodes that it has lost
            said = json.loads(line)
            if isinstance(said, str):
                self.answers[said]()
                self.process.stdin.write("\n")
                self.process.stdin.flush()
        assert self.process.wait() == 0
        return said

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
