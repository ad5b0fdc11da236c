"""What a submit is asked to do, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from algoprogress.pipeline.executors import Executor
from algoprogress.pipeline.executors.scaling import NODE_SECONDS

# what follows a training: given what opens its executor, and what has to be called now and then so that requests to
# stop are obeyed; it returns run_id -> message of what has failed
Then = Callable[[Callable[[], Executor], Callable[[], None]], Mapping[str, str]]


class Cancelled(Exception):
    """Somebody asked this submit to stop."""


@dataclass(frozen=True)
class Options:
    """How a study is submitted.

    Args:
        time_limit: seconds after which a run is stopped by force; None: no limit.
        retry_failed: train again what has failed before.
        fail_fast: begin no further run once one has failed for good.
        limit: train at most so many runs.
        device: the workers' torch device.
        gpus_per_run: share of a GPU that each run is given; below 1, several runs have one GPU.
        checkpoint_seconds: between two checkpoints of a run.
        ensembles: train runs of one shape together: True: wherever it is possible; False: never; None: where it pays.
        compile_for: workers among which torch.compile has to repay its cost, shape by shape; 0: it is not used.
        node_seconds: to wait for a node that can take a run, where the cluster has none.
    """

    time_limit: float | None = None
    retry_failed: bool = False
    fail_fast: bool = False
    limit: int | None = None
    device: str = "cpu"
    gpus_per_run: float = 0.0
    checkpoint_seconds: float = 600.0
    ensembles: bool | None = None
    compile_for: int = 0
    node_seconds: float = NODE_SECONDS

    @property
    def together(self) -> bool | None:
        """`ensembles`, but for what only runs trained one by one can be held to: a share of a GPU is for one."""
        alone = self.time_limit is not None or self.fail_fast or 0 < self.gpus_per_run < 1
        return False if alone else self.ensembles


@dataclass
class Summary:
    """What a submit did."""

    trained: int = 0
    diverged: int = 0
    present: int = 0
    failed: dict[str, str] = field(default_factory=dict)  # run_id -> message
    left: int = 0  # runs that were not begun: a limit, fail_fast, or cancelled
    waiting: dict[str, str] = field(default_factory=dict)  # arm -> why its main runs were not begun
    cancelled: bool = False
    seconds: float = 0.0
