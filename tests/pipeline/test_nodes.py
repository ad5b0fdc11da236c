"""A submit whose cluster has no node that can take a run: it waits, says so, and does not end as if all were done."""

from __future__ import annotations

import pytest

from algoprogress.pipeline import executors
from algoprogress.pipeline.ensembles.choice import Choice
from algoprogress.pipeline.ensembles.executor import EnsembleExecutor
from algoprogress.pipeline.executors import ClusterLost
from algoprogress.pipeline.executors.inline import InlineExecutor
from algoprogress.pipeline.executors.scaling import Patience, answer, starts_nodes
from algoprogress.pipeline.plan import resolve
from algoprogress.pipeline.progress import Progress
from algoprogress.pipeline.submit import submit
from algoprogress.pipeline.worker import Task
from algoprogress.results import Store

pytestmark = pytest.mark.alone


class Shrinking(InlineExecutor):
    """Loses its only node after so many runs; it is back after so many looks, if ever."""

    def __init__(self, after: int, looks: float) -> None:
        super().__init__()
        self.after, self.looks = after, looks

    @property
    def slots(self) -> int:
        if self.after > 0:
            return 1
        self.looks -= 1
        return int(self.looks < 0)

    def wait(self, seconds):
        if not self.slots:
            return []
        self.after -= 1
        return super().wait(seconds)


class Told(Progress):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.parametrize("ensembles", [False, None], ids=["one by one", "bundled"])
@pytest.mark.parametrize("after", [0, 2], ids=["at first", "half-way"])
def test_nodes_that_come_back_train_the_rest(tiny_study, tmp_path, ensembles, after):
    told = Told()
    make = lambda: Shrinking(after, looks=8)  # noqa: E731
    summary = submit(resolve(tiny_study), Store(tmp_path), make, told, ensembles=ensembles)
    assert (summary.trained, summary.left) == (8, 0)
    assert sum("can take a run: waiting for one, at most 20 minutes" in line for line in told.lines) == 1
    assert sum("can take runs again" in line for line in told.lines) == 1


@pytest.mark.parametrize("ensembles", [False, None], ids=["one by one", "bundled"])
@pytest.mark.parametrize("after", [0, 2], ids=["at first", "half-way"])
def test_nodes_that_never_come_back_end_the_submit_with_what_was_trained_kept(tiny_study, tmp_path, ensembles, after):
    store = Store(tmp_path)
    make = lambda: Shrinking(after, looks=float("inf"))  # noqa: E731
    with pytest.raises(ClusterLost, match="no node of the cluster could take a run"):
        submit(resolve(tiny_study), store, make, Told(), ensembles=ensembles, node_seconds=0.1)
    assert len(store.run_ids()) == after
    assert not store.claims()


def test_the_command_ends_with_1_where_nodes_never_come_back(cli, tiny_study, text_file, tmp_path, monkeypatch):
    monkeypatch.setattr("algoprogress.pipeline.submit.Patience", lambda say, seconds: Patience(say, 0.1))
    monkeypatch.setitem(executors.EXECUTORS, "process", lambda **_: Shrinking(1, float("inf")))
    study = text_file.with_name("tiny.yaml")
    code, _, err = cli("submit", study, "--store", tmp_path, "--executor", "process", "--no-ensembles")
    assert code == 1
    assert "what was finished is kept, and the same command goes on from there" in err


def test_a_bundle_is_cut_even_if_the_last_node_goes_meanwhile(tiny_study):
    class Going(InlineExecutor):
        looks = 0

        @property
        def slots(self):
            self.looks += 1
            return int(self.looks == 1)

        def wait(self, seconds):
            return []

    executor = EnsembleExecutor(Going(), Choice.always("cpu"))
    for run_id, spec in resolve(tiny_study).specs().items():
        executor.start(Task(run_id, spec.model_dump(mode="json"), "nowhere"))
    executor.wait(0.0)


@pytest.mark.parametrize(
    ("types", "grows"),
    [([], None), (["node_ffff00", "node_ffff01"], False), (["head"], True), (["head", "gpu_worker"], True)],
)
def test_an_autoscaler_is_known_by_the_types_of_its_nodes(types, grows):
    assert starts_nodes(types) is grows


@pytest.mark.parametrize(
    ("state", "grows"),
    [
        ({"infeasible": [{"CPU": 1.0, "GPU": 2.0}], "coming": 1}, False),
        ({"infeasible": [{"CPU": 5.0}], "coming": 1}, True),
        ({"infeasible": [{"CPU": 5.0}], "coming": 0}, None),
    ],
)
def test_what_an_autoscaler_says_of_a_request_decides(state, grows):
    assert answer(state, {"CPU": 1.0, "GPU": 2.0}) is grows
