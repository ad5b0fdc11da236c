"""Which runs count towards a conclusion, at which rung of compute, and which of them repeat one configuration."""

import warnings

import numpy as np
import pandas as pd

from algoprogress.analysis.warnings import DuplicateRuns

# What a run produced or where it ran, as against what was asked of it. Two runs that agree in every column but these
# are one configuration. Used only where there is no `configuration_id`.
FACTS = frozenset(
    [
        *("run_id", "seed", "study", "stage", "status", "schema_version", "rung", "configuration"),
        *("loss", "loss_se", "train_loss", "initial_loss", "bits_per_byte", "epochs_seen", "val_tokens"),
        *(
            "wall_seconds",
            "tokens_per_second",
            "flop_per_second",
            "gemm_flop_per_second",
            "gemm_fraction",
            "matmul",
            "attention",
            "kernels",
            "torch_compile",
            "micro_batches",
            "peak_memory_bytes",
            "started_at",
            "ended_at",
            "attempt",
        ),
        *("device", "n_threads", "host", "python_version", "torch_version", "package_version", "git_sha", "git_dirty"),
    ]
)
RUNG_GAP = 1.25  # runs nearer than this factor share a rung; ladders step by 2 or more, true compute is within a few %
SAME = 1e-2  # a size, or a ratio, that varies by less than this in ln does not vary: ours
RUNG_WIDTH = 2.0  # a rung wider than this factor is no rung: such runs are put into equal bins of log compute instead


def check_runs(runs: pd.DataFrame) -> None:
    """Raise a ValueError unless `runs` has columns arm, compute, loss, positive and finite where status is done."""
    if not isinstance(runs, pd.DataFrame):
        raise ValueError(f"Runs must be a DataFrame with columns arm, compute and loss, not {type(runs).__name__}.")
    missing = [c for c in ("arm", "compute", "loss") if c not in runs]
    if missing:
        raise ValueError(
            f"The runs have no column {', '.join(missing)}; they have {', '.join(map(str, runs.columns))}."
        )
    done = runs[runs["status"] == "done"] if "status" in runs else runs
    check_positive(done, ("compute", "loss"), "finished runs")
    if done["arm"].isna().any():
        raise ValueError("Some runs belong to no arm; give `arm` a value in every row or select one study.")


def check_positive(runs: pd.DataFrame, columns: tuple[str, ...], called: str) -> None:
    """Raise a ValueError that names the first runs with a value that is not a positive, finite number."""
    for column in columns:
        values = pd.to_numeric(runs[column], errors="coerce").to_numpy(float)
        bad = ~(np.isfinite(values) & (values > 0))
        if bad.any():
            which = runs["run_id"] if "run_id" in runs else runs.index.to_series()
            names = ", ".join(map(str, which[bad][:3]))
            raise ValueError(
                f"{bad.sum()} of {len(runs)} {called} have a {column} that is not a positive number "
                f"(first: {names}, {column} = {runs[column][bad].iloc[0]}); correct them or leave them out."
            )


def check_columns(runs: pd.DataFrame, columns: tuple[str, ...], what: str) -> None:
    """Raise a ValueError unless `runs` has rows, and columns of positive, finite numbers that `what` needs."""
    if not isinstance(runs, pd.DataFrame):
        raise ValueError(f"Runs must be a DataFrame with columns {', '.join(columns)}, not {type(runs).__name__}.")
    if missing := [c for c in columns if c not in runs]:
        raise ValueError(
            f"{what} needs a column {', '.join(missing)}; the runs have {', '.join(map(str, runs.columns))}."
        )
    if runs.empty:
        raise ValueError(f"There are no runs for {what}.")
    check_positive(runs, columns, "runs")


def usable_runs(runs: pd.DataFrame, max_epochs: float = 1.0) -> pd.DataFrame:
    """The runs that count in fits: finished, at most `max_epochs` over the data, each once, of the main stage.

    Args:
        runs: one row per (arm, run), with at least arm, compute (FLOP) and loss (nats/token).
        max_epochs: a run that saw its data more often repeats text, and its loss answers another question.

    Returns:
        The rows kept, with two more columns: `rung` (FLOP, `compute_budget` where there is one) and `configuration`
        (a number; runs of one arm that differ only in seed share it).
    """
    check_runs(runs)
    counts = np.ones(len(runs), bool)
    if "status" in runs:
        counts &= (runs["status"] == "done").to_numpy(bool)
    if "stage" in runs and ((stage := runs["stage"])[counts] == "main").any():
        counts &= ~(stage == "sweep").to_numpy(bool)  # the lowest of several single runs is low by luck too
    if "epochs_seen" in runs:
        counts &= ~(runs["epochs_seen"] > max_epochs + 1e-9).to_numpy(bool)
    kept = runs[counts]
    if "run_id" in kept:
        kept = kept.drop_duplicates(["arm", "run_id"])  # one run may belong to several studies
    else:
        n_before = len(kept)
        kept = kept.drop_duplicates()
        if len(kept) < n_before:
            warnings.warn(
                f"{n_before - len(kept)} rows repeat another row in every column and were counted once; give seeds or "
                "run ids if they are different runs.",
                DuplicateRuns,
                stacklevel=3,
            )
    kept = kept.reset_index(drop=True)
    if kept.empty:
        raise ValueError(
            f"None of the {len(runs)} runs can be used: all diverged or saw their data more than {max_epochs:g} times."
        )
    kept["compute"] = kept["compute"].astype(float)
    kept["loss"] = kept["loss"].astype(float)
    return kept.assign(rung=_rungs(kept), configuration=_configurations(kept))


def excluded_runs(runs: pd.DataFrame, max_epochs: float = 1.0) -> pd.DataFrame:
    """Number of runs per arm by fate: [arm, n_runs, n_used, n_diverged, n_over_one_epoch], in the order given."""
    frame = runs.drop_duplicates(["arm", "run_id"]) if "run_id" in runs else runs
    diverged = frame["status"] != "done" if "status" in frame else pd.Series(False, index=frame.index)
    over = frame["epochs_seen"] > max_epochs + 1e-9 if "epochs_seen" in frame else pd.Series(False, index=frame.index)
    counts = pd.DataFrame(
        {
            "arm": frame["arm"],
            "n_runs": 1,
            "n_used": (~diverged & ~over).astype(int),
            "n_diverged": diverged.astype(int),
            "n_over_one_epoch": (over & ~diverged).astype(int),
        }
    )
    return counts.groupby("arm", sort=False, as_index=False).sum()


def _rungs(runs: pd.DataFrame) -> np.ndarray:
    budget = runs["compute_budget"].to_numpy(float) if "compute_budget" in runs else np.full(len(runs), np.nan)
    rung = budget.copy()
    log_c = np.log(runs["compute"].to_numpy(float))
    known = np.unique(budget[np.isfinite(budget)])
    if known.size:  # a run without a budget joins the rung it sits on
        nearest = known[np.abs(log_c[:, None] - np.log(known)).argmin(1)]
        near = np.isnan(rung) & (np.abs(log_c - np.log(nearest)) < np.log(RUNG_GAP))
        rung[near] = nearest[near]
    free = np.flatnonzero(np.isnan(rung))
    if free.size:
        order = free[np.argsort(log_c[free], kind="stable")]
        sorted_c = log_c[order]
        cluster = np.concatenate([[0], np.cumsum(np.diff(sorted_c) > np.log(RUNG_GAP))])
        for k in np.unique(cluster):
            members = order[cluster == k]
            span = log_c[members].max() - log_c[members].min()
            n_bins = 1 if span <= np.log(RUNG_WIDTH) else int(np.ceil(span / np.log(RUNG_GAP)))
            bins = np.minimum(
                (n_bins * (log_c[members] - log_c[members].min()) / max(span, 1e-12)).astype(int), n_bins - 1
            )
            for b in np.unique(bins):
                rung[members[bins == b]] = np.exp(log_c[members[bins == b]].mean())
    return rung


def _configurations(runs: pd.DataFrame) -> np.ndarray:
    if "configuration_id" in runs and runs["configuration_id"].notna().all():
        keys = ["configuration_id"]
    elif "seed" in runs:
        keys = [c for c in runs.columns if c not in FACTS and c not in ("configuration_id", "compute_budget")]
    else:  # nothing says which runs repeat another: each stands alone
        return np.arange(len(runs))
    as_text = runs[list(dict.fromkeys(["arm", *keys]))].astype(str)
    return as_text.groupby(list(as_text.columns), sort=False).ngroup().to_numpy()
