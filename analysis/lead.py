"""Is Adam ahead of SGD where the blocks of the Hessian differ?  Leads at tuned rates, and what goes along with them.

A lead is ln(loss of SGD / loss of Adam): 0 where they are equal, of no unit, so that tasks can be laid side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from algoprogress.analysis.curvature.frames import by_probe, heterogeneity_of
from algoprogress.analysis.gains import compute_equivalent_gain

LEAD = ["model", "compute_budget", "loss", "loss_other", "lead", "low", "high", "n_seeds", "rate", "rate_other"]
CORRELATION = ["x", "y", "method", "estimate", "low", "high", "p", "n"]
LEAST = 4  # pairs of numbers for a correlation with an interval: Fisher's z has the variance 1 / (n - 3)


def best_configurations(runs: pd.DataFrame) -> pd.DataFrame:
    """Of each arm and budget the finished runs of the best configuration, every seed of it.

    Configurations are compared by the run of the lowest seed, which each of a sweep has: seeds that only the best was
    repeated with decide nothing.

    Args:
        runs: [arm, compute_budget, configuration_id, seed, loss, status], as of `Store.runs`.
    """
    kept = []
    for _, part in runs[runs["status"] == "done"].groupby(["arm", "compute_budget"], sort=False, dropna=False):
        first = part[part["seed"] == part["seed"].min()]
        best = first.loc[first["loss"].idxmin(), "configuration_id"]
        kept.append(part[part["configuration_id"] == best])
    return pd.concat(kept, ignore_index=True) if kept else runs.iloc[:0]


def leads(runs: pd.DataFrame, pairs: Mapping[str, str], loss: str = "loss", level: float = 0.95) -> pd.DataFrame:
    """By how much each arm is ahead of the arm that it is compared with, at each budget that both have.

    Args:
        runs: of a study; see `best_configurations`.
        pairs: arm -> the arm that it is compared with, such as {"vit_adam": "vit_sgd"}.
        loss: which loss: loss (validation) or train_loss.
        level: of the interval.

    Returns:
        [model, compute_budget, loss, loss_other, lead, low, high, n_seeds, rate, rate_other], means over seeds; model
        is what the two arms' names begin with. lead = ln(loss_other / loss), its interval that of Welch's t over
        seeds, NaN where an arm has one seed.
    """
    best = best_configurations(runs)
    rows = []
    for arm, other in pairs.items():
        mine, theirs = best[best["arm"] == arm], best[best["arm"] == other]
        for budget in sorted(set(mine["compute_budget"]) & set(theirs["compute_budget"])):
            a, b = mine[mine["compute_budget"] == budget], theirs[theirs["compute_budget"] == budget]
            lead, low, high = _difference(np.log(b[loss].to_numpy(float)), np.log(a[loss].to_numpy(float)), level)
            rows.append(
                {
                    "model": model_of(arm, other),
                    "compute_budget": budget,
                    "loss": a[loss].mean(),
                    "loss_other": b[loss].mean(),
                    "lead": lead,
                    "low": low,
                    "high": high,
                    "n_seeds": min(len(a), len(b)),
                    "rate": a["learning_rate"].iloc[0],
                    "rate_other": b["learning_rate"].iloc[0],
                }
            )
    return pd.DataFrame(rows, columns=LEAD)


def model_of(arm: str, other: str) -> str:
    """What the names of two arms begin with, up to a separator: "vit" of "vit_adam" and "vit_sgd"."""
    mine, theirs = arm.split("_"), other.split("_")
    same = [a for a, b in zip(mine, theirs, strict=False) if a == b]
    return "_".join(same) or arm


def _difference(a: np.ndarray, b: np.ndarray, level: float) -> tuple[float, float, float]:
    difference = float(a.mean() - b.mean())
    if len(a) < 2 or len(b) < 2:
        return difference, np.nan, np.nan
    found = stats.ttest_ind(a, b, equal_var=False).confidence_interval(level)
    return difference, float(found.low), float(found.high)


def gains_of_pairs(
    runs: pd.DataFrame, pairs: Mapping[str, str], n_resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """The compute-equivalent gain of each arm over the one it is compared with, from the runs of both at best rates.

    It is told at the loss that the one that is behind ends with at its largest budget: both reach that. Runs that see
    their data more than once count: the data is the same for both.

    Args:
        runs: of a study, with two budgets or more for each arm.
        pairs: arm -> the arm that it is compared with.
        n_resamples: of the seeds.
        seed: of the resampling.

    Returns:
        The gain table with the column model, a row for each pair. Where the smallest budget of one arm does better
        than the largest of the other, the gain is censored and the bound that the runs prove.
    """
    best = best_configurations(runs).drop(columns=["epochs_seen", "stage"], errors="ignore")
    tables = []
    for arm, other in pairs.items():
        both = best[best["arm"].isin([arm, other])]
        if set(both["arm"]) != {arm, other}:
            continue  # of a pair that is still in training nothing can be told
        means = both.groupby(["arm", "compute_budget"])["loss"].mean()
        behind = max(float(means[name].iloc[-1]) for name in (arm, other))
        options = {"method": "interpolated", "n_resamples": n_resamples, "seed": seed}
        gains = compute_equivalent_gain(both, other, at_loss=behind, **options)  # type: ignore[arg-type]
        tables.append(gains.assign(model=model_of(arm, other)))
    if not tables:
        raise ValueError("no two arms that are compared have finished runs: submit the study first")
    return pd.concat(tables, ignore_index=True)


def heterogeneity_table(spectra: pd.DataFrame, **kernel: float) -> pd.DataFrame:
    """Heterogeneity of each probe, beside probe_id, run_id, step and how it was measured.

    Args:
        spectra: as of `Store.spectra()`.
        kernel: sigma, points or margin; see `curvature.heterogeneity.pair_distances`.
    """
    tables = []
    for facts, rows in by_probe(spectra):
        named = {k: v for k, v in facts.items() if k in ("probe_id", "run_id", "step", "seed") or k.startswith("how_")}
        tables.append(heterogeneity_of(rows, **kernel).assign(**named))  # type: ignore[arg-type]
    return pd.concat(tables, ignore_index=True)


def correlations(table: pd.DataFrame, x: str, y: str, level: float = 0.95) -> pd.DataFrame:
    """Pearson's and Spearman's correlation of two columns, with intervals.

    Pearson's interval is Fisher's; Spearman's is Fisher's with the variance (1 + r^2 / 2) / (n - 3) of Bonett and
    Wright 2000. Few models give wide ones, and models are no random sample of all there could be.

    Returns:
        [x, y, method, estimate, low, high, p, n], a row for each method.

    Raises:
        ValueError: fewer than four rows have both columns.
    """
    both = table[[x, y]].dropna()
    n = len(both)
    if n < LEAST:
        raise ValueError(f"a correlation of {x} and {y} with an interval takes {LEAST} rows or more, not {n}")
    a, b = both[x].to_numpy(float), both[y].to_numpy(float)
    pearson = stats.pearsonr(a, b)
    within = pearson.confidence_interval(level)
    spearman = stats.spearmanr(a, b)
    r = float(np.clip(spearman.statistic, -1 + 1e-12, 1 - 1e-12))
    half = stats.norm.ppf(0.5 + level / 2) * np.sqrt((1 + r**2 / 2) / (n - 3))
    rows = [
        ("pearson", pearson.statistic, within.low, within.high, pearson.pvalue),
        ("spearman", r, np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half), spearman.pvalue),
    ]
    return pd.DataFrame([(x, y, *row, n) for row in rows], columns=CORRELATION)


def sharpness_summary(rows: pd.DataFrame, along: Mapping[str, str], since: int, reference: str = "sgd") -> pd.DataFrame:
    """How sharp updates are beside the reference's, over the seeds and steps of a trajectory.

    Args:
        rows: as of `Store.sharpness()`.
        along: run_id -> what trajectory it is, such as an arm; runs that are not in it are left out.
        since: the first step that counts.
        reference: update_of of the optimizer that ratios are to.

    Returns:
        [along, update_of, clipped, clip, median, least, most, below, n]: ratios of sharpness, plain and with a share
        `clip` of the coordinates clipped, and how many of the n places have an update less sharp than the reference's.
    """
    from algoprogress.analysis.curvature.ratios import with_ratios

    kept = rows[rows["run_id"].isin(along) & (rows["step"] >= since)]
    ratios = with_ratios(kept, reference).assign(along=kept["run_id"].map(along))
    table = []
    for (trajectory, optimizer), part in ratios.groupby(["along", "update_of"], sort=False):
        plain = part.drop_duplicates(["run_id", "step"])["ratio"]  # which is in the probe of each share
        by_clip = [(True, share, own["clipped_ratio"]) for share, own in part.groupby("how_clip")]
        for clipped, share, ratio in [(False, np.nan, plain), *by_clip]:
            values = ratio.to_numpy(float)
            found = {"median": np.median(values), "least": values.min(), "most": values.max()}
            named: dict[str, object] = {"along": trajectory, "update_of": optimizer, "clipped": clipped, "clip": share}
            table.append({**named, **found, "below": int((values < 1).sum()), "n": len(values)})
    return pd.DataFrame(table)


def clipping_table(
    runs: pd.DataFrame, sharpness: pd.DataFrame, arms: Mapping[str, float], bare: str, target: str, since: int
) -> pd.DataFrame:
    """The gap to another optimizer that clipping closes, beside the sharpness that it takes from the same updates.

    Args:
        runs: of a study of clipping; see `best_configurations`.
        sharpness: as of `Store.sharpness()`; of it counts what was measured along the runs of the bare optimizer at
            the budget, `how_clip` telling what share was clipped.
        arms: arm -> the share of coordinates that it clips.
        bare: arm of the optimizer without clipping, whose name in `update_of` it is too.
        target: arm of the optimizer that it is to come near, such as adam.
        since: the first step whose sharpness counts.

    Returns:
        [arm, clip, compute_budget, loss, gap_closed, sharpness_removed, n_places]: gap_closed = (L_bare - L) /
        (L_bare - L_target), of means over seeds; sharpness_removed = 1 - |clipped| / |plain|, a median over places.

    Raises:
        ValueError: an arm that has no finished run.
    """
    best = best_configurations(runs)
    losses = best.groupby(["arm", "compute_budget"])["loss"].mean()
    for arm in (bare, target, *arms):
        if arm not in losses.index.get_level_values(0):
            raise ValueError(f"the arm {arm!r} has no finished run: submit its study first")
    places = sharpness[(sharpness["update_of"] == bare) & (sharpness["step"] >= since)]
    removed = 1 - (places["clipped"].abs() / places["sharpness"].abs())
    of_bare = best[best["arm"] == bare].groupby("compute_budget")["run_id"].agg(set)
    rows = []
    for arm, clip in arms.items():
        clipped = np.isclose(places["how_clip"].astype(float), clip)
        for budget in losses[arm].index.intersection(losses[bare].index).intersection(losses[target].index):
            here = removed[clipped & places["run_id"].isin(of_bare[budget])]
            gap = losses[bare, budget] - losses[target, budget]
            rows.append(
                {
                    "arm": arm,
                    "clip": clip,
                    "compute_budget": budget,
                    "loss": losses[arm, budget],
                    "gap_closed": (losses[bare, budget] - losses[arm, budget]) / gap,
                    "sharpness_removed": float(here.median()) if len(here) else np.nan,
                    "n_places": len(here),
                }
            )
    return pd.DataFrame(rows)


def with_heterogeneity(
    leads: pd.DataFrame, heterogeneity: pd.DataFrame, models: Mapping[str, str], columns: Sequence[str]
) -> pd.DataFrame:
    """Leads with the mean heterogeneity of each model over seeds.

    Args:
        leads: [model, ...].
        heterogeneity: [run_id, and `columns`], of the probes that count.
        models: run_id -> model.
        columns: which measures.
    """
    named = heterogeneity.assign(model=heterogeneity["run_id"].map(models))
    return leads.merge(named.groupby("model")[list(columns)].mean(), left_on="model", right_index=True)
