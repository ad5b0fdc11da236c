"""Each norm, its dual norm and its duality map belong together, and the maps of singular values keep their promises."""

import math

import pytest
import torch
from torch import Tensor

from algoprogress.ablations.optimizers import newton_schulz as ns
from algoprogress.ablations.optimizers.norms import (
    NORMS,
    NormName,
    dual_norm,
    duality_map,
    modular_dual_norm,
    modular_norm,
    norm,
)

every = pytest.mark.parametrize("name", NORMS)
SHAPES = [(4, 7), (7, 4), (5, 5), (6, 1), (1, 6), (1, 1), (3, 4, 7)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthogonal(n: int, seed: int) -> Tensor:
    return torch.linalg.qr(draw(n, n, seed=seed)).Q


def inner(A: Tensor, B: Tensor) -> Tensor:
    return (A * B).sum((-2, -1))


def test_the_names_are_those_of_the_table():
    assert set(NORMS) == set(NormName.__args__)


@every
@shapes
def test_the_duality_map_has_norm_one(name, shape):
    T = duality_map(name, draw(*shape))
    torch.testing.assert_close(norm(name, T), torch.ones(shape[:-2], dtype=torch.float64), rtol=4e-15, atol=4e-15)


@every
@shapes
def test_the_duality_map_reaches_the_dual_norm(name, shape):
    G = draw(*shape)
    torch.testing.assert_close(inner(G, duality_map(name, G)), dual_norm(name, G), rtol=4e-15, atol=4e-15)


@every
@shapes
def test_nothing_in_the_unit_ball_does_better(name, shape):
    G, best = draw(*shape), dual_norm(name, draw(*shape))
    tried = draw(300, *shape, seed=1)
    tried = tried / norm(name, tried)[..., None, None]
    assert (inner(G, tried) <= best * (1 + 1e-12)).all()
    # and near the best one, which random matrices never come close to
    near = duality_map(name, G) + 0.1 * tried
    assert (inner(G, near / norm(name, near)[..., None, None]) <= best * (1 + 1e-12)).all()


@every
@shapes
def test_it_is_a_norm(name, shape):
    A, B = draw(*shape), draw(*shape, seed=1)
    torch.testing.assert_close(norm(name, -3 * A), 3 * norm(name, A))
    assert (norm(name, A + B) <= norm(name, A) + norm(name, B) + 1e-12).all()
    assert (norm(name, A) > 0).all()
    assert (norm(name, 0 * A) == 0).all()


@every
@shapes
def test_only_the_direction_of_a_gradient_matters(name, shape):
    G = draw(*shape)
    for scale in (1e-12, 0.5, 1e12):
        torch.testing.assert_close(duality_map(name, scale * G), duality_map(name, G), rtol=1e-12, atol=1e-12)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_of_a_zero_gradient_it_is_zero(name, dtype):
    zero = torch.zeros(2, 3, 4, dtype=dtype)
    assert torch.equal(duality_map(name, zero), zero)
    for method in ns.METHODS:
        assert torch.equal(duality_map(name, zero, lambda X, m=method: ns.orthogonalize(X, m)), zero)


@every
def test_a_zero_row_or_column_gives_no_nan(name):
    G = draw(5, 6)
    G[1], G[:, 2] = 0, 0
    assert duality_map(name, G).isfinite().all()


def test_the_norms_of_a_matrix_by_hand():
    W = torch.tensor([[3.0, 0.0], [4.0, 0.0], [0.0, 2.0]], dtype=torch.float64)  # columns of length 5 and 2
    expected = {
        "sign": 4.0,
        "scaled_sign": 8.0,
        "frobenius": math.sqrt(29),
        "rms": math.sqrt(29 / 6),
        "column": 5.0,
        "row": 4.0,
        "l1_to_rms": 5 / math.sqrt(3),
        "rms_to_linf": 4 * math.sqrt(2),
        "spectral": 5.0,
        "rms_to_rms": 5 * math.sqrt(2 / 3),
    }
    assert {name: norm(name, W).item() for name in NORMS} == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(4, 7), (7, 4)], ids=str)
def test_operator_norms_are_the_largest_gain(shape):
    """sup ||W x|| / ||x|| over many x, and over the x where it is reached."""
    W = draw(*shape)
    x = draw(shape[1], 20_000, seed=1)
    units = torch.eye(shape[1], dtype=torch.float64)
    right = torch.linalg.svd(W).Vh.mT
    rms = lambda v: v.norm(dim=0) / math.sqrt(v.shape[0])  # noqa: E731
    gains = {
        "sign": (lambda v: v.abs().amax(0), lambda v: v.abs().sum(0), units),
        "column": (lambda v: v.norm(dim=0), lambda v: v.abs().sum(0), units),
        "l1_to_rms": (rms, lambda v: v.abs().sum(0), units),
        "row": (lambda v: v.abs().amax(0), lambda v: v.norm(dim=0), W.mT),
        "rms_to_linf": (lambda v: v.abs().amax(0), rms, W.mT),
        "spectral": (lambda v: v.norm(dim=0), lambda v: v.norm(dim=0), right),
        "rms_to_rms": (rms, rms, right),
    }
    for name, (out, in_, reached) in gains.items():
        assert (out(W @ x) / in_(x)).max() <= norm(name, W) * (1 + 1e-12), name
        assert (out(W @ reached) / in_(reached)).max().item() == pytest.approx(norm(name, W).item(), rel=1e-12), name


@pytest.mark.parametrize("name", ["spectral", "rms_to_rms", "frobenius", "rms"])
def test_turning_the_gradient_turns_the_step(name):
    G, U, V = draw(5, 8), orthogonal(5, 1), orthogonal(8, 2)
    torch.testing.assert_close(duality_map(name, U @ G @ V), U @ duality_map(name, G) @ V, rtol=1e-12, atol=1e-12)


def test_a_vector_is_a_map_from_the_numbers():
    g = draw(9, 1)
    rms = g / g.square().mean().sqrt()
    for name in ("rms", "l1_to_rms", "rms_to_rms"):
        torch.testing.assert_close(duality_map(name, g), rms)
        torch.testing.assert_close(dual_norm(name, g), 3 * g.norm())


def test_the_dual_of_the_largest_layer_is_the_sum_of_duals():
    names, radii = list(NORMS), [0.5 + 0.25 * i for i in range(len(NORMS))]
    gradients = [draw(3 + i, 5, seed=i) for i in range(len(names))]
    best = [r * duality_map(n, G) for n, r, G in zip(names, radii, gradients, strict=True)]
    assert modular_norm(names, radii, best).item() == pytest.approx(1.0, rel=1e-12)
    reached = sum(inner(G, T) for G, T in zip(gradients, best, strict=True))
    total = modular_dual_norm(names, radii, gradients)
    torch.testing.assert_close(reached, total, rtol=1e-12, atol=0)
    for seed in range(50):
        tried = [draw(*G.shape, seed=100 + seed) for G in gradients]
        size = modular_norm(names, radii, tried)
        assert sum(inner(G, T / size) for G, T in zip(gradients, tried, strict=True)) <= total


def singular(X: Tensor) -> Tensor:
    return torch.linalg.svdvals(X)


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (16, 16), (2, 8, 24)], ids=str)
def test_the_cubic_iteration_converges_to_the_polar_factor(shape):
    X = draw(*shape)
    found = ns.newton_schulz(X, ns.CUBIC, 40)
    torch.testing.assert_close(found, ns.polar(X), rtol=1e-11, atol=1e-11)
    U, S, Vh = torch.linalg.svd(X, full_matrices=False)
    conditioned = (U * torch.linspace(0.2, 1, S.shape[-1], dtype=X.dtype)) @ Vh
    assert (ns.newton_schulz(conditioned, ns.CUBIC, 40) - U @ Vh).abs().max() < 4e-15
    assert (ns.orthogonalize(conditioned, "cubic") - U @ Vh).abs().max() < 4e-15  # with its usual number of steps


def test_the_scalar_map_of_the_quintic_iteration_lands_in_its_interval():
    s = torch.logspace(-2, 0, 200_001, dtype=torch.float64)
    a, b, c = ns.QUINTIC
    for _ in range(ns.QUINTIC_STEPS):
        s = a * s + b * s**3 + c * s**5
    assert (s.min().item(), s.max().item()) == pytest.approx((0.682, 1.134), abs=1e-3)


@pytest.mark.parametrize("shape", [(10, 10), (10, 40), (40, 10), (3, 10, 40)], ids=str)
def test_the_quintic_iteration_lands_in_its_interval_and_keeps_the_directions(shape):
    X = draw(*shape)
    U, S, Vh = torch.linalg.svd(X, full_matrices=False)
    S = torch.logspace(-1.4, 0, S.shape[-1], dtype=X.dtype).flip(-1).expand_as(S)
    X = (U * S[..., None, :]) @ Vh
    assert (S[..., -1] / S.norm(dim=-1) >= 0.01).all()
    found = ns.newton_schulz(X)
    assert singular(found).min() > 0.682 - 1e-3
    assert singular(found).max() < 1.134 + 1e-3
    core = U.mT @ found @ Vh.mT
    off = core - torch.diag_embed(core.diagonal(dim1=-2, dim2=-1))
    assert off.abs().max() < 1e-12


def test_a_square_gaussian_has_singular_values_that_five_quintic_steps_leave_behind():
    # why the promise is on singular values from 0.01 of the Frobenius norm, and not on all matrices
    assert singular(ns.newton_schulz(draw(256, 256))).min() < 0.5


@pytest.mark.parametrize(("m", "n"), [(8, 24), (8, 64), (64, 8)])
def test_gram_matrices_give_the_same_iteration(m, n, monkeypatch):
    X = draw(m, n)
    assert ns.uses_gram(min(m, n), max(m, n), ns.QUINTIC, ns.QUINTIC_STEPS)
    by_gram = ns.newton_schulz(X)
    monkeypatch.setattr(ns, "uses_gram", lambda *_: False)
    plain = ns.newton_schulz(X)
    torch.testing.assert_close(by_gram, plain, rtol=1e-9, atol=1e-9)
    single = ns.newton_schulz(X.float())
    assert (single - plain).abs().max() < 1e-4
    monkeypatch.undo()
    assert (ns.newton_schulz(X.float()) - plain).abs().max() < 1e-3


def test_square_matrices_and_long_iterations_go_without_gram_matrices():
    assert not ns.uses_gram(64, 64, ns.QUINTIC, ns.QUINTIC_STEPS)
    assert not ns.uses_gram(8, 800, ns.CUBIC, ns.CUBIC_STEPS)


def test_the_polar_factor_of_a_rank_deficient_matrix_is_that_of_its_range():
    A, B = orthogonal(6, 1)[:, :2], orthogonal(9, 2)[:, :2]
    X = A @ torch.diag(torch.tensor([3.0, 1e-3], dtype=torch.float64)) @ B.mT
    torch.testing.assert_close(ns.polar(X), A @ B.mT, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ns.METHODS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_stays_so_and_is_no_error(method, bad):
    X = draw(4, 6)
    X[1, 2] = bad
    assert not ns.orthogonalize(X, method).isfinite().all()


def test_an_unknown_orthogonalization_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown orthogonalization 'qr'; known: svd, cubic, quintic"):
        ns.orthogonalize(draw(2, 2), "qr")
