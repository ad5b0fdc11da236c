"""Do the ways to one gain agree, and do they rest on what was measured?  Warnings on a gain table."""

import warnings

import numpy as np
import pandas as pd

from algoprogress.analysis.formatting import flop_text
from algoprogress.analysis.warnings import Extrapolation, LawsDisagree

APART = 1.5  # without intervals, estimates of one gain that differ by more than this factor disagree: a choice of ours


def warn_extrapolated(table: pd.DataFrame, stacklevel: int) -> None:
    """Warn of gains by law at compute outside the measured range."""
    outside = table[table["note"].str.contains("extrapolated:", regex=False)]
    if len(outside):
        arms = ", ".join(map(str, pd.unique(outside["arm"])))
        n = len(outside)
        told = f"{n} gains by law ({arms}) rest" if n > 1 else f"A gain by law ({arms}) rests"
        warnings.warn(
            f"{told} on compute outside the measured range; the notes say which.",
            Extrapolation,
            stacklevel=stacklevel + 1,
        )


def disagreements(table: pd.DataFrame, by_scatter: bool) -> dict[int, str]:
    """Row -> note, where a gain by law differs from the interpolated one, or from another law where there is none.

    Two gains differ when their intervals do not meet; or, where a gain has no interval or one that rests on the scatter
    about a law (which is wide just where the law is wrong), when one is more than `APART` times the other.
    """
    notes: dict[int, str] = {}
    for _, part in table.dropna(subset=["ceg"]).groupby(["arm", "_target"], sort=False):
        rows = list(part.itertuples())
        first = rows[0]
        for other in rows[1:]:
            if differ(first, other, by_scatter):
                whose = f"by {first.law}" if first.law else "interpolated"
                notes[other.Index] = f"disagrees with {first.censored or '='} {first.ceg:.3g} {whose}"
    return notes


def differ(one, other, by_scatter: bool) -> bool:  # type: ignore[no-untyped-def]
    known = not any(np.isnan(v) for v in (one.ceg_low, one.ceg_high, other.ceg_low, other.ceg_high))
    if known and (one.ceg_low > other.ceg_high or other.ceg_low > one.ceg_high):
        return True
    if known and not by_scatter:
        return False
    low = 0.0 if one.censored == "<" else one.ceg / APART
    high = np.inf if one.censored == ">" else one.ceg * APART
    return not low <= other.ceg <= high


def warn_disagreement(table: pd.DataFrame, notes: dict[int, str], stacklevel: int) -> None:
    """Warn of the rows that disagree, with the numbers."""
    if not notes:
        return
    rows = [table.loc[i] for i in notes]
    apart = "; ".join(
        f"{r['arm']} at {flop_text(r['compute'])} FLOP ({r['ceg']:.3g} by {r['law']} {note})"
        for r, note in zip(rows, notes.values(), strict=True)
    )
    warnings.warn(
        f"Estimates of one gain disagree: {apart}. Trust the interpolated one inside the measured range.",
        LawsDisagree,
        stacklevel=stacklevel + 1,
    )
