"""The index: all runs' facts, records and curves in three files, so that 100,000 runs are read in a second or two.

It is a copy. The files in runs/ are the truth: an entry counts only while its run's file is there with the size and
time stamp (or tag) that it had when it was copied. So the index may be deleted, or its making killed, at any moment.
"""

import contextlib
import io
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from algoprogress.results import flat
from algoprogress.results.columns import SCHEMA_VERSION
from algoprogress.results.files import Entry, Folder
from algoprogress.results.problems import Unreadable, first_line
from algoprogress.results.runfile import CURVE_SCHEMA, Curve, curve_sha256, parse_record, sha256

FACTS = re.compile(r"facts\.([0-9a-f]{64})\.parquet")  # named by the SHA-256 of its bytes, which proves them
RECORDS = "index/records.parquet"
CURVES = "index/curves.parquet"
_PINS = [pa.field("run_id", pa.string()), pa.field("size", pa.int64()), pa.field("modified", pa.string())]
_RECORDS_SCHEMA = pa.schema([*_PINS, *(pa.field(n, pa.string()) for n in ("file_sha256", "record", "record_sha256"))])
_CURVES_SCHEMA = pa.schema(
    [*_PINS, pa.field("curve_sha256", pa.string()), *(pa.field(f.name, pa.list_(f.type)) for f in CURVE_SCHEMA)]
)
_GROUP = 512  # runs in memory at a time: some 50 MB of curves

Entries = dict[str, Entry]  # run id -> the listing of its file


def facts(folder: Folder, entries: Entries) -> pa.Table:
    """The rows of those runs in `entries` that the index has and whose files are unchanged, as `flat.pack` makes them.

    Raises:
        Unreadable: If the index is damaged.
    """
    tables = []
    for name in _facts_files(folder)[-1:]:  # a compaction that was killed may leave two; either will do
        with contextlib.suppress(FileNotFoundError):  # a compaction has just made another
            data = folder.read(name)
            if name != _facts_name(data):
                raise _damaged("its bytes are not those that were written")
            # not `pq.read_table`, which imports pyarrow.dataset for a third of a second
            table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
            if _version(table.schema.metadata) == str(SCHEMA_VERSION):
                tables.append(_valid(table, entries).drop_columns([pin.name for pin in _PINS]))
    return flat.join(tables)


def _facts_files(folder: Folder) -> list[str]:
    return [f"index/{entry.name}" for entry in folder.entries("index") if FACTS.fullmatch(entry.name)]


def _facts_name(data: bytes) -> str:
    return f"index/facts.{sha256(data)}.parquet"


def _version(metadata: dict[bytes, bytes] | None) -> str:
    return (metadata or {}).get(b"schema_version", b"").decode()


def _damaged(why: str) -> Unreadable:
    return Unreadable(
        f"the index can not be read ({why}), so each run's own file was read instead",
        "run `algoprogress compact` to make it anew, or delete the folder index/",
    )


def records(folder: Folder, entries: Entries) -> dict[str, dict[str, Any]]:
    """Run id -> record, of those runs in `entries` that the index has and whose files are unchanged.

    Raises:
        Unreadable: If the index is damaged.
    """
    found = {}
    for table in _groups(folder, RECORDS, _RECORDS_SCHEMA, entries):
        texts, digests = table.column("record").to_pylist(), table.column("record_sha256").to_pylist()
        for run_id, text, digest in zip(table.column("run_id").to_pylist(), texts, digests, strict=True):
            with contextlib.suppress(Unreadable):  # then the run's own file is read
                found[run_id] = parse_record(text, digest, run_id)
    return found


def file_sums(folder: Folder, entries: Entries) -> dict[str, str]:
    """Run id -> SHA-256 of its whole file when it was indexed, for unchanged files. Raises as `records` does."""
    found: dict[str, str] = {}
    for table in _groups(folder, RECORDS, _RECORDS_SCHEMA, entries):
        found.update(zip(table.column("run_id").to_pylist(), table.column("file_sha256").to_pylist(), strict=True))
    return found


def curves(folder: Folder, entries: Entries) -> dict[str, Curve]:
    """Run id -> curve, of those runs in `entries` that the index has and whose files are unchanged.

    Raises:
        Unreadable: If the index is damaged.
    """
    found = {}
    for table in _groups(folder, CURVES, _CURVES_SCHEMA, entries):
        lists = [table.column(name).combine_chunks() for name in CURVE_SCHEMA.names]
        offsets = lists[0].offsets.to_numpy()
        flat = [column.values.to_numpy() for column in lists]
        sums = table.column("curve_sha256").to_pylist()
        for i, run_id in enumerate(table.column("run_id").to_pylist()):
            rows = slice(offsets[i], offsets[i + 1])
            curve = {name: numbers[rows] for name, numbers in zip(CURVE_SCHEMA.names, flat, strict=True)}
            if curve_sha256(curve) == sums[i]:
                found[run_id] = curve
    return found


def _groups(folder: Folder, name: str, schema: pa.Schema, entries: Entries) -> list[pa.Table]:
    """The file's rows that are still valid, a group of runs at a time."""
    try:
        data = folder.read(name)
    except FileNotFoundError:
        return []
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        if _version(file.metadata.metadata) != str(SCHEMA_VERSION) or not file.schema_arrow.equals(schema):
            return []  # of another version of this package
        tables = (_valid(file.read_row_group(i), entries) for i in range(file.num_row_groups))
        return [table for table in tables if len(table)]
    except Exception as error:  # damaged bytes raise whatever the parser meets first
        raise _damaged(first_line(error)) from error


def _valid(table: pa.Table, entries: Entries) -> pa.Table:
    run_ids, sizes, times = (table.column(pin.name).to_pylist() for pin in _PINS)
    found = map(entries.get, run_ids)
    as_listed = zip(sizes, times, strict=True)
    keep = [entry is not None and entry[1:] == pins for entry, pins in zip(found, as_listed, strict=True)]
    return table if all(keep) else table.filter(pa.array(keep, pa.bool_()))


def write(folder: Folder, entries: Entries, read_rows: Callable[[list[str]], Iterable[dict[str, Any]]]) -> int:
    """Makes the index anew from the runs' files, replacing each of its files in one step.

    Args:
        folder: The store's folder.
        entries: Run id -> the listing of its file, taken before any of them is read.
        read_rows: Gives `runfile.read_index_row` of the run ids asked for, without those whose files are damaged.

    Returns:
        The number of runs in the index.
    """
    tables = []
    buffers = {RECORDS: io.BytesIO(), CURVES: io.BytesIO()}
    written = 0
    with contextlib.ExitStack() as stack:
        writers = []
        for name, schema in ((RECORDS, _RECORDS_SCHEMA), (CURVES, _CURVES_SCHEMA)):
            writer = pq.ParquetWriter(buffers[name], schema, compression="zstd", write_page_checksum=True)
            writers.append(stack.enter_context(writer))
        run_ids = sorted(entries)
        for start in range(0, len(run_ids), _GROUP):
            rows = [
                {**row, "size": entries[row["run_id"]].size, "modified": entries[row["run_id"]].modified}
                for row in read_rows(run_ids[start : start + _GROUP])
            ]
            if not rows:
                continue
            table = flat.pack([row["facts"] for row in rows])
            for pin in reversed(_PINS):
                table = table.add_column(0, pin, _column(rows, pin))
            tables.append(table)
            for writer in writers:
                writer.write_table(pa.table([_column(rows, field) for field in writer.schema], schema=writer.schema))
            written += len(rows)
        for writer in writers:
            writer.add_key_value_metadata({"schema_version": str(SCHEMA_VERSION)})
    before = _facts_files(folder)
    files = {name: buffer.getvalue() for name, buffer in buffers.items()}
    if tables:
        data = _encode(flat.join(tables))
        files[_facts_name(data)] = data
    for name, data in files.items():
        folder.replace(name, data)
    for name in set(before) - files.keys():
        folder.remove(name)
    return written


def _encode(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    table = table.replace_schema_metadata({"schema_version": str(SCHEMA_VERSION)})
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _column(rows: list[dict[str, Any]], field: pa.Field) -> pa.Array:
    values = [row[field.name] for row in rows]
    if not pa.types.is_list(field.type):
        return pa.array(values, field.type)
    offsets = np.concatenate([[0], np.cumsum([len(numbers) for numbers in values])])
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(np.concatenate(values), field.type.value_type)
    )
