"""muP (Yang et al. 2022): what a layer puts out moves by as much at any width, and so a rate is best at all of them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.optimizers import parameter_groups
from algoprogress.ablations.optimizers.adam import Adam
from algoprogress.ablations.optimizers.adamw import AdamW
from algoprogress.ablations.spec import Data, RunSpec, identity

WIDTHS = (32, 64, 128, 256)
BASE = 32
V, T, STEPS = 32, 16, 5


def architecture(width: int, mup: bool, **fields) -> Transformer:
    start = {"init": "normal", "init_std": 0.1}
    return Transformer(width=width, n_layers=2, base_width=BASE if mup else 0, **{**start, **fields})


def moved(width: int, mup: bool, seed: int = 0, **fields) -> dict[str, float]:
    """How far a few steps move what blocks and logits put out, root mean square."""
    torch.manual_seed(seed)
    model = architecture(width, mup, **fields).build(V, T)
    x = torch.randint(V, (8, T + 1), generator=torch.Generator().manual_seed(seed))
    optimizer = Adam().build(model, 0.01)
    seen: dict[str, torch.Tensor] = {}
    parts = {"attention": model.blocks[0].attention, "block": model.blocks[1]}
    for name, part in parts.items():
        part.register_forward_hook(lambda _, __, out, name=name: seen.__setitem__(name, out.detach()))

    def look() -> dict[str, torch.Tensor]:
        with torch.no_grad():
            logits = model(x[:, :-1])[0]
        return {**seen, "logits": logits}

    before = look()
    for _ in range(STEPS):
        F.cross_entropy(model(x[:, :-1])[0].flatten(0, 1), x[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    after = look()
    return {name: (after[name] - before[name]).square().mean().sqrt().item() for name in before}


def slopes(mup: bool, **fields) -> dict[str, float]:
    """Exponent of each movement in the width."""
    found = [[moved(width, mup, seed, **fields) for seed in range(2)] for width in WIDTHS]
    means = {k: [np.mean([one[k] for one in at_width]) for at_width in found] for k in found[0][0]}
    return {k: float(np.polyfit(np.log(WIDTHS), np.log(values), 1)[0]) for k, values in means.items()}


@pytest.mark.parametrize("placement", ["pre", "post"])
def test_coordinates_move_by_as_much_at_any_width_under_mup_and_by_more_without(placement):
    mup, standard = slopes(True, placement=placement), slopes(False, placement=placement)
    assert max(abs(slope) for slope in mup.values()) < 0.2, mup
    assert standard["logits"] > 0.4, standard
    if placement == "pre":  # a norm at the end of a block holds it at one size
        assert standard["block"] > 0.3, standard


def test_at_its_base_width_mup_is_the_standard_parametrization_bit_for_bit():
    for init in ("normal", "depth_scaled", "xavier"):
        models = []
        for mup in (True, False):
            torch.manual_seed(0)
            models.append(architecture(BASE, mup, init=init).build(V, T))
        x = torch.arange(T)[None]
        assert torch.equal(models[0](x)[0], models[1](x)[0])
        assert [g.keys() for g in parameter_groups(models[0], 0.1)] == [{"params", "weight_decay"}] * 2


@pytest.mark.parametrize(("init", "position", "tied"), [("normal", "rotary", True), ("xavier", "sinusoidal", False)])
def test_hidden_matrices_begin_smaller_and_move_less_and_the_rest_as_at_the_base(init, position, tied):
    wide = architecture(512, True, init=init, position=position, tied=tied).build(V, T)
    assert wide.scale == pytest.approx(math.sqrt(BASE) if position == "sinusoidal" else 1.0)
    assert wide.embedding.weight.std().item() == pytest.approx(0.1, rel=0.05)
    assert wide.output_scale == BASE / 512
    if init == "normal":
        assert wide.blocks[0].attention.out.weight.std().item() == pytest.approx(0.1 * math.sqrt(BASE / 512), rel=0.05)
    rates = {}
    for group in AdamW(weight_decay=0.1).build(wide, 0.01).param_groups:
        rates |= dict.fromkeys(group["params"], (group.get("rate", 1.0), group["weight_decay"]))
    assert rates.keys() == set(wide.parameters())
    hidden = {m.weight for m in wide.blocks.modules() if isinstance(m, nn.Linear)}
    for parameter, (rate, decay) in rates.items():
        assert rate == (BASE / 512 if parameter in hidden else 1.0)
        assert decay == (0.1 if parameter in hidden or (parameter is wide.head.weight and not tied) else 0.0)


def spec(**fields) -> RunSpec:
    data = Data(corpus_sha256="ab" * 32)
    return RunSpec(
        **{"architecture": architecture(64, True), "tokens": 2048, "learning_rate": 0.01, "data": data} | fields
    )


def test_the_standard_parametrization_leaves_the_identity_as_it_was():
    assert "base_width" not in json.dumps(identity(spec(architecture=architecture(64, False))))
    assert spec().run_id != spec(architecture=architecture(64, False)).run_id


def test_mup_is_refused_where_its_rates_do_not_hold():
    with pytest.raises(ValueError, match="has rates for adam and adamw, not for momentum"):
        spec(optimizer={"name": "momentum"})
    with pytest.raises(ValueError, match="is of weights, which poet_fs replaces"):
        spec(reparameterization={"name": "poet_fs"})
