"""The recipe of POET: what it replaces, what a merge keeps, what it warns of and what it refuses."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from poet_cases import MODEL, RETRO, T, V, build, every, samplings, spec
from pydantic import ValidationError
from torch import nn

from algoprogress.ablations.accounting import linear_shapes
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.optimizers import optimizers
from algoprogress.ablations.optimizers.adam import Adam
from algoprogress.ablations.optimizers.adamw import AdamW
from algoprogress.ablations.optimizers.sgd import SGD
from algoprogress.ablations.reparameterizations import linear_layers
from algoprogress.ablations.reparameterizations.poet import POET, SpectrumWarning, poet_layers
from algoprogress.ablations.reparameterizations.poet_bs import POETBlockStochastic
from algoprogress.ablations.spec import RunSpec, identity
from algoprogress.ablations.study import flatten


def loss(model: nn.Module) -> torch.Tensor:
    x, y = torch.randint(V, (2, 4, T), generator=torch.Generator().manual_seed(1))
    return F.cross_entropy(model(x)[0].flatten(0, 1), y.flatten())


def train(model: nn.Module, poet: POET, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        loss(model).backward()
        optimizer.step()
        optimizer.zero_grad()
        poet.after_step(model, optimizer, step)


@samplings
@pytest.mark.parametrize("architecture", [MODEL, RETRO], ids=["modern", "retro"])
def test_every_linear_layer_but_the_head_is_replaced_and_nothing_else_changes(sampling, architecture):
    plain, turned = build(None, architecture), build(sampling, architecture)
    assert set(linear_layers(plain)) == set(poet_layers(turned))
    assert linear_layers(turned) == {}
    assert turned.head.weight is turned.embedding.weight
    kept = {n: p for n, p in turned.named_parameters() if ".Q_" not in n}
    assert set(kept) == {n for n, _ in plain.named_parameters()} - {f"{n}.weight" for n in linear_layers(plain)}
    assert all(torch.equal(p, plain.get_parameter(n)) for n, p in kept.items())


@samplings
def test_a_model_without_rotation_is_the_plain_model(sampling):
    turned, plain = build(sampling, RETRO), build(None, RETRO)
    with torch.no_grad():
        for name, layer in poet_layers(turned).items():
            plain.get_submodule(name).weight.copy_(layer.weights().flatten(0, 1))
    torch.testing.assert_close(loss(turned), loss(plain), rtol=0, atol=1e-13)


@samplings
@pytest.mark.parametrize("config", [Adam(), AdamW(), SGD()], ids=lambda c: c.name)
def test_training_goes_down_and_a_merge_changes_no_prediction(sampling, config):
    poet = sampling.model_copy(update={"merge_every": 7})
    model = build(poet, RETRO)
    optimizer = config.build(model, 0.1 if config.name == "sgd" else 0.01)
    first = loss(model).item()
    train(model, poet, optimizer, 6)
    loss(model).backward()
    optimizer.step()
    optimizer.zero_grad()
    before = loss(model).item()
    poet.after_step(model, optimizer, 6)
    assert {int(layer.draw[2]) for layer in poet_layers(model).values()} == {1}
    assert loss(model).item() == pytest.approx(before, abs=1e-12)
    assert before < first


def test_a_merge_forgets_the_moments_of_q_and_of_nothing_else():
    poet = POETBlockStochastic(block=4, merge_every=3)
    model = build(poet)
    optimizer = AdamW().build(model, 0.01)
    train(model, poet, optimizer, 2)
    rotated = {id(q) for layer in poet_layers(model).values() for q in (layer.Q_R, layer.Q_P)}
    assert all(state["exp_avg"].any() for state in optimizer.state.values())
    train(model, poet, optimizer, 3)
    for parameter, state in optimizer.state.items():
        assert all(bool(value.any()) != (id(parameter) in rotated) for value in state.values())


@pytest.mark.parametrize("name", list(optimizers))
def test_every_optimizer_goes_on_after_a_merge(name):
    poet = POETBlockStochastic(
        block=4, merge_every=3
    )  # SOAP's first gradient after a merge, as its first of all, moves nothing
    model = build(poet)
    optimizer = optimizers[name]().build(model, 1e-3)
    train(model, poet, optimizer, 5)
    assert all(p.isfinite().all() for p in model.parameters())
    assert all(layer.Q_R.any() for layer in poet_layers(model).values())


@pytest.mark.parametrize("name", ["sgd", "momentum", "rmsprop", "adam", "adamw"])
def test_the_first_step_after_a_merge_is_that_of_a_new_optimizer(name):
    poet = POETBlockStochastic(block=4, merge_every=3)
    model = build(poet)
    optimizer = optimizers[name]().build(model, 1e-3)
    train(model, poet, optimizer, 3)
    other = copy.deepcopy(model)
    for one, by in ((model, optimizer), (other, optimizers[name]().build(other, 1e-3))):
        loss(one).backward()
        by.step()
    for a, b in zip(poet_layers(model).values(), poet_layers(other).values(), strict=True):
        torch.testing.assert_close(a.Q_R, b.Q_R, rtol=1e-12, atol=1e-15)
        torch.testing.assert_close(a.Q_P, b.Q_P, rtol=1e-12, atol=1e-15)


def test_q_has_no_weight_decay():
    model = build(POETBlockStochastic(block=4))
    groups = AdamW(weight_decay=0.3).build(model, 0.01).param_groups
    assert [group["weight_decay"] for group in groups] == [0.0]


@pytest.mark.parametrize("config", [AdamW(), SGD()], ids=lambda c: c.name)
def test_the_rate_of_q_is_a_multiple_of_the_runs(config):
    # the same as parameter groups with two learning rates
    poet = POETBlockStochastic(block=4, merge_every=4, rate=0.3)
    model, reference = build(poet), build(poet.model_copy(update={"rate": 1.0}))
    optimizer = config.build(model, 0.02)
    turned = [q for layer in poet_layers(reference).values() for q in (layer.Q_R, layer.Q_P)]
    others = [p for p in reference.parameters() if all(p is not q for q in turned)]
    groups = [{"params": turned, "lr": 0.3 * 0.02}, {"params": others}]
    other = (
        torch.optim.SGD(groups, lr=0.02)
        if config.name == "sgd"
        else torch.optim.AdamW(groups, lr=0.02, betas=(0.9, 0.95), weight_decay=0.0)
    )
    train(model, poet, optimizer, 10)
    train(reference, poet.model_copy(update={"rate": 1.0}), other, 10)
    for a, b in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_the_clip_rises_from_a_tenth_after_every_merge_but_not_at_the_start():
    poet = POETBlockStochastic(block=4, merge_every=50, clip_ramp=10)
    assert [poet.clip_factor(step) for step in range(50)] == [1.0] * 50
    assert [poet.clip_factor(50 + j) for j in range(11)] == pytest.approx([0.1 + 0.09 * j for j in range(10)] + [1.0])
    assert poet.clip_factor(150) == poet.clip_factor(100) == 0.1
    assert {POETBlockStochastic(clip_ramp=0).clip_factor(step) for step in range(1000)} == {1.0}


def big(order: int | None) -> tuple[POET, nn.Module, torch.optim.Optimizer]:
    poet = POETBlockStochastic(block=4, merge_every=3, order=order)
    model = build(poet)
    with torch.no_grad():
        next(iter(poet_layers(model).values())).Q_P[0, 0] = 0.95
    return poet, model, SGD().build(model, 0.0)


def test_a_rotation_that_the_series_cannot_follow_is_warned_of_before_it_is_merged():
    poet, model, optimizer = big(3)
    with pytest.warns(SpectrumWarning, match=r"\|\|Q\|\|_2 is 0.95 after step 3, above 0.9.*merge_every \(3\)"):
        train(model, poet, optimizer, 3)
    with torch.no_grad():
        next(iter(poet_layers(model).values())).Q_P[0, 0] = 0.95
    with warnings.catch_warnings():  # once for a model
        warnings.simplefilter("error")
        train(model, poet, optimizer, 3)


@pytest.mark.filterwarnings("error")
def test_the_exact_map_is_warned_of_at_no_size_and_the_series_not_below():
    train(*(big(None)[i] for i in (1, 0, 2)), 3)
    poet = POETBlockStochastic(block=4, merge_every=3)
    model = build(poet)
    with torch.no_grad():
        for layer in poet_layers(model).values():
            layer.Q_P[:, 0] = layer.Q_P[:, 5] = 0.7  # two planes: the bound is 0.99, the norm itself 0.7
            assert layer.Q_P.norm(dim=1).min() > 0.9
    train(model, poet, SGD().build(model, 1e-9), 3)


@pytest.mark.parametrize(
    ("poet", "message"),
    [
        (
            {"name": "poet_bs", "block": 32},
            "blocks.0.attention.qkv is 16 x 16, and 16 is not a multiple of the block 32",
        ),
        ({"name": "poet_bs", "block": 16}, "blocks.0.feed_forward.up is 40 x 16, and 40 is not a multiple"),
        ({"name": "poet_fs", "fraction": 0.3}, "0.3 of 16 is 4.8, not a whole number"),
        ({"name": "poet_fs", "fraction": 1 / 16}, "0.0625 of 16 is 1, not a whole number of 2 or more"),
        ({"name": "poet_bs", "block": 1}, "greater than or equal to 2"),
        ({"name": "poet_bs", "order": 6}, "less than or equal to 5"),
        ({"name": "poet_bs", "init": "zero"}, "'normalized', 'uniform_spectrum', 'standard' or 'xavier'"),
        ({"name": "poet_bs", "fraction": 0.5}, "Extra inputs are not permitted"),
        ("poet", "did you mean 'poet_"),
    ],
    ids=str,
)
def test_what_cannot_be_rotated_is_refused_when_the_run_is_written(poet, message):
    with pytest.raises(ValidationError, match=message):
        spec(reparameterization=poet)


def test_a_model_of_no_linear_layer_is_refused():
    with pytest.raises(ValidationError, match="none but its output layer: take another architecture"):
        spec(architecture="lstm", reparameterization="poet_bs")


@every
def test_every_field_of_a_reparameterization_counts_in_the_identity(name):
    base = spec(reparameterization=name, architecture=Transformer(width=16))
    assert base.run_id != spec(architecture=Transformer(width=16)).run_id
    config = base.reparameterization
    others = {
        "order": 2,
        "merge_every": 50,
        "init": "xavier",
        "rate": 0.5,
        "clip_ramp": 0,
        "block": 4,
        "fraction": 0.25,
    }
    ids = {base.run_id}
    for field in set(type(config).model_fields) - {"name"}:
        changed = base.model_copy(update={"reparameterization": config.model_copy(update={field: others[field]})})
        assert getattr(config, field) != others[field]
        ids.add(changed.run_id)
        assert RunSpec.model_validate_json(changed.model_dump_json()).run_id == changed.run_id
    assert len(ids) == len(type(config).model_fields)
    assert identity(base)["reparameterization"] == {"name": name}
    assert flatten(base.model_dump())["reparameterization.name"] == name


@every
def test_shapes_are_found_without_drawing_random_numbers(name):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    linear_shapes.cache_clear()
    assert spec(reparameterization=name).compute > 0
    assert torch.equal(torch.get_rng_state(), before)


@samplings
def test_seeds_draw_other_weights_and_equal_seeds_the_same(sampling):
    a, b, c = (build(sampling, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(x, y) for x, y in zip(a.values(), b.values(), strict=True))
    name = "blocks.0.attention.out"
    assert not torch.equal(a[f"{name}.shuffle_R"], c[f"{name}.shuffle_R"])
    assert not torch.equal(a[f"{name}.W0_Knm"], c[f"{name}.W0_Knm"])
