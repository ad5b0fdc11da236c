"""The operations have one meaning in all their ways: plain torch, batched products, compiled kernels.

Shapes: B batch, T context, D width, H heads, K head dimension, V vocabulary.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from algoprogress.ablations import ops
from algoprogress.ablations.architectures.lstm import LSTM
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.ops.compiled import SIGNATURES, SOURCES
from algoprogress.pipeline.kernels import kernels

FOUND, WHY = kernels()
COMPILED = pytest.param(
    ops.Ways(kernels=FOUND), id="compiled", marks=pytest.mark.skipif(FOUND is None, reason=f"no kernels here: {WHY}")
)
PRODUCTS = pytest.param(ops.Ways("products"), id="products")
TWICE = pytest.param(ops.Ways("twice_differentiable"), id="twice_differentiable")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def turns(T: int, K: int) -> torch.Tensor:
    angles = normal(T, 1, K // 2, seed=7)
    return torch.stack([angles.cos(), angles.sin()], -1)


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(a, b.to(a.dtype), rtol=0, atol=tolerance * max(1e-30, b.abs().max().item()))


@pytest.mark.parametrize("ways", [PRODUCTS, TWICE, COMPILED])
@pytest.mark.parametrize("rotary", [False, True])
# odd lengths and head dimensions, one token, one head, a context of more than one panel of the backward pass
@pytest.mark.parametrize(
    ("B", "T", "H", "K"), [(1, 1, 1, 2), (2, 5, 3, 6), (2, 37, 2, 16), (1, 130, 2, 20), (3, 64, 1, 32)]
)
def test_attention_is_the_same_in_every_way(ways, rotary, B, T, H, K):
    x = normal(B, T, 3 * H * K)
    dy = normal(B, T, H * K, seed=1)
    turned = turns(T, K) if rotary else None

    def run(dtype: torch.dtype) -> list[torch.Tensor]:
        leaf = x.to(dtype, copy=True).requires_grad_()
        y = ops.attention(leaf, H, None if turned is None else turned.to(dtype))
        return [y.detach(), *torch.autograd.grad(y, leaf, dy.to(dtype))]

    exact = run(torch.float64)
    with ops.using(ways):
        for a, b in zip(run(torch.float32), exact, strict=True):
            close(a, b)


@pytest.mark.parametrize("ways", [TWICE, COMPILED])
def test_no_query_sees_a_later_key(ways):
    x = normal(1, 19, 3 * 8).requires_grad_()
    with ops.using(ways):
        y = ops.attention(x, 2, None)
        for t in (0, 7, 18):
            (seen,) = torch.autograd.grad(y[0, t].sum(), x, retain_graph=True)
            assert seen[0, t + 1 :].eq(0).all()
            assert seen[0, : t + 1, 16:].ne(0).all()


@pytest.mark.parametrize("ways", [COMPILED])
def test_attention_to_scores_of_any_size_stays_finite(ways):
    x = 100 * normal(1, 40, 3 * 16)
    with ops.using(ways):
        y = ops.attention(x, 1, None)
    close(y, ops.attention(x.double(), 1, None), 1e-4)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize(("M", "K", "N"), [(1, 1, 1), (3, 5, 7), (130, 17, 33), (66, 400, 50), (64, 64, 257)])
@pytest.mark.parametrize("ways", [COMPILED])
def test_linear_layers_of_any_shape_are_the_same(ways, M, K, N, with_residual, bias):
    layer = nn.Linear(K, N, bias=bias)
    x, residual, dy = normal(1, M, K), normal(1, M, N, seed=1), normal(1, M, N, seed=2)

    def run(dtype: torch.dtype) -> list[torch.Tensor]:
        layer.to(dtype)
        leaves = [t.to(dtype, copy=True).requires_grad_() for t in ([x, residual] if with_residual else [x])]
        y = ops.linear(layer, *leaves)
        return [y.detach(), *torch.autograd.grad(y, [*leaves, *layer.parameters()], dy.to(dtype))]

    exact = run(torch.float64)
    with ops.using(ways):
        for a, b in zip(run(torch.float32), exact, strict=True):
            close(a, b)


@pytest.mark.parametrize("D", [5, 8, 16, 50])
@pytest.mark.parametrize("norm", [nn.RMSNorm, nn.LayerNorm])
@pytest.mark.parametrize("ways", [COMPILED])
def test_norms_are_the_same(ways, norm, D):
    module = norm(D, eps=1e-6)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(normal(D, seed=3))
    x, dy = 3 + normal(2, 9, D), normal(2, 9, D, seed=1)

    def run(dtype: torch.dtype) -> list[torch.Tensor]:
        module.to(dtype)
        leaf = x.to(dtype, copy=True).requires_grad_()
        y = ops.norm(module, leaf)
        return [y.detach(), *torch.autograd.grad(y, [leaf, *module.parameters()], dy.to(dtype))]

    exact = run(torch.float64)
    with ops.using(ways):
        for a, b in zip(run(torch.float32), exact, strict=True):
            close(a, b)


@pytest.mark.parametrize("F", [1, 5, 8, 42])
@pytest.mark.parametrize("activation", [ops.swiglu, ops.gelu])
@pytest.mark.parametrize("ways", [COMPILED])
def test_activations_are_the_same_from_minus_to_plus_100(ways, activation, F):
    x = torch.linspace(-100, 100, 30 * 2 * F).view(3, 10, 2 * F) * normal(3, 10, 2 * F).abs()
    dy = normal(*activation(x).shape, seed=1)

    def run(dtype: torch.dtype) -> list[torch.Tensor]:
        leaf = x.to(dtype, copy=True).requires_grad_()
        y = activation(leaf)
        return [y.detach(), *torch.autograd.grad(y, leaf, dy.to(dtype))]

    exact = run(torch.float64)
    with ops.using(ways):
        for a, b in zip(run(torch.float32), exact, strict=True):
            close(a, b)


@pytest.mark.parametrize("V", [2, 7, 257])
@pytest.mark.parametrize("ways", [COMPILED])
def test_cross_entropy_and_its_gradient_are_the_same(ways, V):
    logits, targets = 5 * normal(20, V), torch.randint(V, (20,), generator=torch.Generator().manual_seed(0))

    def run(dtype: torch.dtype) -> list[torch.Tensor]:
        leaf = logits.to(dtype, copy=True).requires_grad_()
        loss = ops.cross_entropy(leaf * 1.0, targets)  # the copy is what may be overwritten
        return [loss.detach(), *torch.autograd.grad(2 * loss, leaf)]

    exact = run(torch.float64)
    with ops.using(ways):
        for a, b in zip(run(torch.float32), exact, strict=True):
            close(a, b)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("ways", [COMPILED])
def test_a_number_that_is_not_finite_reaches_the_loss(ways, bad):
    with ops.using(ways):
        for at in (0, 3, 8, 16):
            logits = normal(4, 17)
            logits[2, at] = bad
            assert not ops.cross_entropy(logits.requires_grad_() * 1.0, torch.zeros(4, dtype=torch.long)).isfinite()
        for operation in (ops.gelu, ops.swiglu, lambda x: ops.attention(x, 1, None)):
            x = normal(1, 4, 12)
            x[0, 1, 2] = math.nan
            assert operation(x).isnan().any()


@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("ways", [COMPILED])
def test_the_lstm_is_the_same_with_and_without_a_state(ways, state):
    B, T, D = 3, 11, 10
    module = nn.LSTM(D, D, 2, batch_first=True)
    x, dy, h = normal(B, T, D), normal(B, T, D, seed=1), normal(2, 2, B, D, seed=2)

    def run(dtype: torch.dtype) -> list[torch.Tensor]:
        module.to(dtype)
        leaf = x.to(dtype, copy=True).requires_grad_()
        states = [s.clone().requires_grad_() for s in h.to(dtype)] if state else []
        y, (hT, cT) = ops.lstm(module, leaf, tuple(states) if state else None)
        out = (y * dy.to(dtype)).sum() + hT.square().sum() + cT.sum()
        return [y.detach(), hT.detach(), cT.detach(), *torch.autograd.grad(out, [leaf, *states, *module.parameters()])]

    exact = run(torch.float64)
    with ops.using(ways):
        for a, b in zip(run(torch.float32), exact, strict=True):
            close(a, b)


@pytest.mark.parametrize(
    "config",
    [
        Transformer.preset("modern", width=32),
        Transformer.preset("retro", width=32),
        Transformer(width=32, activation="relu", norm="layernorm", position="learned", bias=True),
        LSTM(width=20, n_layers=2),
    ],
    ids=["modern", "retro", "learned", "lstm"],
)
@pytest.mark.parametrize("ways", [PRODUCTS, COMPILED])
def test_a_whole_model_has_the_same_loss_and_gradients(ways, config):
    torch.manual_seed(0)
    V, T = 29, 24
    model = config.build(V, T)
    x = torch.randint(V, (3, T + 1), generator=torch.Generator().manual_seed(1))

    def run() -> list[torch.Tensor]:
        logits, _ = model(x[:, :-1], None)
        loss = ops.cross_entropy(logits.flatten(0, 1), x[:, 1:].flatten())
        return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]

    plain = run()
    with ops.using(ways):
        for a, b in zip(run(), plain, strict=True):
            close(a, b, 1e-4)


@pytest.mark.skipif(FOUND is None, reason=f"no kernels here: {WHY}")
def test_kernels_are_used_where_they_apply_and_nowhere_else():
    used: list[str] = []

    class Watched(type(FOUND)):  # type: ignore[misc]
        def __call__(self, name, *arguments):
            used.append(name)
            return super().__call__(name, *arguments)

    model = Transformer.preset("modern", width=16, dropout=0.0).build(11, 8)
    tokens = torch.zeros(2, 8, dtype=torch.long)
    ways = ops.Ways(kernels=Watched(FOUND.path))
    with ops.using(ways):
        model(tokens)
        assert {"linear_forward", "attention_forward", "rmsnorm_forward", "swiglu_forward"} <= set(used)
        used.clear()
        with torch.autocast("cpu", torch.bfloat16):
            model(tokens)
        model.double()(tokens)
        with ops.math_attention():
            model.float()(tokens)
        assert used == []
    with ops.using(ops.Ways(kernels=ways.kernels, without=frozenset({"linear", "norm"}))):
        model(tokens)
    assert set(used) == {"attention_forward", "swiglu_forward"}


def test_dropout_falls_on_the_same_numbers_as_in_torch():
    layer, x, residual = nn.Linear(4, 6), normal(2, 3, 4), normal(2, 3, 6)
    torch.manual_seed(5)
    ours = ops.linear(layer, x, residual, dropout=0.5)
    torch.manual_seed(5)
    assert torch.equal(ours, residual + F.dropout(layer(x), 0.5))


def test_a_reparameterized_layer_does_its_own_work():
    class Twice(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    layer, x = Twice(3, 4), normal(2, 3)
    with ops.using(ops.Ways(kernels=FOUND)):
        assert torch.equal(ops.linear(layer, x), 2 * F.linear(x, layer.weight, layer.bias))


def test_every_function_that_is_declared_is_in_the_sources():
    text = "\n".join(path.read_text() for path in SOURCES)
    assert [name for name in SIGNATURES if f" {name}(" not in text] == []
