"""Could these runs determine this law?  What is refused before a fit, with what to do about it."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from algoprogress.analysis.runs import SAME, check_positive
from algoprogress.analysis.warnings import DuplicateRuns

if TYPE_CHECKING:
    from algoprogress.analysis.laws.base import Law


def warn_of_repeats(runs: pd.DataFrame, inputs: Sequence[str]) -> None:
    """Warn of rows that are one run for all that is known of them: they would count twice, and shrink every error."""
    columns = [c for c in ("arm", "run_id", "seed", *inputs, "loss") if c in runs]
    if repeated := int(runs[columns].duplicated().sum()):
        warnings.warn(
            f"{repeated} of {len(runs)} rows repeat another in {', '.join(columns)} and count again: leave them out, "
            "or give seeds or run ids if they are different runs.",
            DuplicateRuns,
            stacklevel=3,
        )


def check_design(law: "Law", runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with an arm, numbered from 0.

    Raises:
        ValueError: a column is missing, a value is not a positive number, an input does not vary, or two inputs keep
            one ratio, so that their terms can not be told apart.
    """
    if not isinstance(runs, pd.DataFrame):
        wanted = ", ".join(law.inputs)
        raise ValueError(f"Runs must be a DataFrame with columns {wanted} and loss, not {type(runs).__name__}.")
    if missing := [c for c in (*law.inputs, "loss") if c not in runs]:
        raise ValueError(
            f"{law.name} needs a column {', '.join(missing)}; the runs have {', '.join(map(str, runs.columns))}."
        )
    if runs.empty:
        raise ValueError(f"There are no runs to fit {law.name} to.")
    if twice := [c for c in (*law.inputs, "loss", "arm") if c in runs and isinstance(runs[c], pd.DataFrame)]:
        raise ValueError(f"The runs have more than one column {', '.join(twice)}; keep one.")
    check_positive(runs, (*law.inputs, "loss"), "runs")
    frame = runs if "arm" in runs else runs.assign(arm="all")
    if frame["arm"].isna().any():
        raise ValueError("Some runs belong to no arm; give `arm` a value in every row or leave the column out.")
    frame = frame.reset_index(drop=True)
    if "compute" not in frame:
        frame = frame.assign(compute=6.0 * frame["n_params"].astype(float) * frame["tokens"].astype(float))
    logs = {c: np.log(pd.to_numeric(frame[c]).to_numpy(float)) for c in law.inputs}
    for column, values in logs.items():
        if np.ptp(values) < SAME and column not in law.may_be_constant:
            beside = [c for c in law.inputs if c != column]
            raise ValueError(
                f"All runs have one {column}: {law.name} can not tell its term from E; vary it"
                + (f" beside {' and '.join(beside)}." if beside else ".")
            )
    if {"n_params", "tokens"} <= set(logs) and np.ptp(logs["tokens"] - logs["n_params"]) < SAME:
        raise ValueError(
            f"All runs have one ratio of tokens to n_params: {law.name} can not tell the term of size from that of "
            "data; vary the ratio."
        )
    law.check_runs(frame)
    return frame
