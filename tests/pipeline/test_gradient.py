"""A batch in parts has the gradient of the whole."""

from __future__ import annotations

import pytest
import torch
from model_cases import data_of

from algoprogress.ablations.architectures import architectures
from algoprogress.ablations.spec import RunSpec
from algoprogress.pipeline.gradient import backward
from algoprogress.pipeline.objectives import examples
from algoprogress.pipeline.trainer import train


@pytest.mark.parametrize("architecture", [a for a in architectures if not architectures[a]().batch_statistics])
@pytest.mark.parametrize("parts", [2, 3, 8])
def test_the_gradient_of_a_batch_is_that_of_its_parts(architecture, parts):
    config = architectures[architecture]()
    spec = RunSpec(architecture=config, learning_rate=0.01, **data_of(config))
    torch.manual_seed(0)
    model = config.build(spec.data.vocab_size, spec.data.context).double()
    batch = torch.randint(0, 10, (8, spec.data.context + 1))
    x, y = examples(spec, batch, step=3)
    _, state = model(x, None)  # where the architecture has one, carried into the batch
    state = None if state is None else tuple(s.detach() for s in state)
    results = []
    for n in (1, parts):
        model.zero_grad()
        loss, after = backward(model, x, y, state, "float64", n)
        results.append((loss, after, [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    (loss, after, gradient), (in_parts, after_parts, gradient_parts) = results
    torch.testing.assert_close(loss, in_parts, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, gradient_parts, rtol=1e-9, atol=1e-12)
    assert (after is None) == (after_parts is None)
    if after is not None:
        torch.testing.assert_close(after, after_parts, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("architecture", ["transformer", "lstm"])
def test_a_training_in_parts_is_the_same_training(make_spec, tokens, architecture):
    spec = make_spec(architecture, dtype="float64")
    whole, parts = train(spec, tokens), train(spec, tokens, micro_batches=4)
    assert parts.record["loss"] == pytest.approx(whole.record["loss"], rel=1e-9)
    assert parts.curve.loss.to_numpy() == pytest.approx(whole.curve.loss.to_numpy(), rel=1e-9)
