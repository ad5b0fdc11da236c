"""The points of isoFLOP curves: at each compute budget, the best run of each size."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from algoprogress.analysis.laws.base import Law
from algoprogress.analysis.runs import SAME, check_columns, usable_runs

MIN_SIZES = 3  # a minimum between sizes needs one on either side
ON_BUDGET = np.log(1.15)  # runs within 15 % of a named budget belong to it: digitised budgets scatter that much
EXACT = 1e-3  # compute this near to its budget in ln moves a loss by less than 1e-4 nats/token


def isoflop_points(runs: pd.DataFrame, budgets: Sequence[float] | None = None, max_epochs: float = 1.0) -> pd.DataFrame:
    """At each budget and size the lowest loss, each configuration by its mean over seeds; sorted by budget and size.

    Args:
        runs: rows of one arm with n_params, tokens, loss (nats/token); compute in FLOP, or 6 n_params tokens without.
            seed, configuration_id, compute_budget, status and epochs_seen are used when there.
        budgets: FLOP; runs within 15 % of one belong to it and others are left out. By default the rungs of
            `usable_runs`: the column compute_budget, or gaps in compute.
        max_epochs: runs that saw their data more often are left out.

    Returns:
        [budget, n_params, tokens, compute, loss, n_runs] of budgets with three sizes or more; sizes within 1 % are one.

    Raises:
        ValueError: a column is missing, a value is not positive, there are several arms, or no budget has three sizes.
    """
    check_columns(runs, ("n_params", "tokens", "loss"), "an isoFLOP curve")
    arms = pd.unique(runs["arm"]) if "arm" in runs else ["all"]
    if len(arms) > 1:
        raise ValueError(f"isoFLOP curves are drawn for one arm at a time; there are {', '.join(map(str, arms))}.")
    frame = runs if "compute" in runs else runs.assign(compute=6.0 * runs["n_params"] * runs["tokens"])
    frame = frame if "arm" in runs else frame.assign(arm="all")
    kept = usable_runs(frame if budgets is None else _on(frame, budgets), max_epochs)
    kept["size"] = _sizes(kept)
    log = np.log(kept[["n_params", "tokens", "compute"]].astype(float))
    tried = (
        kept.assign(**log)
        .groupby(["rung", "size", "configuration"])
        .agg({"n_params": "mean", "tokens": "mean", "compute": "mean", "loss": "mean", "arm": "size"})
        .reset_index()
    )
    groups = tried.groupby(["rung", "size"])
    best = tried.loc[groups["loss"].idxmin()].assign(n_runs=groups["arm"].sum().to_numpy())
    best[["n_params", "tokens", "compute"]] = np.exp(best[["n_params", "tokens", "compute"]])
    best = best[best.groupby("rung")["size"].transform("size") >= MIN_SIZES]
    if best.empty:
        most = int(tried.groupby("rung")["size"].nunique().max())
        raise ValueError(
            f"No compute budget has {MIN_SIZES} sizes (the most is {most} at {tried['rung'].nunique()} budgets found): "
            "name the budgets, or give the runs a column compute_budget."
        )
    points = best.sort_values(["rung", "n_params"]).rename(columns={"rung": "budget"})
    return points[["budget", "n_params", "tokens", "compute", "loss", "n_runs"]].reset_index(drop=True)


def windowed(points: pd.DataFrame, window: float) -> pd.DataFrame:
    """Points whose size lies within a factor of that of the lowest loss at their budget."""
    best = points.loc[points.groupby("budget")["loss"].idxmin()].set_index("budget")["n_params"]
    off = np.abs(np.log(points["n_params"] / points["budget"].map(best)))
    near = off <= np.log(window) * (1 + 1e-9)
    enough = near.groupby(points["budget"]).transform("sum") >= MIN_SIZES
    if not enough.any():
        raise ValueError(f"No budget has {MIN_SIZES} sizes within a factor of {window:g} of its best: widen it.")
    return points[near & enough].reset_index(drop=True)


def moved_to_budget(points: pd.DataFrame, law: Law | None) -> tuple[pd.DataFrame, str]:
    """Losses as they would be at the budget exactly, by a law in n_params and tokens, and what was done in words."""
    off = np.log(points["budget"] / points["compute"])
    if off.abs().max() <= EXACT:
        return points, ""
    text = f"compute lies up to {np.expm1(off.abs().max()):.0%} off its budget"
    if law is None:
        return points, f"{text}: not corrected, for want of a law"
    tokens = points["tokens"] * np.exp(off)
    shift = law.predict(points["n_params"], tokens) - law.predict(points["n_params"], points["tokens"])
    return points.assign(tokens=tokens, compute=points["budget"], loss=points["loss"] + shift), f"{text}: moved by law"


def _on(runs: pd.DataFrame, budgets: Sequence[float]) -> pd.DataFrame:
    known = np.sort(np.asarray(budgets, float))
    if not known.size or not (np.isfinite(known) & (known > 0)).all():
        raise ValueError(f"Budgets are positive numbers of FLOP, not {budgets}.")
    off = np.log(runs["compute"].to_numpy(float))[:, None] - np.log(known)
    nearest = np.abs(off).argmin(1)
    near = np.abs(off).min(1) <= ON_BUDGET
    if not near.any():
        asked = ", ".join(f"{b:.3g}" for b in known)
        raise ValueError(f"No run has a compute within 15 % of the budgets {asked} FLOP.")
    return runs.assign(compute_budget=known[nearest])[near]


def _sizes(kept: pd.DataFrame) -> np.ndarray:
    """A number for each size of a rung; sizes that differ by less than 1 % from the next are one."""
    log_n = np.log(kept["n_params"].to_numpy(float))
    rung = kept["rung"].to_numpy(float)
    order = np.lexsort((log_n, rung))
    new = (np.diff(rung[order], prepend=np.nan) != 0) | (np.diff(log_n[order], prepend=-np.inf) > SAME)
    size = np.empty(len(kept), int)
    size[order] = np.cumsum(new)
    return size
