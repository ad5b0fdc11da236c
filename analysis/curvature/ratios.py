"""Sharpness of updates beside that of the first optimizer: the ratios that are compared over models and steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


def with_ratios(rows: pd.DataFrame, reference: str, by: Sequence[str] = ("probe_id",)) -> pd.DataFrame:
    """The rows with `ratio` and `clipped_ratio`: sharpness over the absolute one of the reference's plain update.

    Args:
        rows: [update_of, sharpness, clipped] and the columns of `by`, as of `Store.sharpness()`.
        reference: update_of of the optimizer that ratios are to.
        by: what tells one measurement from another: of a run, at a step, with a share of coordinates clipped.

    Raises:
        ValueError: a place where the reference was not measured.
    """
    unit = rows[rows["update_of"] == reference].set_index(list(by))["sharpness"].abs()
    keys = pd.MultiIndex.from_frame(rows[list(by)]) if len(by) > 1 else pd.Index(rows[by[0]])
    if len(absent := keys.difference(unit.index)):
        known = ", ".join(map(str, rows["update_of"].unique()))
        raise ValueError(f"at {absent[0]} there is no update of {reference!r}; updates are those of {known}")
    size = unit.reindex(keys).to_numpy(float)
    return rows.assign(ratio=rows["sharpness"] / size, clipped_ratio=rows["clipped"] / size)


def along_updates(rows: pd.DataFrame) -> pd.DataFrame:
    """[at, optimizer, length, loss] of the losses along each update, by even lengths from 0 to the whole update."""
    parts = [
        pd.DataFrame({"length": np.linspace(0, 1, len(row.loss_along)), "loss": row.loss_along}).assign(
            at=row.at, optimizer=row.update_of
        )
        for row in rows.itertuples()
    ]
    return pd.concat(parts, ignore_index=True)
