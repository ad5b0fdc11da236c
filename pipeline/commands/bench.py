"""The command bench: ours and a named peer, side by side in one run, as ratios."""

from __future__ import annotations

from typing import Annotated

import typer

from algoprogress.pipeline.output import JsonOption, emit


def bench(
    name: Annotated[str, typer.Argument(help="A benchmark, or all.")] = "all",
    as_json: JsonOption = False,
) -> None:
    """Measure ours beside a named peer on equal work; prints the ratio and whether its target holds."""
    from algoprogress.pipeline.bench import benchmarks

    names = list(benchmarks) if name == "all" else [name]
    emit([row for each in names for row in benchmarks[each]()], as_json)
