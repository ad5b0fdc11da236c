"""What is each means of speed worth? A step of a small model with it beside one without it, in turn, on one thread."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from algoprogress.pipeline.bench_train import CONTEXT, Case

if TYPE_CHECKING:
    from algoprogress.ablations import ops

ROUNDS = 15
CASES = [
    Case("modern", 2, 64, 257, 4096, {}),
    Case("gpt2", 2, 64, 257, 4096, {}),
    Case("lstm", 2, 64, 257, 4096, {}),
]
OPERATIONS = {
    "modern": ("linear", "attention", "norm", "swiglu", "cross_entropy"),
    "gpt2": ("linear", "attention", "norm", "gelu", "cross_entropy"),
    "lstm": ("linear", "lstm", "cross_entropy"),
}
COMPILED = Case("modern", 2, 64, 257, 4096, {})
MALLOC = Case("modern", 2, 64, 2048, 8192, {})  # its logits are of 64 MiB


class Step:
    """The trainer's step on one batch of random tokens; keyword arguments change one thing about it."""

    def __init__(self, case: Case) -> None:
        import torch

        torch.manual_seed(0)
        self.model = case.architecture().build(case.vocab_size, CONTEXT)
        self.optimizer = case.spec(1).optimizer.build(self.model, 0.001)
        self.foreach = torch.optim.AdamW(self.model.parameters(), lr=0.001, betas=(0.9, 0.95), foreach=True)
        self.x = torch.randint(case.vocab_size, (case.batch_tokens // CONTEXT, CONTEXT + 1))

    def __call__(self, chunks: int = 1, foreach: bool = False, read: bool = False, foreach_clip: bool = False) -> None:
        import torch

        from algoprogress.pipeline.gradient import backward, clip

        optimizer = self.foreach if foreach else self.optimizer
        loss, _ = backward(self.model, self.x[:, :-1], self.x[:, 1:], None, "float32", chunks)
        if foreach_clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)
        else:
            clip(self.model, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if read:
            loss.item()

    def within(self, ways: ops.Ways, **options: Any) -> Callable[[], None]:
        """The step done in these ways, ready to be called."""
        from algoprogress.ablations import ops

        def work() -> None:
            with ops.using(ways):
                self(**options)

        return work


def rows() -> list[dict[str, Any]]:
    """One row per case and lever: median CPU ms of a step with it (ours) and without it (peer), and their ratio."""
    import torch

    from algoprogress.ablations import ops
    from algoprogress.pipeline.kernels import kernels
    from algoprogress.pipeline.policy import choose

    torch.set_num_threads(1)
    choose("cpu")
    found, why = kernels()
    ours = ops.Ways(kernels=found)
    table = []
    for case in CASES:
        step = Step(case)
        pairs: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {}
        with_all = step.within(ours)
        if found is not None:
            pairs["compiled kernels, all of them"] = (with_all, step.within(ops.Ways()))
            for operation in OPERATIONS[case.model]:
                without = ops.Ways(kernels=found, without=frozenset({operation}))
                pairs[f"compiled kernel: {operation}"] = (with_all, step.within(without))
        if case.model != "lstm":
            pairs["torch's fused attention instead of batched products, no kernels"] = (
                step.within(ops.Ways()),
                step.within(ops.Ways("products")),
            )
        pairs |= {
            "fused AdamW instead of foreach": (with_all, step.within(ours, foreach=True)),
            "clipping tensor by tensor instead of foreach": (with_all, step.within(ours, foreach_clip=True)),
            "the loss not read at each step": (with_all, step.within(ours, read=True)),
            "the batch in one piece instead of two": (with_all, step.within(ours, chunks=2)),
            "the batch in one piece instead of eight": (with_all, step.within(ours, chunks=8)),
        }
        table += [_row(f"{case}: {lever}", *_in_turn(a, b)) for lever, (a, b) in pairs.items()]
    table.append(_malloc())
    table += _compiled()
    if found is None:
        for row in table:
            row["case"] += f" ({why})"
    return table


def _in_turn(a: Callable[[], None], b: Callable[[], None]) -> tuple[list[float], list[float]]:
    times: tuple[list[float], list[float]] = ([], [])
    for work in (a, b):
        work()
    for _ in range(ROUNDS):
        for kept, work in zip(times, (a, b), strict=True):
            begun = time.process_time()
            work()
            kept.append(time.process_time() - begun)
    return times


def _row(case: str, with_it: list[float], without: list[float]) -> dict[str, Any]:
    ratios = sorted(b / a for a, b in zip(with_it, without, strict=True))
    a, b = statistics.median(with_it), statistics.median(without)
    quarter = len(ratios) // 4
    return {
        "case": case,
        "ours": 1e3 * a,
        "peer": 1e3 * b,
        "ratio": b / a,
        "unit": "CPU ms/step",
        "target": None,
        "holds": None,
        "ratio_low": ratios[quarter],
        "ratio_high": ratios[-1 - quarter],
    }


def _malloc() -> dict[str, Any]:
    """Two processes in turn, since what malloc is told cannot be taken back."""
    times: dict[str, list[float]] = {"1": [], "0": []}
    for _ in range(3):
        for prepared, kept in times.items():
            done = subprocess.run(
                [sys.executable, "-m", __name__, prepared], capture_output=True, text=True, check=True
            )
            kept.append(float(done.stdout.split()[-1]))
    return _row(f"{MALLOC}: freed memory stays in the process, in large pages", times["1"], times["0"])


def _compiled() -> list[dict[str, Any]]:
    """torch.compile beside torch's own ways and beside the compiled kernels, and what its first step costs, seconds."""
    import torch

    from algoprogress.ablations import ops
    from algoprogress.pipeline.kernels import kernels
    from algoprogress.pipeline.trainer import compile_model

    step, plain = Step(COMPILED), Step(COMPILED)
    step.model = compile_model(step.model, torch.device("cpu"))
    compiled, by_torch = step.within(ops.Ways()), plain.within(ops.Ways())
    begun = time.perf_counter()
    compiled()
    first = time.perf_counter() - begun
    rows = [_row(f"{COMPILED}: torch.compile instead of torch's own ways", *_in_turn(compiled, by_torch))]
    if (found := kernels()[0]) is not None:
        rows.append(
            _row(
                f"{COMPILED}: torch.compile instead of the compiled kernels",
                *_in_turn(compiled, plain.within(ops.Ways(kernels=found))),
            )
        )
    cost = {"ours": first, "peer": rows[0]["peer"] / 1e3, "ratio": rows[0]["peer"] / 1e3 / first, "unit": "wall s"}
    cost |= {"ratio_low": None, "ratio_high": None}
    return [*rows, rows[0] | cost | {"case": f"{COMPILED}: the first step of torch.compile, which compiles"}]


def main(prepared: str) -> None:
    """Median CPU seconds of a step with or without the allocator's thresholds."""
    import torch

    from algoprogress.ablations import ops
    from algoprogress.pipeline.device import prepare
    from algoprogress.pipeline.kernels import kernels

    torch.set_num_threads(1)
    if prepared == "1":
        prepare("cpu")
    run, times = Step(MALLOC), []
    with ops.using(ops.Ways(kernels=kernels()[0])):
        for _ in range(6):
            begun = time.process_time()
            run()
            times.append(time.process_time() - begun)
    print(statistics.median(times[1:]))


if __name__ == "__main__":
    main(*sys.argv[1:])
