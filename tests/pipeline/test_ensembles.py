"""Runs that are trained together end as they do alone."""

from __future__ import annotations

import math
import time

import pandas as pd
import pytest
import torch

from algoprogress.ablations.optimizers import optimizers
from algoprogress.ablations.spec import RunSpec
from algoprogress.pipeline.ensembles.lstm import StackedLSTM
from algoprogress.pipeline.ensembles.train import train_together
from algoprogress.pipeline.trainer import train

# facts that say how fast a run was, not what came out
COSTS = ["wall_seconds", "tokens_per_second", "flop_per_second", "peak_memory_bytes"]
ARCHITECTURES = {
    "modern": {"name": "transformer", "preset": "modern", "width": 16, "n_layers": 2},
    "retro": {"name": "transformer", "preset": "retro", "width": 16, "n_layers": 1},
    "learned": {"name": "transformer", "width": 16, "n_layers": 1, "position": "learned", "tied": False, "bias": True},
    "xavier": {"name": "transformer", "width": 16, "n_layers": 1, "norm": "layernorm", "activation": "relu"}
    | {"placement": "post", "init": "xavier"},
    "lstm": {"name": "lstm", "width": 16},
    "deep lstm": {"name": "lstm", "width": 8, "n_layers": 2, "tied": False},
}
# what members may differ in, beside the optimizer
VARIANTS = [
    {"learning_rate": 0.002, "schedule": "wsd", "clip": 0.2},
    {"learning_rate": 0.004, "seed": 3, "clip": None},
]
DIVERGING = {"optimizer": "sgd", "learning_rate": 1e6, "clip": None}


@pytest.fixture
def spec_of(make_spec):
    """A run of 20 steps of 64 tokens of one of ARCHITECTURES."""

    def make(name, **changes):
        fields = {"tokens": 20 * 64, "batch_tokens": 64, "dtype": "float64", "evaluation": {"tokens": 128}}
        fields |= {"architecture": ARCHITECTURES[name], **changes}
        return RunSpec.model_validate({**make_spec().model_dump(), **fields})

    return make


def every_optimizer():
    """Each registered optimizer that is continuous as it is, and once with its scalars changed."""
    for name in optimizers:
        config = optimizers[name]
        if config.continuous:
            yield {"optimizer": {"name": name}, "learning_rate": config.rates[0], "seed": 1}
            fields = config.model_fields.keys() & {"beta1", "momentum", "alpha"}
            changed = {"name": name, "weight_decay": 0.05, **dict.fromkeys(fields, 0.7)}
            yield {"optimizer": changed, "learning_rate": config.rates[1], "schedule": "wsd", "clip": 0.2}


def together(specs, tokens, **options):
    return {run.record["run_id"]: run for run in train_together(specs, tokens, **options)}


def assert_equal(found, alone, rel):
    """Same columns in the same order, same texts and counts, same numbers but for `rel`."""
    assert list(found.record) == list(alone.record)
    for key in found.record.keys() - set(COSTS):
        expected = alone.record[key]
        assert found.record[key] == (
            pytest.approx(expected, rel=rel, nan_ok=True) if isinstance(expected, float) else expected
        ), key
    numbers = found.curve.drop(columns="wall_seconds"), alone.curve.drop(columns="wall_seconds")
    pd.testing.assert_frame_equal(*numbers, rtol=rel, atol=0)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_members_of_every_architecture_end_as_they_do_alone(spec_of, tokens, name):
    specs = [spec_of(name), *(spec_of(name, **variant) for variant in VARIANTS)]
    runs = together(specs, tokens)
    assert runs.keys() == {spec.run_id for spec in specs}
    for spec in specs:
        assert_equal(runs[spec.run_id], train(spec, tokens), rel=1e-10)


def test_members_with_every_optimizer_end_as_they_do_alone(spec_of, tokens):
    specs = [spec_of("modern", **recipe) for recipe in every_optimizer()]
    runs = together(specs, tokens)
    for spec in specs:
        assert_equal(runs[spec.run_id], train(spec, tokens), rel=1e-10)


@pytest.mark.parametrize("name", ["modern", "lstm"])
def test_in_single_precision_they_are_equal_to_float_tolerance(spec_of, tokens, name):
    fields = {"dtype": "float32", "tokens": 50 * 64}
    specs = [spec_of(name, seed=seed, learning_rate=0.002 * (1 + seed), **fields) for seed in range(3)]
    runs = together(specs, tokens)
    for spec in specs:
        assert runs[spec.run_id].record["loss"] == pytest.approx(train(spec, tokens).record["loss"], rel=1e-5)


def test_in_bfloat16_they_are_as_near_as_that_is(spec_of, tokens):
    specs = [spec_of("modern", dtype="bfloat16", seed=seed) for seed in range(3)]
    runs = together(specs, tokens)
    for spec in specs:
        assert runs[spec.run_id].record["loss"] == pytest.approx(train(spec, tokens).record["loss"], rel=1e-2)


@pytest.mark.parametrize("name", ["modern", "lstm"])
def test_a_member_that_diverges_harms_no_other(spec_of, tokens, name):
    specs = [spec_of(name, seed=0), spec_of(name, **DIVERGING), spec_of(name, seed=1), spec_of(name, seed=2)]
    runs = together(specs, tokens)
    assert [runs[spec.run_id].record["status"] for spec in specs] == ["done", "diverged", "done", "done"]
    lost = runs[specs[1].run_id]
    assert math.isfinite(lost.record["loss"])
    assert lost.record["steps"] == lost.curve.step.iloc[-1] == train(specs[1], tokens).record["steps"]
    for spec in specs[:1] + specs[2:]:
        assert_equal(runs[spec.run_id], train(spec, tokens), rel=1e-10)


def test_members_that_all_diverge_end_the_ensemble(spec_of, tokens):
    runs = together([spec_of("modern", seed=seed, **DIVERGING) for seed in range(3)], tokens)
    assert {run.record["status"] for run in runs.values()} == {"diverged"}


@pytest.mark.parametrize("state", ["reset", "carry"])
def test_they_are_validated_as_often_and_as_they_are_alone(spec_of, tokens, state):
    specs = [spec_of("lstm", seed=seed, evaluation={"tokens": 256, "times": 4, "state": state}) for seed in range(2)]
    runs = together(specs, tokens)
    for spec in specs:
        assert runs[spec.run_id].curve.val_loss.notna().sum() == 4
        assert_equal(runs[spec.run_id], train(spec, tokens), rel=1e-10)


def test_a_members_time_is_its_share(spec_of, tokens):
    begun = time.perf_counter()
    runs = together([spec_of("modern", seed=seed) for seed in range(3)] + [spec_of("modern", **DIVERGING)], tokens)
    elapsed = time.perf_counter() - begun
    shares = [run.record["wall_seconds"] for run in runs.values()]
    assert 0.3 * elapsed < sum(shares) <= elapsed
    assert all(run.curve.wall_seconds.is_monotonic_increasing for run in runs.values())


def test_each_member_reports_its_own_progress(spec_of, tokens):
    heard = {}
    specs = [spec_of("modern", seed=seed) for seed in range(2)]
    together(specs, tokens, on_progress=lambda run_id, beat: heard.update({run_id: beat}))
    assert heard.keys() == {spec.run_id for spec in specs}
    assert {beat["step"] for beat in heard.values()} == {20}
    assert len({beat["loss"] for beat in heard.values()}) == 2


class Killed(Exception):
    pass


@pytest.mark.parametrize("name", ["modern", "lstm"])
def test_interrupted_members_go_on_together_or_alone(spec_of, tokens, tmp_path, name):
    specs = [spec_of(name, seed=seed, tokens=40 * 64, optimizer=o) for seed, o in enumerate(["adamw", "momentum"])]
    whole = [train(spec, tokens) for spec in specs]
    specs.append(spec_of(name, tokens=40 * 64, **DIVERGING))
    paths = {spec.run_id: tmp_path / f"{spec.run_id}.safetensors" for spec in specs}

    def die(run_id, beat):
        if beat["step"] == beat["steps"]:  # after the checkpoint of step 32
            raise Killed

    with pytest.raises(Killed):
        together(specs, tokens, on_progress=die, checkpoint_paths=paths, checkpoint_seconds=0.0)
    assert [path.exists() for path in paths.values()] == [True, True, False]  # the one that diverged has ended
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(paths[specs[0].run_id].read_bytes())
    assert_equal(train(specs[0], tokens, checkpoint_path=alone), whole[0], rel=1e-10)
    runs = together(specs, tokens, checkpoint_paths=paths)
    for spec, expected in zip(specs, whole, strict=False):
        assert_equal(runs[spec.run_id], expected, rel=1e-10)
    assert runs[specs[2].run_id].record["status"] == "diverged"


def test_a_damaged_checkpoint_is_dropped_and_the_member_begins_again(spec_of, tokens, tmp_path):
    specs = [spec_of("modern", seed=seed) for seed in range(2)]
    path = tmp_path / "run.safetensors"
    path.write_bytes(b"not a checkpoint")
    with pytest.warns(UserWarning, match="begins again"):
        runs = together(specs, tokens, checkpoint_paths={specs[1].run_id: path})
    assert_equal(runs[specs[1].run_id], train(specs[1], tokens), rel=1e-10)


def test_an_ensemble_goes_on_where_no_checkpoint_can_be_written(spec_of, tokens, tmp_path):
    (tmp_path / "file").write_text("in the way")
    specs = [spec_of("modern", seed=seed) for seed in range(2)]
    paths = {spec.run_id: tmp_path / "file" / "run" for spec in specs}
    with pytest.warns(UserWarning, match="goes on without checkpoints"):
        runs = together(specs, tokens, checkpoint_paths=paths, checkpoint_seconds=0.0)
    assert len(runs) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": {**ARCHITECTURES["modern"], "dropout": 0.1}},
        {"architecture": {**ARCHITECTURES["modern"], "width": 32}},
        {"batch_tokens": 128},
        {"dtype": "float32"},
        {"optimizer": "soap"},
    ],
)
def test_runs_that_cannot_be_trained_together_are_refused(spec_of, tokens, changes):
    with pytest.raises(ValueError, match="one by one"):
        together([spec_of("modern"), spec_of("modern", **changes)], tokens)


def test_tokens_of_another_vocabulary_are_refused(spec_of, tokens):
    data = {"corpus_sha256": "0" * 64, "tokenizer": "bpe-300", "context": 32}
    with pytest.raises(ValueError, match="vocabulary of 257, the spec says 300"):
        together([spec_of("modern", data=data, seed=seed) for seed in range(2)], tokens)


def test_the_gradient_of_the_stacked_lstm_is_the_derivative_of_its_output():
    K, T, B, D = 2, 5, 3, 4
    torch.manual_seed(0)
    shapes = [(K, T, B, D), (K, B, D), (K, B, D), (K, 4 * D, D), (K, 4 * D, D), (K, 4 * D)]
    inputs = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    assert torch.autograd.gradcheck(StackedLSTM.apply, inputs)


def test_the_stacked_lstm_is_torchs_own():
    torch.manual_seed(0)
    layers = [torch.nn.LSTM(4, 4, batch_first=True).double() for _ in range(3)]
    x, h, c = torch.randn(3, 2, 6, 4).double(), torch.randn(3, 2, 4).double(), torch.randn(3, 2, 4).double()
    W, U, b, d = (torch.stack(part) for part in zip(*(layer.all_weights[0] for layer in layers), strict=True))
    y, h_after, c_after = StackedLSTM.apply(x.transpose(1, 2), h, c, W, U, b + d)
    for k, layer in enumerate(layers):
        expected, (h_k, c_k) = layer(x[k], (h[k][None], c[k][None]))
        torch.testing.assert_close(y[k].transpose(0, 1), expected)
        torch.testing.assert_close((h_after[k], c_after[k]), (h_k[0], c_k[0]))
