"""Nodes, heads and networks fail; a store trained on what is left equals one that was trained at home."""

from __future__ import annotations

import http.server
import math
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import Emulated, check_whole, replace_training, run, science, temporary_folder, until
from started import Started

from algoprogress.pipeline.executors import NotEnoughResources
from algoprogress.pipeline.executors.cluster import NoCluster
from algoprogress.pipeline.executors.ray import RayExecutor
from algoprogress.results import Store

HOLD = """
say = options.pop("on_progress")
def hold(progress):
    say(progress)
    while progress["step"] > 0 and not os.path.exists(os.environ["GATE"]) and kept() >= int(os.environ["FREE"]):
        time.sleep(0.1)
        say(progress)
def kept():
    return len([name for name in os.listdir(os.environ["RUNS"]) if not name.startswith(".")])
return real(*args, on_progress=hold, **options)
"""


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """`held(store, free)`: once so many runs are published, the others wait in training for the file it returns."""

    def hold(store: Store, free: int = 0) -> Path:
        monkeypatch.setenv("GATE", str(tmp_path / "gate"))
        monkeypatch.setenv("RUNS", str(Path(store.url, "runs")))
        monkeypatch.setenv("FREE", str(free))
        Path(store.url, "runs").mkdir(parents=True)
        replace_training(tmp_path, monkeypatch, HOLD)
        return tmp_path / "gate"

    return hold


def within_ten_seconds(begun: float, refusals: int = 1) -> str:
    """How long each refusal took since then, which is promised to be less."""
    took = (time.monotonic() - begun) / refusals
    assert took < 10
    return f"{took:.0f} s"


def training_on(cluster: Emulated, store: Store) -> tuple[int, dict]:
    """A node on which a run has made some steps, and the heartbeat of that run."""

    def find():
        for beat in store.active().to_dict("records"):
            if beat["step"] > 0 and not beat["stale"]:
                return cluster.node_of(int(beat["pid"])), beat
        return None

    return until(find, "nothing trains on the cluster")


@pytest.mark.slow
@pytest.mark.fault(5, "a whole node is lost while it trains (raylet and workers killed)")
def test_the_runs_of_a_lost_node_are_trained_elsewhere(
    study_file, undisturbed, store, held, emulated, submitted, outcome
):
    expected, gate = undisturbed(), held(store)
    cluster = emulated(nodes=3)
    submit = submitted(study_file(), store, "--address", cluster.address, **cluster.environment)
    node, beat = training_on(cluster, store)
    cluster.kill_node(node)
    gate.touch()
    facts = submit.facts()
    assert (facts["trained"], facts["failed"]) == (8, [])
    check_whole(store, expected)
    failures = store.failures()
    assert set(failures["class"]) == {"infra"}
    assert beat["run_id"] in set(failures["run_id"])
    outcome("its runs were trained again on the other nodes; the store equals one that was trained at home")


@pytest.mark.slow
@pytest.mark.fault(4, "a node is cut off: its raylet is gone, its worker trains on")
def test_a_late_finisher_behind_a_partition_and_its_retry_leave_one_record(
    study_file, undisturbed, store, held, emulated, submitted, outcome
):
    expected, gate = undisturbed(), held(store)
    cluster = emulated(nodes=3)
    submit = submitted(study_file(), store, "--address", cluster.address, **cluster.environment)
    node, _ = training_on(cluster, store)
    cluster.kill_node(node, workers=False)
    gate.touch()
    facts = submit.facts()
    assert facts["failed"] == []
    check_whole(store, expected)
    outcome("one record of each run, whoever was first; the cut-off worker ended by itself")


@pytest.mark.slow
@pytest.mark.fault(6, "the head of the cluster is killed")
def test_a_submit_whose_head_dies_is_continued_on_another_cluster(
    study_file, undisturbed, store, held, emulated, submitted, outcome
):
    expected, gate = undisturbed(), held(store, free=2)
    soon = {"RAY_gcs_rpc_server_reconnect_timeout_s": "5"}
    cluster = emulated(nodes=2, **soon)
    first = submitted(study_file(), store, "--address", cluster.address, **cluster.environment)
    until(lambda: len(store.run_ids()) >= 2, "nothing is trained")
    cluster.kill_head()
    assert first.wait() != 0
    cluster.close()
    gate.touch()
    done = store.run_ids()
    assert len(done) < 8
    second = emulated(nodes=2)
    facts = submitted(study_file(), store, "--address", second.address, **second.environment).facts()
    assert facts["failed"] == []
    assert facts["trained"] == 8 - len(done)
    check_whole(store, expected)
    outcome("the driver ended without a chance to clean up; submitted to another cluster, the study went on")


@pytest.mark.slow
@pytest.mark.fault(5, "one of three emulated nodes is lost half-way through `smoke` and `demo`")
@pytest.mark.parametrize("study", ["smoke", "demo"])
def test_three_nodes_one_of_them_killed_half_way_give_the_store_of_a_local_run(
    study, tmp_path, held, emulated, submitted, outcome
):
    """Each node has a GPU that is not there; what a node offers beside CPUs must not matter."""
    there, here = Store(tmp_path / "cluster"), Store(tmp_path / "here")
    gate = held(there, free=3)
    cluster = emulated(nodes=3, gpus=1)
    submit = submitted(study, there, "--address", cluster.address, **cluster.environment)
    until(lambda: len(there.run_ids()) >= 3, "nothing is trained")
    node, _ = training_on(cluster, there)
    cluster.kill_node(node)
    gate.touch()
    assert submit.wait(3600) == 0, submit.err
    assert submitted(study, here, "--executor", "process").wait(3600) == 0
    check_whole(there, science(here, study), study)
    outcome("the store equals that of a local run")


@pytest.fixture
def started() -> Iterator[Started]:
    with temporary_folder() as folder:
        cluster = Started(folder)
        yield cluster
        cluster.close()


@pytest.mark.slow
@pytest.mark.fault(5, "one of three nodes, each a `ray start` process of its own, is killed half-way")
def test_separate_ray_start_processes_do_as_well(study_file, undisturbed, store, held, started, submitted, outcome):
    expected, gate = undisturbed(), held(store)
    for _ in range(3):
        started.start(f"--address={started.address}", "--num-cpus=1")
    submit = submitted(study_file(), store, "--address", started.address, **started.environment)
    beat = until(lambda: store.active().query("step > 0").to_dict("records"), "nothing trains")[0]
    node = next(i for i in (1, 2, 3) if int(beat["pid"]) in {p.pid for p in started.family(i)})
    for process in started.family(node):
        process.kill()
    gate.touch()
    facts = submit.facts()
    assert (facts["trained"], facts["failed"]) == (8, [])
    check_whole(store, expected)
    outcome("the store equals one that was trained at home")


@pytest.mark.slow
@pytest.mark.fault(5, "one of three nodes, each a `ray start` process, is killed half-way through `smoke`")
def test_separate_ray_start_processes_run_the_smoke_grid(tmp_path, held, started, submitted, outcome):
    there, here = Store(tmp_path / "cluster"), Store(tmp_path / "here")
    gate = held(there, free=3)
    for _ in range(3):
        started.start(f"--address={started.address}", "--num-cpus=1", "--num-gpus=1")
    submit = submitted("smoke", there, "--address", started.address, **started.environment)
    until(lambda: len(there.run_ids()) >= 3, "nothing is trained")
    beat = until(lambda: there.active().query("step > 0").to_dict("records"), "nothing trains")[0]
    node = next(i for i in (1, 2, 3) if int(beat["pid"]) in {p.pid for p in started.family(i)})
    for process in started.family(node):
        process.kill()
    gate.touch()
    assert submit.wait(3600) == 0, submit.err
    assert submitted("smoke", here, "--executor", "process").wait(3600) == 0
    check_whole(there, science(here, "smoke"), "smoke")
    outcome("the store equals that of a local run")


@pytest.fixture(scope="module")
def running() -> Iterator[Emulated]:
    """One cluster for all who are to be refused: three nodes of one CPU and one GPU that is not there."""
    with temporary_folder() as folder:
        cluster = Emulated(3, 1, 1, folder)
        yield cluster
        cluster.close()


@pytest.mark.slow
@pytest.mark.fault(10, "more GPUs for a run than any node has")
def test_gpus_that_no_node_has_are_refused(study_file, store, running, submitted, outcome):
    begun = time.monotonic()
    refused = submitted(study_file(), store, "--address", running.address, "--gpus-per-run", "2", **running.environment)
    assert refused.wait() == 3
    took = within_ten_seconds(begun)
    assert "a run asks for 1 CPU and 2 GPU on one node; the cluster has 3 CPU and 3 GPU" in refused.err
    assert store.run_ids() == set()
    outcome(f"refused in {took}, naming what the cluster has")


@pytest.mark.slow
@pytest.mark.fault(10, "an accelerator that no node has")
def test_an_accelerator_that_no_node_has_is_refused(study_file, store, running, submitted, outcome):
    options = ["--address", running.address, "--gpus-per-run", "0.5", "--accelerator-type", "H100"]
    begun = time.monotonic()
    refused = submitted(study_file(), store, *options, **running.environment)
    assert refused.wait() == 3
    took = within_ten_seconds(begun)
    assert "an accelerator of type H100, and the cluster has none that it names" in refused.err
    assert store.run_ids() == set()
    outcome(f"refused in {took}, naming what the cluster has")


@pytest.mark.fault(10, "GPUs on a machine that has none")
def test_gpus_that_this_machine_has_not_are_refused_before_ray_is_started(outcome):
    import torch

    if torch.cuda.device_count():
        pytest.skip("this machine has GPUs")
    with pytest.raises(NotEnoughResources, match="this machine has 0 GPU"):
        RayExecutor(1, gpus_per_run=0.5)
    outcome("refused before Ray is started")


@pytest.mark.slow
@pytest.mark.fault(17, "a wrong token, and none")
def test_a_wrong_token_is_refused_by_a_sentence_that_says_where_it_belongs(
    study_file, store, running, submitted, tmp_path, outcome
):
    begun = time.monotonic()
    cases = {
        "the token of this machine is not its token": {"RAY_AUTH_TOKEN": "0" * 64},
        "this machine has no token": {"RAY_AUTH_TOKEN": "", "HOME": str(tmp_path)},
    }
    for said, environment in cases.items():
        refused = submitted(study_file(), store, "--address", running.address, **{**running.environment, **environment})
        assert refused.wait() == 2
        assert said in refused.err
        assert "ray get-auth-token" in refused.err
        assert running.environment["RAY_AUTH_TOKEN"] not in refused.err
    outcome(f"refused in {within_ten_seconds(begun, len(cases))}, with the place where the token belongs")


@pytest.mark.slow
@pytest.mark.fault(18, "a store that the nodes do not share with this machine")
def test_a_store_that_is_not_shared_is_refused(study_file, tmp_path, emulated, submitted, outcome):
    folder = tmp_path / "store"
    folder.mkdir()
    if subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("needs the right to mount; tests/pipeline/test_preflight.py covers the decision without it")
    cluster = emulated(nodes=2, hide=folder)
    store = Store(folder)
    begun = time.monotonic()
    refused = submitted(study_file(), store, "--address", cluster.address, **cluster.environment)
    assert refused.wait() == 2
    took = within_ten_seconds(begun)
    assert "does not see the store" in refused.err
    assert "s3://bucket/runs" in refused.err
    assert store.run_ids() == set()
    assert not store.folder.entries("submits")
    outcome(f"refused in {took}: the node does not read what was written here")


@pytest.mark.slow
@pytest.mark.fault(18, "a node with another version of torch")
def test_a_node_with_other_versions_is_refused(study_file, store, tmp_path, emulated, submitted, outcome):
    other = tmp_path / "other" / "torch-9.9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.9.9\n")
    path = f"{other.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    cluster = emulated(nodes=1, PYTHONPATH=path)
    mine = {**cluster.environment, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    refused = submitted(study_file(), store, "--address", cluster.address, **mine)
    assert refused.wait() == 2
    assert "has torch 9.9.9, and this machine" in refused.err
    outcome("refused, naming node, package and both versions")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and says nothing, as a head that hangs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def web_port() -> Iterator[int]:
    """A port where something else answers."""

    class Quiet(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


@pytest.mark.fault(16, "an address where nothing answers, something else does, or a head hangs")
def test_a_dead_address_is_refused_by_a_sentence(silent_port, web_port, outcome):
    longest = 0.0
    for address, said in {
        "127.0.0.1:1": "no Ray cluster answers",
        f"127.0.0.1:{web_port}": "not the head of a Ray cluster",
        f"127.0.0.1:{silent_port}": "no Ray cluster answers",
        "ray://127.0.0.1:10001": "is not the address of a Ray cluster",
        "somewhere": "is not the address of a Ray cluster",
    }.items():
        begun = time.monotonic()
        with pytest.raises(NoCluster, match=said):
            RayExecutor(address=address)
        longest = max(longest, time.monotonic() - begun)
    assert longest < 10
    outcome(f"each refused within {math.ceil(longest)} s by a sentence that says what to do")


@pytest.mark.fault(16, "a dead RAY_ADDRESS, and a file that names a cluster which is no more")
def test_a_stale_address_is_not_believed(monkeypatch, tmp_path, outcome):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(NoCluster, match="no running Ray cluster is known"):
        RayExecutor(address="auto")
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    with pytest.raises(NoCluster, match=r"no Ray cluster answers at '127\.0\.0\.1:1'"):
        RayExecutor(address="auto")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:2")
    with pytest.raises(NoCluster, match=r"no Ray cluster answers at '127\.0\.0\.1:2'"):
        RayExecutor(address="auto")
    outcome("asked first, and refused at once")


@pytest.mark.fault(16, "a stale address, while one trains on this machine alone")
@pytest.mark.slow
def test_a_stale_address_does_not_disturb_an_own_cluster(
    study_file, store, undisturbed, monkeypatch, tmp_path, outcome
):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert run(study_file(), store, "ray").trained == 8
    check_whole(store, undisturbed())
    outcome("it is not asked for: the study trains")
