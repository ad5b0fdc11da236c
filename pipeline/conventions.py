"""What does a stored run cost when its optimizer is counted? A convention that the record, made of the model, lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from algoprogress.ablations.spec import RunSpec

if TYPE_CHECKING:
    import pandas as pd

    from algoprogress.results import Store

COMPUTES = ("compute", "compute_6n", "compute_6n_total")


def with_optimizer(runs: pd.DataFrame, store: Store) -> pd.DataFrame:
    """The runs with the FLOP of their optimizer's steps in each of their computes.

    Args:
        runs: rows of `store.runs()`: run_id, steps, and the computes.
        store: has their specs, which the FLOP follow from by the rules of `ablations/optimizers/costs.py`.
    """
    specs = {run_id: RunSpec.model_validate(store.record(run_id)["spec"]) for run_id in runs["run_id"].unique()}
    per_step = runs["run_id"].map({run_id: spec.optimizer_flop_per_step for run_id, spec in specs.items()})
    return runs.assign(**{name: runs[name] + per_step * runs["steps"] for name in COMPUTES})
