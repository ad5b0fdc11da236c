"""One training step in float64, to numbers written down: what changes them changes the meaning of every stored run.

If a change of the mathematics is meant, raise RECIPE in ablations/spec.py, so that new runs get new identities.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from algoprogress.ablations.architectures import ArchitectureConfig
from algoprogress.ablations.architectures.lstm import LSTM
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.optimizers.adam import Adam
from algoprogress.ablations.optimizers.adamw import AdamW
from algoprogress.ablations.optimizers.sgd import SGD

V, T = 13, 8
TOKENS = torch.tensor([[1, 5, 3, 7, 7, 0, 12, 2, 9], [4, 4, 11, 8, 6, 10, 1, 3, 5]])
CLIP = 1.0

# loss before, loss after one step, gradient norm before it was clipped: nats/token
GOLDEN = {
    "modern": (
        Transformer.preset("modern", width=16, n_layers=2, head_dim=8),
        AdamW(),
        0.01,
        (2.9879034452719044, 2.3142431884898964, 3.533354947846767),
    ),
    "retro": (
        Transformer.preset("retro", width=16, n_layers=2, head_dim=8),
        Adam(),
        0.01,
        (3.0690487293273367, 2.530287954394611, 1.8668130324150927),
    ),
    "lstm": (
        LSTM(width=16, n_layers=2),
        AdamW(),
        0.01,
        (2.5624198708527035, 2.544474068289561, 0.11227620770301351),
    ),
    "lstm-sgd": (
        LSTM(width=16, tied=False),
        SGD(),
        1.0,
        (2.580535998972827, 2.565628614819866, 0.12446848641941273),
    ),
}
# loss of the weights that torch's generator draws for a seed, in float32
DRAWN = {"modern": 2.5498228, "retro": 2.5814989, "lstm": 2.5649664, "lstm-sgd": 2.5658462}


def loss(model: torch.nn.Module) -> torch.Tensor:
    logits_BTV, _ = model(TOKENS[:, :-1], None)
    return F.cross_entropy(logits_BTV.flatten(0, 1), TOKENS[:, 1:].flatten())


def one_step(config: ArchitectureConfig, optimizer_config, rate: float) -> tuple[float, float, float]:
    """The trainer's step: forward, cross-entropy, backward, clip, step."""
    model = config.build(V, T).double()
    # matrices from numpy, whose stream is the same on every processor; norms and biases as they are built
    rng = np.random.default_rng(2017)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.from_numpy(0.2 * rng.standard_normal(parameter.shape)))
    optimizer = optimizer_config.build(model, rate)
    before = loss(model)
    before.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad()
    with torch.no_grad():
        return before.item(), loss(model).item(), norm.item()


@pytest.mark.parametrize("name", GOLDEN)
def test_one_training_step_gives_the_numbers_it_always_gave(name):
    config, optimizer, rate, expected = GOLDEN[name]
    assert one_step(config, optimizer, rate) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", GOLDEN)
def test_the_step_goes_down(name):
    before, after, norm = GOLDEN[name][-1]
    assert after < before
    assert 0.5 * math.log(V) < before < 2 * math.log(V)
    assert norm > 0.1


@pytest.mark.parametrize("name", GOLDEN)
def test_a_seed_draws_the_weights_it_always_drew(name):
    torch.manual_seed(2017)
    model = GOLDEN[name][0].build(V, T)
    assert loss(model).item() == pytest.approx(DRAWN[name], rel=1e-5)
