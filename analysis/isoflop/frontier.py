"""The lowest loss of each arm at each compute by isoFLOP minima, as runs that gains can be computed from."""

from typing import Any

import pandas as pd

from algoprogress.analysis.isoflop.fit import isoflop


def isoflop_frontier(runs: pd.DataFrame, estimator: str = "akima", **options: Any) -> pd.DataFrame:
    """Minima between the sizes that were tried, of every arm: what `frontier` reads off the lowest runs themselves.

    Args:
        runs: rows of one arm or several with arm, n_params, tokens, compute, loss.
        estimator, options: see `isoflop`. Far-off sizes pull the minimum of a parabola, and with it a gain: on the
            runs of Porian et al. 2024 by a factor of two.

    Returns:
        [arm, compute, loss, n_params, tokens, n_runs], without minima at an edge; for `compute_equivalent_gain`.
    """
    parts = []
    for arm, own in runs.groupby("arm", sort=False):
        minima = isoflop(own, estimator, **{"n_resamples": 0, **options}).minima
        parts.append(minima[minima["at_edge"] == ""].assign(arm=arm))
    if not parts:
        raise ValueError("There are no runs to draw isoFLOP curves through.")
    return pd.concat(parts, ignore_index=True)[["arm", "compute", "loss", "n_params", "tokens", "n_runs"]]
