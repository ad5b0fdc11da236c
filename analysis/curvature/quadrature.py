"""The spectrum of a matrix of which only products are known: stochastic Lanczos quadrature (Ubaru, Chen and Saad 2017).

Each random direction gives nodes and weights; averages over directions estimate averages over eigenvalues, and their
scatter is the error. Shapes: K probes, m Lanczos steps, G points of a grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from algoprogress.analysis.curvature.basis import MEMORY

if TYPE_CHECKING:
    from torch import Tensor

    from algoprogress.analysis.curvature.problem import Block
    from algoprogress.analysis.curvature.products import Curvature, Product

Array = NDArray[np.float64]
# Zhang et al. 2024 (arXiv 2402.16788), by their code: probes, Lanczos steps, kernel width, points, margin of the grid
PROBES, STEPS = 10, 100
SIGMA = float(np.sqrt(1e-5))
POINTS, MARGIN = 50_000, 1.0
REACH = 9.0  # kernel widths beyond which a Gaussian holds less than float64 can add to 1


@dataclass(frozen=True)
class Estimate:
    """A mean over probes and its standard error; NaN with one probe, of which there is no scatter."""

    value: float
    standard_error: float


@dataclass(frozen=True)
class Quadrature:
    """The spectral measure of a matrix: for each probe nodes (Ritz values) and weights that add to 1.

    Attributes:
        nodes: one array a probe.
        weights: likewise.
        n: size of the matrix, by which an average over eigenvalues becomes a sum.
    """

    nodes: tuple[Array, ...]
    weights: tuple[Array, ...]
    n: int

    def mean(self, f: Callable[[Array], Array]) -> Estimate:
        """(1/n) sum over eigenvalues of f(eigenvalue)."""
        each = [float(w @ f(theta)) for theta, w in zip(self.nodes, self.weights, strict=True)]
        return _over(np.array(each))

    def moment(self, k: int) -> Estimate:
        """tr(A^k) / n; for each probe exact up to k = 2 m - 1."""
        return self.mean(lambda theta: theta**k)

    @property
    def trace(self) -> Estimate:
        """tr(A), as Hutchinson 1989; `trace.hutch` needs fewer products for it."""
        found = self.moment(1)
        return Estimate(self.n * found.value, self.n * found.standard_error)

    @property
    def smallest(self) -> Estimate:
        """Least Ritz value of any probe, which no eigenvalue is above; beside it the standard error over probes."""
        each = np.array([theta.min() for theta in self.nodes])
        return Estimate(float(each.min()), _over(each).standard_error)

    @property
    def largest(self) -> Estimate:
        """Largest Ritz value of any probe, which the largest eigenvalue is not below; with the error over probes."""
        each = np.array([theta.max() for theta in self.nodes])
        return Estimate(float(each.max()), _over(each).standard_error)

    @property
    def largest_magnitude(self) -> float:
        """max |eigenvalue|."""
        return max(abs(self.smallest.value), abs(self.largest.value))

    def grid(self, points: int = POINTS, margin: float = MARGIN) -> Array:
        """Points from the least node less `margin` to the largest plus `margin`."""
        return grid_of([self], points, margin)

    def cumulative(self, at: Array, sigma: float = SIGMA) -> tuple[Array, Array]:
        """Share of eigenvalues at most t, smoothed by a Gaussian of width sigma; and its standard error. Each (G,)."""
        each = [ndtr((at[:, None] - theta) / sigma) @ w for theta, w in zip(self.nodes, self.weights, strict=True)]
        return _columns(np.array(each))

    def density(self, grid: Array, sigma: float = SIGMA) -> tuple[Array, Array]:
        """Density of eigenvalues on an even grid, and its standard error over probes. Each (G,).

        At each point it is the mean over the cell around the point, so that sum(density) dt = 1 whatever the width:
        sampling a kernel narrower than the grid would lose eigenvalues between points.
        """
        mass = np.array([_masses(theta, w, grid, sigma) for theta, w in zip(self.nodes, self.weights, strict=True)])
        return _columns(mass / (grid[1] - grid[0]))


def grid_of(quadratures: Sequence[Quadrature], points: int = POINTS, margin: float = MARGIN) -> Array:
    """One even grid that holds the nodes of all of them."""
    low = min(theta.min() for q in quadratures for theta in q.nodes)
    high = max(theta.max() for q in quadratures for theta in q.nodes)
    return np.linspace(low - margin, high + margin, points)


def quadrature(
    product: Product,
    start_Kn: Tensor,
    steps: int = STEPS,
    memory: int = MEMORY,
    on_step: Callable[[], None] | None = None,
) -> Quadrature:
    """The quadrature of given starting vectors, (K, n): see `lanczos`."""
    from algoprogress.analysis.curvature.lanczos import lanczos

    found = [t.nodes_and_weights() for t in lanczos(product, start_Kn, steps, memory, on_step)]
    return Quadrature(tuple(x for x, _ in found), tuple(w for _, w in found), start_Kn.shape[1])


def spectrum(
    curvature: Curvature,
    block: Block,
    probes: int = PROBES,
    steps: int = STEPS,
    seed: int = 0,
    memory: int = MEMORY,
    on_step: Callable[[float], None] | None = None,
) -> Quadrature:
    """The spectrum of one diagonal block.

    Args:
        curvature: the matrix.
        block: of it; `problem.whole` of all blocks gives the full spectrum.
        probes: Gaussian directions.
        steps: of Lanczos; more resolve the inside of the spectrum, its ends come first.
        seed: of the directions.
        memory: bytes that Lanczos vectors may fill, the others being kept in a temporary file; directions are taken
            together only where all of them fit.
        on_step: told after each step what share of all is done.
    """
    import torch

    if probes < 1:
        raise ValueError(f"a spectrum takes at least 1 probe, not {probes}")
    generator = torch.Generator().manual_seed(seed)
    start_Kn = torch.randn(probes, block.n, generator=generator, dtype=torch.float64)
    start_Kn = start_Kn.to(block.pieces[0].parameter.device)
    fits = 8 * probes * min(steps, block.n) * block.n <= memory
    together = fits and curvature.faster_together(block, probes)
    done, total = 0, steps if together else steps * probes

    def count() -> None:
        nonlocal done
        done += 1
        if on_step is not None:
            on_step(done / total)

    if together:
        return quadrature(curvature.product(block, together=True), start_Kn, steps, memory, count)
    product = curvature.product(block)
    return joined([quadrature(product, start_Kn[k : k + 1], steps, memory, count) for k in range(probes)])


def joined(quadratures: Sequence[Quadrature]) -> Quadrature:
    """The probes of several quadratures of one matrix."""
    nodes = tuple(theta for q in quadratures for theta in q.nodes)
    return Quadrature(nodes, tuple(w for q in quadratures for w in q.weights), quadratures[0].n)


def _masses(nodes: Array, weights: Array, grid: Array, sigma: float) -> Array:
    """What each cell of the grid holds, of the kernels around the nodes; (G,)."""
    half = (grid[1] - grid[0]) / 2
    edges = np.append(grid - half, grid[-1] + half)
    masses = np.zeros(len(grid))
    for theta, w in zip(nodes, weights, strict=True):
        first = max(int(np.searchsorted(edges, theta - REACH * sigma)) - 1, 0)
        last = int(np.searchsorted(edges, theta + REACH * sigma)) + 1
        masses[first : last - 1] += w * np.diff(ndtr((edges[first:last] - theta) / sigma))
    return masses


def _over(each: Array) -> Estimate:
    error = float(each.std(ddof=1) / np.sqrt(len(each))) if len(each) > 1 else float("nan")
    return Estimate(float(each.mean()), error)


def _columns(each_KG: Array) -> tuple[Array, Array]:
    K = len(each_KG)
    error = each_KG.std(axis=0, ddof=1) / np.sqrt(K) if K > 1 else np.full(each_KG.shape[1], np.nan)
    return each_KG.mean(axis=0), error
