"""Where tasks run. An executor starts tasks and says how they ended; it decides nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from algoprogress.pipeline.examination import Examination
    from algoprogress.pipeline.worker import Outcome, Task


class Unfit(ValueError):
    """The disk or the nodes cannot do the work; the message says what to do."""


class NotEnoughResources(RuntimeError):
    """A run asks for more than there is anywhere: it would wait for ever."""


class ClusterLost(RuntimeError):
    """The cluster that this submit used is gone; what was published is kept."""


class Executor(Protocol):
    """What `submit` asks of a place where tasks run."""

    @property
    def slots(self) -> int:
        """Runs at once; a cluster that grows or shrinks changes it, and there may be none until a node comes."""

    def start(self, task: Task) -> None:
        """Queue a task. At most a small multiple of `slots` are queued at once."""

    def wait(self, seconds: float) -> list[Outcome]:
        """The outcomes that arrived, after at most about `seconds`; a lost worker is an outcome "infra"."""

    def stop(self, run_id: str) -> None:
        """End a started task by force; its outcome is "stopped"."""

    def examine(self, examination: Examination) -> bool:
        """From now on give tasks only to nodes that the examination finds fit, whenever they come.

        Returns:
            Whether there are nodes to be examined: not when everything runs on this machine.

        Raises:
            Unfit: a node that is there is not fit, or none has answered.
        """

    def only_cpus(self) -> None:
        """Tasks that are started from now on need no GPU, whatever those before asked for."""

    def last_words(self, pid: int) -> str:
        """What a worker of this machine that has died printed last, where that is known."""

    def close(self) -> None:
        """End whatever still runs, and every process that this executor started."""


def make(name: str, **options: Any) -> Executor:
    """An executor by name.

    Raises:
        ValueError: an unknown name.
    """
    if name not in EXECUTORS:
        raise ValueError(f"unknown executor {name!r}; known: {', '.join(EXECUTORS)}")
    return EXECUTORS[name](**options)


def _inline(**options: Any) -> Executor:
    from algoprogress.pipeline.executors.inline import InlineExecutor

    return InlineExecutor()


def _process(**options: Any) -> Executor:
    from algoprogress.pipeline.executors.process import ProcessExecutor

    return ProcessExecutor(options.get("slots"))


def _ray(**options: Any) -> Executor:
    from algoprogress.pipeline.executors.ray import RayExecutor

    return RayExecutor(
        options.get("slots"),
        options.get("address", "local"),
        options.get("gpus_per_run", 0.0),
        accelerator_type=options.get("accelerator_type"),
    )


EXECUTORS: dict[str, Callable[..., Executor]] = {"inline": _inline, "process": _process, "ray": _ray}
