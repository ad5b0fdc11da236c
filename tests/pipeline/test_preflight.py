"""What is asked before anything is trained, and the sentence for each refusal."""

from __future__ import annotations

import os
import socket
from concurrent import futures

import pytest

from algoprogress.pipeline import memory, preflight
from algoprogress.pipeline.examination import Examination, look_around, refusal, versions
from algoprogress.pipeline.executors import Unfit, cluster
from algoprogress.pipeline.memory import check_share, size
from algoprogress.pipeline.preflight import check_disk, check_nodes
from algoprogress.results import Store, submits

pytestmark = pytest.mark.alone


class Nodes:
    """An executor whose nodes answer as they are told; without a word they answer the truth."""

    slots = 1

    def __init__(self, **answers):
        self.answers = answers

    def examine(self, examination):
        examination.renew()
        for name, change in {"sound": {}, **self.answers}.items():
            examination.judge(name, {**look_around(examination.question), **change})
        return True


DRIVER = submits.new_driver()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"error": "it has not answered within 60 s"}, "the node n cannot work: it has not answered within 60 s"),
        ({"sees": False, "wrote": None}, "the node n does not see the store .*s3://bucket/runs"),
        ({"wrote": "submits/never.probe-written"}, "the node n does not see the store"),
        ({"versions": {**versions(), "torch": "1.0"}}, "the node n has torch 1.0, and this machine .*every node"),
        ({"versions": {k: v for k, v in versions().items() if k != "torch"}}, "the node n has torch none"),
        ({"versions": {**versions(), "python": "3.1"}}, "the node n has python 3.1"),
        ({"versions": {**versions(), "source of algoprogress": "ab"}}, "the node n has source of algoprogress ab"),
    ],
)
def test_a_node_that_cannot_do_the_work_is_named_and_nothing_is_left(tmp_path, answer, said):
    store = Store(tmp_path)
    with pytest.raises(Unfit, match=said):
        check_nodes(Nodes(n=answer), Examination(store, DRIVER))
    assert (
        len(store.folder.entries("submits")) <= 2
    )  # what the driver wrote, and what such a node is said to have written
    submits.leave(store.folder, DRIVER)
    assert not store.folder.entries("submits")


def test_sound_nodes_are_let_pass_and_leave_nothing(tmp_path, s3_url):
    for url in (tmp_path, s3_url):
        store = Store(url)
        check_nodes(Nodes(another={}), Examination(store, DRIVER))
        (what_nodes_read,) = (entry.name for entry in store.folder.entries("submits"))
        assert what_nodes_read.startswith(f"{DRIVER}.probe-")
        submits.leave(store.folder, DRIVER)
        assert not store.folder.entries("submits")


def test_a_worker_looks_around_before_its_first_run_and_then_no_more(tmp_path, monkeypatch):
    store = Store(tmp_path)
    examination = Examination(store, DRIVER)
    assert "does not see the store" in refusal(examination.question)
    assert examination.renew()
    assert not examination.renew()
    other = {**examination.question, "versions": {**versions(), "torch": "9.9.9"}}
    assert f"has torch {versions()['torch']}, and this machine 9.9.9: install the same" in refusal(other)
    assert refusal(examination.question) == ""
    assert len(store.folder.entries("submits")) == 1  # what a worker writes it removes
    monkeypatch.setattr("algoprogress.pipeline.examination.look_around", lambda _: pytest.fail("it has looked before"))
    assert refusal(examination.question) == ""


def test_a_worker_looks_again_at_a_store_that_is_out_of_reach_for_a_moment(tmp_path, monkeypatch):
    examination, looks = Examination(Store(tmp_path), DRIVER), []
    examination.renew()

    def out_of_reach(times):
        def look(question):
            looks.append(True)
            return {**look_around(question), **({"error": "timed out"} if len(looks) <= times else {})}

        return look

    monkeypatch.setattr("algoprogress.pipeline.examination.LOOK_SECONDS", 0.0)
    monkeypatch.setattr("algoprogress.pipeline.examination.look_around", out_of_reach(3))
    assert refusal(examination.question) == "cannot work: timed out"
    looks.clear()
    monkeypatch.setattr("algoprogress.pipeline.examination.look_around", out_of_reach(2))
    assert refusal(examination.question) == ""


def test_what_nodes_read_is_written_again_when_it_was_removed(tmp_path):
    store = Store(tmp_path)
    examination = Examination(store, DRIVER)
    examination.renew()
    submits.leave(store.folder, DRIVER)
    answer = look_around(examination.question)
    with pytest.raises(Unfit, match="does not see the store"):
        examination.judge("n", answer)
    assert examination.renew()
    examination.judge("n", look_around(examination.question))


def test_a_node_that_may_not_write_says_so(tmp_path, monkeypatch):
    store = Store(tmp_path)
    probe = {"store": store.url, "name": submits.probe_name(DRIVER), "nonce": "x", "versions": versions()}
    store.folder.replace(probe["name"], b"x")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", lambda *_: full(0))
    assert "the disk is full" in look_around(probe)["error"]


def test_a_disk_that_is_too_small_is_refused_with_both_numbers(tmp_path, make_spec, monkeypatch):
    monkeypatch.setattr(preflight, "free_bytes", lambda store: 1_000_000)
    check_disk(Store(tmp_path), [make_spec()])
    with pytest.raises(Unfit, match=r"has 1 MB free, and 100 runs with their checkpoints need [0-9.]+ MB: free some"):
        check_disk(Store(tmp_path), [make_spec()] * 100)


def test_the_free_space_is_that_of_the_folder_that_will_be(tmp_path):
    assert preflight.free_bytes(Store(tmp_path / "not" / "yet")) == preflight.free_bytes(Store(tmp_path))
    assert preflight.free_bytes(Store("memory://x")) is None
    assert [size(n) for n in (1, 1500, 2e6, 3e9, 4e12)] == ["1 bytes", "1.5 kB", "2 MB", "3 GB", "4 TB"]


def node(cpu, gpu=0.0, alive=True, name="n"):
    return {"NodeID": name, "Alive": alive, "Resources": {"CPU": cpu, "GPU": gpu}}


@pytest.mark.parametrize(
    ("nodes", "gpus", "slots"),
    [
        ([node(2.0), node(4.0, name="m")], 0.0, 6),
        ([node(0.0), node(4.0, name="m")], 0.0, 4),  # a head that trains nothing
        ([node(4.0), node(4.0, alive=False, name="m")], 0.0, 4),
        ([node(8.0, 1.0), node(8.0, 1.0, name="m")], 0.25, 8),
        ([node(8.0, 1.0), node(8.0, 1.0, name="m")], 2.0, 0),  # two GPUs, but on no node
        ([node(8.0, 4.0)], 2.0, 2),
        ([node(8.0, 2.0)], 0.3, 6),
        ([node(1.0, 8.0)], 1.0, 1),
    ],
)
def test_runs_fit_on_nodes_and_not_on_their_sum(nodes, gpus, slots):
    assert sum(cluster.workers(nodes, 1, gpus).values()) == slots


@pytest.mark.parametrize("address", ["", "host", ":6379", "host:port", "http://host:1", "ray://host:10001"])
def test_what_is_no_address_is_refused(address, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(cluster.NoCluster, match="is not the address of a Ray cluster"):
        cluster.find(address)


def test_a_loopback_address_is_known():
    assert cluster.is_loopback("127.0.0.1:6379")
    assert cluster.is_loopback("[::1]:6379")
    assert not cluster.is_loopback("192.0.2.1:6379")


def test_a_head_that_others_reach_and_that_asks_for_no_token_is_refused(monkeypatch):
    """A server that answers as Ray's head does, without asking who is there."""
    grpc = pytest.importorskip("grpc")
    server = grpc.server(futures.ThreadPoolExecutor(1))

    class Head(grpc.GenericRpcHandler):
        def service(self, details):
            if details.method == cluster.ALIVE:
                return grpc.unary_unary_rpc_method_handler(lambda request, context: b"")
            return None

    server.add_generic_rpc_handlers((Head(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
        cluster.check_answers(f"127.0.0.1:{port}")  # only this machine reaches it
        monkeypatch.setattr(cluster, "is_loopback", lambda address: False)
        with pytest.raises(cluster.NoCluster, match="asks for no token, so whoever reaches it can run any command"):
            cluster.check_answers(f"127.0.0.1:{port}")
    finally:
        server.stop(None)


def test_the_token_is_found_where_ray_looks_for_it(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cluster.token() is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("home\n")
    assert cluster.token() == "home"
    (tmp_path / "elsewhere").write_text("path")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "elsewhere"))
    assert cluster.token() == "path"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "variable")
    assert cluster.token() == "variable"


def test_a_port_that_nobody_listens_on_is_dead():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(cluster.NoCluster, match="no Ray cluster answers"):
        cluster.check_answers(f"127.0.0.1:{port}")


def test_a_run_is_put_only_where_its_accelerator_is():
    nodes = [node(8.0, 2.0), node(8.0, 2.0, name="m"), node(8.0, 2.0, alive=False, name="dead")]
    for i, kind in enumerate(("H100", "A100", "V100")):
        nodes[i]["Resources"][f"accelerator_type:{kind}"] = 1.0
    assert cluster.workers(nodes, 1, 0.5, "A100") == {"n": 0, "m": 4}
    assert cluster.workers(nodes, 1, 0.5, "V100") == {"n": 0, "m": 0}
    assert cluster.accelerators(nodes) == ["A100", "H100"]


def test_an_accelerator_type_without_a_share_of_it_is_refused(cli, tmp_path):
    code, _, err = cli("submit", "smoke", "--store", tmp_path, "--accelerator-type", "H100")
    assert code == 2
    assert "--gpus-per-run how much of it" in err


@pytest.mark.parametrize("gpus", ["1.5", "0.33333", "0.00001", "inf"])
def test_a_part_of_a_gpu_that_ray_cannot_give_is_refused(cli, tmp_path, gpus):
    code, _, err = cli("submit", "smoke", "--store", tmp_path, "--gpus-per-run", gpus)
    assert code == 2
    assert "a share below 1 with at most four decimals" in err


def test_the_memory_of_a_batch_is_estimated_from_one_sequence_and_not_too_low(make_spec):
    import torch

    from algoprogress.pipeline.gradient import loss_of

    for architecture in ("transformer", "lstm"):
        spec = make_spec(architecture)
        model, kept = spec.architecture.build(spec.data.vocab_size, spec.data.context), {}
        weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

        def pack(tensor, kept=kept, weights=weights):
            if tensor.untyped_storage().data_ptr() not in weights:
                kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        rows = spec.batch_tokens // spec.data.context
        x_BT = torch.zeros(rows, spec.data.context, dtype=torch.long)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss, _ = loss_of(model, x_BT, x_BT, None, spec.dtype)
        counted = sum(kept.values())  # what does not grow with the batch is counted once for each sequence
        assert counted <= memory.saved_bytes(spec) * rows <= 1.5 * counted
        del loss
    larger = spec.model_copy(update={"batch_tokens": 100 * spec.batch_tokens, "tokens": 100 * spec.tokens})
    more = memory.estimate(larger) - memory.estimate(spec)
    assert more == pytest.approx(99 * rows * memory.saved_bytes(spec) * memory.SPARE, rel=1e-6)


def test_runs_that_do_not_fit_their_share_of_a_gpu_are_refused_with_the_share_that_would(make_spec):
    spec, gib = make_spec(), 2**30
    needs = memory.estimate(spec)
    assert check_share([spec], 0.25, {"n": 80 * gib}) == []
    assert check_share([spec], 1.0, {"n": 1}) == check_share([spec], 0.0, {"n": 1}) == []
    with pytest.raises(
        Unfit, match=r"parameters takes about 6\d\d MB, and 0\.25 of a GPU of n is 3\d\d MB: ask for --gpus"
    ):
        check_share([spec], 0.25, {"n": 2 * needs})
    with pytest.raises(Unfit, match=r"use a larger GPU"):
        check_share([spec], 0.5, {"n": needs // 2})
    (doubt,) = check_share([spec], 0.25, {"n": None})
    assert "n does not tell the memory of its GPUs" in doubt


def test_nodes_are_asked_for_the_memory_of_their_gpus_where_runs_share_one(tmp_path, make_spec, monkeypatch):
    store, spec = Store(tmp_path), make_spec()
    monkeypatch.setattr(memory, "gpu_bytes", lambda: 2**40)
    check_nodes(Nodes(), Examination(store, DRIVER, [spec], 0.5, pytest.fail))
    with pytest.raises(Unfit, match="a GPU of the node small is"):
        check_nodes(Nodes(small={"gpu_bytes": 2**20}), Examination(store, DRIVER, [spec], 0.5))
    check_nodes(Nodes(small={"gpu_bytes": 2**20}), Examination(store, DRIVER, [spec], 1.0, pytest.fail))
    doubts = []
    check_nodes(Nodes(mute={"gpu_bytes": None}), Examination(store, DRIVER, [spec], 0.5, doubts.append))
    assert ["the node mute does not tell the memory of its GPUs" in doubt for doubt in doubts] == [True]


def test_the_memory_of_a_gpu_is_what_its_driver_says(monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 81920\necho 40960\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert memory.gpu_bytes() == 40960 * 2**20
    tool.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert memory.gpu_bytes() is None


def test_a_run_keeps_to_its_share_of_a_gpu(monkeypatch):
    import torch

    from algoprogress.pipeline.worker import Task, keep_to_share

    asked = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", asked.append)
    for device, share in (("cuda", 0.25), ("cuda", 1.0), ("cuda", 0.0), ("cpu", 0.25)):
        keep_to_share(Task("0" * 20, {}, "store", device=device, gpu_share=share))
    assert asked == [0.25]
