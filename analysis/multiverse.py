"""How much of an answer is the protocol?  One question, every reasonable way to analyse the same runs, one table.

Each row is a universe: a choice of law, irreducible loss, window of compute, FLOP convention, losses and resampling
unit (Steegen et al. 2016). An answer that holds in most of them is the runs'; one that turns round is the analyst's.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.analysis.gains import gains_of
from algoprogress.analysis.bootstrap import SeedDraws, draw_seeds
from algoprogress.analysis.identifiability import doubts as doubts_of
from algoprogress.analysis.joint import JointFit, fit_jointly, resampled
from algoprogress.analysis.lawfit import Share, quietly
from algoprogress.analysis.laws import laws
from algoprogress.analysis.runs import usable_runs
from algoprogress.analysis.scale import slopes
from algoprogress.analysis.warnings import AnalysisWarning, ConvergenceError

FLOPS = ("compute", "compute_6n", "compute_6n_total")
CHOICES: dict[str, tuple[str, ...]] = {
    "law": ("interpolated", "power", "chinchilla"),
    "E": ("shared", "per arm", "0"),
    "window": ("all", "without the smallest", "without the largest"),
    "flop": FLOPS,
    "losses": ("final", "all checkpoints"),
    "unit": ("seeds", "configurations", "rungs"),
}
RESULT = ["arm", "compute", "ceg", "ceg_low", "ceg_high", "slope", "slope_low", "slope_high", "n_runs", "note"]
COLUMNS = [*CHOICES, *RESULT]
CLUSTERS = {"seeds": "seed", "configurations": None, "rungs": "rung"}  # for laws that are fitted to all runs
SHARES: dict[str, Share] = {"shared": {"E": "all"}, "per arm": {}, "0": {}}


def multiverse(
    runs: pd.DataFrame,
    baseline: str,
    at_compute: float | None = None,
    curves: pd.DataFrame | None = None,
    choices: Mapping[str, Sequence[str]] | None = None,
    level: float = 0.95,
    n_resamples: int = 200,
    seed: int = 0,
    max_epochs: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """CEG at one compute, and its slope over the measured range, in every universe that the columns allow.

    Args:
        runs: one row per (arm, run) with arm, compute, loss; n_params and tokens for "chinchilla", compute_6n and
            compute_6n_total for those conventions.
        baseline: the arm that the others are compared with.
        at_compute: FLOP as in `compute`; by default the largest rung of each arm that no window leaves out. Under
            another convention it is the same runs' compute.
        curves: [run_id, compute, loss or val_loss], one row per checkpoint; without them "final" losses only.
        choices: what to try of each column of CHOICES, by default all of it.
        level: of the intervals.
        n_resamples: of each universe; 0 for no intervals.
        seed: of the resampling.
        progress: called with the number of universes done and in all.

    Returns:
        [law, E, window, flop, losses, unit, arm, compute, ceg, ceg_low, ceg_high, slope, slope_low, slope_high, n_runs,
        note], a row for each arm in each universe. "E" is "" where the estimate has none. A universe without an answer
        has a note that says why.
    """
    tried = _choices(choices, runs, curves)
    universes = list(_universes(tried))
    kept = usable_runs(runs, max_epochs).drop(columns=["rung", "configuration"])
    if baseline not in set(kept["arm"]):
        known = ", ".join(map(str, pd.unique(kept["arm"])))
        raise ValueError(f"There is no arm {baseline!r} to be the baseline; the arms are {known}.")
    asked = _targets(kept, baseline, at_compute)
    views: dict[tuple[str, ...], pd.DataFrame | str] = {}
    draws: dict[tuple[str, ...], SeedDraws] = {}
    fits: dict[tuple[str, ...], JointFit | str] = {}
    rows: list[dict] = []
    for done, universe in enumerate(universes):
        key = (universe["flop"], universe["losses"], universe["window"])
        if key not in views:
            views[key] = view = _view(kept, curves, *key)
            if n_resamples and not isinstance(view, str):
                draws[key] = quietly(draw_seeds, view, n_resamples, seed)
        of_law = (*key, universe["law"], universe["E"])
        if of_law not in fits:
            fits[of_law] = _fitted(views[key], baseline, universe)
        targets = {arm: _converted(kept, arm, target, universe["flop"]) for arm, target in asked.items()}
        rows += _answers(fits[of_law], draws.get(key), targets, universe, level)
        if progress is not None:
            progress(done + 1, len(universes))
    return pd.DataFrame(rows, columns=COLUMNS)


def _choices(
    choices: Mapping[str, Sequence[str]] | None, runs: pd.DataFrame, curves: pd.DataFrame | None
) -> dict[str, list[str]]:
    unknown = set(choices or {}) - set(CHOICES)
    if unknown:
        raise ValueError(f"choices has {', '.join(sorted(unknown))}; what can be chosen is {', '.join(CHOICES)}.")
    tried = {}
    for name, known in CHOICES.items():
        wanted = list((choices or {}).get(name, known))
        wrong = [w for w in wanted if w not in (laws if name == "law" else known) and w not in known]
        if wrong or not wanted:
            more = f", {', '.join(law for law in laws if law not in known)}" if name == "law" else ""
            raise ValueError(f"{name} is one or several of {', '.join(known)}{more}, not {wrong or wanted}.")
        tried[name] = wanted
    if choices is None or "flop" not in choices:
        tried["flop"] = [c for c in tried["flop"] if c in runs]
    if curves is None and (choices is None or "losses" not in choices):
        tried["losses"] = ["final"]
    if not {"n_params", "tokens"} <= set(runs) and (choices is None or "law" not in choices):
        tried["law"] = [name for name in tried["law"] if name == "interpolated" or laws[name].inputs == ("compute",)]
    return tried


def _universes(tried: dict[str, list[str]]) -> Iterator[dict[str, str]]:
    """Every combination that differs: interpolation has no E."""
    seen = set()
    for values in product(*tried.values()):
        universe = dict(zip(tried, values, strict=True))
        if universe["law"] == "interpolated":
            universe["E"] = ""
        key = tuple(universe.values())
        if key not in seen:
            seen.add(key)
            yield universe


def _targets(runs: pd.DataFrame, baseline: str, at_compute: float | None) -> dict[str, float]:
    """The compute asked about for each arm: its largest rung that every window holds, for the baseline too."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AnalysisWarning)
        rungs = {a: sorted(part["rung"].unique()) for a, part in usable_runs(runs).groupby("arm", sort=False)}
    for arm, own in rungs.items():
        if arm == baseline:
            continue
        inner = own[1:-1] if len(own) > 2 else own
        within = [r for r in inner if rungs[baseline][0] <= r <= rungs[baseline][-1]]
        found[str(arm)] = float((within or inner)[-1]) if at_compute is None else float(at_compute)
    if at_compute is not None and not (np.isfinite(at_compute) and at_compute > 0):
        raise ValueError(f"at_compute is a positive number of FLOP, not {at_compute}.")
    return found


def _view(
    runs: pd.DataFrame, curves: pd.DataFrame | None, flop: str, losses: str, window: str
) -> pd.DataFrame | str:
    """The runs as a universe sees them, or why it can not."""
    if flop not in runs:
        return f"the runs have no column {flop}"
    view = runs
    if losses == "all checkpoints":
        if curves is None:
            return "there are no curves"
        if "run_id" not in runs or "run_id" not in curves:
            return "curves and runs need a run_id in common"
        view = _checkpoints(runs, curves)
        if view.empty:
            return "no run has a curve"
    if flop != "compute":
        own = view["_whole"] if "_whole" in view else view["compute"]
        view = view.assign(compute=view["compute"] * (view[flop] / own))
    rungs = usable_runs(view.drop(columns="_whole", errors="ignore"))["rung"].to_numpy(float)
    view = view.drop(columns="_whole", errors="ignore").reset_index(drop=True)
    if len(rungs) != len(view):
        return "runs are given more than once"
    ends = np.unique(rungs)
    if window != "all" and len(ends) < 4:
        return f"{len(ends)} rungs: too few to leave one out"
    keep = np.ones(len(view), bool)
    if window == "without the smallest":
        keep = rungs > ends[0]
    elif window == "without the largest":
        keep = rungs < ends[-1]
    return view[keep].reset_index(drop=True)


def _checkpoints(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """A row for each checkpoint of each run: validation losses where runs were evaluated on the way, else training."""
    often = "val_loss" in curves and curves.groupby("run_id")["val_loss"].count().max() > 1
    extra = ["tokens"] if {"tokens"} <= set(curves) and "tokens" in runs else []
    column = "val_loss" if often else "loss"
    points = curves[["run_id", "compute", column, *extra]].rename(columns={column: "loss"}).dropna()
    points = points[points["loss"].gt(0) & points["compute"].gt(0)]
    about = runs.rename(columns={"compute": "_whole"}).drop(columns=["loss", "compute_budget", *extra], errors="ignore")
    table = about.merge(points, on="run_id", how="inner")
    # each checkpoint is a configuration of its own: a run stopped there, repeated where its seeds are
    of_run = table["configuration_id" if "configuration_id" in table else "run_id"].astype(str)
    share = np.round(np.log(table["compute"] / table["_whole"]), 6).astype(str)
    return table.assign(configuration_id=of_run + " at " + share, run_id=table["run_id"].astype(str) + " at " + share)


def _fitted(view: pd.DataFrame | str, baseline: str, universe: dict[str, str]) -> JointFit | str:
    """The frontiers and the law of a universe, or why there are none."""
    if isinstance(view, str):
        return view
    law, share = None, None
    if universe["law"] != "interpolated":
        law = laws[universe["law"]](fixed={"E": 0.0} if universe["E"] == "0" else None)  # type: ignore[call-arg]
        share = SHARES[universe["E"]]
    try:
        return quietly(fit_jointly, view, baseline, law, share, n_resamples=0, strict=True)
    except (ValueError, ConvergenceError) as error:
        return str(error)


def _answers(
    fit: JointFit | str, draws: SeedDraws | None, targets: dict[str, float], universe: dict[str, str], level: float
) -> list[dict]:
    """A row for each arm; a note where there is no answer."""
    nothing = {**universe, **dict.fromkeys(RESULT[2:8], np.nan), "n_runs": 0}
    rows = {arm: {**nothing, "arm": arm, "compute": target, "note": ""} for arm, target in targets.items()}
    if isinstance(fit, str):
        return [{**row, "note": fit} for row in rows.values()]
    if draws is not None:
        unit: Any = universe["unit"]
        try:
            fit = quietly(resampled, fit, draws, unit, CLUSTERS[unit])
        except ValueError as error:
            fit = replace(fit, interval_note=str(error))
    for arm, row in rows.items():
        if arm in fit.arms:
            row |= quietly(_answer, fit, arm, targets[arm], universe["law"], level)
        else:
            row["note"] = f"{arm} has no run in this universe"
    return list(rows.values())


def _answer(fit: JointFit, arm: str, target: float, law: str, level: float) -> dict:
    """The gain at one compute and the slope over the measured ones."""
    measured = fit.points(arm)["compute"].astype(float)
    pair = replace(fit, front=fit.front[fit.front["arm"].isin([arm, fit.baseline])])
    grid = sorted({*measured, target})
    table = gains_of(pair, grid, method="interpolated" if law == "interpolated" else "law", level=level)
    at = table.iloc[grid.index(target)]
    slope = slopes(table[table["compute"].isin(measured)]).iloc[0]
    bound = f"a bound: {at['censored']} {at['ceg']:.3g}" if at["censored"] else ""
    doubts = doubts_of(fit.first.law) if fit.first.law is not None else []
    notes = [bound, str(at["note"]), *doubts, str(slope["note"]) if np.isnan(slope["slope"]) else ""]
    return {
        **{c: at[c] for c in ("ceg", "ceg_low", "ceg_high", "n_runs")},
        **{c: slope[c] for c in ("slope", "slope_low", "slope_high")},
        "note": "; ".join(dict.fromkeys(filter(None, notes))),
    }


def _converted(runs: pd.DataFrame, arm: str, compute: float, flop: str) -> float:
    """A compute in another convention: that of the arm's runs nearest to it."""
    if flop == "compute" or flop not in runs:
        return compute
    own = runs[runs["arm"] == arm]
    off = np.abs(np.log(own["compute"].to_numpy(float) / compute))
    near = own[off <= off.min() + np.log(1.25)]
    return compute * float(np.exp(np.log(near[flop].astype(float) / near["compute"].astype(float)).mean()))
