"""One run as one Parquet file: the training curve as rows, the record as JSON in the footer, and sums that prove both.

Parquet's page checksums cover the numbers but not the footer, which says where the numbers lie and what they are
called. So the footer also holds the SHA-256 of the record and of the decoded curve: a flipped bit anywhere is either
found or changes nothing.
"""

import contextlib
import hashlib
import io
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from algoprogress.results.columns import CURVE_COLUMNS, SCHEMA_VERSION
from algoprogress.results.problems import Unreadable, first_line
from algoprogress.results.record import check_run_id, faults, row, upgrade

_TYPES = {"int64": pa.int64(), "float64": pa.float64()}
CURVE_SCHEMA = pa.schema([pa.field(c.name, _TYPES[c.dtype], nullable=False) for c in CURVE_COLUMNS])
Curve = dict[str, np.ndarray]  # column name -> its numbers, in the order of CURVE_SCHEMA


def encode(record: dict[str, Any], curve: pd.DataFrame) -> bytes:
    """The bytes of a run's file.

    Args:
        record: The run's record, of the present schema version; a number that is not finite is stored as null.
        curve: The columns of `CURVE_COLUMNS`, one row per logged step.

    Raises:
        ValueError: If the record or the curve is not what the schema says.
    """
    check_run_id(str(record.get("run_id")))
    record = plain(record)
    wrong = faults(record) + _curve_faults(curve)
    if record.get("schema_version") != SCHEMA_VERSION:
        wrong.insert(0, f"schema_version is {record.get('schema_version')!r}, not {SCHEMA_VERSION}")
    if wrong:
        raise ValueError(f"Run {record['run_id']} does not fit the schema of docs/schema.md: {'; '.join(wrong)}.")
    text = json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False)
    columns = {field.name: _numbers(curve[field.name], field.type) for field in CURVE_SCHEMA}
    buffer = io.BytesIO()
    # No dictionary, statistics or copy of the Arrow schema: they would be most of so small a file.
    with pq.ParquetWriter(
        buffer,
        CURVE_SCHEMA,
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
        store_schema=False,
        write_page_checksum=True,
    ) as writer:
        writer.write_table(pa.table(columns, schema=CURVE_SCHEMA))
        writer.add_key_value_metadata(
            {"record": text, "record_sha256": sha256(text.encode()), "curve_sha256": curve_sha256(columns)}
        )
    return buffer.getvalue()


def _refuse(value: object) -> str:
    raise ValueError(f"A record holds numbers, text, lists and mappings, not {value!r}: convert it before publishing.")


def plain(value: Any, otherwise: Callable[[object], str] = _refuse) -> Any:
    """`value` with NumPy and torch scalars as Python numbers, tuples as lists, and null for what is not finite."""
    if isinstance(value, dict):
        return {str(key): plain(item, otherwise) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, otherwise) for item in value]
    if not isinstance(value, str | int | float | None) and hasattr(value, "item"):
        with contextlib.suppress(ValueError, RuntimeError):  # an array of several numbers
            value = value.item()
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else otherwise(value)


def _curve_faults(curve: pd.DataFrame) -> list[str]:
    missing = [name for name in CURVE_SCHEMA.names if name not in curve.columns]
    unknown = [str(name) for name in curve.columns if name not in CURVE_SCHEMA.names]
    found = [f"the curve has no column {name}" for name in missing]
    found += [f"the curve's column {name} is not in the schema (describe it in results/columns.py)" for name in unknown]
    if not found and not _increases(curve["step"].to_numpy()):
        found.append("the curve's steps do not increase")
    return found


def _increases(steps: np.ndarray) -> bool:
    return bool(np.all(np.diff(steps) > 0))


def _numbers(values: pd.Series, kind: pa.DataType) -> np.ndarray:
    dtype = np.dtype(kind.to_pandas_dtype())
    numbers = values.to_numpy()
    if dtype == np.int64 and not np.array_equal(numbers, numbers.astype(np.int64)):
        raise ValueError(f"The curve's column {values.name} must hold whole numbers; it holds others.")
    return numbers.astype(dtype)


def sha256(data: bytes) -> str:
    """SHA-256 of some bytes, as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def curve_sha256(curve: Curve) -> str:
    """SHA-256 over the curve's column names, types and numbers, however they are encoded in a file."""
    digest = hashlib.sha256()
    for name, numbers in curve.items():
        digest.update(f"{name} {numbers.dtype.str} {len(numbers)}\n".encode())
        digest.update(np.ascontiguousarray(numbers).data)
    return digest.hexdigest()


def parse_record(text: bytes | str, digest: str, run_id: str) -> dict[str, Any]:
    """The record in a footer or in the index, shown to be what was written and brought to the present schema version.

    Raises:
        Unreadable: If the text is not what was written, or belongs to another run.
    """
    raw = text.encode() if isinstance(text, str) else text
    if sha256(raw) != digest:
        raise Unreadable("its record does not have the SHA-256 that was stored with it")
    record = json.loads(text)
    try:
        record = upgrade(record)
    except ValueError as error:
        raise Unreadable(str(error), "install the version of algoprogress that wrote it") from error
    if record.get("run_id") != run_id:
        raise Unreadable(f"it holds run {record.get('run_id')}, which is not its name")
    return record


def _footer(data: bytes, parse: Callable[[pa.BufferReader], Any]) -> tuple[Any, dict[bytes, bytes]]:
    """What `parse` makes of the file, and the keys and values of its footer."""
    if not data:
        raise Unreadable("it is empty")
    try:
        parsed = parse(pa.BufferReader(data))
        metadata = parsed if isinstance(parsed, pq.FileMetaData) else parsed.metadata
        footer = metadata.metadata or {}
    except Exception as error:  # damaged bytes raise whatever the parser meets first
        raise Unreadable(f"it is not a whole Parquet file ({first_line(error)})") from error
    for key in (b"record", b"record_sha256", b"curve_sha256"):
        if key not in footer:
            raise Unreadable(f"its footer has no {key.decode()}")
    return parsed, footer


def _checked_record(footer: dict[bytes, bytes], run_id: str) -> dict[str, Any]:
    record = parse_record(footer[b"record"], footer[b"record_sha256"].decode("ascii", "replace"), run_id)
    if wrong := faults(record):
        raise Unreadable(f"its record does not fit the schema: {'; '.join(wrong[:3])}")
    return record


def read_record(data: bytes, run_id: str) -> dict[str, Any]:
    """The record of a run from the bytes of its file; the curve is left alone.

    Raises:
        Unreadable: If it is not what was written.
    """
    _, footer = _footer(data, pq.read_metadata)
    return _checked_record(footer, run_id)


def read_curve(data: bytes, run_id: str) -> Curve:
    """The curve of a run from the bytes of its file, every sum verified.

    Raises:
        Unreadable: If it is not what was written.
    """
    return _read_all(data, run_id)[2]


def read_run(data: bytes, run_id: str) -> tuple[dict[str, Any], Curve]:
    """Record and curve of a run from the bytes of its file, every sum verified.

    Raises:
        Unreadable: If it is not what was written.
    """
    record, _, curve = _read_all(data, run_id)
    return record, curve


def read_index_row(data: bytes, run_id: str) -> dict[str, Any]:
    """What the index keeps of a run: its facts, its record as stored, the sums, and the curve's columns; all verified.

    Raises:
        Unreadable: If the file is not what was written.
    """
    record, footer, curve = _read_all(data, run_id)
    return {
        "run_id": run_id,
        "facts": row(record),
        "record": footer[b"record"].decode(),
        "record_sha256": footer[b"record_sha256"].decode(),
        "file_sha256": sha256(data),
        "curve_sha256": curve_sha256(curve),
        **curve,
    }


def _read_all(data: bytes, run_id: str) -> tuple[dict[str, Any], dict[bytes, bytes], Curve]:
    file, footer = _footer(data, lambda source: pq.ParquetFile(source, page_checksum_verification=True))
    record = _checked_record(footer, run_id)
    try:
        table = file.read(use_threads=False)
        curve = {name: table.column(name).to_numpy() for name in table.column_names}
        intact = curve_sha256(curve).encode() == footer[b"curve_sha256"]
    except Exception as error:  # as above
        raise Unreadable(f"its curve can not be read ({first_line(error)})") from error
    if not intact:
        raise Unreadable("its curve does not have the SHA-256 that was stored with it")
    # A column that an older file does not have is missing (NaN), and so can only be a float.
    absent = np.full(len(table), np.nan)
    present = {f.name: curve.get(f.name, absent).astype(f.type.to_pandas_dtype(), copy=False) for f in CURVE_SCHEMA}
    return record, footer, present
