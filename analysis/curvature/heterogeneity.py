"""How differently are the blocks of a loss curved?  Zhang et al. 2024 (arXiv 2402.16788): far more so in Transformers.

Their measure compares densities on one grid in absolute units; its size depends on grid and kernel. The spread of the
logarithm of the largest eigenvalue depends on neither, nor on the scale of the loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import rel_entr

from algoprogress.analysis.curvature.quadrature import MARGIN, POINTS, SIGMA, Quadrature, grid_of

Array = NDArray[np.float64]
OUTER = ("embedding", "head")  # groups that are left out of `without_ends`: their rows are as rare as their tokens
VECTORS = ("norm", "bias")  # groups that the literature does not look at


def js_nats(p: Array, q: Array) -> float:
    """Jensen-Shannon divergence KL(p | m)/2 + KL(q | m)/2, m = (p + q)/2, nats: 0 where equal, ln 2 where disjoint.

    Args:
        p: probabilities of the cells of a grid, (G,).
        q: likewise, on the same grid.

    >>> import numpy as np
    >>> round(js_nats(np.array([1.0, 0.0]), np.array([0.0, 1.0])), 6)
    0.693147
    """
    m = (p + q) / 2
    return float(rel_entr(p, m).sum() + rel_entr(q, m).sum()) / 2


def pair_distances(
    blocks: Mapping[str, Quadrature], sigma: float = SIGMA, points: int = POINTS, margin: float = MARGIN
) -> pd.DataFrame:
    """The distance of each two blocks' densities on one grid that holds them all.

    Args:
        blocks: name -> spectrum.
        sigma: width of the kernel, in units of the eigenvalues.
        points: of the grid.
        margin: of the grid beyond the outermost nodes.

    Returns:
        [a, b, js_nats, js_grid_sum], a row a pair. `js_grid_sum` adds up p ln(p/m) over the values of densities, which
        is js_nats divided by the grid's step: not bounded, and the only reading under which published values above
        ln 2 are possible.
    """
    grid = grid_of(list(blocks.values()), points, margin)
    step = float(grid[1] - grid[0])
    mass = {name: q.density(grid, sigma)[0] * step for name, q in blocks.items()}
    names = list(blocks)
    rows = [(a, b, js_nats(mass[a], mass[b])) for i, a in enumerate(names) for b in names[i + 1 :]]
    return pd.DataFrame([(a, b, js, js / step) for a, b, js in rows], columns=["a", "b", "js_nats", "js_grid_sum"])


def log_spread(blocks: Mapping[str, Quadrature]) -> float:
    """Standard deviation over blocks of log10 max |eigenvalue|; a block that is zero has no logarithm and is left out.

    NaN with fewer than two blocks.
    """
    sizes = np.array([q.largest_magnitude for q in blocks.values()])
    sizes = sizes[sizes > 0]
    return float(np.log10(sizes).std(ddof=1)) if len(sizes) > 1 else float("nan")


def heterogeneity(
    blocks: Mapping[str, Quadrature],
    groups: Mapping[str, str],
    sigma: float = SIGMA,
    points: int = POINTS,
    margin: float = MARGIN,
) -> pd.DataFrame:
    """Both measures, over all blocks and without embeddings and heads.

    Args:
        blocks: name -> spectrum.
        groups: name -> group.
        sigma, points, margin: see `pair_distances`.

    Returns:
        [blocks, n_blocks, js_nats, js_grid_sum, log_spread], means over pairs; rows "all" and "without_ends".

    Raises:
        ValueError: fewer than two blocks are left.
    """

    def row(kind: str, names: Sequence[str]) -> dict[str, object]:
        if len(names) < 2:
            raise ValueError(f"heterogeneity compares blocks, and there is {len(names)} ({kind}): take more of them")
        of = {name: blocks[name] for name in names}
        means = pair_distances(of, sigma, points, margin)[["js_nats", "js_grid_sum"]].mean()
        return {"blocks": kind, "n_blocks": len(names), **means.to_dict(), "log_spread": log_spread(of)}

    inner = [name for name in blocks if groups[name] not in OUTER]
    return pd.DataFrame([row("all", list(blocks)), row("without_ends", inner)])
