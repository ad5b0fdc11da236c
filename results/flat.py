"""Rows of records as an Arrow table, and back as a DataFrame: how the index keeps a hundred thousand of them.

A row is a mapping of names to numbers, text, truth values, tuples or None, and no two rows need have the same names. So
that nothing is lost or turned into something else, each value goes to a column of its own kind, `int:seed` or
`float:clip`, and each row says which names it has: a name whose value is None is not a name that is absent.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from algoprogress.results import frames
from algoprogress.results.columns import Column

NAMES = "names"  # which names a row has, as JSON; a dictionary column, since few lists of names differ
KINDS = {"int": pa.int64(), "float": pa.float64(), "str": pa.string(), "bool": pa.bool_(), "json": pa.string()}
_NAMES_TYPE = pa.dictionary(pa.int32(), pa.string())
_LARGEST = 2**63


def pack(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Rows as a table, in their order."""
    columns: dict[str, list[Any]] = {}
    known: dict[tuple[str, ...], str] = {}
    names = []
    for i, row in enumerate(rows):
        key = tuple(row)
        if key not in known:
            known[key] = json.dumps(sorted(key))
        names.append(known[key])
        for name, value in row.items():
            if value is not None:
                kind = _kind(value)
                column = f"{kind}:{name}"
                if column not in columns:
                    columns[column] = [None] * len(rows)
                columns[column][i] = json.dumps(value) if kind == "json" else value
    arrays = {NAMES: pa.array(names, pa.string()).dictionary_encode().cast(_NAMES_TYPE)}
    arrays |= {column: pa.array(columns[column], KINDS[column.partition(":")[0]]) for column in sorted(columns)}
    return pa.table(arrays)


def _kind(value: Any) -> str:
    kind = type(value).__name__
    if kind not in KINDS or (kind == "int" and not -_LARGEST <= value < _LARGEST):
        return "json"
    return kind


def join(tables: Iterable[pa.Table]) -> pa.Table:
    """One table after the other; columns that only some have are null in the others."""
    found = [table for table in tables if len(table)]
    if not found:
        return pack([])
    return pa.concat_tables(found, promote_options="default").unify_dictionaries()


def frame(table: pa.Table, columns: list[Column], only: bool = False) -> pd.DataFrame:
    """The DataFrame that `frames.table` makes of the rows that were packed, column by column and not row by row.

    Args:
        only: leaves out what is not among `columns`.
    """
    has = [] if only else pc.unique(table.column(NAMES)).to_pylist()
    names = set[str]().union(*map(json.loads, has))
    kinds: dict[str, dict[str, pa.ChunkedArray]] = {}
    for name in table.column_names:
        kind, colon, plain = name.partition(":")
        column = table.column(name)
        if colon and column.null_count < len(column):
            kinds.setdefault(plain, {})[kind] = column
    typed = {c.name: _column(kinds.get(c.name, {}), c.dtype, len(table)) for c in columns}
    others = sorted(names - typed.keys())
    return pd.DataFrame(typed | {name: _column(kinds.get(name, {}), None, len(table)) for name in others})


def _column(found: dict[str, pa.ChunkedArray], dtype: str | None, length: int) -> pd.Series:
    """One column of a DataFrame from its values by kind; `dtype` None: what its values are."""
    if dtype is None and found.keys() <= {"int", "float"}:
        dtype = "int64" if found.keys() == {"int"} else "float64"
    elif dtype is None and len(found) == 1 and found.keys() <= {"str", "bool"}:
        dtype = next(iter(found))
    if dtype in ("int64", "float64") and found.keys() <= {"int", "float"}:
        return _numbers(found, dtype, length)
    if not found and dtype == "str":
        return pd.Series(pa.nulls(length, pa.string()).to_pandas(), dtype=frames.TEXT)
    if len(found) == 1 and dtype in found:
        column = found[dtype]
        if dtype == "str":
            return pd.Series(column.to_pandas(), dtype=frames.TEXT)
        if not column.null_count:
            return pd.Series(column.to_numpy())
    values = _values(found, length)
    return frames.guessed(values) if dtype is None else frames.typed(values, dtype)


def _numbers(found: dict[str, pa.ChunkedArray], dtype: str, length: int) -> pd.Series:
    if dtype == "int64" and found.keys() == {"int"} and not found["int"].null_count:
        return pd.Series(found["int"].to_numpy())
    numbers = np.full(length, np.nan)
    for column in found.values():
        part = column.cast(pa.float64(), safe=False).to_numpy()  # null becomes NaN
        numbers = np.where(np.isnan(part), numbers, part)
    if dtype == "int64" and not np.isnan(numbers).any():
        return pd.Series(np.array(_values(found, length), dtype=np.int64))
    return pd.Series(numbers)


def _values(found: dict[str, pa.ChunkedArray], length: int) -> list[Any]:
    """The values as they were packed."""
    values: list[Any] = [None] * length
    for kind, column in found.items():
        for i, value in enumerate(column.to_pylist()):
            if value is not None:
                values[i] = _from_json(value) if kind == "json" else value
    return values


def _from_json(text: str) -> Any:
    value = json.loads(text)
    return tuple(value) if isinstance(value, list) else value
