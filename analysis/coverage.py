"""Do nominal 95 % intervals hold the truth 95 % of the time?  Simulated designs, for parameters, gains and slopes.

    python -m algoprogress.analysis.coverage --studies 400 --figure docs/images/coverage.png

Each design is simulated many times with laws that are known, analysed as any study is, and its intervals are held
against the truth. Cluster noise is what several runs have in common: all runs of an arm at one rung, all checkpoints of
one training.
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.analysis.gains import gains_of
from algoprogress.analysis.joint import JointFit, fit_jointly
from algoprogress.analysis.scale import slopes
from algoprogress.analysis.simulation import LADDER, simulate_isoflop, simulate_runs
from algoprogress.analysis.warnings import AnalysisWarning

BASELINE = "lstm"
# The arm's exponent is larger than the baseline's: gains grow as C^(0.165 / 0.14 - 1).
GROWING = {"lstm": (0.6, 60.0, 0.14), "modern": (0.6, 115.0, 0.165), "retro": (0.6, 60.0, 0.142)}
FOUR = {**GROWING, "modern_sgd": (0.6, 100.0, 0.158)}
SIZED = {"lstm": (1.8, 480.0, 2100.0, 0.35, 0.37), "modern": (1.8, 420.0, 2000.0, 0.35, 0.375)}
SIX = tuple(float(c) for c in np.geomspace(1e11, 3e13, 6))
SEEDS = {"noise": 0.05, "noise_exponent": 0.3, "budgets": dict.fromkeys(GROWING, SIX)}
# The grid of `ablations.studies.demo`: one size a budget, three rates and two seeds at the smallest only.
DEMO = {
    "sizes": (0.0,),
    "budgets": {"lstm": (3e10, *LADDER), **dict.fromkeys(("modern", "retro", "modern_sgd"), LADDER)},
    "swept": (1e11,),
    "repeated": (3e10, 1e11),
    "noise": 0.03,
}


@dataclass(frozen=True)
class Design:
    """What is simulated, and what is asked of it.

    Attributes:
        laws: of each arm: (E, A, alpha), or (E, A, B, alpha, beta) in size and data.
        options: of the simulation.
        asked: computes inside the measured range, FLOP.
        law: that the arms are fitted with.
        cluster: column of the runs that have noise in common, where the analysis is told of it.
        clustered: whether runs have noise in common.
        parameters: of the law.
        unidentified: parameters that so few rungs do not determine: their intervals begin at a bound and are longer
            than nominal ones, as `NotIdentified` says of each fit.
    """

    laws: Mapping[str, tuple[float, ...]]
    options: Mapping[str, Any]
    asked: tuple[float, ...] = SIX[1:-1]
    law: str = "power"
    share: Mapping[str, str] | None = None
    cluster: str | None = None
    clustered: bool = False
    parameters: tuple[str, ...] = ("E", "A", "alpha")
    unidentified: tuple[str, ...] = ()

    def simulate(self, seed: int) -> pd.DataFrame:
        simulate: Callable[..., pd.DataFrame] = simulate_runs if self.law == "power" else simulate_isoflop
        return simulate(self.laws, seed=seed, **self.options)

    def best_loss(self, arm: str, compute: float) -> float:
        """The truth, nats/token."""
        if self.law == "power":
            E, A, alpha = self.laws[arm]
            return E + A * compute**-alpha
        E, at_one, gamma = self._frontier(arm)
        return E + at_one * (compute / 6) ** -gamma

    def gain(self, arm: str, compute: float) -> float:
        """True CEG of an arm over the baseline."""
        loss = self.best_loss(arm, compute)
        if self.law == "power":
            E, A, alpha = self.laws[BASELINE]
            return ((loss - E) / A) ** (-1 / alpha) / compute
        E, at_one, gamma = self._frontier(BASELINE)
        return 6 * ((loss - E) / at_one) ** (-1 / gamma) / compute

    def slope(self, arm: str, compute: Sequence[float]) -> float:
        """True d ln CEG / d ln C by least squares over some computes, which is exact where both arms have one E."""
        x, y = np.log(compute), np.log([self.gain(arm, c) for c in compute])
        return float(np.polyfit(x, y, 1)[0])

    def _frontier(self, arm: str) -> tuple[float, float, float]:
        """E, a and gamma of the best loss E + a (C / 6)^-gamma."""
        E, A, B, alpha, beta = self.laws[arm]
        G = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
        return E, A * G**-alpha + B * G**beta, alpha * beta / (alpha + beta)


SIZE_DATA: dict[str, Any] = {
    "law": "chinchilla",
    "asked": (1e18, 1e19),
    "parameters": ("E", "A", "B", "alpha", "beta"),
}
THIN: dict[str, Any] = {"asked": LADDER[1:-1], "unidentified": ("E", "A", "alpha")}
DESIGNS: dict[str, Design] = {
    "3 sizes x 3 rates": Design(GROWING, SEEDS),
    "2 sizes x 2 rates": Design(GROWING, SEEDS | {"sizes": (0, 0.5), "rates": (0, 0.7)}),
    "best between those tried": Design(GROWING, SEEDS | {"tuning_error": 0.25}),
    "no repeats": Design(GROWING, SEEDS | {"n_best_seeds": 1}),
    "noise common to a rung": Design(GROWING, SEEDS | {"rung_noise": 0.03}, clustered=True),
    "noise common to a seed": Design(GROWING, SEEDS | {"shared": 0.8}, clustered=True),
    "as thin as the demo": Design(FOUR, DEMO, **THIN),
    "as thin as the demo, noise common to a rung": Design(FOUR, DEMO | {"rung_noise": 0.02}, clustered=True, **THIN),
    "isoFLOP": Design(SIZED, {"noise": 0.01}, **SIZE_DATA),
    "isoFLOP, noise common to a size": Design(
        SIZED,
        {"noise": 0.005, "size_noise": 0.01},
        clustered=True,
        cluster="size",
        **SIZE_DATA,
    ),
}


def intervals_of(design: Design, seed: int, n_resamples: int = 200, level: float = 0.95) -> Iterator[dict]:
    """[quantity, method, low, truth, high] of every interval in one simulated study."""
    fit = fit_jointly(
        design.simulate(seed),
        BASELINE,
        design.law,
        design.share,
        n_resamples,
        seed,
        cluster=design.cluster,
    )
    rungs = [float(c) for c in design.options["budgets"]["modern"]] if design.law == "power" else fit.rungs
    gains = gains_of(fit, sorted({*design.asked, *rungs}), level=level)
    for row in gains[gains["compute"].isin(design.asked)].itertuples():
        if not np.isnan(row.ceg):
            truth = design.gain(row.arm, row.compute)
            yield {"quantity": "gain", "method": row.method, "low": row.ceg_low, "truth": truth, "high": row.ceg_high}
    widest = slopes(gains).drop_duplicates(["arm", "method", "law"], keep="last")  # over all computes asked for
    for row in widest.itertuples():
        if not np.isnan(row.slope):
            truth = design.slope(row.arm, rungs)
            low, high = row.slope_low, row.slope_high
            yield {"quantity": "slope", "method": row.method, "low": low, "truth": truth, "high": high}
    yield from parameter_intervals(design, fit, level)


def parameter_intervals(design: Design, fit: JointFit, level: float) -> Iterator[dict]:
    """Those of the law's parameters, from the same resamples as the gains."""
    from algoprogress.analysis.tables import law_table

    table = law_table(fit, level)
    for row in table[table["parameter"].isin(design.parameters)].itertuples():
        if row.shared and row.arm != BASELINE:
            continue
        truth = design.laws[row.arm][design.parameters.index(row.parameter)]
        yield {"quantity": row.parameter, "method": "law", "low": row.low, "truth": truth, "high": row.high}


def coverage(
    designs: Sequence[str] | None = None,
    n_studies: int = 400,
    first: int = 0,
    n_resamples: int = 200,
    level: float = 0.95,
    progress: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Share of intervals that hold the truth, by design, quantity and method.

    Args:
        designs: names among DESIGNS, by default all.
        n_studies: simulated studies of each.
        first: seed of the first of them.
        n_resamples: behind each interval.
        level: nominal.

    Returns:
        [design, clustered, quantity, method, n, coverage, stderr, below, above, missing]: n intervals, coverage with
        the standard error over studies, the shares of them that lie below and above the truth, and of estimates that
        have no interval.
    """
    columns = ["design", "clustered", "quantity", "method", "n", "coverage", "stderr", "below", "above", "missing"]
    table = simulated(
        designs or tuple(DESIGNS), tuple(DESIGNS), intervals_of, n_studies, first, n_resamples, level, progress
    )
    return table.assign(clustered=[DESIGNS[name].clustered for name in table["design"]])[columns]


Intervals = Callable[[Design, int, int, float], Iterable[dict]]  # of (design, seed, n_resamples, level)


def simulated(
    designs: Sequence[str],
    known: Sequence[str],
    intervals: Intervals,
    n_studies: int,
    first: int,
    n_resamples: int,
    level: float,
    progress: Callable[[str], None] | None,
) -> pd.DataFrame:
    """Cover of the intervals of simulated studies, by design: `summarise` with a column design.

    Args:
        designs: names among `known`.
        intervals: [quantity, method, low, truth, high] of one study.
        n_studies, first, n_resamples, level, progress: see `coverage`.
    """
    unknown = [name for name in designs if name not in known]
    if unknown:
        raise ValueError(f"There is no design {unknown[0]!r}; there are {', '.join(known)}.")
    if n_studies < 2:
        raise ValueError(f"n_studies is 2 or more, not {n_studies}.")
    parts = []
    for name in designs:
        rows: list[dict] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AnalysisWarning)
            for s in range(first, first + n_studies):
                rows += [{**row, "study": s} for row in intervals(DESIGNS[name], s, n_resamples, level)]
        parts.append(summarise(pd.DataFrame(rows)).assign(design=name))
        if progress is not None:
            progress(name)
    return pd.concat(parts, ignore_index=True)


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Cover by quantity and method of intervals [study, quantity, method, low, truth, high]."""
    known = rows.assign(missing=rows["low"].isna() | rows["high"].isna())
    known["below"], known["above"] = known["high"] < known["truth"], known["low"] > known["truth"]
    known["inside"] = ~known["below"] & ~known["above"]
    parts = []
    for (quantity, method), part in known.groupby(["quantity", "method"], sort=False):
        there = part[~part["missing"]]
        of_study = there.groupby("study")["inside"].mean()
        parts.append(
            {
                "quantity": quantity,
                "method": method,
                "n": len(there),
                "coverage": there["inside"].mean(),
                "stderr": of_study.std(ddof=1) / np.sqrt(max(len(of_study), 1)),
                "below": there["below"].mean(),
                "above": there["above"].mean(),
                "missing": part["missing"].mean(),
            }
        )
    return pd.DataFrame(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and draw it where asked."""
    command(__doc__, tuple(DESIGNS), coverage, _print, arguments, n_studies=400, first=0)


def _print(table: pd.DataFrame) -> pd.DataFrame:
    print(table.round(3).to_string(index=False))
    print("mean over the designs:")
    print(table.groupby(["quantity", "method"], sort=False)["coverage"].mean().round(3).to_string())
    return table


def command(
    about: str | None,
    known: Sequence[str],
    run: Callable[..., pd.DataFrame],
    show: Callable[[pd.DataFrame], pd.DataFrame],
    arguments: Sequence[str] | None,
    n_studies: int,
    first: int,
) -> None:
    """The command line of a simulation.

    Args:
        about: what it says of itself.
        known: designs to choose from, all by default.
        run: (designs, n_studies, first, n_resamples, progress=) -> the table.
        show: prints the table, and gives it back as it is to be drawn.
        arguments: of the command; by default those of the process.
        n_studies, first: by default.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=n_studies, help="simulated studies of each design")
    parser.add_argument("--first", type=int, default=first, help="seed of the first")
    parser.add_argument("--resamples", type=int, default=200, help="behind each interval that resamples")
    parser.add_argument("--design", action="append", help="one or several of: " + "; ".join(known))
    parser.add_argument("--figure", type=Path, help="to draw to, as PNG and SVG")
    given = parser.parse_args(arguments)

    def note(name: str) -> None:
        print(f"done: {name}", file=sys.stderr, flush=True)

    try:
        table = run(given.design or known, given.studies, given.first, given.resamples, progress=note)
    except ValueError as error:
        parser.error(str(error))
    drawn = show(table)
    if given.figure is not None:
        from algoprogress.analysis.figures import coverage_plot, draw, save

        save(draw(coverage_plot, drawn, width=9.0, height=5.6), given.figure)


if __name__ == "__main__":
    main()
