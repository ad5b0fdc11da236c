"""What is read and what is predicted: the next token, masked tokens, the class of an image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from algoprogress.ablations import ops
from algoprogress.ablations.ops import UNSCORED
from algoprogress.ablations.spec import RunSpec
from algoprogress.pipeline.evaluation import token_losses, validate
from algoprogress.pipeline.objectives import examples, mask, validation
from algoprogress.pipeline.trainer import build, train

V = 50


@pytest.fixture
def masked_spec(make_spec):
    """A run of BERT on the small corpus."""
    bert = {"name": "bert", "width": 16, "n_layers": 1, "head_dim": 8}

    def make(**changes):
        spec = make_spec(**changes)
        return RunSpec.model_validate(spec.model_dump() | {"architecture": bert})

    return make


def windows(n: int = 400, T: int = 40) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, V, (n, T)))


def test_as_many_tokens_of_each_window_are_masked_as_the_paper_says_and_no_others_change():
    x = windows()
    read, targets = mask(x, V, [1])
    chosen = targets != UNSCORED
    assert (chosen.sum(1) == 6).all(), "15 % of 40"
    assert torch.equal(targets[chosen], x[chosen])
    assert torch.equal(read[~chosen], x[~chosen])
    n = int(chosen.sum())
    shares = [(read[chosen] == V).sum() / n, ((read != V) & (read != x) & chosen).sum() / n]
    shares.append(((read == x) & chosen).sum() / n)
    # of those that are drawn anew one in V is what it was
    for share, said in zip(shares, (0.8, 0.1 * (1 - 1 / V), 0.1 * (1 + 1 / V)), strict=True):
        assert float(share) == pytest.approx(said, abs=4 * math.sqrt(0.16 / n))
    assert int(read[chosen & (read != V)].max()) < V
    assert (chosen.double().mean(0) - 0.15).abs().max() < 0.08, "every place alike"


def test_a_window_of_any_length_has_a_target():
    for T in (1, 2, 3, 7):
        assert ((mask(windows(20, T), V, [1])[1] != UNSCORED).sum(1) == max(1, round(0.15 * T))).all()


def test_a_mask_is_decided_by_its_seed_and_the_place_of_its_window_alone():
    x = windows(30)
    again, fewer, other = mask(x, V, [1, 2]), mask(x[:10], V, [1, 2]), mask(x, V, [1, 3])
    for a, b in zip(mask(x, V, [1, 2]), again, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(again[0][:10], fewer[0])
    assert not torch.equal(again[1], other[1])


def test_each_step_and_seed_masks_anew_and_validation_is_the_same_for_every_run(masked_spec, tokens):
    spec = masked_spec()
    batch = torch.from_numpy(np.asarray(tokens.train[: 33 * 4], dtype=np.int64)).view(4, 33)
    assert torch.equal(examples(spec, batch, 5)[0], examples(spec, batch, 5)[0])
    assert not torch.equal(examples(spec, batch, 5)[0], examples(spec, batch, 6)[0])
    assert not torch.equal(examples(spec, batch, 5)[0], examples(masked_spec(seed=1), batch, 5)[0])
    here, there = (validation(s, tokens.val, 8) for s in (spec, masked_spec(seed=1, learning_rate=0.1)))
    assert torch.equal(here.x_NT, there.x_NT)
    assert torch.equal(here.y_NM, there.y_NM)


def test_the_loss_is_that_of_the_masked_tokens_alone(masked_spec, tokens):
    spec = masked_spec(dtype="float64", evaluation={"tokens": 8192})
    model, _ = build(spec, torch.device("cpu"))
    found = validate(model, tokens, spec, torch.device("cpu"))
    of = validation(spec, tokens.val, 256)
    with torch.no_grad():
        log_p = model(of.x_NT)[0].log_softmax(-1)
    losses = [-log_p[n, t, of.y_NM[n, t]].item() for n, t in (of.y_NM != UNSCORED).nonzero()]
    assert found.tokens == len(losses) == 256 * round(0.15 * 32)
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-12)
    assert 0 < found.loss_se < 0.1
    assert math.isnan(found.bits_per_byte), "the masked tokens do not spell the text"
    np.testing.assert_allclose(token_losses(model, of, spec, torch.device("cpu")), losses, rtol=1e-9)


def test_compiled_kernels_leave_out_what_is_not_scored():
    from algoprogress.pipeline.kernels import kernels

    logits = torch.randn(12, 7, requires_grad=True)
    targets = torch.tensor([3, UNSCORED, 0, 6] * 3)
    plain = torch.autograd.grad(ops.cross_entropy(logits * 1.0, targets), logits)[0]
    with ops.using(ops.Ways(kernels=kernels()[0])):
        ours = torch.autograd.grad(ops.cross_entropy(logits * 1.0, targets), logits)[0]
    torch.testing.assert_close(ours, plain)
    assert not plain[1].any()


def test_a_masked_model_learns_and_again_the_same(masked_spec, tokens):
    spec = masked_spec(tokens=150 * 256, learning_rate=0.01)
    a, b = train(spec, tokens), train(spec, tokens)
    assert a.record["initial_loss"] == pytest.approx(math.log(258), rel=0.05)
    assert a.record["loss"] < 3.0, "that of the letters' frequencies"
    assert a.record["loss"] == b.record["loss"]
    assert a.record["val_tokens"] == 32 * 5


def test_text_is_not_for_models_of_images_nor_images_for_models_of_text():
    fields = {"tokens": 2048, "learning_rate": 0.01}
    with pytest.raises(ValueError, match=r"vit reads images and data.tokenizer is bytes: .* such as pixels-10"):
        RunSpec(architecture="vit", **fields)
    with pytest.raises(ValueError, match=r"lstm reads text and data.tokenizer is pixels-10: .* such as bytes"):
        RunSpec(architecture="lstm", data={"tokenizer": "pixels-10", "context": 64}, **fields)
    with pytest.raises(ValueError, match="8 pixels a side cannot be cut into patches of 16: take a divisor of 8"):
        RunSpec(architecture={"preset": "vit_base"}, data={"tokenizer": "pixels-10", "context": 64}, **fields)
    with pytest.raises(ValueError, match="no square image has 128 values"):
        RunSpec(architecture="mlp", data={"tokenizer": "pixels-10"}, **fields)
