"""Does the test of equal exponents reject 5 % of the time when the gain is the same at every compute?

    python -m algoprogress.analysis.null_study --studies 1000

Each design is simulated many times with arms that are one law at a constant multiple of compute, and analysed as any
study is; `coverage` asks the same of intervals.
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.analysis.frontier import frontier
from algoprogress.analysis.laws import laws
from algoprogress.analysis.nested import Test, compare, equal_exponents
from algoprogress.analysis.simulation import simulate_isoflop, simulate_runs
from algoprogress.analysis.warnings import AnalysisWarning

SIX = tuple(float(c) for c in np.geomspace(1e11, 1e13, 6))
# One configuration a rung and no noise but the seeds': the null as the F test assumes it.
PLAIN = {"sizes": (0,), "rates": (0,), "n_best_seeds": 1, "noise": 0.02, "budgets": SIX, "budget_error": 0}
# Constant gains of 1.6 and 1.2 over the baseline.
CONSTANT = {a: (0.6, 60.0 * gain**-0.14, 0.14) for a, gain in (("lstm", 1.0), ("modern", 1.6), ("retro", 1.2))}
ONE = (1.8, 480.0, 2100.0, 0.35, 0.37)
SIZED = {"old": ONE, "new": (1.8, 480.0 * 1.6**-0.18, 2100.0 * 1.6**-0.18, 0.35, 0.37)}
EXPONENTS = {"E": "all", "alpha": "all", "beta": "all"}


@dataclass(frozen=True)
class Null:
    """A design under the null.

    Attributes:
        options: of the simulation.
        law: `power`, of frontiers, or `chinchilla`, of all runs.
        test: of `nested.compare`; by default the one that `equal_exponents` chooses.
        cluster: column of runs that have noise in common, where the test is told of it.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    law: str = "power"
    test: Test | None = None
    cluster: str | None = None

    def p(self, seed: int) -> float:
        """Of equal exponents, in one simulated study."""
        if self.law == "power":
            front = frontier(simulate_runs(CONSTANT, seed=seed, **self.options))
            return equal_exponents(laws["power"]().fit(front, {"E": "all"}), "lstm", "modern", seed=seed)
        runs = simulate_isoflop(SIZED, n_sizes=5, seed=seed, **self.options)
        free, equal = (laws[self.law](huber=np.inf).fit(runs, share) for share in ({"E": "all"}, EXPONENTS))
        return float(compare(free, equal, self.test, self.cluster, 99, seed)["p"])


NULLS: dict[str, Null] = {
    "one configuration": Null(PLAIN),
    "swept, noise falls": Null({"noise": 0.04, "noise_exponent": 0.2}),
    "noise common to a rung": Null({"noise": 0.03, "rung_noise": 0.03}),
    "isoFLOP": Null({"noise": 0.01}, "chinchilla", "bootstrap"),
    "isoFLOP, noise common to a size": Null({"noise": 0.004, "size_noise": 0.008}, "chinchilla", "bootstrap", "size"),
}


def p_values(design: str, n_studies: int = 1000, first: int = 0) -> np.ndarray:
    """p (n_studies,) of equal exponents where they are equal, of one of NULLS; `first` is the first seed."""
    if design not in NULLS:
        raise ValueError(f"There is no design {design!r}; there are {', '.join(NULLS)}.")
    if n_studies < 1:
        raise ValueError(f"n_studies is 1 or more, not {n_studies}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AnalysisWarning)
        return np.array([NULLS[design].p(s) for s in range(first, first + n_studies)])


def null_study(
    designs: Sequence[str] | None = None,
    n_studies: int = 1000,
    first: int = 0,
    level: float = 0.05,
    progress: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Share of studies that reject, by design: [design, law, n, rejected, stderr, untested]."""
    rows = []
    for name in designs or NULLS:
        p = p_values(name, n_studies, first)
        there = p[~np.isnan(p)]
        share = float((there <= level).mean()) if len(there) else np.nan
        stderr = float(np.sqrt(share * (1 - share) / max(len(there), 1)))
        row = {"design": name, "law": NULLS[name].law, "n": len(there), "rejected": share, "stderr": stderr}
        rows.append({**row, "untested": float(np.isnan(p).mean())})
        if progress is not None:
            progress(name)
    return pd.DataFrame(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies of each design")
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    parser.add_argument("--design", action="append", help="one or several of: " + ", ".join(NULLS))
    given = parser.parse_args(arguments)

    def note(name: str) -> None:
        print(f"done: {name}", file=sys.stderr, flush=True)

    try:
        table = null_study(given.design, given.studies, given.first, progress=note)
    except ValueError as error:
        parser.error(str(error))
    print(table.round(4).to_string(index=False))


if __name__ == "__main__":
    main()
