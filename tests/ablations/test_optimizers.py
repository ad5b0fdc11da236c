"""What every optimizer promises, and the identities that the papers state for each."""

import copy

import pytest
import torch
from torch import Tensor, nn

from algoprogress.ablations.architectures import architectures
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.optimizers import optimizers, parameter_groups
from algoprogress.ablations.optimizers.adam import Adam
from algoprogress.ablations.optimizers.adamw import AdamW
from algoprogress.ablations.optimizers.momentum import Momentum
from algoprogress.ablations.optimizers.rmsprop import RMSprop
from algoprogress.ablations.optimizers.sgd import SGD

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


def build(config, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return config.build(V, T).to(dtype)


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
        if isinstance(module, nn.Linear):
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
    optimizer = optimizers[name](weight_decay=0.3).build(model, 0.01)
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
@precisions
def test_a_restored_state_goes_on_bit_for_bit(name, dtype):
    model = build(MODELS["transformer-full"], dtype)
    optimizer = optimizers[name]().build(model, 0.01)
    for step in range(3):
        gradients(model, step)
        optimizer.step()
    resumed = copy.deepcopy(model)
    other = optimizers[name]().build(resumed, 0.01)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for step in range(3, 6):
        gradients(model, step)
        optimizer.step()
        gradients(resumed, step)
        other.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))


@every
@precisions
def test_twenty_steps_go_down_a_convex_bowl(name, dtype):
    torch.manual_seed(0)
    model = nn.Linear(6, 4, bias=True).to(dtype)
    target = torch.randn(4, 6, dtype=dtype)
    scales = torch.linspace(0.5, 2, 6, dtype=dtype)
    optimizer = optimizers[name](weight_decay=0.0).build(model, 0.05)

    def bowl() -> Tensor:
        return 0.5 * (scales * (model.weight - target)).square().sum() + 0.5 * (model.bias - 1).square().sum()

    first = bowl().item()
    for _ in range(20):
        optimizer.zero_grad()
        loss = bowl()
        loss.backward()
        optimizer.step()
    assert bowl().item() < 0.8 * first


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
@pytest.mark.parametrize("weight_decay", [-0.1, float("nan"), "much"])
def test_a_decay_that_is_none_is_refused(name, weight_decay):
    with pytest.raises(ValueError, match="weight_decay"):
        optimizers[name](weight_decay=weight_decay)


def step(config, model: nn.Module, rate: float, steps: int = 1) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """(weights before each step and after the last, gradients of each step)."""
    optimizer = config.build(model, rate)
    path, slopes = [weights(model)], []
    for i in range(steps):
        gradients(model, i)
        slopes.append([p.grad.clone() for p in model.parameters()])
        optimizer.step()
        path.append(weights(model))
    return path, slopes


def agree(found: list[Tensor], expected: list[Tensor], rtol: float = 1e-12) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol)


@pytest.fixture
def model() -> nn.Module:
    return build(MODELS["transformer-full"], torch.float64)


def test_sgd_is_a_step_against_the_gradient(model):
    (before, after), (g,) = step(SGD(), model, 0.1)
    agree(after, [w - 0.1 * d for w, d in zip(before, g, strict=True)])


@pytest.mark.parametrize("config", [Adam(eps=1e-30), AdamW(eps=1e-30, weight_decay=0.0)], ids=lambda c: c.name)
def test_the_first_step_of_adam_is_sign_descent(config, model):
    # with bias correction m = g and v = g^2, so the step is lr g / (|g| + eps): Kingma and Ba 2015, section 2.1
    (before, after), (g,) = step(config, model, 0.01)
    agree(after, [w - 0.01 * d.sign() for w, d in zip(before, g, strict=True)])


def test_adam_without_averaging_is_sign_descent_at_every_step(model):
    path, slopes = step(Adam(beta1=0.0, beta2=0.0, eps=1e-30), model, 0.01, steps=3)
    for before, after, g in zip(path, path[1:], slopes, strict=False):
        agree(after, [w - 0.01 * d.sign() for w, d in zip(before, g, strict=True)])


def test_adam_is_its_equations(model):
    b1, b2, eps, rate = 0.8, 0.9, 1e-3, 0.01
    path, slopes = step(Adam(beta1=b1, beta2=b2, eps=eps), model, rate, steps=4)
    m, v = ([torch.zeros_like(w) for w in path[0]] for _ in range(2))
    for t, (before, after, g) in enumerate(zip(path, path[1:], slopes, strict=False), start=1):
        m = [b1 * a + (1 - b1) * d for a, d in zip(m, g, strict=True)]
        v = [b2 * a + (1 - b2) * d**2 for a, d in zip(v, g, strict=True)]
        moved = [
            w - rate * (a / (1 - b1**t)) / ((b / (1 - b2**t)).sqrt() + eps)
            for w, a, b in zip(before, m, v, strict=True)
        ]
        agree(after, moved, rtol=1e-10)


def test_adamw_is_adam_on_weights_that_shrink(model):
    matrices = [id(p) in decayed(model) for p in model.parameters()]
    twin = copy.deepcopy(model)
    (before, after), _ = step(AdamW(weight_decay=0.1), model, 0.01)
    (_, plain), _ = step(AdamW(weight_decay=0.0), twin, 0.01)
    agree(after, [p - 0.01 * 0.1 * w * m for p, w, m in zip(plain, before, matrices, strict=True)])


def test_adam_adds_its_decay_to_the_gradient(model):
    matrices = [id(p) in decayed(model) for p in model.parameters()]
    (before, after), (g,) = step(Adam(weight_decay=0.5, eps=1e-30), model, 0.01)
    agree(after, [w - 0.01 * (d + 0.5 * w * m).sign() for w, d, m in zip(before, g, matrices, strict=True)])


def test_momentum_without_momentum_is_sgd(model):
    twin = copy.deepcopy(model)
    agree(step(Momentum(momentum=0.0), model, 0.1, 3)[0][-1], step(SGD(), twin, 0.1, 3)[0][-1])


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_is_its_equations(nesterov, model):
    path, slopes = step(Momentum(momentum=0.7, nesterov=nesterov), model, 0.1, steps=4)
    m = [torch.zeros_like(w) for w in path[0]]
    for before, after, g in zip(path, path[1:], slopes, strict=False):
        m = [0.7 * a + d for a, d in zip(m, g, strict=True)]
        used = [d + 0.7 * a for a, d in zip(m, g, strict=True)] if nesterov else m
        agree(after, [w - 0.1 * d for w, d in zip(before, used, strict=True)])


def test_rmsprop_is_its_equations(model):
    path, slopes = step(RMSprop(alpha=0.9, eps=1e-3), model, 0.01, steps=4)
    v = [torch.zeros_like(w) for w in path[0]]
    for before, after, g in zip(path, path[1:], slopes, strict=False):
        v = [0.9 * a + 0.1 * d**2 for a, d in zip(v, g, strict=True)]
        agree(after, [w - 0.01 * d / (a.sqrt() + 1e-3) for w, a, d in zip(before, v, g, strict=True)], rtol=1e-10)


def test_groups_that_would_be_empty_are_left_out():
    assert [len(g["params"]) for g in parameter_groups(nn.Embedding(3, 2), 0.1)] == [1]
    assert [g["weight_decay"] for g in parameter_groups(nn.Linear(3, 2, bias=False), 0.1)] == [0.1]
