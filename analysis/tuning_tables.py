"""What stands behind the learning rates of a study with a tuning stage: each sweep, and the care that each arm got."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

TUNING = [
    "arm",
    "momentum",
    "compute_budget",
    "n_params",
    "n_rates",
    "from",
    "to",
    "best",
    "low",
    "high",
    "at_edge",
    "exponent",
]
CARE = [
    "arm",
    "sweep_runs",
    "sweep_compute",
    "share",
    "sizes",
    "rates_per_size",
    "width",
    "at_edge",
    "main_at_edge",
    "momenta",
    "main_rates",
]


def tuning_table(study: Mapping[str, Any]) -> pd.DataFrame:
    """[arm, compute_budget, n_params, n_rates, from, to, best, low, high, at_edge, exponent]: one row per size swept.

    best is the vertex of the parabola in log rate, low and high its 95 % interval; exponent is that of the power law in
    n_params through the arm's vertices. Where several momenta were swept there is a column of them, and an exponent for
    the best alone. All are as `submit` used them.
    """
    rows = [
        {
            "arm": arm,
            "momentum": momentum,
            "compute_budget": size["compute_budget"],
            "n_params": size["n_params"],
            "n_rates": len(size["rates"]),
            "from": min(size["rates"]),
            "to": max(size["rates"]),
            "best": size["vertex"],
            "low": size["low"],
            "high": size["high"],
            "at_edge": size["at_edge"],
            "exponent": found["exponent"] if momentum == found.get("momentum") else np.nan,
        }
        for arm, found in study.get("tuning", {}).items()
        for momentum, sweep in of_momenta(found)
        for size in sweep
    ]
    table = pd.DataFrame(rows, columns=TUNING)
    return table if table["momentum"].notna().any() else table.drop(columns="momentum")


def care_table(study: Mapping[str, Any], runs: pd.DataFrame) -> pd.DataFrame:
    """One row an arm: [arm, sweep_runs, sweep_compute, share, sizes, rates_per_size, width, at_edge, main_at_edge,
    momenta, main_rates].

    share is that of the arm's whole compute; width is the highest rate over the lowest, at the size where they are
    nearest; at_edge counts the sizes whose best rate is the lowest or highest tried, main_at_edge the sizes of main
    runs whose rate does not lie inside what was swept at the nearest size. A run that is both of the sweep and a main
    run counts as a main run. Where several momenta were swept, runs and compute are of all, and the rest of the best.
    """
    rows = []
    known = runs[[c for c in ("arm", "run_id", "stage", "compute") if c in runs]]
    for arm, found in study.get("tuning", {}).items():
        own = known[known["arm"] == arm].drop_duplicates("run_id")
        swept = own[own["stage"] == "sweep"] if "stage" in own else own.iloc[:0]
        chosen = [c["learning_rate"] for c in found["chosen"]]
        rows.append(
            {
                "arm": arm,
                "sweep_runs": len(swept),
                "sweep_compute": float(swept["compute"].astype(float).sum()),
                "share": float(swept["compute"].sum() / own["compute"].sum()) if len(own) else np.nan,
                "sizes": len(found["sweep"]),
                "rates_per_size": float(np.mean([len(size["rates"]) for size in found["sweep"]])),
                "width": min(max(size["rates"]) / min(size["rates"]) for size in found["sweep"]),
                "at_edge": sum(size["at_edge"] for size in found["sweep"]),
                "main_at_edge": sum(not chosen.get("inside", True) for chosen in found["chosen"]),
                "momenta": len(found.get("rejected", ())) + 1,
                "main_rates": f"{min(chosen):g} to {max(chosen):g}" if chosen else "none yet",
            }
        )
    return pd.DataFrame(rows, columns=CARE)


def of_momenta(found: Mapping[str, Any]) -> list[tuple[float | None, list[dict[str, Any]]]]:
    """(momentum, its sweep), the best first; None where it was not swept."""
    rejected = [(other["momentum"], other["sweep"]) for other in found.get("rejected", ())]
    return [(found.get("momentum"), found["sweep"]), *rejected]
