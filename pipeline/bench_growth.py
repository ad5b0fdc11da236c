"""How does the cost of training grow: with parameters, tokens in a step, vocabulary, context, workers, other work?

One thing at a time away from the modern Transformer, 2 layers, 64 wide, V = 257, context 128, 4,096 tokens a step.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from typing import Any

from algoprogress.pipeline.bench_train import CONTEXT, Case, Contestant, random_tokens

TOKENS_TIMED = 40_960  # at least three steps
REPEATS = 3
BUSY = 1.5  # times the CPU time that a step may take on a busy machine: no thread waits by spinning
BASE = {"width": 64, "batch_tokens": 4096, "vocab_size": 257, "context": CONTEXT}
SWEPT: dict[str, list[int]] = {
    "width": [16, 32, 64, 128, 256],
    "batch_tokens": [512, 1024, 2048, 4096, 8192, 16384],
    "vocab_size": [257, 1024, 4096, 16384],
    "context": [32, 64, 128, 256, 512],
}


def rows() -> list[dict[str, Any]]:
    from algoprogress.pipeline.policy import choose

    policy = choose("cpu", "float32")
    found = []
    for name, values in SWEPT.items():
        base = seconds(policy, **BASE)
        for value in values:
            at = {**BASE, name: value}
            took, n_params, flop = seconds(policy, **at)
            found.append(
                {
                    "case": f"{name} = {value}",
                    "ours": 1e9 * took,
                    "peer": 1e9 * base[0],
                    "ratio": base[0] / took,
                    "unit": "CPU ns/token",
                    "target": None,
                    "holds": None,
                    "n_params": n_params,
                    "gflop_per_second": flop / took / 1e9,
                    "gemm_fraction": flop / took / policy.peak if policy.peak else None,
                }
            )
    return [*found, *workers(), *busy()]


def seconds(policy: Any, width: int, batch_tokens: int, vocab_size: int, context: int) -> tuple[float, int, float]:
    """CPU seconds of a trained token, the least of a few; n_params; FLOP of a token."""
    from algoprogress.pipeline.trainer import train

    case = Case("modern", 2, width, vocab_size, batch_tokens, {})
    steps = max(3, TOKENS_TIMED // batch_tokens)
    spec = case.spec(steps)
    spec = type(spec).model_validate(
        {**spec.model_dump(), "data": {**spec.data.model_dump(), "context": context}, "evaluation": {"tokens": context}}
    )
    tokens = random_tokens(spec.tokens, vocab_size)
    train(spec, tokens, policy=policy)
    times = []
    for _ in range(REPEATS):
        begun = time.process_time()
        train(spec, tokens, policy=policy)
        times.append(time.process_time() - begun)
    return min(times) / spec.tokens, spec.n_params, spec.compute / spec.tokens


def workers() -> list[dict[str, Any]]:
    """Steps a second of one worker, and of two at once, which share caches and memory."""
    case = Case("modern", 2, 64, 257, 4096, {})
    pair = [Contestant("ours", case, "float32") for _ in range(2)]
    try:
        alone = statistics.median(pair[0].step_seconds()[0] for _ in range(REPEATS))
        times: list[float] = []
        threads = [threading.Thread(target=lambda c=c: times.append(c.step_seconds()[0])) for c in pair]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        together = statistics.mean(times)
    finally:
        for contestant in pair:
            contestant.close()
    return [
        {
            "case": "workers = 2 at once, beside one alone",
            "ours": 1e9 * together / case.batch_tokens,
            "peer": 1e9 * alone / case.batch_tokens,
            "ratio": alone / together,
            "unit": "CPU ns/token",
            "target": None,
            "holds": None,
        }
    ]


def busy() -> list[dict[str, Any]]:
    """CPU time of a step while twice as many other processes compute as there are cores, beside that without them."""
    case = Case("modern", 2, 64, 257, 4096, {})
    contestant = Contestant("ours", case, "float32")
    spin = [sys.executable, "-c", "while True: sum(range(100_000))"]
    others: list[subprocess.Popen[bytes]] = []
    times: dict[bool, list[float]] = {False: [], True: []}
    try:
        for _ in range(REPEATS):
            for crowded, kept in times.items():
                others = [subprocess.Popen(spin) for _ in range(2 * (os.cpu_count() or 1) * crowded)]
                kept.append(contestant.step_seconds()[0])
                for other in others:
                    other.kill()
                    other.wait()
    finally:
        for other in others:
            other.kill()
        contestant.close()
    alone, together = (1e9 * statistics.median(times[k]) / case.batch_tokens for k in (False, True))
    return [
        {
            "case": "a busy machine, two other processes a core, beside the machine as it is",
            "ours": together,
            "peer": alone,
            "ratio": alone / together,
            "unit": "CPU ns/token",
            "target": 1 / BUSY,
            "holds": alone / together >= 1 / BUSY,
        }
    ]
