"""How much of an answer is the protocol?  One question, every reasonable way to analyse the same runs, one table.

Each row is a universe: a choice of law, irreducible loss, window of compute, FLOP convention, losses and resampling
unit (Steegen et al. 2016). An answer that holds in most of them is the runs'; one that turns round is the analyst's.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.analysis.gains import gains_of
from algoprogress.analysis.joint import fit_jointly
from algoprogress.analysis.lawfit import Share
from algoprogress.analysis.laws import laws
from algoprogress.analysis.runs import usable_runs
from algoprogress.analysis.scale import scale_dependence
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
    views: dict[tuple[str, str, str], pd.DataFrame | str] = {}
    rows: list[dict] = []
    for done, universe in enumerate(universes):
        key = (universe["flop"], universe["losses"], universe["window"])
        if key not in views:
            views[key] = _view(kept, curves, *key)
        rows += _answers(views[key], kept, baseline, asked, universe, level, n_resamples, seed)
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
    """A row for each checkpoint of each run, in the run's place; its final loss is the last of them."""
    column = "val_loss" if "val_loss" in curves and curves["val_loss"].notna().any() else "loss"
    extra = ["tokens"] if {"tokens"} <= set(curves) and "tokens" in runs else []
    points = curves[["run_id", "compute", column, *extra]].rename(columns={column: "loss"}).dropna()
    points = points[points["loss"].gt(0) & points["compute"].gt(0)]
    about = runs.rename(columns={"compute": "_whole"}).drop(columns=["loss", "compute_budget", *extra], errors="ignore")
    table = about.merge(points, on="run_id", how="inner")
    before = table["compute"] < table["_whole"] * (1 - 1e-6)
    final = runs.assign(_whole=runs["compute"]).drop(columns="compute_budget", errors="ignore")
    table = pd.concat([table[before], final[final["run_id"].isin(set(points["run_id"]))]], ignore_index=True)
    of_run = table["configuration_id"].astype(str) if "configuration_id" in table else table["run_id"].astype(str)
    share = np.round(np.log(table["compute"] / table["_whole"]), 6).astype(str)
    # each checkpoint is a configuration of its own: a run stopped there, repeated where seeds are
    return table.assign(configuration_id=of_run + " at " + share, run_id=table["run_id"].astype(str) + " at " + share)


def _answers(
    view: pd.DataFrame | str,
    runs: pd.DataFrame,
    baseline: str,
    asked: dict[str, float],
    universe: dict[str, str],
    level: float,
    n_resamples: int,
    seed: int,
) -> list[dict]:
    """A row for each arm; a note where there is no answer."""
    nothing = {**universe, **dict.fromkeys(RESULT[2:8], np.nan), "n_runs": 0}
    targets = {arm: _converted(runs, arm, target, universe["flop"]) for arm, target in asked.items()}
    rows = {arm: {**nothing, "arm": arm, "compute": target, "note": ""} for arm, target in targets.items()}
    if isinstance(view, str):
        return [{**row, "note": view} for row in rows.values()]
    method: Any = "interpolated" if universe["law"] == "interpolated" else "law"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AnalysisWarning)
        try:
            fit = fit_jointly(view, baseline, **_protocol(universe), n_resamples=n_resamples, seed=seed)
        except (ValueError, ConvergenceError) as error:
            return [{**row, "note": str(error)} for row in rows.values()]
        for arm, row in rows.items():
            if arm not in fit.arms:
                row["note"] = f"{arm} has no run in this universe"
                continue
            pair = [a for a in fit.arms if a in (arm, baseline)]
            grid = sorted({*fit.points(arm)["compute"].astype(float), targets[arm]})
            table = gains_of(_only(fit, pair), grid, method=method, level=level)
            at = table[np.isclose(table["compute"], targets[arm], rtol=1e-9)]
            if at.empty:
                row["note"] = table["note"].iloc[0] if len(table) else "no gain"
                continue
            found = at.iloc[0]
            row |= {c: found[c] for c in ("ceg", "ceg_low", "ceg_high", "n_runs")}
            bound = f"{found['censored']} {found['ceg']:.3g} (a bound)" if found["censored"] else ""
            row["note"] = "; ".join(filter(None, [bound, str(found["note"])]))
            measured = table[table["compute"].isin(fit.points(arm)["compute"].astype(float))]
            slope = scale_dependence(measured).iloc[0]
            row |= {c: slope[c] for c in ("slope", "slope_low", "slope_high")}
            if np.isnan(slope["slope"]):
                row["note"] = "; ".join(filter(None, [row["note"], str(slope["note"])]))
    return list(rows.values())


def _protocol(universe: dict[str, str]) -> dict[str, Any]:
    """Arguments of `fit_jointly`."""
    unit = universe["unit"]
    if universe["law"] == "interpolated":
        return {"law": None, "unit": unit}
    law = laws[universe["law"]]
    fixed = {"E": 0.0} if universe["E"] == "0" else None
    cluster = {"seeds": "seed", "configurations": None, "rungs": "rung"}[unit]
    return {
        "law": law(fixed=fixed),
        "share": SHARES[universe["E"]],
        "unit": unit,
        "cluster": cluster,
        "strict": True,
    }


def _only(fit: Any, arms: list[str]) -> Any:
    from dataclasses import replace

    return replace(fit, front=fit.front[fit.front["arm"].isin(arms)])


def _converted(runs: pd.DataFrame, arm: str, compute: float, flop: str) -> float:
    """A compute in another convention: that of the arm's runs nearest to it."""
    if flop == "compute" or flop not in runs:
        return compute
    own = runs[runs["arm"] == arm]
    off = np.abs(np.log(own["compute"].to_numpy(float) / compute))
    near = own[off <= off.min() + np.log(1.25)]
    return compute * float(np.exp(np.log(near[flop].astype(float) / near["compute"].astype(float)).mean()))
