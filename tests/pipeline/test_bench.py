"""Benchmarks: their arithmetic, their page, and that what they compare is equal."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from algoprogress.pipeline import (
    bench,
    bench_grid,
    bench_levers,
    bench_parity,
    bench_report,
    bench_schedule,
    bench_store,
    bench_train,
)
from algoprogress.pipeline.bench_train import CASES, CONTEXT, Case, installed

TINY = Case("modern", 1, 16, 257, 256, {"plain": (1.0, 1.0)})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_ours_and_the_peers_train_the_same_model(case):
    spec = case.spec(3)
    assert spec.data.vocab_size == case.vocab_size
    assert spec.tokens == 3 * case.batch_tokens
    if case.model == "gpt2" and installed("hf") and case.width <= 64:
        theirs = bench_train._gpt2(case)
        assert sum(p.numel() for p in theirs.parameters()) == spec.n_params_total


@pytest.mark.skipif(not installed("hf"), reason="transformers is not installed")
def test_our_gpt2_computes_what_that_of_transformers_does():
    case = Case("gpt2", 2, 32, 257, 256, {})
    ours, theirs = case.architecture().build(257, CONTEXT), bench_train._gpt2(case)
    source = dict(theirs.named_parameters())
    with torch.no_grad():
        ours.embedding.weight.copy_(source["transformer.wte.weight"])
        ours.learned.weight.copy_(source["transformer.wpe.weight"])
        for k, block in enumerate(ours.blocks):
            here = f"transformer.h.{k}."
            for layer, name in (
                (block.attention.qkv, "attn.c_attn"),
                (block.attention.out, "attn.c_proj"),
                (block.feed_forward.up, "mlp.c_fc"),
                (block.feed_forward.down, "mlp.c_proj"),
            ):
                layer.weight.copy_(source[f"{here}{name}.weight"].T)  # theirs are stored as inputs by outputs
                layer.bias.copy_(source[f"{here}{name}.bias"])
            for norm, name in ((block.norm1, "ln_1"), (block.norm2, "ln_2")):
                norm.weight.copy_(source[f"{here}{name}.weight"])
                norm.bias.copy_(source[f"{here}{name}.bias"])
        x = torch.randint(257, (2, CONTEXT), generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(ours(x)[0], theirs(x).logits, rtol=1e-4, atol=1e-5)


def test_each_contestant_takes_as_many_steps_as_it_is_told(monkeypatch):
    spec = TINY.spec(1)
    counted = []
    build = type(spec.optimizer).build

    def counting(self, model, rate):
        optimizer = build(self, model, rate)
        optimizer.register_step_post_hook(lambda *_: counted.append(1))
        return optimizer

    monkeypatch.setattr(type(spec.optimizer), "build", counting)
    bench_train.ours(TINY, "float32")(4)
    assert len(counted) == 4


@pytest.mark.slow
def test_the_training_benchmark_gives_ratios_and_the_floor(monkeypatch):
    monkeypatch.setattr(bench_train, "SECONDS", 0.05)
    peer, floor = bench_train.rows([TINY], rounds=2)
    assert peer["ratio"] == pytest.approx(peer["peer"] / peer["ours"])
    assert peer["ratio_low"] <= peer["ratio_high"]
    assert peer["holds"] == (peer["ratio"] >= 1.0)
    assert 0 < floor["ratio"] < 1.5
    assert floor["holds"] is None


@pytest.mark.slow
def test_a_contestant_that_cannot_be_started_says_why():
    with pytest.raises(RuntimeError, match="KeyError: 'nobody'"):
        bench_train.Contestant("nobody", TINY, "float32")


def test_the_grid_is_a_study_of_eight_runs_of_equal_shape(tmp_path):
    from algoprogress.ablations.study_file import load

    path = tmp_path / "grid.yaml"
    path.write_text(bench_grid.study())
    specs = [entry.spec for _, entry in load(path).entries()]
    assert len(specs) == bench_grid.RUNS == 8
    assert {spec.steps for spec in specs} == {200}
    assert {spec.batch_tokens for spec in specs} == {4096}
    assert len({spec.seed for spec in specs}) == 8
    assert specs[0].architecture == bench_grid.CASE.architecture()


def test_a_peer_of_the_grid_is_scaled_up_without_its_start(monkeypatch):
    # 10 s in all, 4 s of them for two runs: eight runs are 6 + 16 s
    printed = f"chatter\n{json.dumps({'wall': 4.0, 'cpu': 6.0})}\n"
    monkeypatch.setattr(bench_grid, "timed", lambda command, threads: (10.0, 9.0, printed))
    assert bench_grid.peer("plain") == (22.0, 27.0)


def test_levers_that_are_off_leave_the_step_as_it_was():
    step = bench_levers.Step(TINY)
    before = [p.detach().clone() for p in step.model.parameters()]

    def after(**options):
        with torch.no_grad():
            for p, b in zip(step.model.parameters(), before, strict=True):
                p.copy_(b)
        step.optimizer.state.clear()
        step(**options)
        return [p.detach().clone() for p in step.model.parameters()]

    whole = after()
    for options in ({"chunks": 2}, {"read": True}, {"foreach_clip": True}):
        for a, b in zip(after(**options), whole, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_parity_is_a_paired_test_by_seed(monkeypatch):
    monkeypatch.setattr("algoprogress.pipeline.policy.lstm_in_bfloat16", lambda: True)
    noise = np.random.default_rng(0).normal(0, 0.01, 5)
    shift = {"lstm": 0.05, "modern": 0.0}

    def trained(spec, tokens, policy):
        off = shift["lstm" if spec.architecture.name == "lstm" else "modern"] * (spec.dtype == "bfloat16")
        loss = 2 + noise[spec.seed] + off + 1e-4 * np.sin(spec.seed) * (spec.dtype == "bfloat16")
        return type("Run", (), {"record": {"loss": loss}})

    monkeypatch.setattr("algoprogress.pipeline.trainer.train", trained)
    monkeypatch.setattr("algoprogress.pipeline.policy.choose", lambda *_: None)
    monkeypatch.setattr("algoprogress.pipeline.data.resolve", lambda name: type("R", (), {"sha256": "0" * 64}))
    monkeypatch.setattr("algoprogress.pipeline.data.open_tokens", lambda *_: None)
    lstm, modern = bench_parity.rows()
    assert lstm["difference"] == pytest.approx(0.05, abs=1e-3)
    assert lstm["p"] < 1e-3
    assert not lstm["holds"]
    assert modern["holds"]
    assert modern["difference_low"] < 0 < modern["difference_high"]
    assert modern["seed_sd"] == pytest.approx(noise.std(ddof=1))


def test_the_page_names_the_machine_and_no_host(monkeypatch):
    import platform

    rows = [{"case": "a", "ours": 1.0, "peer": 2.0, "ratio": 2.0, "target": None, "holds": True, "empty": None}]
    page = bench_report.page({"store": ("Fast?", rows)})
    assert "| a | 1 | 2 | 2 | yes |" in page
    assert "empty" not in page
    assert "algoprogress bench store" in page
    assert "GFLOP/s" in page
    assert platform.node() not in page


def test_bench_all_writes_the_page_where_there_is_a_docs_folder(cli, monkeypatch, tmp_path):
    def quick():
        """Is it quick?"""
        return [{"case": "a", "ours": 1.0, "peer": 2.0, "ratio": 2.0, "unit": "s", "target": 1.0, "holds": True}]

    monkeypatch.setattr("algoprogress.pipeline.commands.bench.PAGE", tmp_path / "docs" / "benchmarks.md")
    monkeypatch.setattr(bench, "benchmarks", {"quick": quick})
    assert cli("bench", "all")[0] == 0
    assert not (tmp_path / "docs").exists()
    (tmp_path / "docs").mkdir()
    assert cli("bench", "all")[0] == 0
    assert "Is it quick?" in (tmp_path / "docs" / "benchmarks.md").read_text()


@pytest.mark.slow
def test_a_store_of_300_runs_is_read_whole_before_between_and_after_compactions():
    found = bench_store.limits(300)
    assert [row["unit"] for row in found] == ["wall ms", "wall s", "wall s", "wall s", "GiB", "wall s"]
    assert all(row["ratio"] == pytest.approx(row["peer"] / row["ours"]) for row in found)
    assert all(row["holds"] for row in found)


def test_a_store_that_loses_a_run_does_not_hold(monkeypatch):
    facts = {"runs": 10.0, "wall": 0.1, "cpu": 0.1, "bytes": 1e6}
    monkeypatch.setattr(bench_store, "fill", lambda url, runs: None)
    monkeypatch.setattr(bench_store, "kill_compactions", lambda url: None)
    monkeypatch.setattr(bench_store, "measured", lambda act, url: {**facts, "runs": 9.0 if act == "status" else 10.0})
    assert not any(row["holds"] for row in bench_store.limits(10))
    monkeypatch.setattr(bench_store, "measured", lambda act, url: facts)
    assert all(row["holds"] for row in bench_store.limits(10))


def test_the_overhead_of_a_run_is_what_is_left_of_the_time_of_all_slots():
    # two slots, three runs of 1 s each, half a second between two of them
    spans = [(first + k * 1.5, first + k * 1.5 + 1.0) for first in (10.0, 10.0) for k in range(3)]
    assert bench_schedule.overhead(spans, 2, 1.0) == pytest.approx(0.5)


def test_a_run_that_sleeps_is_claimed_published_and_noted(tmp_path):
    from algoprogress.pipeline import synthetic
    from algoprogress.pipeline.worker import Task
    from algoprogress.results import Store

    spec, store = synthetic.base(), Store(tmp_path / "store")
    work = bench_schedule.sleeper(tmp_path / "log", 0.01)
    outcome = work(Task(spec.run_id, spec.model_dump(mode="json"), store.url).plain())
    assert outcome["status"] == "done"
    begun, ended = map(float, (tmp_path / "log").read_text().split())
    assert 0.01 <= ended - begun < 1
    assert store.runs()["loss"].tolist() == [synthetic.loss(spec)]
    assert store.verify().empty
    assert store.active().empty


@pytest.mark.slow
def test_the_schedule_benchmark_gives_the_limit_and_the_peer():
    limit, *peers = bench_schedule.rows(runs=8, seconds=0.2)
    assert limit["peer"] == 50
    assert len(peers) == 2
    for peer in peers:
        assert limit["ours"] == peer["ours"] > 0
        assert peer["peer_start_seconds"] > 0
