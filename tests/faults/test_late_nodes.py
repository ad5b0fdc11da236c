"""Nodes that join while a study trains, or do not answer: runs go only to those that were examined and found fit."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from harness import Emulated, check_whole, replace_training, temporary_folder, until

pytestmark = pytest.mark.slow

# each training leaves the process id of its node's raylet, and waits for the gate
NAME_NODE_AND_HOLD = """
with open(os.environ["SEEN"], "a") as seen:
    seen.write(str(os.getppid()) + " ")
say = options.pop("on_progress")
def hold(progress):
    say(progress)
    while progress["step"] > 0 and not os.path.exists(os.environ["GATE"]):
        time.sleep(0.1)
        say(progress)
return real(*args, on_progress=hold, **options)
"""

# a worker process of Ray waits for the file, as one does whose disk hangs
SLOW_WORKERS = """
import os, time
if b"default_worker.py" in open("/proc/self/cmdline", "rb").read():
    while not os.path.exists(os.environ["ANSWER"]):
        time.sleep(0.1)
"""


@pytest.fixture
def other_torch(tmp_path: Path) -> Path:
    """A folder that is on the path of a node with another torch, as its metadata says."""
    other = tmp_path / "other" / "torch-9.9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.9.9\n")
    return other.parent


@pytest.fixture
def silent(tmp_path: Path) -> dict[str, str]:
    """The environment of a node whose worker processes do not come up before the file ANSWER is there."""
    site = tmp_path / "slow"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SLOW_WORKERS)
    path = f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    return {"PYTHONPATH": path, "ANSWER": str(tmp_path / "answer")}


@pytest.fixture
def cluster() -> Iterator[Emulated]:
    with temporary_folder() as folder:
        emulated = Emulated(1, 0, 1, folder)
        yield emulated
        emulated.close()


def before_the_path(folder) -> str:
    """PYTHONPATH with a folder that comes first."""
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


@pytest.mark.fault(18, "a node with another version of torch, and a sound one, join half-way")
def test_a_late_node_that_is_not_fit_gets_no_run_and_a_sound_one_does(
    study_file, undisturbed, store, emulated, other_torch, submitted, tmp_path, monkeypatch, outcome
):
    expected, gate, seen = undisturbed(), tmp_path / "gate", tmp_path / "seen"
    monkeypatch.setenv("GATE", str(gate))
    monkeypatch.setenv("SEEN", str(seen))
    replace_training(tmp_path, monkeypatch, NAME_NODE_AND_HOLD)
    cluster = emulated(nodes=1)
    submit = submitted(study_file(), store, "--address", cluster.address, **cluster.environment)
    until(seen.exists, "nothing trains")
    refused = cluster.add_node(PYTHONPATH=before_the_path(other_torch))
    time.sleep(15)  # time enough for the runs that wait to be placed there
    sound = cluster.add_node()
    raylets = [str(raylet) for raylet in cluster.facts["raylets"]]
    until(lambda: raylets[sound] in seen.read_text().split(), "the sound node gets no run")
    gate.touch()
    facts = submit.facts()
    assert (facts["trained"], facts["failed"]) == (8, [])
    assert set(seen.read_text().split()) == {raylets[1], raylets[sound]}
    assert raylets[refused] not in seen.read_text().split()
    warnings = [line for line in submit.err.splitlines() if "warning: the node" in line]
    assert ["has torch 9.9.9, and this machine" in line for line in warnings] == [True]
    assert "It is given no run; the study goes on without it" in warnings[0]
    assert store.failures().empty
    check_whole(store, expected)
    outcome("no run on the first, with a warning that names it; the second trained its part of the 8 runs")


@pytest.mark.fault(18, "a run that Ray has placed on an unfit node before the driver has seen the node")
def test_a_worker_on_a_node_that_is_not_fit_holds_the_run_back(cluster, other_torch, driving, outcome):
    said = driving(
        cluster,
        """
executor.examine(examination)
executor_module.COUNT_SECONDS = 1e9  # the driver does not look
assert len(set(trained(2))) == 1
ask("add")
assert executor.slots == 1 and not said
under = trained(6, seconds=1.0)
print(json.dumps({"under": under, "said": said, "selector": executor._selector}))
executor.close()
""",
        add=lambda: cluster.add_node(PYTHONPATH=before_the_path(other_torch)),
    )
    assert set(said["under"]) == {cluster.facts["raylets"][1]}
    assert said["selector"]["ray.io/node-id"].startswith("!in(")
    assert len(said["said"]) == 1
    assert "has torch 9.9.9" in said["said"][0]
    outcome("held back by the worker itself, and trained elsewhere; the node was then left out")


@pytest.mark.fault(18, "a node that is alive and starts no worker")
def test_a_node_that_does_not_answer_is_left_out_until_it_does(cluster, silent, driving, outcome):
    late = cluster.add_node(**silent)
    said = driving(
        cluster,
        """
begun = time.monotonic()
executor.examine(examination)
took, slots = time.monotonic() - begun, executor.slots
under = trained(6, seconds=0.2)
ask("answer")
while executor.slots < 2:
    time.sleep(0.1)
print(json.dumps({"took": took, "slots": slots, "under": under, "then": trained(8, 1.0), "said": said}))
executor.close()
""",
        answer=Path(silent["ANSWER"]).touch,
    )
    raylets = cluster.facts["raylets"]
    assert 4 <= said["took"] < 8
    assert said["slots"] == 1
    assert set(said["under"]) == {raylets[1]}
    assert set(said["then"]) == {raylets[1], raylets[late]}
    warning, fit = said["said"]
    assert "has not answered within 4 s: it is given no run until it does" in warning
    assert "is fit now: it is given runs" in fit
    outcome(f"left out with a warning after {said['took']:.0f} s, and given runs once it answered")


@pytest.mark.fault(18, "a node that starts no worker joins while runs wait for one")
def test_what_ray_has_placed_on_a_late_node_that_does_not_answer_is_trained_elsewhere(
    cluster, silent, driving, outcome
):
    said = driving(
        cluster,
        """
executor.examine(examination)
for k in range(6):
    executor.start(Task(str(k), {"seconds": 2.0}, url))
ask("add")
outcomes, begun = [], time.monotonic()
while len(outcomes) < 6 and time.monotonic() - begun < 120:
    assert executor.slots == 1
    outcomes += executor.wait(1.0)
spans = sorted((told["begun"], told["ended"]) for told in (json.loads(one.message) for one in outcomes))
under = [json.loads(outcome.message)["raylet"] for outcome in outcomes]
ids = sorted(outcome.run_id for outcome in outcomes)
print(json.dumps({"ids": ids, "under": under, "spans": spans, "said": said}))
executor.close()
""",
        add=lambda: cluster.add_node(**silent),
    )
    assert said["ids"] == list("012345")
    assert set(said["under"]) == {cluster.facts["raylets"][1]}
    assert all(ended - begun >= 2 for begun, ended in said["spans"])  # what was begun was not interrupted
    assert all(one[1] <= two[0] for one, two in pairwise(said["spans"]))
    assert len(said["said"]) == 1
    assert "has not answered within 4 s" in said["said"][0]
    outcome("taken back, and trained on the others; what had begun went on")


@pytest.mark.fault(18, "no node answers, though all are alive")
def test_where_no_node_answers_the_submit_says_so_and_is_refused(emulated, silent, driving, outcome):
    cluster = emulated(nodes=0)
    cluster.add_node(**silent)
    said = driving(
        cluster,
        """
admission.LAST_SECONDS = 8.0
begun = time.monotonic()
try:
    executor.examine(examination)
    refused = ""
except Unfit as error:
    refused = str(error)
print(json.dumps({"took": time.monotonic() - begun, "refused": refused, "said": said}))
executor.close()
""",
    )
    assert 8 <= said["took"] < 12
    assert "cannot work: it has not answered within 8 s; no worker starts there" in said["refused"]
    assert len(said["said"]) == 1
    outcome("said after 4 s, and refused after 60 (8 in the test)")


@pytest.mark.fault(18, "a node that has died, which Ray has not noticed yet, when a submit begins")
def test_a_node_that_died_unnoticed_is_no_reason_to_refuse_the_others(cluster, driving, outcome):
    lost = cluster.add_node()

    said = driving(
        cluster,
        """
ask("kill")
executor.examine(examination)
print(json.dumps({"under": trained(4), "said": said}))
executor.close()
""",
        kill=lambda: cluster.kill_node(lost),
    )
    assert set(said["under"]) == {cluster.facts["raylets"][1]}
    assert all("has not answered within 4 s" in line for line in said["said"])
    outcome("the study begins on the others")


def test_a_node_that_comes_and_goes_unseen_is_asked_for_again(cluster, driving):
    """Nothing else would make an autoscaler start another."""
    said = driving(
        cluster,
        """
def alive():
    return sum(node["Alive"] for node in executor._ray.nodes())
executor.examine(examination)
ask("lose")
while executor.slots:
    time.sleep(0.1)
executor_module.EMPTY_SECONDS = 1e9  # the driver does not look
first = executor._wish
ask("add")
granted, _ = executor._ray.wait([first], timeout=60)
ask("lose")
while alive() > 1:
    time.sleep(0.1)
executor_module.EMPTY_SECONDS = 0.0
slots = executor.slots
_, waits = executor._ray.wait([executor._wish], timeout=1.0)
print(json.dumps({"granted": len(granted), "slots": slots, "waits": len(waits), "again": executor._wish is not first}))
executor.close()
""",
        lose=lambda: cluster.kill_node(len(cluster.facts["raylets"]) - 1),
        add=cluster.add_node,
    )
    assert said == {"granted": 1, "slots": 0, "waits": 1, "again": True}


@pytest.mark.fault(18, "a node on which the package does not import joins half-way")
def test_a_node_without_a_package_that_imports_gets_no_run(cluster, driving, tmp_path, outcome):
    broken = tmp_path / "broken" / "algoprogress"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('half of it is missing')\n")
    said = driving(
        cluster,
        """
executor.examine(examination)
executor_module.COUNT_SECONDS = 1e9
ask("add")
print(json.dumps({"under": trained(6, seconds=1.0), "said": said}))
executor.close()
""",
        add=lambda: cluster.add_node(PYTHONPATH=str(broken.parent)),
    )
    assert set(said["under"]) == {cluster.facts["raylets"][1]}
    assert len(said["said"]) == 1
    assert "half of it is missing" in said["said"][0]
    outcome("its worker says that it cannot import it; the run was trained elsewhere")
