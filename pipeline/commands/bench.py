"""The command bench: ours and a named peer, side by side in one run, as ratios."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from algoprogress.pipeline.output import JsonOption, emit, note

PAGE = Path("docs/benchmarks.md")


def bench(
    name: Annotated[str, typer.Argument(help="A benchmark, or all.")] = "all",
    as_json: JsonOption = False,
) -> None:
    """Measure ours beside a named peer on equal work; prints the ratio and whether its target holds.

    In a checkout, `bench all` writes docs/benchmarks.md.
    """
    from algoprogress.pipeline import bench_report
    from algoprogress.pipeline.bench import benchmarks, question

    names = list(benchmarks) if name == "all" else [name]
    results = {}
    for each in names:
        note(f"bench {each} ...")
        results[each] = (question(benchmarks[each]), benchmarks[each]())
    emit([row for _, rows in results.values() for row in rows], as_json)
    if name == "all" and PAGE.parent.is_dir():
        PAGE.write_text(bench_report.page(results), encoding="utf-8")
        note(f"written: {PAGE}")
