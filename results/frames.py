"""From records to tables: one row per run, each column in the type that the schema gives it, in a fixed order."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.results.columns import CURVE_COLUMNS, RECORD_COLUMNS, SPEC_COLUMNS, STUDY_COLUMNS, Column
from algoprogress.results.record import row
from algoprogress.results.runfile import Curve

TEXT = pd.Series(["text"]).dtype  # str from pandas 3 on, object before
_MEMBER = [column.name for column in STUDY_COLUMNS]
_FACTS = RECORD_COLUMNS + SPEC_COLUMNS


def table(rows: list[dict[str, Any]], columns: list[Column]) -> pd.DataFrame:
    """A DataFrame of `rows` with `columns` in their types, and then whatever else the rows hold, by name."""
    others = sorted(set().union(*rows) - {column.name for column in columns})
    typed = {c.name: _typed(_values(rows, c.name), c.dtype) for c in columns}
    return pd.DataFrame(typed | {name: _guessed(_values(rows, name)) for name in others})


def _values(rows: list[dict[str, Any]], name: str) -> list[Any]:
    try:
        return [row[name] for row in rows]  # twice as fast as get
    except KeyError:
        return [row.get(name) for row in rows]


def _typed(values: list[Any], dtype: str) -> pd.Series:
    if dtype == "str":
        return pd.Series(values, dtype=TEXT)
    if dtype == "bool":
        return pd.Series(values, dtype=object if None in values else bool)
    if dtype == "int64" and None not in values:
        return pd.Series(np.array(values, dtype=np.int64))
    return pd.Series(np.array(values, dtype=np.float64))


def _guessed(values: list[Any]) -> pd.Series:
    """The type of a column that the schema does not list, such as a field of one architecture's configuration."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float}:
        return _typed(values, "int64" if kinds == {int} else "float64")
    if kinds == {str}:
        return _typed(values, "str")
    if kinds == {bool}:
        return _typed(values, "bool")
    return pd.Series(values, dtype=object)


def runs_table(records: dict[str, dict[str, Any]], studies: Iterable[dict[str, Any]], with_loose: bool) -> pd.DataFrame:
    """One row per (study, arm, run): studies by name, arms in their study's order, then compute_budget and compute.

    Args:
        records: Run id -> record.
        studies: Studies as stored. Runs that are not in `records` have no row.
        with_loose: Whether runs of no study follow, with study and arm missing.
    """
    run_ids = sorted(records)
    place = {run_id: i for i, run_id in enumerate(run_ids)}
    facts = table([row(records[run_id]) for run_id in run_ids], _FACTS).drop(columns=_MEMBER, errors="ignore")

    # study, arm, compute_budget, stage, place in facts, and then the order: of the study, the arm, and the run
    members: list[tuple[str | None, str | None, float | None, str, int, int, int, int]] = []
    for s, study in enumerate(sorted(studies, key=lambda study: study["name"])):
        for a, (arm, entries) in enumerate(study["arms"].items()):
            for r, entry in enumerate(entries):
                if (found := place.get(entry["run_id"])) is not None:
                    stage = entry.get("stage", "main")
                    members.append((study["name"], arm, entry.get("compute_budget"), stage, found, s, a, r))
    if with_loose:
        named = {member[4] for member in members}
        members += [(None, None, None, "main", i, 2**31, 0, i) for i in range(len(run_ids)) if i not in named]

    names, arms, budgets, stages, places, *order = [list(column) for column in zip(*members, strict=True)] or [[]] * 8
    of_study, of_arm, of_run = order
    member_table = (
        table([], STUDY_COLUMNS)
        if not members
        else pd.DataFrame(
            {
                "study": _typed(names, "str"),
                "arm": _typed(arms, "str"),
                "compute_budget": _typed(budgets, "float64"),
                "stage": _typed(stages, "str"),
            }
        )
    )
    frame = pd.concat([member_table, facts.take(places).reset_index(drop=True)], axis="columns")
    budget = frame["compute_budget"].fillna(np.inf).to_numpy()
    by = (np.array(of_run), frame["compute"].to_numpy(), budget, np.array(of_arm), np.array(of_study))  # last one first
    return frame.take(np.lexsort(by)).reset_index(drop=True)


def curves_table(curves: dict[str, Curve]) -> pd.DataFrame:
    """The rows of all curves, in the order of the mapping, with the column run_id before them."""
    names = [column.name for column in CURVE_COLUMNS]
    if not curves:
        return table([], [Column("run_id", "str", "", ""), *CURVE_COLUMNS])
    lengths = [len(curve["step"]) for curve in curves.values()]
    run_ids = pd.Series(list(curves), dtype=TEXT).repeat(lengths).reset_index(drop=True)
    columns = {name: np.concatenate([curve[name] for curve in curves.values()]) for name in names}
    return pd.DataFrame({"run_id": run_ids, **columns})
