"""How the best size and number of tokens grow with compute, protocol by protocol, beside published exponents."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.analysis.formatting import interval_text, number
from algoprogress.analysis.isoflop import IsoFLOP, isoflop
from algoprogress.analysis.warnings import AnalysisWarning

COLUMNS = [
    *("arm", "protocol", "counted", "quantity", "exponent", "low", "high", "n_budgets", "n_runs", "estimator"),
    *("interval", "published", "by", "porian", "porian_low", "porian_high", "source", "note"),
]
# FLOP convention -> the columns of compute and of size in it. In `standard` the output layer is counted in both: the
# table that it shares with the embedding is the layer. Kaplan et al. 2020 left it out of both.
COUNTED = {"6n": ("compute_6n", "n_params"), "standard": ("compute", "n_params_total")}
QUANTITIES = ("n_params", "tokens")
ON_BUDGET = 0.01  # whole batches leave compute this near to its budget: nothing to speak of
METHOD = "noise of four neighbouring sizes, resampled"  # of the intervals: `isoflop`


def grids(study: Mapping[str, Any]) -> list[str]:
    """Arms that are isoFLOP grids, of which exponents are told and no gains: they have one seed."""
    return [arm for arm, fact in study.get("innovations", {}).items() if "isoflop" in fact]


def exponent_table(
    study: Mapping[str, Any],
    runs: pd.DataFrame,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
    estimator: str = "parabola",
) -> pd.DataFrame:
    """N* = G C^a and D* = H C^b from the isoFLOP grids of a study, each beside what was published for its protocol.

    A grid that is counted in another convention than the one in which its budgets are equal has its losses moved to the
    mean budget by Hoffmann's law of the grid itself; the note says how far.

    Args:
        study: as stored; an arm is a grid where its facts say so (`innovations` -> "isoflop").
        runs: with stage, compute, compute_6n, n_params, n_params_total, compute_budget, loss.

    Returns:
        [arm, protocol, counted, quantity, exponent, low, high, n_budgets, n_runs, estimator, interval, published, by,
        porian, porian_low, porian_high, source, note], quantity being n_params or tokens. published is the exponent of
        the paper whose protocol it is, for tokens 1 less it (C = 6 N D); porian that of Porian et al. 2024 of N.
    """
    rows: list[dict[str, Any]] = []
    for arm, fact in study.get("innovations", {}).items():
        own = runs[(runs["arm"] == arm) & (runs["stage"] == "main")] if "isoflop" in fact else runs.iloc[:0]
        for counted, columns in COUNTED.items():
            if own.empty or counted not in fact["isoflop"]:
                continue
            told = {"arm": arm, "protocol": fact["isoflop"]["protocol"], "counted": counted, "interval": METHOD}
            for row in _exponents(counted_as(own, *columns), level, n_resamples, seed, estimator):
                rows.append({**told, **row, **_beside(fact["isoflop"][counted], row["quantity"])})
    return pd.DataFrame(rows, columns=COLUMNS)


def counted_as(runs: pd.DataFrame, compute: str, n_params: str) -> pd.DataFrame:
    """The runs of a grid with compute and size of another convention, at the geometric means of its budgets in it."""
    of_budget = np.log(runs[compute].astype(float)).groupby(runs["compute_budget"])
    budget = runs["compute_budget"] if compute == "compute" else np.exp(of_budget.transform("mean"))
    return runs.assign(compute=runs[compute], n_params=runs[n_params], compute_budget=budget)


def _exponents(runs: pd.DataFrame, level: float, n_resamples: int, seed: int, estimator: str) -> list[dict[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AnalysisWarning)  # the notes say it
        try:
            found = isoflop(runs, estimator, level=level, n_resamples=n_resamples, seed=seed)
        except ValueError as error:
            return [{"quantity": quantity, "estimator": estimator, "note": str(error)} for quantity in QUANTITIES]
    notes = list(_notes(runs, found))
    return [
        {**row, "note": "; ".join(filter(None, [row["note"], *notes]))} for row in found.exponents.to_dict("records")
    ]


def _notes(runs: pd.DataFrame, found: IsoFLOP) -> Iterator[str]:
    off = np.exp(np.abs(np.log(runs["compute"] / runs["compute_budget"])).max()) - 1
    if off > ON_BUDGET:
        yield f"losses moved by law to budgets up to {off:.0%} away"
    if edges := int(found.minima["at_edge"].ne("").sum()):
        yield f"{edges} budget(s) whose best size lies beyond those tried are left out"
    if found.resamples is not None and (outside := float(np.max(found.resamples.outside_K))) > 0.01:
        yield f"a minimum is at an edge in {outside:.0%} of the resamples"


def _beside(published: Mapping[str, Any], quantity: str) -> dict[str, Any]:
    """What was published; of tokens only what follows from the paper's own C = 6 N D."""
    if quantity == "n_params":
        return dict(published)
    return {"published": 1 - published["published"], "by": published["by"]} if "published" in published else {}


def shown_exponents(table: pd.DataFrame) -> pd.DataFrame:
    """As people read it: one row for each protocol and way of counting."""
    rows = []
    for (_, protocol, counted), part in table.groupby(["arm", "protocol", "counted"], sort=False):
        by = {r.quantity: r for r in part.itertuples()}
        n, d = by["n_params"], by["tokens"]
        row = {"protocol": protocol, "FLOP": counted}
        row["N* as C to the"] = number(n.exponent, 2) + interval_text(n.low, n.high)
        row["D* as C to the"] = number(d.exponent, 2) + interval_text(d.low, d.high)
        row |= {"budgets": n.n_budgets, "runs": n.n_runs, "method": f"{n.estimator}; {n.interval}"}
        row["published N*"] = "–" if pd.isna(n.published) else f"{n.published:.2f} ({n.by})"
        row["Porian et al. 2024"] = number(n.porian, 3) + interval_text(n.porian_low, n.porian_high)
        rows.append({**row, "note": n.note})
    return pd.DataFrame(rows)
