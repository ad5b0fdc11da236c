"""Steps of joint fits in blocks of the arms are the steps of the whole matrix."""

import numpy as np
import pytest

from algoprogress.analysis.bordered import MANY_ARMS, Bordered, Layout, descent

A, B, SHARED = 9, 4, 1  # arms with two parameters of their own, members of a batch, one shared by all
P = 2 * A + SHARED


@pytest.fixture
def layout() -> Layout:
    maps = np.zeros((A, 3, P))  # w of arm a = [own, own, shared]
    for a in range(A):
        maps[a, 0, 2 * a] = maps[a, 1, 2 * a + 1] = maps[a, 2, P - 1] = 1.0
    found = Layout.of(maps)
    assert found is not None
    return found


def hessian(layout: Layout, rng: np.random.Generator, positive: bool) -> tuple[np.ndarray, Bordered]:
    """Gradients (B, P), and Hessians of arms that add up."""
    M = rng.standard_normal((B, A, 3, 3))
    h = M @ np.swapaxes(M, 2, 3) if positive else M + np.swapaxes(M, 2, 3)
    return layout.assemble(rng.standard_normal((B, A, 3)), h)


def dense(H: Bordered) -> np.ndarray:
    """Columns by products with the inverse's inverse: the matrix that `solve` inverts."""
    inverse = np.stack([H.solve(np.zeros(B), np.tile(e, (B, 1))) for e in np.eye(P)], -1)
    return np.linalg.inv(inverse)


@pytest.mark.parametrize("positive", [True, False])
def test_the_matrix_is_the_sum_of_those_of_the_arms(layout, positive):
    rng = np.random.default_rng(0)
    _, H = hessian(layout, rng, positive)
    whole = dense(H)
    assert whole == pytest.approx(np.swapaxes(whole, 1, 2), abs=1e-6)
    assert np.einsum("bpp->bp", whole) == pytest.approx(H.diagonal(), rel=1e-6)
    damped = H.solve(np.full(B, 0.5), np.ones((B, P)))
    assert damped == pytest.approx(np.linalg.solve(whole + 0.5 * np.eye(P), np.ones((B, P, 1)))[..., 0], rel=1e-6)


def test_where_the_matrix_is_positive_definite_the_descent_is_newtons_step(layout):
    g, H = hessian(layout, np.random.default_rng(1), positive=True)
    assert descent(H, np.zeros(B), g) == pytest.approx(H.solve(np.zeros(B), g), rel=1e-8)
    whole = dense(H)
    assert descent(whole, np.zeros(B), g) == pytest.approx(H.solve(np.zeros(B), g), rel=1e-5)


def test_where_it_is_not_both_still_descend(layout):
    g, H = hessian(layout, np.random.default_rng(2), positive=False)
    whole = dense(H)
    assert (np.linalg.eigvalsh(whole)[:, 0] < 0).all()
    for steps in (descent(H, np.full(B, 1e-3), g), descent(whole, np.full(B, 1e-3), g)):
        assert ((steps * g).sum(1) > 0).all()


def test_few_arms_are_one_dense_matrix():
    maps = np.zeros((MANY_ARMS - 1, 3, 3 * (MANY_ARMS - 1)))
    for a in range(MANY_ARMS - 1):
        maps[a, range(3), range(3 * a, 3 * a + 3)] = 1.0
    assert Layout.of(maps) is None


def test_the_largest_entry_is_told_and_what_is_no_number_is_too(layout):
    _, H = hessian(layout, np.random.default_rng(3), positive=True)
    H.own[1, 0, 0, 0], H.own[2, 3, 0, 0] = 1e120, np.nan
    largest = H.largest()
    assert largest[1] == 1e120
    assert np.isnan(largest[2])
    assert (largest[[0, 3]] < 1e3).all()
