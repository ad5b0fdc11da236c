"""A table of a page: text for people, which the page sorts and filters, and its numbers as CSV and Parquet."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from algoprogress.analysis.formatting import cell_text

# a number, perhaps a bound, with an interval or a remark behind it: "> 1.43", "3.3 [2.2, 6.2] (extrapolated)"
NUMBER = re.compile(r"[<>]?\s*[-−]?\.?\d[\d,.]*(e-?\d+)?×?( \[[^]]*\])?( \([^)]*\)| at its bound| %)?")
FIRST_ROWS = 100  # in the page itself; what is beyond comes as JSON, since a browser lays 10,000 rows out too slowly


@dataclass(frozen=True)
class Table:
    """What a template needs of a table.

    Attributes:
        name: of its files, and its id in the page.
        caption: what it shows.
        columns: (heading, whether numbers stand in it).
        rows: text of each cell.
        links: column number -> address of each cell, "" for none.
        files: (suffix, address from the root of the site).
    """

    name: str
    caption: str
    columns: list[tuple[str, bool]]
    rows: list[list[str]]
    links: dict[int, list[str]] = field(default_factory=dict)
    files: list[tuple[str, str]] = field(default_factory=list)

    @property
    def first(self) -> list[list[tuple[str, str, bool]]]:
        """(text, address, number) of the cells of the rows that stand in the page."""
        return [
            [
                (text, self.links[k][r] if k in self.links else "", self.columns[k][1])
                for k, text in enumerate(self.rows[r])
            ]
            for r in range(min(len(self.rows), FIRST_ROWS))
        ]

    @property
    def rest(self) -> dict[str, Any] | None:
        """All rows as data for the page's script, where there are more than stand in it."""
        if len(self.rows) <= FIRST_ROWS:
            return None
        return {"rows": self.rows, "links": {str(k): v for k, v in self.links.items()}}


def table(
    shown: pd.DataFrame,
    name: str,
    caption: str,
    links: Mapping[str, list[str]] | None = None,
    files: list[tuple[str, str]] | None = None,
) -> Table:
    """A table of a page.

    Args:
        shown: as people read it: text, or numbers to be formatted.
        links: column -> address of each of its cells.
        files: from `download`.
    """
    text = {str(c): _texts(shown[c]) for c in shown}
    columns = [(c.replace("_", " "), _is_number(shown[c], text[c])) for c in text]
    rows = [list(row) for row in zip(*text.values(), strict=True)]
    at = {list(text).index(c): addresses for c, addresses in (links or {}).items() if c in text}
    return Table(name, caption, columns, rows, at, files or [])


def download(numbers: pd.DataFrame, folder: Path, root: Path, name: str) -> list[tuple[str, str]]:
    """Write a table of numbers as CSV and Parquet; returns (suffix, address from the root of the site)."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for suffix, write in (("csv", _to_csv), ("parquet", _to_parquet)):
        path = folder / f"{name}.{suffix}"
        write(numbers, path)
        found.append((suffix, path.relative_to(root).as_posix()))
    return found


def _to_csv(numbers: pd.DataFrame, path: Path) -> None:
    numbers.to_csv(path, index=False)


def _to_parquet(numbers: pd.DataFrame, path: Path) -> None:
    plain = pd.DataFrame(numbers)
    plain.attrs = {}
    mixed = [c for c in plain if plain[c].dtype == object and len(set(map(type, plain[c]))) > 1]
    plain.assign(**{c: plain[c].map(lambda v: None if v is None else str(v)) for c in mixed}).to_parquet(path)


def _texts(column: pd.Series) -> list[str]:
    """Quick where a column holds text or whole numbers alone, as most of ten thousand runs do."""
    if pd.api.types.is_float_dtype(column.dtype):
        return [cell_text(v) for v in column.to_numpy(float)]
    return [v if isinstance(v, str) else cell_text(v).replace("\\|", "|") for v in column.tolist()]


def _is_number(column: pd.Series, text: list[str]) -> bool:
    """Whether cells are to be compared as numbers: they are, or they are text that begins with one."""
    if pd.api.types.is_bool_dtype(column.dtype):
        return False
    if pd.api.types.is_numeric_dtype(column.dtype):
        return True
    said = [t for t in text if t not in ("", "–")]
    return bool(said) and all(NUMBER.fullmatch(t) for t in said)
