"""What every optimizer promises, whichever it is: a new one is tested by existing."""

import copy
import math

import pytest
import torch
from model_cases import shape_of
from torch import Tensor, nn

from algoprogress.ablations.architectures import architectures
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.optimizers import optimizers, parameter_groups, role_groups
from algoprogress.ablations.optimizers.roles import roles

V, T = 13, 6
every = pytest.mark.parametrize("name", list(optimizers))
precisions = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
FULL = {"bias": True, "norm": "layernorm", "position": "learned"}
MODELS = {name: architectures[name]() for name in architectures} | {
    "transformer-full": Transformer(width=16, **FULL),
    "transformer-full-untied": Transformer(width=16, tied=False, **FULL),
    "lstm-untied": architectures["lstm"](width=8, n_layers=2, tied=False),
}
models = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())


class Odd(nn.Module):
    """Every shape that a parameter may have: a number, nothing at all, a convolution, a table, a matrix, a row."""

    def __init__(self) -> None:
        super().__init__()
        self.scalar = nn.Parameter(torch.tensor(0.5))
        self.empty = nn.Parameter(torch.empty(0))
        self.empty_matrix = nn.Parameter(torch.empty(3, 0))
        self.cube = nn.Parameter(torch.randn(2, 3, 2))
        self.table = nn.Embedding(7, 4)
        self.conv = nn.Conv2d(2, 3, 3)
        self.conv1 = nn.Conv1d(1, 1, 1)
        self.linear = nn.Linear(4, 5)
        self.row = nn.Linear(6, 1, bias=False)


def build(config, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return config.build(*shape_of(config, V, T)).to(dtype)


def odd(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return Odd().to(dtype)


def gradients(model: nn.Module, seed: int) -> None:
    """Reproducible gradients that no loss made."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter.dtype)


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def decayed(model: nn.Module) -> set[int]:
    """Matrices of linear and recurrent layers that are not the token table: said here a second time, by hand."""
    chosen: set[int] = set()
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            chosen.add(id(module.weight))
        if isinstance(module, nn.LSTM):
            chosen |= {id(p) for n, p in module.named_parameters() if n.startswith("weight_")}
    return chosen - {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}


@every
@models
def test_every_parameter_is_in_one_group_and_matrices_alone_decay(name, model):
    model = build(model)
    optimizer = optimizers[name](weight_decay=0.3).build(model, 0.01)
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in model.parameters()}
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {i for i, share in decay.items() if share == 0.3} == decayed(model) != set()
    assert set(decay.values()) == {0.3, 0.0}


@every
def test_without_a_gradient_norms_biases_and_embeddings_stay_where_they_are(name):
    model = build(MODELS["transformer-full"])
    config = optimizers[name](weight_decay=0.3)
    optimizer = config.build(model, config.rates[-1])
    before, matrices = weights(model), decayed(model)
    for _ in range(3):
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    for old, parameter in zip(before, model.parameters(), strict=True):
        assert parameter.isfinite().all()
        if id(parameter) in matrices:
            assert parameter.norm() < old.norm()
        else:
            assert torch.equal(parameter, old)


@every
@precisions
@models
def test_a_zero_gradient_gives_no_nan(name, dtype, model):
    model = build(model, dtype)
    optimizer = optimizers[name]().build(model, 0.01)
    for step in range(4):
        gradients(model, step)
        if step % 2 == 0:
            for parameter in model.parameters():
                parameter.grad.zero_()
        optimizer.step()
        assert all(p.isfinite().all() for p in model.parameters())


@every
@precisions
def test_rows_without_a_gradient_give_no_nan(name, dtype):
    """As of tokens that no batch holds: most rows of a table or matrix have no gradient for many steps."""
    model = build(MODELS["transformer-full-untied"], dtype)
    optimizer = optimizers[name]().build(model, 0.01)
    before = weights(model)
    for step in range(12):
        gradients(model, step)
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.grad[2:] = 0
                parameter.grad[:, 0] = 0
        optimizer.step()
    assert all(p.isfinite().all() for p in model.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@every
@precisions
def test_numbers_empty_tensors_and_convolutions_are_stepped_too(name, dtype):
    model = odd(dtype)
    optimizer = optimizers[name](weight_decay=0.1).build(model, 0.01)
    before = weights(model)
    for step in range(3):
        gradients(model, step)
        optimizer.step()
    for old, parameter in zip(before, model.parameters(), strict=True):
        assert parameter.shape == old.shape
        assert parameter.dtype == dtype
        assert parameter.isfinite().all()
        assert parameter.numel() == 0 or not torch.equal(parameter, old)


@every
def test_a_frozen_parameter_is_not_touched(name):
    model = build(MODELS["transformer-full"])
    frozen = model.blocks[0].attention.qkv.weight.requires_grad_(False)
    before = frozen.clone()
    optimizer = optimizers[name](weight_decay=0.3).build(model, 0.1)
    assert id(frozen) not in {id(p) for group in optimizer.param_groups for p in group["params"]}
    gradients(model, 0)
    optimizer.step()
    assert torch.equal(frozen, before)


@every
def test_a_parameter_that_gets_no_gradient_keeps_its_value_and_has_no_state(name):
    model = build(MODELS["transformer-full"])
    optimizer = optimizers[name](weight_decay=0.3).build(model, 0.1)
    idle = model.blocks[0].attention.qkv.weight
    before = idle.detach().clone()
    for step in range(2):
        gradients(model, step)
        idle.grad = None
        optimizer.step()
    assert torch.equal(idle, before)
    assert not optimizer.state.get(idle)
    gradients(model, 2)
    optimizer.step()  # and may come later
    gradients(model, 3)
    optimizer.step()
    assert not torch.equal(idle, before)


@every
@precisions
@pytest.mark.parametrize("make", [lambda d: build(MODELS["transformer-full"], d), odd], ids=["transformer", "odd"])
def test_a_restored_state_goes_on_bit_for_bit(name, dtype, make):
    model = make(dtype)
    optimizer = optimizers[name]().build(model, 0.01)
    for step in range(3):
        gradients(model, step)
        optimizer.step()
    resumed = copy.deepcopy(model)
    other = optimizers[name]().build(resumed, 0.01)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for step in range(3, 14):  # past the steps at which roots and bases are computed anew
        gradients(model, step)
        optimizer.step()
        gradients(resumed, step)
        other.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))


@every
def test_all_of_the_state_is_tensors_and_plain_numbers_of_a_parameter(name):
    # what a checkpoint can hold; groups are rebuilt from the recipe
    model = build(MODELS["transformer-full"])
    optimizer = optimizers[name]().build(model, 0.01)
    gradients(model, 0)
    optimizer.step()
    for state in optimizer.state_dict()["state"].values():
        assert all(isinstance(value, Tensor | int | float) for value in state.values())
        for value in state.values():
            # load_state_dict gives floating-point tensors the precision of their parameter
            assert not isinstance(value, Tensor) or value.dtype == torch.float32


@every
def test_a_copy_of_an_optimizer_steps_as_the_original(name):
    model = build(MODELS["transformer-full"])
    optimizer = optimizers[name](weight_decay=0.3, clipping={"name": "coordinate"}).build(model, 0.01)
    gradients(model, 0)
    optimizer.step()
    twin, other = copy.deepcopy((model, optimizer))
    for each, steps in ((model, optimizer), (twin, other)):
        gradients(each, 1)
        steps.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


@every
def test_the_rate_that_a_schedule_sets_in_a_group_is_the_one_that_is_used(name):
    model = build(MODELS["transformer-full"])
    optimizer = optimizers[name](weight_decay=0.3).build(model, 0.1)
    before = weights(model)
    for group in optimizer.param_groups:
        assert group["lr"] == 0.1
        group["lr"] = 0.0
    gradients(model, 0)
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@every
def test_a_group_with_a_rate_of_nothing_stands_still_while_the_others_move(name):
    model = build(MODELS["transformer-full"])
    optimizer = optimizers[name](weight_decay=0.3).build(model, 0.1)
    still = optimizer.param_groups[0]
    still["lr"] = 0.0
    before = {p: p.detach().clone() for p in model.parameters()}
    for step in range(2):
        gradients(model, step)
        optimizer.step()
    assert all(torch.equal(p, before[p]) for p in still["params"])
    assert all(not torch.equal(p, before[p]) for group in optimizer.param_groups[1:] for p in group["params"])


@every
def test_equal_gradients_give_equal_weights_bit_for_bit(name):
    def trained() -> list[Tensor]:
        model = build(MODELS["transformer-full"])
        optimizer = optimizers[name]().build(model, 0.01)
        for step in range(3):
            gradients(model, step)
            optimizer.step()
        return weights(model)

    assert all(torch.equal(a, b) for a, b in zip(trained(), trained(), strict=True))


@every
@precisions
def test_gradients_are_left_as_they_were(name, dtype):
    model = build(MODELS["transformer-full"], dtype)
    optimizer = optimizers[name](weight_decay=0.3, clipping={"name": "coordinate"}).build(model, 0.01)
    for step in range(2):
        gradients(model, step)
        before = [p.grad.clone() for p in model.parameters()]
        optimizer.step()
        assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before, strict=True))


@every
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_no_error(name, bad):
    # a run that diverges is a result, which the trainer sees a few steps later
    model = build(MODELS["transformer-full"])
    optimizer = optimizers[name]().build(model, 0.01)
    for step in range(12):
        gradients(model, step)
        if step:
            for parameter in model.parameters():
                parameter.grad.view(-1)[0] = bad
        optimizer.step()


@every
def test_a_sparse_gradient_is_refused(name):
    model = nn.Embedding(5, 3, sparse=True)
    optimizer = optimizers[name]().build(model, 0.01)
    model(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(ValueError, match="sparse=False"):
        optimizer.step()


@every
def test_a_closure_is_evaluated_and_its_loss_returned(name):
    model = nn.Linear(3, 2)
    optimizer = optimizers[name]().build(model, 0.01)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(torch.ones(3)).square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) > 0
    assert model.weight.grad is not None


@every
@pytest.mark.parametrize("weight_decay", [-0.1, float("nan"), "much"])
def test_a_decay_that_is_none_is_refused(name, weight_decay):
    with pytest.raises(ValueError, match="weight_decay"):
        optimizers[name](weight_decay=weight_decay)


@every
def test_it_says_where_it_comes_from_and_where_to_look_for_its_rate(name):
    config = optimizers[name]
    assert config.paper[-4:].isdigit()
    assert config.geometry
    low, middle, high = config.rates
    assert 0 < low < middle < high
    assert (middle / low, high / middle) == pytest.approx((2, 2))


# Four problems on which an optimizer has to get somewhere: from the start to a share of the loss there, at one of a few
# rates, as in a study.


def test_groups_that_would_be_empty_are_left_out():
    assert [len(g["params"]) for g in parameter_groups(nn.Embedding(3, 2), 0.1)] == [1]
    assert [g["weight_decay"] for g in parameter_groups(nn.Linear(3, 2, bias=False), 0.1)] == [0.1]
    assert [g["role"] for g in role_groups(nn.Linear(3, 2), 0.1)] == ["linear", "vector"]


def test_roles_come_from_the_module_and_its_place():
    model = odd()
    found = roles(model)
    assert {name: found[p] for name, p in model.named_parameters()} == {
        "scalar": "vector",
        "empty": "vector",
        "empty_matrix": "vector",
        "cube": "vector",
        "table.weight": "embedding",
        "conv.weight": "convolution",
        "conv.bias": "vector",
        "conv1.weight": "convolution",
        "conv1.bias": "vector",
        "linear.weight": "linear",
        "linear.bias": "vector",
        "row.weight": "linear",  # the last, but with fewer outputs than the table has rows
    }
    tied, untied = (build(MODELS[f"transformer-full{end}"]) for end in ("", "-untied"))
    assert roles(tied)[tied.head.weight] == "embedding"
    assert "head" not in roles(tied).values()
    assert roles(untied)[untied.head.weight] == "head"
    assert list(roles(untied).values()).count("head") == 1
    assert roles(untied)[untied.blocks[0].norm1.weight] == "vector"
    lstm = build(MODELS["lstm-untied"])
    assert {roles(lstm)[p] for p in lstm.lstm.parameters()} == {"linear", "vector"}
    mlp = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    assert [roles(mlp)[m.weight] for m in (mlp[0], mlp[2])] == ["linear", "head"]
    attention = nn.MultiheadAttention(8, 2)
    assert roles(attention)[attention.in_proj_weight] == "linear"
    mlp[0].weight.requires_grad_(False)
    assert mlp[0].weight not in roles(mlp)
