"""How does the loss depend on the sizes and rates that were tried side by side at one rung?  Quadratic surfaces.

Where nothing was repeated, a rung at which several sizes or rates were tried still tells two things, as an unreplicated
factorial design does (Box and Wilson 1951; Daniel 1959): how large the noise is, by how far the losses near the best
depart from a quadratic in the logs of what was varied (linear in that of their compute, where it differs), and how much
lower the best looks by luck alone, since the surface says how many were truly near it.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from algoprogress.analysis.runs import SAME

FACTORS = ("n_params", "learning_rate", "batch_tokens")  # what is tuned at a rung
LEVELS, LEVELS_ALONE = 3, 5  # of each factor: the fewest whose crossing leaves a quadratic freedom; best ± 2 of one
ENOUGH = 500  # degrees of freedom: the noise is then known within 3 %
POOLED_AT = 0.05  # level of the test that all rungs have one curvature


def departures(runs: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Runs near the best of their rung, and contrasts (m, n) of them that any quadratic surface leaves at zero.

    Args:
        runs: [arm, rung, compute, loss, ...] with columns among FACTORS, each configuration once.

    Returns:
        The runs (n,), and orthonormal contrasts, each of one rung; both empty where no rung has freedom to spare.
    """
    kept, blocks, known = [], [], 0
    for rows, x, c in _rungs(runs):
        T = _complement(np.column_stack([_linear(x, c), _products(x)]))
        if len(T):
            kept.append(rows)
            blocks.append(T)
            known += len(T)
        if known > ENOUGH:
            break
    if not kept:
        return runs[:0], np.empty((0, 0))
    contrasts, row, column = np.zeros((known, sum(map(len, kept)))), 0, 0
    for T in blocks:
        contrasts[row : row + len(T), column : column + T.shape[1]] = T
        row, column = row + len(T), column + T.shape[1]
    return runs.iloc[np.concatenate(kept)], contrasts


def smoothed(table: pd.DataFrame, sd: np.ndarray) -> np.ndarray:
    """Losses (n,) of configurations on quadratic surfaces: those near the best of their rung, others as they are.

    The curvature is one for all rungs and arms, unless an F test against a curvature for each rejects it.

    Args:
        table: [arm, rung, compute, loss, ...] with columns among FACTORS, each configuration once.
        sd: of the noise of each loss, nats/token.
    """
    from scipy.stats import f

    found, y_n = table["loss"].to_numpy(float).copy(), table["loss"].to_numpy(float)
    parts = list(_rungs(table))
    own, squares, dof = {}, 0.0, 0
    for i, (rows, x, c) in enumerate(parts):
        T = _complement(np.column_stack([_linear(x, c), _products(x)]))
        away = T.T @ (T @ y_n[rows])
        own[i] = y_n[rows] - away
        squares, dof = squares + float(((away / sd[rows]) ** 2).sum()), dof + len(T)
    if not dof:
        return found
    lines = [_complement(_linear(x, c)) for _, x, c in parts]
    A = np.concatenate([T @ _products(x) / sd[rows].mean() for (rows, x, _), T in zip(parts, lines, strict=True)])
    b = np.concatenate([T @ y_n[rows] / sd[rows].mean() for (rows, _, _), T in zip(parts, lines, strict=True)])
    curvature, _, rank, _ = np.linalg.lstsq(A, b, rcond=None)
    restrictions = len(b) - int(rank) - dof
    rise = float(((b - A @ curvature) ** 2).sum()) - squares
    pooled = restrictions > 0 and f.sf(rise / restrictions / max(squares / dof, 1e-300), restrictions, dof) > POOLED_AT
    for i, (rows, x, _) in enumerate(parts):
        curved = _products(x) @ curvature
        off = y_n[rows] - curved
        found[rows] = curved + off - lines[i].T @ (lines[i] @ off) if pooled else own[i]
    return found


def _rungs(table: pd.DataFrame) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each arm and rung where a factor varies: rows (k,) near the best, centred log factors (k, f) and compute."""
    factors = [f for f in FACTORS if f in table and is_numeric_dtype(table[f]) and (table[f] > 0).all()]
    if not factors:
        return
    log_x, loss = np.log(table[factors].to_numpy(float)), table["loss"].to_numpy(float)
    log_c = np.log(table["compute"].to_numpy(float))
    for rows in table.groupby(["arm", "rung"], sort=False).indices.values():
        varied = np.ptp(log_x[rows], axis=0) > SAME
        if varied.any():
            near = rows[_near(log_x[rows][:, varied], int(loss[rows].argmin()))]
            c = log_c[near] - log_c[near].mean()
            yield near, np.where(varied, log_x[near] - log_x[near].mean(0), 0.0), c * (np.ptp(c) > SAME)


def _near(x: np.ndarray, best: int) -> np.ndarray:
    """Points (k,) at the levels of each factor nearest to those of the best; SAME in ln is one level."""
    near = np.ones(len(x), bool)
    for column in x.T:
        level = np.round(column / SAME)
        levels = np.unique(level)
        nearest = levels[np.argsort(np.abs(levels - level[best]), kind="stable")]
        near &= np.isin(level, nearest[: LEVELS if x.shape[1] > 1 else LEVELS_ALONE])
    return np.flatnonzero(near)[:ENOUGH]


def _linear(x: np.ndarray, c: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(x)), x, c])


def _products(x: np.ndarray) -> np.ndarray:
    """x_i x_j of points (k, f), as columns."""
    i, j = np.triu_indices(x.shape[1])
    return x[:, i] * x[:, j]


def _complement(X: np.ndarray) -> np.ndarray:
    """An orthonormal basis (m, k) of what the columns of X (k, p) leave of k losses."""
    U, size, _ = np.linalg.svd(X, full_matrices=True)
    return U[:, int((size > 1e-9 * size.max()).sum()) :].T
