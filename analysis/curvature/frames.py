"""Tables of probes as spectra, and back: rows of nodes and weights to what is said of a block or of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from algoprogress.analysis.curvature.heterogeneity import VECTORS, heterogeneity, pair_distances
from algoprogress.analysis.curvature.quadrature import MARGIN, POINTS, SIGMA, Estimate, Quadrature

SMOOTH = 400  # points at which a density is kept for a figure
COLUMNS = ["block", "group", "n", "direction", "node", "weight", "trace", "trace_se"]


def rows_of(name: str, group: str, quadrature: Quadrature, trace: Estimate | None = None) -> pd.DataFrame:
    """A row for each node of each random direction: [block, group, n, direction, node, weight, trace, trace_se]."""
    nodes, weights = (np.concatenate(part) for part in (quadrature.nodes, quadrature.weights))
    direction = np.repeat(np.arange(len(quadrature.nodes)), list(map(len, quadrature.nodes)))
    trace = trace or Estimate(np.nan, np.nan)
    same = {"block": name, "group": group, "n": quadrature.n}
    own = {"direction": direction, "node": nodes, "weight": weights}
    return pd.DataFrame({**own, **same, "trace": trace.value, "trace_se": trace.standard_error})[COLUMNS]


def quadratures(rows: pd.DataFrame) -> dict[str, Quadrature]:
    """Block -> its spectrum, in the order of the rows, which are of one probe.

    Raises:
        ValueError: the rows are of several probes.
    """
    if "probe_id" in rows and len(rows["probe_id"].unique()) > 1:
        raise ValueError(
            f"rows of {rows['probe_id'].nunique()} probes are of several models or steps: take one probe_id at a time"
        )
    found = {}
    for block, part in rows.groupby("block", sort=False):
        directions = [one for _, one in part.groupby("direction", sort=False)]
        nodes: tuple[NDArray[np.float64], ...] = tuple(one["node"].to_numpy(float) for one in directions)
        weights = tuple(one["weight"].to_numpy(float) for one in directions)
        found[str(block)] = Quadrature(nodes, weights, int(part["n"].iloc[0]))
    return found


def groups_of(rows: pd.DataFrame) -> dict[str, str]:
    """Block -> group."""
    once = rows.drop_duplicates("block")
    return dict(zip(once["block"], once["group"], strict=True))


def block_table(rows: pd.DataFrame) -> pd.DataFrame:
    """[block, group, n, smallest, largest, trace, rms, and standard errors `_se`], a row a block of one probe.

    The trace is that of Hutch++ where it was measured, else Hutchinson's of the same directions.
    """
    groups, table = groups_of(rows), []
    traces = rows.drop_duplicates("block").set_index("block")
    for block, q in quadratures(rows).items():
        trace = Estimate(float(traces.loc[block, "trace"]), float(traces.loc[block, "trace_se"]))
        trace = q.trace if np.isnan(trace.value) else trace
        table.append(
            {
                "block": block,
                "group": groups[block],
                "n": q.n,
                "smallest": q.smallest.value,
                "smallest_se": q.smallest.standard_error,
                "largest": q.largest.value,
                "largest_se": q.largest.standard_error,
                "trace": trace.value,
                "trace_se": trace.standard_error,
                "rms": float(np.sqrt(q.moment(2).value)),
            }
        )
    return pd.DataFrame(table)


def densities(rows: pd.DataFrame) -> pd.DataFrame:
    """[block, group, largest_magnitude, eigenvalue, density]: each block over its own range."""
    groups, curves = groups_of(rows), []
    for block, q in quadratures(rows).items():
        reach = max(q.largest_magnitude, np.finfo(float).tiny)
        grid = np.linspace(-1.1 * reach, 1.1 * reach, SMOOTH)
        density, _ = q.density(grid, sigma=0.01 * reach)  # what can be told apart on a page
        curve = pd.DataFrame({"eigenvalue": grid, "density": density})
        curves.append(curve.assign(block=block, group=groups[block], largest_magnitude=reach))
    return pd.concat(curves, ignore_index=True)


def matrices(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of matrices: norms and biases are left out, as the literature does."""
    return rows[~rows["group"].isin(VECTORS)]


def heterogeneity_of(
    rows: pd.DataFrame, sigma: float = SIGMA, points: int = POINTS, margin: float = MARGIN
) -> pd.DataFrame:
    """Heterogeneity of the matrices of one probe: see `heterogeneity.heterogeneity`."""
    kept = matrices(rows)
    return heterogeneity(quadratures(kept), groups_of(kept), sigma, points, margin)


def pairs_of(rows: pd.DataFrame, sigma: float = SIGMA, points: int = POINTS, margin: float = MARGIN) -> pd.DataFrame:
    """[a, b, js_nats, js_grid_sum] of each two matrices of one probe."""
    return pair_distances(quadratures(matrices(rows)), sigma, points, margin)


def by_probe(rows: pd.DataFrame) -> Iterator[tuple[Mapping[str, object], pd.DataFrame]]:
    """(facts, rows) of each probe of a table of `Store.spectra()`: facts are the columns that all its rows share."""
    own = set(COLUMNS)
    for _, part in rows.groupby("probe_id", sort=False):
        yield {str(k): v for k, v in part.iloc[0].items() if k not in own}, part
