"""The fit of a study and its gains: what its tables come from, and all that its figures need."""

import warnings
from dataclasses import dataclass
from typing import Any

import pandas as pd

from algoprogress.analysis.exponent_table import grids
from algoprogress.analysis.gains import Reference, gains_of
from algoprogress.analysis.joint import JointFit, fit_jointly
from algoprogress.analysis.warnings import AnalysisWarning


@dataclass(frozen=True)
class StudyFit:
    """Frontiers, law, resamples and gains of a study.

    Attributes:
        fit: frontiers, law and resamples of the arms that gains are told of.
        gains: the gain table by both methods (its `attrs` hold the resamples).
        study: as stored.
        warnings: sentences to print beside what rests on it.
    """

    fit: JointFit
    gains: pd.DataFrame
    study: dict[str, Any]
    warnings: list[str]


def study_fit(
    study: dict[str, Any],
    runs: pd.DataFrame,
    reference: Reference = "new",
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
    max_epochs: float = 1.0,
) -> StudyFit:
    """The fit of a study's arms and their gains; arguments as of `study_tables`."""
    runs = runs_in_order(study, runs)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AnalysisWarning)
        compared = compared_runs(study, runs)
        fit = fit_jointly(compared, study["baseline"], n_resamples=n_resamples, seed=seed, max_epochs=max_epochs)
        gains = gains_of(fit, method="both", reference=reference, level=level)
    said = [f"{w.category.__name__}: {w.message}" for w in caught if issubclass(w.category, AnalysisWarning)]
    return StudyFit(fit, gains, study, list(dict.fromkeys(said)))


def runs_in_order(study: dict[str, Any], runs: pd.DataFrame) -> pd.DataFrame:
    """The runs by arm, in the study's order."""
    order = {arm: k for k, arm in enumerate(study["arms"])}
    unknown = sorted(set(runs["arm"].dropna()) - set(order)) if "arm" in runs else []
    if unknown:
        raise ValueError(
            f"Runs of {', '.join(map(str, unknown))} belong to no arm of {study['name']}: {', '.join(order)}."
        )
    if runs.empty:
        raise ValueError(f"{study['name']} has no runs yet; train them with `algoprogress submit {study['name']}`.")
    return runs.sort_values("arm", key=lambda a: a.map(order), kind="stable").reset_index(drop=True)


def compared_runs(study: dict[str, Any], runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of arms that gains are told of."""
    return runs[~runs["arm"].isin(grids(study))]
