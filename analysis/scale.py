"""Does the gain grow with scale?  The slope d ln CEG / d ln C over the measured range, and a test that it is zero."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.analysis.formatting import flop_text

COLUMNS = [
    *("arm", "slope", "slope_low", "slope_high", "method", "law", "range", "n_runs", "p_equal_exponents", "note"),
]


def scale_dependence(gains: pd.DataFrame) -> pd.DataFrame:
    """d ln CEG / d ln C by least squares of ln CEG on ln C over the rows of a gain table, per arm, method and law.

    0 is a gain that is the same at every compute. Censored rows, and rows by law at a compute where the arm was not
    measured, are left out. The interval is the same slope in each resample. A gain by law may rest on a compute at
    which the baseline was not measured: the slope with range "measured" is without these, and where there are any, a
    second row with range "extrapolated" is with them.

    Args:
        gains: from `compute_equivalent_gain`, at two computes or more; rows may have been dropped.

    Returns:
        [arm, slope, slope_low, slope_high, method, law, range, n_runs, p_equal_exponents, note]. p is that of a test
        of nested fits for the law (equal exponents of arm and baseline: see `nested`), and the two-sided share of
        resampled slopes beyond zero for the interpolated gain.
    """
    table = slopes(gains)
    resamples: Any = gains.attrs.get("resamples")
    if hasattr(resamples, "p_equal"):
        for i in table.index[(table["method"] == "law") & table["slope"].notna()]:
            table.loc[i, "p_equal_exponents"] = resamples.p_equal(table.loc[i, "arm"], table.loc[i, "law"])
    return table


def slopes(gains: pd.DataFrame) -> pd.DataFrame:
    """`scale_dependence` without the tests of nested fits, which take longer than all the rest."""
    missing = [
        c for c in ("arm", "compute", "loss", "ceg", "method", "law", "n_runs", "censored", "note") if c not in gains
    ]
    if missing:
        raise ValueError(f"The gain table has no column {', '.join(missing)}; make it with compute_equivalent_gain.")
    rows = []
    resamples: Any = gains.attrs.get("resamples")
    keys = getattr(resamples, "keys_", gains.iloc[:0])[["arm", "method", "law", "compute", "loss"]]
    column_of = {key: k for k, key in reversed([*enumerate(keys.itertuples(index=False, name=None))])}
    for (arm, method, law), part in gains.groupby(["arm", "method", "law"], sort=False):
        beyond_own = part["note"].str.contains(f"extrapolated: {arm} at", regex=False)
        beyond = part["note"].str.contains("extrapolated: ", regex=False)
        named = (str(arm), str(method), str(law))
        rows.append(_slope(resamples, column_of, part, ~beyond, *named) | {"range": "measured"})
        if (beyond & ~beyond_own).any():
            rows.append(_slope(resamples, column_of, part, ~beyond_own, *named) | {"range": "extrapolated"})
    return pd.DataFrame(rows, columns=COLUMNS)


def _slope(
    resamples: Any,
    column_of: Mapping[tuple, int],
    part: pd.DataFrame,
    inside: pd.Series,
    arm: str,
    method: str,
    law: str,
) -> dict:
    used = part[(part["censored"] == "") & part["ceg"].gt(0) & np.isfinite(part["ceg"]) & inside]
    n_censored = int((part["censored"] != "").sum())
    row: dict[str, Any] = {
        "arm": arm,
        "slope": np.nan,
        "slope_low": np.nan,
        "slope_high": np.nan,
        "method": method,
        "law": law,
        "n_runs": int(part["n_runs"].max()),
        "p_equal_exponents": np.nan,
    }
    over = f"{len(used)} of {len(part)} computes" + (f", {n_censored} censored" if n_censored else "")
    x = np.log(used["compute"].to_numpy(float))
    if len(used) < 2 or np.ptp(x) < 1e-9:
        return {**row, "note": f"{over}: a slope needs two"}
    row["slope"] = float(_least_squares(x, np.log(used["ceg"].to_numpy(float))))
    notes = [f"{over}, {flop_text(used['compute'].min())} to {flop_text(used['compute'].max())} FLOP"]
    if not hasattr(resamples, "log_ceg_BR"):
        return {**row, "note": "; ".join([*notes, "the resamples were lost with the table's attrs: no interval"])}
    named = (arm, method, law)
    again = _resampled(resamples, [column_of[*named, *at] for at in zip(used["compute"], used["loss"], strict=True)])
    if not again.size:
        return {**row, "note": "; ".join([*notes, "no interval"])}
    kept = again[np.isfinite(again)]
    if kept.size < 0.95 * again.size:
        notes.append(f"{1 - kept.size / again.size:.0%} of resamples had a flat frontier and no slope")
    if kept.size:
        tail = (1 - resamples.level) / 2
        low, high = np.quantile(kept, [tail, 1 - tail])
        row["slope_low"], row["slope_high"] = min(float(low), row["slope"]), max(float(high), row["slope"])
    if method == "interpolated" and kept.size:
        below = (1 + (kept <= 0).sum()) / (1 + kept.size)
        above = (1 + (kept >= 0).sum()) / (1 + kept.size)
        row["p_equal_exponents"] = float(min(1.0, 2 * min(below, above)))
    return {**row, "note": "; ".join(notes)}


def _resampled(resamples: Any, columns: list[int]) -> np.ndarray:
    ceg, x = resamples.log_ceg_BR[:, columns], resamples.log_compute_BR[:, columns]
    with np.errstate(invalid="ignore"):
        return _least_squares(x, ceg) if len(ceg) and not np.isnan(ceg).all() else np.empty(0)


def _least_squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return (centred * y).sum(-1) / (centred**2).sum(-1)
