"""Which of several training curves is lowest at each compute, and what size and data does it have there?"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from algoprogress.analysis.runs import check_columns

N_GRID = 1500  # values of compute at which the lowest curve is looked up: Hoffmann et al. 2022, approach 1
MIN_SIZES = 3  # at a compute: the lowest of two sizes may be the lowest only for want of a third


@dataclass(frozen=True)
class Envelope:
    """The minimum over curves and the power laws through it.

    Attributes:
        table: [compute, n_params, tokens, loss, at_edge], where three sizes or more have a loss. at_edge is "<" where
            the best size is the smallest of those, ">" where it is the largest: such rows are left out of the laws.
        n_params_power, tokens_power: exponent and log coefficient (1 + B, 2), the estimate first; nan where fewer than
            two sizes are left.
        note: what was left out, in words.
    """

    table: pd.DataFrame
    n_params_power: np.ndarray
    tokens_power: np.ndarray
    note: str


def envelope(
    runs: pd.DataFrame,
    curves: pd.DataFrame | None = None,
    n_grid: int = N_GRID,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Envelope:
    """The lowest of the curves on a grid of log compute, each a broken line of loss in ln C (approach 1).

    The best size is a staircase in compute with as many steps as there are sizes, and its two ends are no minima: there
    a smaller or larger size would have been lower, had it been tried.

    Args:
        runs: rows of one arm with n_params, tokens, loss, compute; run_id where there are curves.
        curves: [run_id, compute, loss]; without them, the final losses of the runs of one size are its curve.
        n_resamples, seed: B draws of whole curves with replacement.
    """
    lines = _lines(runs, curves)
    sizes = np.array([line.n_params for line in lines])
    if len(np.unique(sizes)) < MIN_SIZES:
        raise ValueError(
            f"{len(np.unique(sizes))} sizes have a curve of two losses or more; an envelope needs {MIN_SIZES}: give "
            "training curves, or train each size on several numbers of tokens."
        )
    log_c = np.linspace(min(line.log_c[0] for line in lines), max(line.log_c[-1] for line in lines), n_grid)
    loss = np.stack([np.interp(log_c, line.log_c, line.loss, np.nan, np.nan) for line in lines])
    log_d = np.stack([np.interp(log_c, line.log_c, line.log_d) for line in lines])
    log_n = np.log(sizes)
    rng = np.random.default_rng(seed)
    everyone = np.ones(len(lines), bool)
    best, edge = _lowest(loss, sizes, everyone)
    powers = [_through(log_c, log_n, log_d, best, edge)]
    for _ in range(n_resamples):
        drawn = np.bincount(rng.integers(0, len(lines), len(lines)), minlength=len(lines)) > 0
        powers.append(_through(log_c, log_n, log_d, *_lowest(loss, sizes, drawn)))
    known = np.flatnonzero(best >= 0)
    table = pd.DataFrame(
        {
            "compute": np.exp(log_c[known]),
            "n_params": sizes[best[known]],
            "tokens": np.exp(log_d[best[known], known]),
            "loss": loss[best[known], known],
            "at_edge": np.array(["", ">", "<"])[edge[known]],
        }
    )
    inside = table[table["at_edge"] == ""]
    share = f"{len(inside) / n_grid:.0%} of the range of ln C"
    note = f"{len(lines)} curves; {inside['n_params'].nunique()} sizes lowest between others, on {share}"
    both = np.array(powers)
    return Envelope(table, both[:, 0], both[:, 1], note)


@dataclass(frozen=True)
class _Line:
    n_params: float
    log_c: np.ndarray
    log_d: np.ndarray
    loss: np.ndarray


def _lines(runs: pd.DataFrame, curves: pd.DataFrame | None) -> list[_Line]:
    frame = runs if "compute" in runs else runs.assign(compute=6.0 * runs["n_params"] * runs["tokens"])
    if curves is None:
        rows, by = frame, "n_params"
    else:
        missing = [c for c in ("run_id", "compute", "loss") if c not in curves]
        if missing or "run_id" not in frame:
            raise ValueError("Curves need run_id, compute and loss, and the runs need run_id.")
        facts = frame[["run_id", "n_params", "tokens", "compute"]].rename(columns={"compute": "in_all"})
        rows = curves[["run_id", "compute", "loss"]].merge(facts, on="run_id")
        rows["tokens"] = rows["tokens"] * rows["compute"] / rows["in_all"]  # one token costs the same throughout
        rows = rows[np.isfinite(rows["loss"]) & (rows["compute"] > 0)]  # a run that diverged counts until then
        by = "run_id"
    check_columns(rows, ("n_params", "tokens", "loss"), "an envelope of curves")
    lines = []
    for _, part in rows.groupby(by, sort=True):
        part = part.groupby("compute", as_index=False)[["n_params", "tokens", "loss"]].agg(
            {"n_params": "mean", "tokens": "mean", "loss": "min"}
        )
        if len(part) > 1:
            log_c, log_d = np.log(part["compute"].to_numpy(float)), np.log(part["tokens"].to_numpy(float))
            lines.append(_Line(float(part["n_params"].iloc[0]), log_c, log_d, part["loss"].to_numpy(float)))
    return lines


def _lowest(loss: np.ndarray, sizes: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which curve is lowest at each compute (-1: fewer than three sizes), and whether its size is the least or most."""
    there = np.isfinite(loss) & drawn[:, None]
    best = np.where(there, loss, np.inf).argmin(0)
    least = np.where(there, sizes[:, None], np.inf).min(0)
    most = np.where(there, sizes[:, None], -np.inf).max(0)
    of = sizes[best]
    between = (there & (sizes[:, None] > least) & (sizes[:, None] < most)).any(0)
    return np.where(between, best, -1), np.where(of <= least, -1, np.where(of >= most, 1, 0))


def _through(
    log_c: np.ndarray, log_n: np.ndarray, log_d: np.ndarray, best: np.ndarray, edge: np.ndarray
) -> list[tuple[float, float]]:
    """Least squares of ln N and of ln D on ln C where the best size lies between others."""
    inside = np.flatnonzero((best >= 0) & (edge == 0))
    if len(np.unique(best[inside])) < 2:
        return [(np.nan, np.nan)] * 2
    x = log_c[inside]
    pairs = []
    for y in (log_n[best[inside]], log_d[best[inside], inside]):
        slope = float(((x - x.mean()) * y).sum() / ((x - x.mean()) ** 2).sum())
        pairs.append((slope, float(y.mean() - slope * x.mean())))
    return pairs
