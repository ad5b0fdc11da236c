"""What each innovation is worth, taken out of one recipe and put into another, beside what was published."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.analysis.gains import Reference, gains_of
from algoprogress.analysis.joint import fit_jointly
from algoprogress.analysis.warnings import AnalysisWarning

COLUMNS = [
    *("innovation", "year", "recipe", "direction", "compute", "ceg", "ceg_low", "ceg_high", "method", "n_runs"),
    *("n_seeds", "censored", "differs", "published", "source"),
]
TURNED = {"": "", ">": "<", "<": ">"}


def innovation_table(
    study: Mapping[str, Any],
    runs: pd.DataFrame,
    reference: Reference = "new",
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Gain of having the innovation over not having it, at each compute, by interpolation between measured points.

    An arm is compared with the recipe that it was made from. Where the innovation was taken out, the gain of the arm is
    below 1 by as much as the innovation is worth, so 1 over it is told: C_without / C_with at the loss of the arm.

    Returns:
        [innovation, year, recipe, direction, compute, ceg, ceg_low, ceg_high, method, n_runs, n_seeds, censored,
        differs, published, source]; differs says whether the interval leaves out 1, and seeds alone do not explain it.
    """
    facts = {arm: fact for arm, fact in study.get("innovations", {}).items() if "innovation" in fact}
    against = {arm: study.get("against", {}).get(arm, study["baseline"]) for arm in facts}
    rows: list[dict[str, Any]] = []
    for recipe in dict.fromkeys(against.values()):
        arms = [arm for arm in facts if against[arm] == recipe]
        own = runs[runs["arm"].isin([recipe, *arms])]
        if not own["arm"].eq(recipe).any() or own["arm"].nunique() < 2:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AnalysisWarning)
            fit = fit_jointly(own, recipe, None, n_resamples=n_resamples, seed=seed)
            gains = gains_of(fit, method="interpolated", reference=reference, level=level)
        seeds = fit.front.set_index(["arm", "rung"])["n_seeds"]
        for gain in gains.to_dict("records"):
            fact = facts[gain["arm"]]
            ceg, low, high, censored = gain["ceg"], gain["ceg_low"], gain["ceg_high"], gain["censored"]
            if fact["direction"] == "out":
                with np.errstate(divide="ignore"):
                    ceg, low, high = (float(x) for x in 1 / np.array([ceg, high, low]))
                censored = TURNED[censored]
            rows.append(
                {
                    **{key: fact[key] for key in ("innovation", "year", "direction", "published", "source")},
                    "recipe": recipe,
                    "compute": gain["compute"],
                    "ceg": ceg,
                    "ceg_low": low,
                    "ceg_high": high,
                    "method": gain["method"],
                    "n_runs": gain["n_runs"],
                    "n_seeds": int(seeds[gain["arm"], gain["compute"]]),
                    "censored": censored,
                    "differs": bool(low > 1 or high < 1),
                }
            )
    return pd.DataFrame(rows, columns=COLUMNS)
