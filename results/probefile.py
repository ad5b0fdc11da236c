"""One probe as one Parquet file: what was measured as rows, how and of which weights as JSON in the footer.

As a run's file, it holds SHA-256 sums of both, and its id is the hash of what was measured, of which run and how.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from algoprogress.results.columns import SHARPNESS_COLUMNS, SPECTRA_COLUMNS, Column
from algoprogress.results.problems import Unreadable, first_line
from algoprogress.results.record import check_run_id
from algoprogress.results.runfile import plain, sha256

VERSION = 1  # of these files
KINDS: dict[str, list[Column]] = {"spectra": SPECTRA_COLUMNS, "sharpness": SHARPNESS_COLUMNS}
_TYPES = {"int64": pa.int64(), "float64": pa.float64(), "str": pa.string(), "list": pa.list_(pa.float64())}
_FIELDS = ("kind", "run_id", "step", "how", "spec", "loss", "seconds", "probe_id", "schema_version")
_KEYS = ("probe", "probe_sha256", "rows_sha256")
_REMEDY = "set it aside with `algoprogress verify --set-aside`, then measure it again"


def probe_id(kind: str, run_id: str, step: int, how: Mapping[str, Any]) -> str:
    """20 hex digits that name a probe: sha256 of what is measured, of which weights, and how.

    Args:
        kind: spectra or sharpness.
        run_id: of the run.
        step: after which the weights are looked at.
        how: whatever decides the result; numbers, text, lists and mappings.
    """
    data = {"kind": kind, "run_id": check_run_id(run_id), "step": int(step), "how": plain(dict(how))}
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def schema_of(kind: str) -> pa.Schema:
    """The columns of a kind of probe.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"a probe is one of {', '.join(KINDS)}, not {kind!r}")
    return pa.schema([pa.field(column.name, _TYPES[column.dtype]) for column in KINDS[kind]])


def encode(probe: Mapping[str, Any], rows: pd.DataFrame) -> bytes:
    """The bytes of a probe's file.

    Args:
        probe: kind, run_id, step, how, the run's spec, loss, seconds, and what else is worth knowing.
        rows: the columns of its kind.

    Raises:
        ValueError: a field or column is missing, or one too many.
    """
    record = plain(dict(probe))
    schema = schema_of(record.get("kind", ""))
    record |= {
        "probe_id": probe_id(record["kind"], record["run_id"], record["step"], record["how"]),
        "schema_version": VERSION,
    }
    if absent := [name for name in _FIELDS if name not in record]:
        raise ValueError(f"a probe has the fields {', '.join(_FIELDS)}; missing: {', '.join(absent)}")
    if set(rows.columns) != set(schema.names) or rows.empty:
        raise ValueError(
            f"rows of {record['kind']} have the columns {', '.join(schema.names)}; there are "
            f"{len(rows)} rows of {', '.join(map(str, rows.columns))}"
        )
    text = json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False)
    table = pa.Table.from_pandas(rows[schema.names], schema=schema, preserve_index=False).replace_schema_metadata(None)
    buffer = io.BytesIO()
    options = {"compression": "zstd", "write_statistics": False, "store_schema": False, "write_page_checksum": True}
    with pq.ParquetWriter(buffer, table.schema, **options) as writer:
        writer.write_table(table)
        sums = {"probe_sha256": sha256(text.encode()), "rows_sha256": rows_sha256(table)}
        writer.add_key_value_metadata({"probe": text, **sums})
    return buffer.getvalue()


def rows_sha256(table: pa.Table) -> str:
    """SHA-256 over names and values, however they are encoded in a file; NaN and null are both missing."""
    digest = hashlib.sha256()
    for name in table.column_names:
        values = table.column(name).to_pylist()
        digest.update(json.dumps([name, [_plain_value(v) for v in values]]).encode())
    return digest.hexdigest()


def _plain_value(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain_value(v) for v in value]
    return None if value != value else value


def read(data: bytes, kind: str, expected_id: str) -> tuple[dict[str, Any], pd.DataFrame]:
    """The probe's record and its rows, every sum compared.

    Raises:
        Unreadable: it is not what was written.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        footer = file.metadata.metadata or {}
    except Exception as error:  # damaged bytes raise whatever the parser meets first
        raise Unreadable(f"it is not a whole Parquet file ({first_line(error)})", _REMEDY) from error
    if absent := [key for key in _KEYS if key.encode() not in footer]:
        raise Unreadable(f"its footer has no {absent[0]}", _REMEDY)
    if sha256(footer[b"probe"]).encode() != footer[b"probe_sha256"]:
        raise Unreadable("its record does not have the SHA-256 that was stored with it", _REMEDY)
    record: dict[str, Any] = json.loads(footer[b"probe"])
    if record.get("schema_version") != VERSION:
        newer = "install the version of algoprogress that wrote it"
        raise Unreadable(f"its schema_version is {record.get('schema_version')!r}, not {VERSION}", newer)
    found = probe_id(record["kind"], record["run_id"], record["step"], record["how"])
    if (record["kind"], found) != (kind, expected_id) or record["probe_id"] != found:
        raise Unreadable(f"it holds {record['kind']} {found}, which is not its name", _REMEDY)
    try:
        table = file.read(use_threads=False)
        intact = rows_sha256(table).encode() == footer[b"rows_sha256"]
    except Exception as error:  # as above
        raise Unreadable(f"its rows can not be read ({first_line(error)})", _REMEDY) from error
    if not intact:
        raise Unreadable("its rows do not have the SHA-256 that was stored with it", _REMEDY)
    return record, table.to_pandas()
