"""The Cayley map and its series, against closed forms and against torch's own orthogonal matrices."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from algoprogress.ablations.reparameterizations.cayley import (
    ORDERS,
    above_diagonal,
    cayley,
    cayley_neumann,
    flop,
    rotation,
    skew,
    spectral_norm_bound,
)

orders = pytest.mark.parametrize("order", ORDERS)
every_map = pytest.mark.parametrize("order", [*ORDERS, None])


def draw(b: int = 8, N: int = 3, size: float = 0.1) -> Tensor:
    torch.manual_seed(b)
    return skew(size * torch.randn(N, b * (b - 1) // 2, dtype=torch.float64), b)


def turn(t: float) -> Tensor:
    """One skew-symmetric 2 x 2 matrix, with eigenvalues +-i t."""
    return skew(torch.tensor([[t]], dtype=torch.float64), 2)


def power(Q: Tensor, k: int) -> Tensor:
    return torch.linalg.matrix_power(Q, k)


def test_entries_above_the_diagonal_make_a_skew_symmetric_matrix_row_by_row():
    (Q,) = skew(torch.tensor([[1.0, 2, 3]]), 3)
    assert Q.tolist() == [[0, 1, 2], [-1, 0, 3], [-2, -3, 0]]
    assert torch.equal(draw(), -draw().mT)


def test_the_exact_map_is_a_rotation_whatever_the_size_of_q():
    for size in (0.01, 1.0, 30.0):
        R, eye = cayley(draw(size=size)), torch.eye(8, dtype=torch.float64)
        torch.testing.assert_close(R @ R.mT, eye.expand_as(R), rtol=0, atol=1e-12)
        torch.testing.assert_close(torch.linalg.det(R), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-10)


def test_the_exact_map_is_that_of_torch():
    torch.manual_seed(0)
    layer = nn.Linear(6, 6, bias=False).double()
    torch.nn.utils.parametrizations.orthogonal(layer, orthogonal_map="cayley", use_trivialization=False)
    X = layer.parametrizations.weight.original
    # torch: (I - A / 2)^-1 (I + A / 2) with A = X - X^T of the lower triangle
    A = X.tril(-1) - X.tril(-1).T
    torch.testing.assert_close(cayley(A[None] / 2)[0], layer.weight, rtol=0, atol=1e-12)


@orders
def test_the_series_is_its_sum(order):
    Q = draw()
    eye = torch.eye(8, dtype=torch.float64)
    summed = (eye + Q) @ sum(power(Q, i) for i in range(order + 1))
    torch.testing.assert_close(cayley_neumann(Q, order), summed, rtol=0, atol=1e-14)


@orders
@pytest.mark.parametrize("size", [0.02, 0.2])
def test_what_the_series_leaves_out_is_the_next_power(order, size):
    # R_k = R (I - Q^(k+1))
    Q = draw(size=size)
    closed = cayley(Q) @ (torch.eye(8, dtype=torch.float64) - power(Q, order + 1))
    torch.testing.assert_close(cayley_neumann(Q, order), closed, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("order", "kept"),
    [
        (1, lambda t: 1 + t**2),
        (2, lambda t: (1 + t**6) ** 0.5),
        (3, lambda t: 1 - t**4),
        (4, lambda t: (1 + t**10) ** 0.5),
        (5, lambda t: 1 + t**6),
    ],
)
@pytest.mark.parametrize("t", [0.05, 0.3, 0.8])
def test_singular_values_of_the_series(order, kept, t):
    s = torch.linalg.svdvals(cayley_neumann(turn(t), order))
    assert s.flatten().tolist() == pytest.approx([kept(t)] * 2, abs=1e-12)


def test_even_orders_are_much_closer_to_a_rotation():
    def error(order: int) -> float:
        (R,) = cayley_neumann(turn(0.2), order)
        return float((R @ R.T - torch.eye(2)).norm() / 2**0.5)

    assert error(3) < error(1)
    assert error(2) < error(3) / 10
    assert error(4) < error(5) / 10


@every_map
def test_q_zero_is_the_identity(order):
    assert torch.equal(rotation(turn(0.0), order), torch.eye(2, dtype=torch.float64)[None])


@every_map
def test_gradients_are_those_of_finite_differences_twice(order):
    torch.manual_seed(0)
    q = 0.3 * torch.randn(2, 6, dtype=torch.float64)
    q.requires_grad_()
    assert torch.autograd.gradcheck(lambda q: rotation(skew(q, 4), order), (q,))
    assert torch.autograd.gradgradcheck(lambda q: rotation(skew(q, 4), order), (q,))


@orders
def test_the_products_of_the_series_are_counted(order):
    b, N = 8, 5
    q = torch.randn(N, b * (b - 1) // 2, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        rotation(skew(q, b), order).sum().backward()
    assert counter.get_total_flops() == N * flop(b, order)


def test_the_bound_of_q_is_one_and_is_met_by_a_single_plane():
    q = torch.randn(4, 10, dtype=torch.float64)
    assert (spectral_norm_bound(q) >= torch.linalg.matrix_norm(skew(q, 5), 2)).all()
    assert spectral_norm_bound(torch.tensor([[-0.7]])).item() == pytest.approx(0.7)


def test_places_above_the_diagonal_are_those_of_numpy():
    rows, columns = np.triu_indices(5, 1)
    above = above_diagonal(5).numpy()
    assert (above[0] == rows * 5 + columns).all()
    assert (above[1] == columns * 5 + rows).all()


@pytest.mark.parametrize("order", [0, 6, 2.5])
def test_an_order_that_is_not_written_out_is_refused(order):
    with pytest.raises(ValueError, match="orders 1, 2, 3, 4, 5, not"):
        cayley_neumann(turn(0.1), order)
