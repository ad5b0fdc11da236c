"""From records to tables: one row per run, each column in the type that the schema gives it, in a fixed order."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.results.columns import CURVE_COLUMNS, RECORD_COLUMNS, SPEC_COLUMNS, STUDY_COLUMNS, Column
from algoprogress.results.runfile import Curve

TEXT = pd.Series(["text"]).dtype  # str from pandas 3 on, object before
_MEMBER = [column.name for column in STUDY_COLUMNS]
FACTS = RECORD_COLUMNS + SPEC_COLUMNS


def table(rows: list[dict[str, Any]], columns: list[Column]) -> pd.DataFrame:
    """A DataFrame of `rows` with `columns` in their types, and then whatever else the rows hold, by name."""
    others = sorted(set().union(*rows) - {column.name for column in columns})
    known = {c.name: typed(_values(rows, c.name), c.dtype) for c in columns}
    return pd.DataFrame(known | {name: guessed(_values(rows, name)) for name in others})


def _values(rows: list[dict[str, Any]], name: str) -> list[Any]:
    try:
        return [row[name] for row in rows]  # twice as fast as get
    except KeyError:
        return [row.get(name) for row in rows]


def typed(values: list[Any], dtype: str) -> pd.Series:
    """A column of values, None where one is missing, as `Column.dtype` says."""
    if dtype == "str":
        return pd.Series(values, dtype=TEXT)
    if dtype == "bool":
        return pd.Series(values, dtype=object if None in values else bool)
    if dtype == "int64" and None not in values:
        return pd.Series(np.array(values, dtype=np.int64))
    return pd.Series(np.array(values, dtype=np.float64))


def guessed(values: list[Any]) -> pd.Series:
    """The type of a column that the schema does not list, such as a field of one architecture's configuration."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float}:
        return typed(values, "int64" if kinds == {int} else "float64")
    if kinds == {str}:
        return typed(values, "str")
    if kinds == {bool}:
        return typed(values, "bool")
    return pd.Series(values, dtype=object)


def runs_table(facts: pd.DataFrame, studies: Iterable[dict[str, Any]], with_loose: bool) -> pd.DataFrame:
    """One row per (study, arm, run): studies by name, arms in their study's order, then compute_budget and compute.

    Args:
        facts: One row per run, by run_id.
        studies: Studies as stored. Runs that are not in `facts` have no row.
        with_loose: Whether runs of no study follow, with study and arm missing.
    """
    facts = facts.drop(columns=_MEMBER, errors="ignore")
    place = pd.Index(facts["run_id"])

    # study, arm, compute_budget and stage of each run, place in facts, and then the order: of the study, arm and run
    parts: list[tuple[str | None, str | None, list[float | None], list[str], np.ndarray, int, int, np.ndarray]] = []
    for s, study in enumerate(sorted(studies, key=lambda study: study["name"])):
        for a, (arm, entries) in enumerate(study["arms"].items()):
            places = place.get_indexer([entry["run_id"] for entry in entries])
            there = np.flatnonzero(places >= 0)
            budgets = [entry.get("compute_budget") for entry in entries]
            stages = [entry.get("stage", "main") for entry in entries]
            of_there = ([budgets[i] for i in there], [stages[i] for i in there])
            parts.append((study["name"], arm, *of_there, places[there], s, a, there))
    if with_loose:
        named = np.zeros(len(facts), bool)
        for part in parts:
            named[part[4]] = True
        loose = np.flatnonzero(~named)
        parts.append((None, None, [None] * len(loose), ["main"] * len(loose), loose, 2**31, 0, loose))

    parts = [part for part in parts if len(part[4])]
    if not parts:
        return pd.concat([table([], STUDY_COLUMNS), facts.iloc[:0]], axis="columns")
    sizes = [len(part[4]) for part in parts]
    members = {
        "study": typed([name for part, n in zip(parts, sizes, strict=True) for name in [part[0]] * n], "str"),
        "arm": typed([name for part, n in zip(parts, sizes, strict=True) for name in [part[1]] * n], "str"),
        "compute_budget": typed([budget for part in parts for budget in part[2]], "float64"),
        "stage": typed([stage for part in parts for stage in part[3]], "str"),
    }
    places = np.concatenate([part[4] for part in parts])
    compute, budget = facts["compute"].to_numpy()[places], members["compute_budget"].fillna(np.inf).to_numpy()
    of_study, of_arm = (np.repeat([part[i] for part in parts], sizes) for i in (5, 6))
    of_run = np.concatenate([part[7] for part in parts])
    order = np.lexsort((of_run, compute, budget, of_arm, of_study))  # by the last one first
    ordered = (pd.DataFrame(members).take(order), facts.take(places[order]))
    return pd.concat([part.reset_index(drop=True) for part in ordered], axis="columns")


def curves_table(curves: Mapping[str, Curve]) -> pd.DataFrame:
    """The rows of all curves, in the order of the mapping, with the column run_id before them."""
    names = [column.name for column in CURVE_COLUMNS]
    if not curves:
        return table([], [Column("run_id", "str", "", ""), *CURVE_COLUMNS])
    lengths = [len(curve["step"]) for curve in curves.values()]
    run_ids = pd.Series(list(curves), dtype=TEXT).repeat(lengths).reset_index(drop=True)
    columns = {name: np.concatenate([curve[name] for curve in curves.values()]) for name in names}
    return pd.DataFrame({"run_id": run_ids, **columns})
