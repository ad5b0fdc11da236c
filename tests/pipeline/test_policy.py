"""The device policy: made once on a machine, harmless to results, and written into the record."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from algoprogress.ablations import ops
from algoprogress.ablations.architectures.lstm import LSTM
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.studies.smoke import smoke
from algoprogress.pipeline import kernels, plan, policy
from algoprogress.pipeline.policy import Policy, choose
from algoprogress.pipeline.trainer import train

FACTS = ("loss", "loss_se", "train_loss", "initial_loss", "bits_per_byte", "compute", "tokens", "status")


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("ALGOPROGRESS_CACHE", str(tmp_path))
    policy._choice.cache_clear()
    yield tmp_path
    policy._choice.cache_clear()


def test_it_is_measured_once_and_then_read_by_every_worker(fresh, monkeypatch):
    first = choose("cpu")
    assert first.peak > 1e8
    (path,) = (fresh / "policy").iterdir()
    assert json.loads(path.read_text())["peak"] == first.peak
    policy._choice.cache_clear()
    monkeypatch.setattr(policy, "measure", lambda *_: pytest.fail("measured again"))
    assert choose("cpu") == first


def test_a_torn_file_is_measured_anew(fresh, monkeypatch):
    monkeypatch.setattr(policy, "measure", lambda *_: Policy(peak=1.0))
    choose("cpu")
    (path,) = (fresh / "policy").iterdir()
    path.write_text("{")
    policy._choice.cache_clear()
    assert choose("cpu") == Policy(peak=1.0)
    assert json.loads(path.read_text())["peak"] == 1.0


@pytest.mark.parametrize(
    "architecture",
    [
        Transformer.preset("modern", width=32, n_layers=2),
        Transformer.preset("retro", width=32, n_layers=2),
        LSTM(width=32, n_layers=2),
    ],
    ids=["modern", "retro", "lstm"],
)
def test_no_policy_changes_a_float32_loss_by_more_than_1e_5_after_100_steps(make_spec, tokens, architecture):
    spec = make_spec(tokens=100 * 256, learning_rate=0.003).model_copy(update={"architecture": architecture})
    plain = train(spec, tokens).record
    names = {"mkl", "onednn"} if torch.backends.mkldnn.is_available() else {None}
    name = kernels.kernels()[1] if kernels.kernels()[0] else None
    found = [choose("cpu")]
    found += [Policy(matmul, attention) for matmul in names for attention in ("fused", "products")]  # type: ignore[arg-type]
    found += [Policy(kernels=name, linear=linear) for linear in (False, True)] if name else []
    for each in found:
        record = train(spec, tokens, policy=each).record
        assert record["steps"] == 100
        for fact in ("loss", "train_loss"):
            assert record[fact] == pytest.approx(plain[fact], rel=1e-5), each


def test_two_orders_of_runs_in_one_worker_give_equal_records(make_spec, tokens):
    specs = [make_spec(), make_spec("lstm"), make_spec(dropout=0.1), make_spec(dtype="float64")]

    def records(order):
        runs = {spec.run_id: train(spec, tokens, policy=choose("cpu", spec.dtype)) for spec in order}
        return {run_id: {fact: run.record[fact] for fact in FACTS} for run_id, run in runs.items()}

    assert records(specs) == records(specs[::-1])


def test_a_record_says_how_it_was_computed(make_spec, tokens):
    how = Policy(matmul="mkl", attention="products", peak=1e12)
    record = train(make_spec(), tokens, policy=how).record
    assert record["matmul"] == "mkl"
    assert record["attention"] == "products"
    assert record["kernels"] is None
    assert record["torch_compile"] is False
    assert record["gemm_fraction"] == record["flop_per_second"] / 1e12
    assert Policy().facts(5.0)["gemm_fraction"] is None
    assert Policy(kernels="abc", linear=True).compiling().facts(5.0)["attention"] == "inductor"


def test_everything_is_as_before_after_a_block_and_after_an_error():
    before = torch.backends.mkldnn.matmul.fp32_precision
    with pytest.raises(RuntimeError, match="inside"), Policy(matmul="onednn", attention="products").active():
        assert ops.chosen().attention == "products"
        raise RuntimeError("inside")
    assert torch.backends.mkldnn.matmul.fp32_precision == before
    assert ops.chosen() == ops.Ways()


def test_a_library_with_coarse_results_is_refused_however_fast_it_is(monkeypatch):
    exact = torch.Tensor.__matmul__

    def coarse(a, b):
        quick = torch.backends.mkldnn.matmul.fp32_precision == "bf16"
        return exact(a.bfloat16(), b.bfloat16()).to(a.dtype) if quick and a.dtype == torch.float32 else exact(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", coarse)
    monkeypatch.setattr(policy, "fastest", lambda ways: "onednn")
    assert policy.fastest_library() != "onednn"


def test_another_way_is_taken_only_if_it_is_clearly_faster(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(policy.time, "process_time", lambda: clock.now)

    def takes(seconds):
        def work():
            clock.now += seconds

        return work

    assert policy.fastest({"own": takes(1.0), "other": takes(0.99)}) == "own"
    assert policy.fastest({"own": takes(1.0), "other": takes(0.8)}) == "other"


def test_auto_is_what_the_hardware_is_best_at(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert policy.best_dtype() == "bfloat16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    assert policy.best_dtype() == "float32"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="this one has none: name float32 or bfloat16"):
        policy.best_dtype("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert policy.best_dtype("cuda") == "bfloat16"


def test_auto_is_settled_by_resolving_and_is_then_part_of_the_identity(tiny_study, monkeypatch):
    def with_dtype(dtype):
        arms = {
            arm: tuple(e.model_copy(update={"spec": e.spec.model_copy(update={"dtype": dtype})}) for e in entries)
            for arm, entries in tiny_study.arms.items()
        }
        return tiny_study.model_copy(update={"arms": arms})

    auto = with_dtype("auto")
    with pytest.raises(ValueError, match="'auto' stands for no number format yet"):
        auto.specs()
    for dtype in ("float32", "bfloat16"):
        monkeypatch.setattr(plan, "best_dtype", lambda device, dtype=dtype: dtype)
        assert plan.resolve(auto).specs().keys() == plan.resolve(with_dtype(dtype)).specs().keys()


def test_the_identity_of_float32_runs_is_what_it_always_was():
    spec = next(iter(smoke().entries()))[1].spec
    data = spec.data.model_copy(update={"corpus_sha256": "0" * 64})
    assert spec.model_copy(update={"data": data}).run_id == "ad505130d8842db0ccf7"


def test_torch_compile_is_taken_where_a_shape_repays_it(make_spec, monkeypatch):
    short, long = make_spec(), make_spec(tokens=400 * 256)
    other = make_spec("lstm")
    monkeypatch.setattr(plan.Calibration, "seconds", lambda self, spec: 1000.0 if spec == long else 1.0)
    monkeypatch.setattr("algoprogress.pipeline.policy.choose", lambda *_: Policy())
    # a shape is compiled once a worker, so the short run of the same shape gains from it too
    assert plan.worth_compiling([short, long, other], 1) == {short.run_id, long.run_id}
    assert plan.worth_compiling([short, long, other], 1000) == set()
    assert plan.worth_compiling([short, other], 1) == set()
    monkeypatch.setattr("algoprogress.pipeline.policy.choose", lambda *_: Policy(kernels="abc"))
    assert plan.worth_compiling([short, long, other], 1) == set()
    assert plan.worth_compiling([short, other], 1, "cuda") == {short.run_id, other.run_id}
