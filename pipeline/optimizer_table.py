"""One table of all optimizers: what each keeps and costs, its tuned rate, and its gain over AdamW at two computes.

    python -m algoprogress.pipeline.optimizer_table optimizer_swap --store results/published

prints it as Markdown from the runs of a study whose arms are optimizers and whose baseline is AdamW.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Sequence

import pandas as pd

from algoprogress.ablations.optimizers import optimizers
from algoprogress.ablations.optimizers.__main__ import markdown, row
from algoprogress.analysis import compute_equivalent_gain, frontier
from algoprogress.analysis.formatting import flop_text, gain_text
from algoprogress.analysis.warnings import AnalysisWarning
from algoprogress.pipeline.conventions import with_optimizer
from algoprogress.results import Store

COSTS = ("optimizer", "norm", "state", "FLOP", "share")
EDGE = "*"  # after a rate that lies at an edge of those tried


def rows(store: Store, study: str, level: float = 0.95) -> Iterator[tuple[str, ...]]:
    """The header, and a row for each optimizer, best first at the larger compute.

    Raises:
        ValueError: the study has no arm `adamw`, or fewer than two computes.
    """
    runs = store.runs(study=study)
    if "adamw" not in set(runs["arm"]):
        raise ValueError(f"The study {study!r} has no arm adamw to compare with; its arms: {sorted(set(runs['arm']))}.")
    best = frontier(runs)
    shared = sorted(set.intersection(*(set(part["rung"]) for _, part in best.groupby("arm"))))
    if len(shared) < 2:
        raise ValueError(f"The arms of {study!r} share {len(shared)} computes, and the table is of two.")
    computes = [shared[0], shared[-1]]

    def gains(of: pd.DataFrame, at: list[float]) -> pd.Series:
        found = compute_equivalent_gain(of, "adamw", at_compute=at, method="interpolated", level=level)
        texts = [gain_text(g.ceg, g.ceg_low, g.ceg_high, g.censored) for g in found.itertuples()]
        return pd.Series(texts, index=pd.MultiIndex.from_arrays([found["arm"], found["compute"]]))

    plain, counted = gains(runs, computes), gains(with_optimizer(runs, store), computes[-1:])
    points = best.set_index(["arm", "rung"])
    head = [text for c in computes for text in ("rate", f"loss at {flop_text(c)}", "CEG")]
    yield (*COSTS, *head, f"CEG at {flop_text(computes[-1])}, its FLOP counted", "paper")
    arms = [a for a in best[best["rung"] == computes[-1]].sort_values("loss")["arm"] if a in optimizers]
    for arm in arms:
        costs, measured = row(arm), list[str]()
        for compute in computes:
            point = points.loc[(arm, compute)]
            gain = "1" if arm == "adamw" else plain[arm, compute]
            measured += [f"{point['learning_rate']:g}{EDGE * bool(point['at_edge'])}", f"{point['loss']:.3f}", gain]
        own = "1" if arm == "adamw" else counted[arm, computes[-1]]
        yield (*(costs[c] for c in COSTS), *measured, own, costs["paper"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--store", default="results/data", help="folder or URL of the runs")
    given = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AnalysisWarning)  # the page beside the table says it in full
        try:
            table = markdown(rows(Store(given.store), given.study))
        except ValueError as error:
            parser.error(str(error))
    print(table)


if __name__ == "__main__":
    main()
