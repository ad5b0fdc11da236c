"""The documented schema of the store: what the columns are, how a record becomes a row, and the page that says so.

`python -m algoprogress.results.schema > docs/schema.md` writes the page anew.
"""

from algoprogress.results.columns import (
    CURVE_COLUMNS,
    PROBE_COLUMNS,
    RECORD_COLUMNS,
    SCHEMA_VERSION,
    SHARPNESS_COLUMNS,
    SPEC_COLUMNS,
    SPECTRA_COLUMNS,
    STUDY_COLUMNS,
    Column,
)
from algoprogress.results.record import STATUSES, UPGRADES, faults, row, upgrade

__all__ = [
    "CURVE_COLUMNS",
    "PROBE_COLUMNS",
    "RECORD_COLUMNS",
    "SCHEMA_VERSION",
    "SHARPNESS_COLUMNS",
    "SPECTRA_COLUMNS",
    "SPEC_COLUMNS",
    "STATUSES",
    "STUDY_COLUMNS",
    "UPGRADES",
    "Column",
    "faults",
    "markdown",
    "row",
    "upgrade",
]

_PAGE = """\
# What the store keeps

Schema version {version}. This page is made by `python -m algoprogress.results.schema > docs/schema.md`.

Each run is one file, `runs/<run_id>.parquet`, written once and never changed. Its rows are the training curve. Its
footer holds the record as JSON under the key `record`, the SHA-256 of that JSON under `record_sha256`, and the SHA-256
of the curve's numbers under `curve_sha256`; every page carries its own checksum. Any Parquet reader can open it. A
number that was not finite is null in the record and missing (NaN) in a table.

An int64 column in which a value is missing is float64. A bool column in which a value is missing is object.

## A row of `Store.runs()`

{study}

### Facts, from the record

{record}

### What was asked for, from the spec

The record's `spec` is nested; a row is flat. A field `width` of the configuration `architecture` is the column
`architecture_width`, and the configuration's `name` is the column `architecture`; `optimizer`, `schedule`,
`reparameterization`, `data` and `evaluation` follow the same rule, each field being described where its configuration
is defined, in `ablations/`. A column that an architecture or optimizer does not have is missing in its rows. Where a
field and a fact share a name (`tokens`), the column is the fact.

{spec}

## A row of `Store.curves()`

The column `run_id`, and:

{curve}

## Probes

What is measured of the weights of a run is a file of its own, `spectra/<run_id>.<probe_id>.parquet` or
`sharpness/<run_id>.<probe_id>.parquet`, written once and never changed. Its footer says of which run and step it is,
how it was measured and with which spec the weights can be had again, and holds the SHA-256 of that and of the rows.
What was measured in one way is not measured again. Tables of probes begin with these columns, and end with `how_...`,
one for each choice of the measurement:

{probe}

### A row of `Store.spectra()`

{spectra}

### A row of `Store.sharpness()`

{sharpness}
"""


def _table(columns: list[Column]) -> str:
    lines = ["| column | type | unit | meaning |", "|---|---|---|---|"]
    lines += [f"| `{c.name}` | {c.dtype} | {c.unit or '–'} | {c.meaning} |" for c in columns]
    return "\n".join(lines)


def markdown() -> str:
    """The page docs/schema.md: every column with its type, unit and meaning."""
    return _PAGE.format(
        version=SCHEMA_VERSION,
        study=_table(STUDY_COLUMNS),
        record=_table(RECORD_COLUMNS),
        spec=_table(SPEC_COLUMNS),
        curve=_table(CURVE_COLUMNS),
        probe=_table(PROBE_COLUMNS),
        spectra=_table(SPECTRA_COLUMNS),
        sharpness=_table(SHARPNESS_COLUMNS),
    )


if __name__ == "__main__":
    print(markdown(), end="")
