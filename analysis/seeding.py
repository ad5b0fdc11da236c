"""Where to start a fit of L = E + A N^-alpha + B D^-beta: given the exponents, the rest is a linear problem.

Variable projection (Golub and Pereyra 1973): on a grid of (alpha, beta) the E, A, B >= 0 that make sum (L_hat / L - 1)²
least, which is the residual in log loss to first order, come from 3 x 3 solves whose sums are a few matrix products.
"""

import numpy as np

from algoprogress.analysis.loghuber import ALPHA, BETA, E, Points, a, b

GRID = np.geomspace(0.02, 2.5, 38)  # exponents tried: published ones lie between .05 and .8
BLOCKS = 4  # the best cell of each of 4 x 4 blocks of the grid is a start too: agreement between starts then says much
N_RANDOM = 64  # starts where the grid has no interior minimum
SEEDS = 4  # interior minima followed up


def projected(points: Points, fixed_E: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The best (E, a, b) for each pair of exponents: sum of squared relative residuals (G, G), theta (G, G, P).

    Cells where E would be negative hold E = 0, or all E = `fixed_E`; where a term is negative the sum is infinite.
    """
    weight = np.exp(-points.y)
    P, Q = (np.exp(-GRID[:, None] * t) * weight for t in (points.x, points.z))
    G, n = len(GRID), len(points.y)
    M, c = np.empty((G, G, 3, 3)), np.empty((G, G, 3))
    M[..., 0, 0], M[..., 1, 1], M[..., 2, 2] = (
        weight @ weight,
        (P * P).sum(1)[:, None],
        (Q * Q).sum(1),
    )
    M[..., 0, 1] = M[..., 1, 0] = (P @ weight)[:, None]
    M[..., 0, 2] = M[..., 2, 0] = Q @ weight
    M[..., 1, 2] = M[..., 2, 1] = P @ Q.T
    c[..., 0], c[..., 1], c[..., 2] = weight.sum(), P.sum(1)[:, None], Q.sum(1)
    ridge = 1e-12 * np.einsum("abii->abi", M)  # exponents that nearly coincide: any split will do
    M_ridge, held = M + ridge[..., None] * np.eye(3), fixed_E or 0.0
    rest = c[..., 1:] - held * M[..., 0, 1:]
    without = np.linalg.solve(M_ridge[..., 1:, 1:], rest[..., None])[..., 0]
    found = np.concatenate([np.full((G, G, 1), held), without], -1)
    if fixed_E is None:
        free = np.linalg.solve(M_ridge, c[..., None])[..., 0]
        found = np.where(free[..., :1] < 0, found, free)
    squares = n - 2 * (found * c).sum(-1) + np.einsum("abi,abij,abj->ab", found, M, found)
    squares = np.where((found[..., 1:] > 0).all(-1), squares, np.inf)
    theta = np.empty((G, G, 5))
    theta[..., E] = found[..., 0]
    theta[..., [a, b]] = np.log(np.maximum(found[..., 1:], 1e-12))
    theta[..., ALPHA], theta[..., BETA] = GRID[:, None], GRID
    return squares, theta


def starts(points: Points, shared: bool = False, fixed_E: float | None = None) -> np.ndarray:
    """Starts (S, P): interior minima of the projected grid, the best of each of its blocks; or random ones.

    Args:
        shared: whether alpha = beta.
        fixed_E: E as a share of the mean loss, where it is not free.
    """
    squares, theta = projected(points, fixed_E)
    if shared:
        line = squares.diagonal()
        lower = (line[1:-1] <= line[:-2]) & (line[1:-1] <= line[2:]) & np.isfinite(line[1:-1])
        cells = [(int(i), int(i)) for i in np.flatnonzero(lower) + 1]
        blocks = [range(k, min(k + 3, len(GRID))) for k in range(0, len(GRID), 3)]
        spread = [(i, i) for i in (min(block, key=lambda i: line[i]) for block in blocks) if np.isfinite(line[i])]
    else:
        middle = squares[1:-1, 1:-1]
        lower = np.isfinite(middle)
        for i in (0, 1, 2):
            for j in (0, 1, 2):
                lower &= middle <= squares[i : i + len(middle), j : j + len(middle)]
        found = np.argwhere(lower) + 1
        order = np.argsort(squares[found[:, 0], found[:, 1]])[:SEEDS]
        cells = [(int(i), int(j)) for i, j in found[order]]
        spread = [cell for cell in _best_of_blocks(squares) if cell not in cells]
    if not cells:
        return np.concatenate([random_starts(points, N_RANDOM, seed=0), *[theta[cell][None] for cell in spread]])
    return np.stack([theta[cell] for cell in [*cells, *spread]])


def _best_of_blocks(squares: np.ndarray) -> list[tuple[int, int]]:
    edges = np.linspace(0, len(squares), BLOCKS + 1).astype(int)
    cells = []
    for i in range(BLOCKS):
        for j in range(BLOCKS):
            block = squares[edges[i] : edges[i + 1], edges[j] : edges[j + 1]]
            k, m = np.unravel_index(int(block.argmin()), block.shape)
            if np.isfinite(block[k, m]):
                cells.append((int(edges[i] + k), int(edges[j] + m)))
    return cells


def random_starts(points: Points, n: int, seed: int) -> np.ndarray:
    """n random starts (n, P): any E below the lowest loss, any split of the rest, exponents log-uniform."""
    rng = np.random.default_rng(seed)
    least = np.exp(points.y.min())
    theta = np.empty((n, 5))
    theta[:, E] = least * rng.uniform(0, 0.95, n)
    share = rng.uniform(0.02, 0.98, n)
    rest = np.exp(points.y.mean()) - theta[:, E]
    theta[:, a], theta[:, b] = np.log(rest * share), np.log(rest * (1 - share))
    theta[:, [ALPHA, BETA]] = np.exp(rng.uniform(np.log(GRID[0]), np.log(GRID[-1]), (n, 2)))
    return theta
