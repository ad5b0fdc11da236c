"""Lanczos and its quadrature against dense matrices whose spectrum is known."""

import numpy as np
import pytest
import torch

from algoprogress.analysis.curvature.basis import Basis
from algoprogress.analysis.curvature.lanczos import lanczos
from algoprogress.analysis.curvature.problem import Block, Piece
from algoprogress.analysis.curvature.quadrature import Quadrature, joined, quadrature, spectrum
from algoprogress.analysis.curvature.trace import hutch


def matrix(eigenvalues, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((len(eigenvalues),) * 2))[0]
    A = Q @ np.diag(np.asarray(eigenvalues, float)) @ Q.T
    return torch.from_numpy((A + A.T) / 2)


def starts(K: int, n: int, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((K, n)))


def times(A: torch.Tensor):
    return lambda V: V @ A


@pytest.mark.parametrize("m", [1, 2, 5, 9])
def test_quadrature_is_exact_up_to_degree_2m_minus_1_and_not_beyond(m):
    A, v = matrix(np.linspace(-1, 2, 30)), starts(3, 30)
    found = quadrature(times(A), v, m)
    unit = v / v.norm(dim=1, keepdim=True)
    power = unit
    for k in range(2 * m + 1):
        exact = (unit * power).sum(1).numpy()
        each = np.array([w @ theta**k for theta, w in zip(found.nodes, found.weights, strict=True)])
        if k < 2 * m:
            np.testing.assert_allclose(each, exact, rtol=1e-11, atol=1e-12)
        else:
            assert np.abs(each - exact).max() > 1e-8
        power = power @ A


def test_as_many_steps_as_coordinates_give_all_eigenvalues():
    eigenvalues = np.sort(np.random.default_rng(3).standard_normal(40))
    (T,) = lanczos(times(matrix(eigenvalues)), starts(1, 40), 40)
    np.testing.assert_allclose(T.nodes_and_weights()[0], eigenvalues, atol=1e-11)


def test_isolated_eigenvalues_have_no_ghosts():
    # two far outliers above a bulk: without reorthogonalisation their copies fill the list of Ritz values
    A = matrix([*np.linspace(0, 1, 198), 50.0, 100.0])
    (T,) = lanczos(times(A), starts(1, 200), 120)
    nodes, weights = T.nodes_and_weights()
    assert (nodes > 10).sum() == 2
    assert weights.sum() == pytest.approx(1, abs=1e-12)


def test_fewer_coordinates_than_steps_end_cleanly():
    (T,) = lanczos(times(matrix([1.0, 2.0, 5.0])), starts(1, 3), 50)
    np.testing.assert_allclose(T.nodes_and_weights()[0], [1, 2, 5], atol=1e-12)


@pytest.mark.parametrize("rank", [0, 1, 4])
def test_a_matrix_of_low_rank_ends_when_its_space_is_complete(rank):
    A = matrix([*np.arange(1.0, rank + 1), *np.zeros(25 - rank)])
    for T in lanczos(times(A), starts(3, 25), 20):
        nodes, weights = T.nodes_and_weights()
        assert len(nodes) == rank + 1
        np.testing.assert_allclose(nodes, range(rank + 1), atol=1e-10)
        assert weights.sum() == pytest.approx(1)


def test_each_starting_vector_stops_for_itself():
    A = torch.diag(torch.arange(1.0, 9.0, dtype=torch.float64))
    V = starts(2, 8)
    V[0] = torch.eye(8, dtype=torch.float64)[2]  # an eigenvector: complete after one step
    one, other = lanczos(times(A), V, 8)
    assert one.alphas.tolist() == [3.0]
    assert len(other.alphas) == 8
    alone = lanczos(times(A), V[1:], 8)[0]
    np.testing.assert_allclose(other.alphas, alone.alphas, atol=1e-12)


def test_bad_input_is_named():
    A = matrix([1.0, 2.0])
    with pytest.raises(ValueError, match="at least 1 step, not 0"):
        lanczos(times(A), starts(1, 2), 0)
    with pytest.raises(ValueError, match="starting vector is zero"):
        lanczos(times(A), torch.zeros(1, 2, dtype=torch.float64), 2)
    with pytest.raises(ValueError, match="not finite"):
        lanczos(lambda V: V * float("nan"), starts(1, 2), 2)


@pytest.mark.parametrize("sigma", [1e-4, 0.02, 0.5])
def test_density_integrates_to_one_whatever_the_kernel(sigma):
    found = quadrature(times(matrix(np.linspace(-3, 8, 60))), starts(4, 60), 20)
    grid = found.grid(points=801, margin=5.0)
    density, error = found.density(grid, sigma)
    assert density.sum() * (grid[1] - grid[0]) == pytest.approx(1, abs=1e-12)
    assert (density >= 0).all()
    assert (error >= 0).all()
    cumulative, _ = found.cumulative(grid, sigma)
    assert (np.diff(cumulative) >= 0).all()
    half = (grid[1] - grid[0]) / 2
    upper, _ = found.cumulative(grid + half, sigma)
    np.testing.assert_allclose(np.cumsum(density) * 2 * half, upper, atol=1e-12)


def test_density_of_all_eigenvalues_is_the_mean_of_gaussians():
    eigenvalues = np.array([-1.0, 0.0, 0.5, 4.0])
    # every coordinate vector of the eigenbasis once: the average over probes is that over eigenvalues
    A = torch.diag(torch.from_numpy(eigenvalues))
    found = quadrature(times(A), torch.eye(4, dtype=torch.float64), 4)
    grid = np.linspace(-3, 6, 4001)
    exact = np.exp(-(((grid[:, None] - eigenvalues) / 0.2) ** 2) / 2).sum(1) / (4 * 0.2 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(found.density(grid, 0.2)[0], exact, atol=1e-4 * exact.max())


def test_moments_and_extremes_have_errors_that_cover_the_truth():
    eigenvalues = np.linspace(-2, 5, 80)
    found = quadrature(times(matrix(eigenvalues)), starts(40, 80), 30)
    for k in (1, 2, 3):
        estimate, exact = found.moment(k), (eigenvalues**k).mean()
        assert 0 < estimate.standard_error < abs(exact)
        assert abs(estimate.value - exact) < 4 * estimate.standard_error
    assert found.trace.value == pytest.approx(80 * found.moment(1).value)
    assert -2 - 1e-9 <= found.smallest.value < -1.99
    assert 4.99 < found.largest.value <= 5 + 1e-9


def test_one_probe_has_no_error():
    assert np.isnan(quadrature(times(matrix([1.0, 2.0])), starts(1, 2), 2).moment(1).standard_error)


def test_probes_together_are_the_probes_one_by_one():
    A, V = matrix(np.linspace(0, 3, 20)), starts(3, 20)
    together = quadrature(times(A), V, 6)
    alone = joined([quadrature(times(A), V[k : k + 1], 6) for k in range(3)])
    assert isinstance(alone, Quadrature)
    np.testing.assert_allclose(np.concatenate(together.nodes), np.concatenate(alone.nodes), atol=1e-11)
    np.testing.assert_allclose(np.concatenate(together.weights), np.concatenate(alone.weights), atol=1e-11)


def test_hutch_is_exact_where_the_rank_is_small():
    A = matrix([*range(1, 6), *np.zeros(35)])
    found = hutch(times(A), 40, products=30)
    assert found.value == pytest.approx(15, abs=1e-9)
    assert found.standard_error < 1e-9


def test_hutch_covers_the_trace_and_beats_random_signs_alone():
    eigenvalues = np.arange(1, 61, dtype=float) ** -2
    A = matrix(eigenvalues)
    misses = []
    for seed in range(10):
        found = hutch(times(A), 60, products=30, seed=seed)
        misses.append(abs(found.value - eigenvalues.sum()) / found.standard_error)
    assert np.median(misses) < 2
    # Hutchinson's standard error with as many products: sqrt(2 (|A|_F^2 - |diag A|^2) / 30)
    plain = float(torch.sqrt(2 * ((A**2).sum() - (A.diagonal() ** 2).sum()) / 30))
    assert hutch(times(A), 60, products=30).standard_error < plain / 2
    with pytest.raises(ValueError, match="at least 6 products, not 3"):
        hutch(times(A), 60, products=3)


@pytest.mark.parametrize("vectors", [1, 3, 7])
def test_vectors_that_are_kept_in_a_file_give_the_same_spectrum(vectors):
    rng = np.random.default_rng(5)
    A = torch.from_numpy(rng.standard_normal((60, 60)))
    A = A + A.mT
    start = torch.from_numpy(rng.standard_normal((2, 60)))
    whole = lanczos(lambda V: V @ A, start, 20)
    bounded = lanczos(lambda V: V @ A, start, 20, memory=vectors * 2 * 60 * 8)
    for a, b in zip(whole, bounded, strict=True):
        np.testing.assert_allclose(a.alphas, b.alphas, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(a.betas, b.betas, rtol=1e-9, atol=1e-11)


def test_a_basis_holds_no_more_in_memory_than_it_may():
    basis = Basis(K=2, n=50, m=10, memory=3 * 2 * 50 * 8)
    Q, _ = torch.linalg.qr(torch.randn(50, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    for j in range(10):
        basis.append(Q[:, j].repeat(2, 1))
    assert basis.held.shape == (2, 3, 50)
    w = torch.randn(2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(basis.without(w), w - (w @ Q) @ Q.mT)


def test_a_spectrum_says_how_much_of_it_is_done():
    shares: list[float] = []
    block, diagonal = Block("d", "d", (Piece(torch.zeros(8)),)), torch.arange(8, dtype=torch.float64)

    class Diagonal:
        def faster_together(self, block, probes):
            return False

        def product(self, block, together=False):
            return lambda V: V * diagonal

    spectrum(Diagonal(), block, probes=2, steps=4, on_step=shares.append)
    assert shares == [k / 8 for k in range(1, 9)]
