"""The page docs/benchmarks.md: every benchmark's rows as it ran here, the machine described, no host named."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from algoprogress.pipeline.output import text

HEAD = """\
# Benchmarks

This page is made by `algoprogress bench all`. Each row is ours beside a named peer on equal work, taken in turn;
`ratio` is peer / ours, so that more than 1 is faster than the peer. `target` is what the ratio is meant to reach, and
`holds` whether it did on this machine. A ratio's `low` and `high` are the least and the largest of its rounds (of the
levers, their quartiles). Where a peer is not installed its rows are missing: `pip install "algoprogress[bench]"`.

{machine}
"""


def machine() -> str:
    """The processor, its cores and caches' owner, and the versions that decide speed."""
    import torch

    from algoprogress.pipeline.kernels import find_compiler, kernels, processor
    from algoprogress.pipeline.policy import best_dtype, choose

    names = [line.split(":", 1)[1].strip() for line in processor().splitlines() if line.startswith("model name")]
    policy = choose("cpu", "float32")
    peak = f"{policy.peak / 1e9:.0f} GFLOP/s" if policy.peak else "not measured"
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    found, why = kernels()
    return (
        f"Machine: {names[0] if names else platform.machine()}, {os.cpu_count()} cores, "
        f"{torch.backends.cpu.get_cpu_capability()}; Python {platform.python_version()}, torch {torch.__version__}; "
        f"`dtype: auto` is {best_dtype()} here; a float32 product reaches {peak} on one thread with {policy.matmul}; "
        f"kernels compiled by {Path(find_compiler() or 'none').name if found else f'nothing ({why})'}. "
        f"Other work on the machine, as its load average when this page was made: {load}."
    )


def page(results: Mapping[str, tuple[str, Sequence[Mapping[str, Any]]]]) -> str:
    """The page from benchmark -> (its question, its rows)."""
    parts = [HEAD.format(machine=machine())]
    for name, (question, rows) in results.items():
        parts.append(f"## {name}\n\n{question}\n\n    algoprogress bench {name}\n\n{table(rows)}")
    return "\n".join(parts)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as Markdown; a column that no row fills is left out."""
    columns = [
        c for c in dict.fromkeys(key for row in rows for key in row) if any(row.get(c) is not None for row in rows)
    ]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(shown(row.get(c)) for c in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def shown(value: Any) -> str:
    return (
        "yes"
        if value is True
        else "no"
        if value is False
        else f"{value:.3g}"
        if isinstance(value, float)
        else text(value)
    )
