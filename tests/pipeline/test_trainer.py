"""One training."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from algoprogress.pipeline.bookkeeping import log_spaced
from algoprogress.pipeline.evaluation import scored, token_losses, validate
from algoprogress.pipeline.trainer import train

FACTS = ("loss", "loss_se", "train_loss", "initial_loss", "bits_per_byte", "compute", "tokens", "status")


def facts(run):
    return {key: run.record[key] for key in FACTS}


@pytest.mark.parametrize("architecture", ["transformer", "lstm"])
def test_training_lowers_the_loss_from_ln_v(make_spec, tokens, architecture):
    run = train(make_spec(architecture), tokens)
    assert run.record["status"] == "done"
    assert run.record["initial_loss"] == pytest.approx(math.log(257), rel=0.05)
    assert run.record["loss"] < 3.5
    assert run.curve.step.iloc[-1] == run.record["steps"] == 40
    assert run.curve.val_loss.iloc[-1] == run.record["loss"]


@pytest.mark.parametrize("architecture", ["transformer", "lstm"])
def test_the_same_spec_gives_the_same_run_bit_for_bit(make_spec, tokens, architecture):
    a, b = (train(make_spec(architecture), tokens) for _ in range(2))
    assert facts(a) == facts(b)
    assert a.curve.drop(columns="wall_seconds").equals(b.curve.drop(columns="wall_seconds"))


def test_the_order_of_runs_in_one_worker_changes_nothing(make_spec, tokens):
    a, b = (
        make_spec(dropout=0.1),
        make_spec("lstm"),
    )
    first = [facts(train(spec, tokens)) for spec in (a, b)]
    torch.set_default_dtype(torch.float64)  # what an earlier run might leave behind
    torch.manual_seed(99)
    second = [facts(train(spec, tokens)) for spec in (b, a)]
    assert first == second[::-1]
    assert torch.get_default_dtype() == torch.float32


def test_float64_and_float32_agree_to_float_tolerance(make_spec, tokens):
    single, double = (train(make_spec(dtype=dtype), tokens).record["loss"] for dtype in ("float32", "float64"))
    assert single != double
    assert single == pytest.approx(double, rel=1e-3)


def test_bfloat16_ends_near_float32(make_spec, tokens):
    a, b = (train(make_spec(dtype=dtype), tokens).record["loss"] for dtype in ("float32", "bfloat16"))
    assert a == pytest.approx(b, rel=0.03)


@pytest.mark.parametrize("architecture", ["transformer", "lstm"])
@pytest.mark.parametrize("optimizer", ["adamw", "momentum", "sgd", "prodigy", "schedule_free_adamw", "soap"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    make_spec, tokens, killed_at_its_first_checkpoint, architecture, optimizer
):
    spec = make_spec(architecture, optimizer=optimizer, learning_rate=0.01)
    whole = train(spec, tokens)
    path, state = killed_at_its_first_checkpoint(spec, tokens)
    assert state["step"] == 16
    resumed = train(spec, tokens, checkpoint_path=path, checkpoint_seconds=1e9)
    assert facts(resumed) == facts(whole)
    assert resumed.curve.drop(columns="wall_seconds").equals(whole.curve.drop(columns="wall_seconds"))
    assert path.exists()  # until the run is published


def test_a_diverged_run_is_a_result_with_its_last_finite_loss(make_spec, tokens):
    run = train(make_spec(optimizer="sgd", learning_rate=1e6, clip=None), tokens)
    assert run.record["status"] == "diverged"
    assert math.isfinite(run.record["loss"])
    assert run.record["tokens"] < 40 * 256
    assert run.curve.step.iloc[-1] == run.record["steps"]


def test_validation_scores_every_token_once_whatever_the_batching(make_spec, tokens):
    spec = make_spec("lstm")
    torch.manual_seed(0)
    model = spec.architecture.build(257, 32)
    losses = token_losses(model, scored(tokens.val, spec), spec, torch.device("cpu"))
    assert len(losses) == 1024
    x = torch.from_numpy(tokens.val[:33].astype(np.int64))
    logits, _ = model(x[None, :-1])
    direct = torch.nn.functional.cross_entropy(logits[0], x[1:], reduction="none")
    assert losses[:32] == pytest.approx(direct.detach().numpy(), rel=1e-5)


def test_carried_state_is_the_same_as_reading_each_stream_in_one_go(make_spec, tokens):
    spec = make_spec("lstm", evaluation={"tokens": 32 * 70, "state": "carry"})  # 70 windows on 32 streams: 3 or 2 each
    torch.manual_seed(0)
    model = spec.architecture.build(257, 32)
    losses = token_losses(model, scored(tokens.val, spec), spec, torch.device("cpu")).reshape(70, 32)
    lanes = torch.arange(70).tensor_split(32)
    for lane in (lanes[0], lanes[-1]):
        first, n = int(lane[0]) * 32, len(lane) * 32
        x = torch.from_numpy(tokens.val[first : first + n + 1].astype(np.int64))
        logits, _ = model(x[None, :-1])
        direct = torch.nn.functional.cross_entropy(logits[0], x[1:], reduction="none").detach().numpy()
        assert losses[lane.numpy()].reshape(-1) == pytest.approx(direct, rel=1e-4)


def test_the_standard_error_is_that_of_a_ratio_over_documents(make_spec, tokens):
    """Against a bootstrap over documents of the same per-token losses."""
    spec = make_spec(evaluation={"tokens": 8192})
    torch.manual_seed(0)
    model = spec.architecture.build(257, 32)
    found = validate(model, tokens, spec, torch.device("cpu"))
    losses = token_losses(model, scored(tokens.val, spec), spec, torch.device("cpu"))
    document = np.searchsorted(tokens.val_documents, np.arange(1, len(losses) + 1), side="right") - 1
    nats, count = np.bincount(document, losses), np.bincount(document)
    rng = np.random.default_rng(0)
    picks = rng.integers(len(count), size=(4000, len(count)))
    resampled = nats[picks].sum(1) / count[picks].sum(1)
    assert found.loss == pytest.approx(losses.mean())
    assert found.loss_se == pytest.approx(resampled.std(), rel=0.2)
    assert found.bits_per_byte == pytest.approx(found.loss / math.log(2), rel=0.02)  # bytes, but for the ends of text


def test_compute_is_counted_in_three_conventions(make_spec, tokens):
    spec = make_spec()
    record = train(spec, tokens).record
    assert record["compute"] == spec.compute
    assert record["compute_6n"] == 6 * record["n_params"] * record["tokens"]
    assert record["compute_6n_total"] == 6 * record["n_params_total"] * record["tokens"]


def test_progress_is_reported_with_speed_and_loss(make_spec, tokens):
    heard = []
    train(make_spec(), tokens, on_progress=heard.append)
    assert heard[-1]["step"] == heard[-1]["steps"] == 40
    assert heard[-1]["tokens_per_second"] > 0
    assert math.isfinite(heard[-1]["loss"])


def test_log_spaced_steps_hold_both_ends():
    for steps in (1, 2, 7, 1000):
        found = log_spaced(steps, 60)
        assert {1, steps} <= found
        assert max(found) == steps


def test_tokens_of_another_vocabulary_are_refused(make_spec, tokens):
    spec = make_spec(data={"corpus_sha256": "0" * 64, "tokenizer": "bpe-300", "context": 32})
    with pytest.raises(ValueError, match="vocabulary of 257, the spec says 300"):
        train(spec, tokens)


def test_a_damaged_checkpoint_is_dropped_and_the_run_begins_again(make_spec, tokens, tmp_path):
    path = tmp_path / "run.safetensors"
    path.write_bytes(b"not a checkpoint")
    with pytest.warns(UserWarning, match="begins again"):
        run = train(make_spec(), tokens, checkpoint_path=path)
    assert facts(run) == facts(train(make_spec(), tokens))


def test_a_run_goes_on_where_no_checkpoint_can_be_written(make_spec, tokens, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="goes on without checkpoints"):
        run = train(make_spec(), tokens, checkpoint_path=tmp_path / "file" / "run", checkpoint_seconds=0.0)
    assert facts(run) == facts(train(make_spec(), tokens))


def test_an_lstm_that_the_processor_has_no_bfloat16_for_is_refused_by_name(make_spec, tokens, monkeypatch):
    monkeypatch.setattr("algoprogress.pipeline.trainer.lstm_in_bfloat16", lambda: False)
    with pytest.raises(ValueError, match="dtype float32 or auto"):
        train(make_spec("lstm", dtype="bfloat16"), tokens)
