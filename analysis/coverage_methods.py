"""Does each method of `Law.intervals` hold the true parameters of a law?  The same designs as of `coverage`, by method.

    python -m algoprogress.analysis.coverage_methods --studies 200 --figure docs/images/coverage_methods.png

The law is fitted to all runs of each arm by itself. Where runs have noise in common the methods are told so; profiles
know no clusters and are left out there.
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from algoprogress.analysis.coverage import DESIGNS, Design, summarise
from algoprogress.analysis.laws import laws
from algoprogress.analysis.nested import N_BOOTSTRAP
from algoprogress.analysis.warnings import AnalysisWarning

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
    unknown = [name for name in designs if name not in SIZED]
    if unknown:
        raise ValueError(f"There is no design {unknown[0]!r} in size and data; there are {', '.join(SIZED)}.")
    if n_studies < 2:
        raise ValueError(f"n_studies is 2 or more, not {n_studies}.")
    parts = []
    for name in designs:
        rows: list[dict] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AnalysisWarning)
            for s in range(first, first + n_studies):
                rows += [{**row, "study": s} for row in intervals_of(DESIGNS[name], s, n_resamples, level)]
        parts.append(summarise(pd.DataFrame(rows)).assign(design=name))
        if progress is not None:
            progress(name)
    return pd.concat(parts, ignore_index=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and draw it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200, help="simulated studies of each design")
    parser.add_argument("--first", type=int, default=50_000, help="seed of the first")
    parser.add_argument("--resamples", type=int, default=200, help="behind each interval by pairs or clusters")
    parser.add_argument("--design", action="append", help="one or several of: " + "; ".join(SIZED))
    parser.add_argument("--figure", type=Path, help="to draw to, as PNG and SVG")
    given = parser.parse_args(arguments)

    def note(name: str) -> None:
        print(f"done: {name}", file=sys.stderr, flush=True)

    try:
        table = coverage_of_methods(given.design or SIZED, given.studies, given.first, given.resamples, progress=note)
    except ValueError as error:
        parser.error(str(error))
    wide = table.pivot_table("coverage", ["design", "method"], "quantity", sort=False)
    print(wide.round(3).to_string())
    print(f"standard errors {table['stderr'].min():.3f} to {table['stderr'].max():.3f}")
    if given.figure is not None:
        from algoprogress.analysis.figures import coverage_plot, draw, save

        named = table.assign(design=table["design"] + ": " + table["method"], method="law")
        save(draw(coverage_plot, named, width=9.0, height=5.2), given.figure)


if __name__ == "__main__":
    main()
