"""Does each method of `Law.intervals` hold the true parameters of a law?  The same designs as of `coverage`, by method.

    python -m algoprogress.analysis.coverage_methods --studies 200 --figure docs/images/coverage_methods.png

The law is fitted to all runs of each arm by itself. Where runs have noise in common the methods are told so; profiles
know no clusters and are left out there.
"""

from collections.abc import Callable, Iterator, Sequence

import pandas as pd

from algoprogress.analysis.coverage import DESIGNS, Design, command, simulated
from algoprogress.analysis.laws import laws
from algoprogress.analysis.nested import N_BOOTSTRAP

BY_RUN = ("pairs", "wild-cluster", "jackknife", "sandwich", "profile")
BY_CLUSTER = ("cluster", "wild-cluster", "jackknife", "sandwich")
SIZED = tuple(name for name, design in DESIGNS.items() if design.law == "chinchilla")


def intervals_of(design: Design, seed: int, n_resamples: int = 200, level: float = 0.95) -> Iterator[dict]:
    """[quantity, method, low, truth, high] of every interval of a parameter in one simulated study."""
    law = laws[design.law]().fit(design.simulate(seed))
    for method in BY_CLUSTER if design.cluster else BY_RUN:
        n = N_BOOTSTRAP if method == "wild-cluster" else n_resamples
        for row in law.intervals(method, design.cluster, level, n, seed).itertuples():
            if row.parameter in design.parameters:
                truth = design.laws[row.arm][design.parameters.index(row.parameter)]
                yield {"quantity": row.parameter, "method": method, "low": row.low, "truth": truth, "high": row.high}


def coverage_of_methods(
    designs: Sequence[str] = SIZED,
    n_studies: int = 200,
    first: int = 50_000,
    n_resamples: int = 200,
    level: float = 0.95,
    progress: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Share of intervals that hold the truth, by design, method and parameter.

    Args:
        designs: names among SIZED, those whose law is fitted to runs themselves.
        n_studies, first, n_resamples, level, progress: as for `coverage`; the wild bootstrap draws N_BOOTSTRAP times.

    Returns:
        As of `coverage.coverage`.
    """
    return simulated(designs, SIZED, intervals_of, n_studies, first, n_resamples, level, progress)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and draw it where asked."""
    command(__doc__, SIZED, coverage_of_methods, _print, arguments, n_studies=200, first=50_000)


def _print(table: pd.DataFrame) -> pd.DataFrame:
    wide = table.pivot_table("coverage", ["design", "method"], "quantity", sort=False)
    print(wide.round(3).to_string())
    print(f"standard errors {table['stderr'].min():.3f} to {table['stderr'].max():.3f}")
    return table.assign(design=table["design"] + ": " + table["method"], method="law")


if __name__ == "__main__":
    main()
