"""What is the lowest loss an arm reached at each compute, and with which configuration?"""

import numpy as np
import pandas as pd

from algoprogress.analysis.runs import usable_runs

# Columns of the best configuration that are worth reading beside its loss.
DESCRIBE = (
    "compute_budget",
    "configuration_id",
    "architecture",
    "optimizer",
    "n_params",
    "n_params_total",
    "tokens",
    "batch_tokens",
    "learning_rate",
)


def configurations(runs: pd.DataFrame, max_epochs: float = 1.0) -> pd.DataFrame:
    """One row per (arm, rung, configuration): the mean loss over its seeds, sorted by arm (first appearance) and rung.

    Returns:
        [arm, rung, configuration, compute, loss, n_seeds, ...]: compute in FLOP (geometric mean over the runs), loss in
        nats/token (mean over the runs).
    """
    kept = usable_runs(runs, max_epochs)
    describe = [c for c in DESCRIBE if c in kept]
    rank = {arm: k for k, arm in enumerate(pd.unique(kept["arm"]))}
    table = (
        kept.assign(log_c=np.log(kept["compute"]), arm_rank=kept["arm"].map(rank).astype(int))
        .groupby(["arm_rank", "arm", "rung", "configuration"], sort=True)
        .agg(
            log_c=("log_c", "mean"),
            least=("compute", "min"),
            most=("compute", "max"),
            loss=("loss", "mean"),
            n_seeds=("loss", "size"),
            **{c: (c, "first") for c in describe},
        )
        .reset_index()
    )
    least, most, mean = table.pop("least"), table.pop("most"), np.exp(table.pop("log_c"))
    table.insert(4, "compute", least.where(least == most, mean))  # exact where all runs agree
    return table.drop(columns="arm_rank")


def frontier(runs: pd.DataFrame, max_epochs: float = 1.0) -> pd.DataFrame:
    """L_arm(C): the best configuration of each arm at each rung, by mean loss over its seeds.

    The lowest of several noisy losses is a little too low (the winner's curse); the intervals of the gains allow for
    it, the losses here are as measured.

    Args:
        runs: one row per (arm, run) with arm, compute (FLOP), loss (nats/token); seed or configuration_id,
            compute_budget, learning_rate, n_params, status, epochs_seen are used when there.
        max_epochs: runs that saw their data more often are left out.

    Returns:
        [arm, compute, loss, n_runs, n_seeds, rung, ...]: compute is that of the best configuration (geometric mean),
        n_runs the runs of the arm at the rung, n_seeds the seeds of the best configuration. With a learning_rate column
        also `at_edge`: the best rate is the lowest or highest tried at its size and rung (a diverged run was tried
        too), so that a better one may lie beyond.

    Example:
        >>> import pandas as pd
        >>> runs = pd.DataFrame({"arm": "lstm", "compute": [1e11, 1e11, 3e11], "loss": [2.4, 2.3, 2.1]})
        >>> frontier(runs)[["arm", "compute", "loss", "n_runs"]].values.tolist()
        [['lstm', 100000000000.0, 2.3, 2], ['lstm', 300000000000.0, 2.1, 1]]
    """
    table = configurations(runs, max_epochs)
    groups = table.groupby(["arm", "rung"], sort=False)
    best = table.loc[groups["loss"].idxmin()].reset_index(drop=True)
    n_runs = groups["n_seeds"].sum().to_numpy()
    front = best[["arm", "compute", "loss"]].assign(n_runs=n_runs, n_seeds=best["n_seeds"], rung=best["rung"])
    describe = [c for c in DESCRIBE if c in best]
    front[describe] = best[describe]
    if "learning_rate" in front:
        front["at_edge"] = _at_edge(front, runs)
    return front


def _at_edge(front: pd.DataFrame, runs: pd.DataFrame) -> list[bool]:
    tuned = set(runs.loc[runs["stage"] == "sweep", "arm"]) if "stage" in runs else set()
    of_arm = runs.groupby("arm", sort=False).indices
    log_c, rate = np.log(runs["compute"].to_numpy(float)), runs["learning_rate"].to_numpy(float)
    size = runs["n_params"].to_numpy(float) if "n_params" in runs else None
    flags = []
    for row in front.itertuples():
        own = of_arm[row.arm]
        # ±25 %: the same rung, also where a diverged run stopped short of its budget and kept its planned compute
        same = np.abs(log_c[own] - np.log(row.compute)) < np.log(1.25)
        if size is not None:
            same &= size[own] == row.n_params
        rates = rate[own[same]]
        if row.arm in tuned and rates.min() == rates.max():  # from the law of the arm's sweeps, which were elsewhere
            flags.append(False)
            continue
        flags.append(bool(row.learning_rate <= rates.min() or row.learning_rate >= rates.max()))
    return flags
