"""How fast is a training step, beside a textbook loop, Hugging Face's GPT-2 and its Trainer, and the machine's limit?

Equal model, batch, clipping, optimizer and tokens; random tokens, since only their number costs time. Each contestant
lives in a process of its own, set up as its users would have it, and they take turns. CPU time on one thread.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from algoprogress.pipeline.threads import of

if TYPE_CHECKING:
    from algoprogress.ablations.architectures import ArchitectureConfig
    from algoprogress.ablations.spec import RunSpec

ROUNDS = 7
SECONDS = 1.5  # of each contestant in a round, about
CONTEXT = 128
# GPT-2 as it is published (Radford et al. 2019), at the head dimension of the studies here
GPT2 = {
    "activation": "gelu",
    "norm": "layernorm",
    "placement": "pre",
    "position": "learned",
    "bias": True,
    "ff_ratio": 4.0,
}


@dataclass(frozen=True)
class Case:
    """One comparison of step times.

    Attributes:
        model: `modern`, `gpt2` or `lstm`.
        targets: peer -> least ratio in (float32, bfloat16), by which `holds` is decided.
        floor: least share of the float32 products' peak, in bfloat16; None: no target.
    """

    model: str
    n_layers: int
    width: int
    vocab_size: int
    batch_tokens: int
    targets: dict[str, tuple[float, float]]
    floor: float | None = None

    def __str__(self) -> str:
        return f"{self.model} {self.n_layers}x{self.width}, V = {self.vocab_size}, {self.batch_tokens:,} tokens a step"

    def architecture(self) -> ArchitectureConfig:
        from algoprogress.ablations.architectures.lstm import LSTM
        from algoprogress.ablations.architectures.transformer import Transformer

        size = {"n_layers": self.n_layers, "width": self.width}
        if self.model == "lstm":
            return LSTM(**size)
        return Transformer.preset("modern", **size) if self.model == "modern" else Transformer(**GPT2, **size)  # type: ignore[arg-type]

    def spec(self, steps: int, dtype: str = "float32") -> RunSpec:
        from algoprogress.ablations.spec import Data, Evaluation, RunSpec

        tokenizer = "bytes" if self.vocab_size == 257 else f"bpe-{self.vocab_size}"
        return RunSpec.model_validate(
            {
                "architecture": self.architecture(),
                "tokens": steps * self.batch_tokens,
                "batch_tokens": self.batch_tokens,
                "learning_rate": 0.001,
                "data": Data(corpus="random", corpus_sha256="0" * 64, tokenizer=tokenizer, context=CONTEXT),
                "evaluation": Evaluation(tokens=CONTEXT),
                "dtype": dtype,
            }
        )


CASES = [
    Case("modern", 2, 32, 257, 4096, {"plain": (1.2, 1.5)}),
    Case("modern", 2, 64, 257, 4096, {"plain": (1.5, 1.9)}),
    Case("modern", 4, 128, 257, 4096, {"plain": (1.6, 2.4)}, floor=0.6),
    Case("modern", 2, 64, 2048, 8192, {"plain": (2.2, 2.8)}),
    Case("gpt2", 2, 32, 257, 4096, {"plain": (1.2, 1.5), "hf": (1.9, 1.9), "trainer": (1.9, 1.9)}),
    Case("gpt2", 2, 64, 257, 4096, {"plain": (1.5, 1.9), "hf": (2.3, 2.3), "trainer": (2.3, 2.3)}),
    Case("gpt2", 4, 128, 257, 4096, {"plain": (1.6, 2.4), "hf": (2.8, 2.8), "trainer": (2.8, 2.8)}, floor=0.6),
    Case("lstm", 2, 64, 257, 4096, {"plain": (1.5, 1.5)}),
    Case("lstm", 2, 128, 257, 4096, {"plain": (1.5, 1.5)}, floor=1.2),
]
SAID = {
    "plain": "a plain loop (torch's defaults, SDPA, foreach AdamW)",
    "hf": "transformers' GPT2LMHeadModel in a plain loop",
    "trainer": "transformers' Trainer",
}


def random_tokens(n: int, vocab_size: int) -> Any:
    """A corpus of n random tokens in memory, as the trainer wants it."""
    from pathlib import Path

    import numpy as np

    from algoprogress.pipeline.corpora.tokens import Tokens

    class Random(Tokens):
        def bytes_in(self, split: str, n_tokens: int | None = None) -> float:
            return n_tokens or 0

    stream = np.random.default_rng(0).integers(0, vocab_size, n + 1).astype(np.uint16)
    starts = np.zeros(1, np.int64)
    return Random(
        corpus="random",
        corpus_sha256="0" * 64,
        tokenizer="random",
        tokenizer_sha256="0" * 64,
        vocab_size=vocab_size,
        eot=0,
        train=stream,
        val=stream[:4096],
        test=stream[:4096],
        val_documents=starts,
        test_documents=starts,
        folder=Path(),
        about={},
    )


def ours(case: Case, dtype: str) -> Callable[[int], None]:
    """train(spec): batches, schedule, curve and a validation of 128 tokens are in its time."""
    from algoprogress.pipeline.policy import choose
    from algoprogress.pipeline.trainer import train

    policy = choose("cpu", dtype)
    tokens = random_tokens(64 * case.batch_tokens, case.vocab_size)

    def run(steps: int) -> None:
        train(case.spec(steps, dtype), tokens, policy=policy)

    return run


def plain(case: Case, dtype: str) -> Callable[[int], None]:
    """The loop of a textbook over the same model: torch's defaults, the loss read at every step."""
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(0)
    model = case.architecture().build(case.vocab_size, CONTEXT)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.001, betas=(0.9, 0.95), weight_decay=0.01, foreach=True)
    x = torch.randint(case.vocab_size, (64 * case.batch_tokens // CONTEXT, CONTEXT + 1))

    def run(steps: int) -> None:
        state = None
        for step in range(steps):
            batch = x[torch.randint(len(x), (case.batch_tokens // CONTEXT,))]
            for group in optimizer.param_groups:
                group["lr"] = 0.001 * (1 - step / steps)
            optimizer.zero_grad()
            logits, state = model(batch[:, :-1], state)
            state = None if state is None else tuple(s.detach() for s in state)
            loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            loss.item()

    return run


def _gpt2(case: Case) -> Any:
    """Hugging Face's GPT-2 of the same shape, without dropout; its own attention (SDPA) and its own loss."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=case.vocab_size,
            n_positions=CONTEXT,
            n_embd=case.width,
            n_layer=case.n_layers,
            n_head=case.width // 16,
            activation_function="gelu",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=0,
            use_cache=False,
        )
    )


def hf(case: Case, dtype: str) -> Callable[[int], None]:
    import torch

    model = _gpt2(case)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.001, betas=(0.9, 0.95), weight_decay=0.01)
    x = torch.randint(case.vocab_size, (64 * case.batch_tokens // CONTEXT, CONTEXT))

    def run(steps: int) -> None:
        for _ in range(steps):
            batch = x[torch.randint(len(x), (case.batch_tokens // CONTEXT,))]
            optimizer.zero_grad()
            loss = model(input_ids=batch, labels=batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            loss.item()

    return run


def trainer(case: Case, dtype: str) -> Callable[[int], None]:
    import tempfile

    import torch
    from transformers import Trainer, TrainingArguments

    model = _gpt2(case)
    x = torch.randint(case.vocab_size, (64 * case.batch_tokens // CONTEXT, CONTEXT))
    rows = [{"input_ids": row, "labels": row} for row in x]
    folder = tempfile.mkdtemp(prefix="algoprogress-bench-")

    def run(steps: int) -> None:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=case.batch_tokens // CONTEXT,
            learning_rate=0.001,
            weight_decay=0.01,
            adam_beta2=0.95,
            max_grad_norm=1.0,
            logging_steps=16,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        Trainer(model=model, args=arguments, train_dataset=rows).train()  # type: ignore[arg-type]

    return run


CONTESTANTS: dict[str, Callable[[Case, str], Callable[[int], None]]] = {
    "ours": ours,
    "plain": plain,
    "hf": hf,
    "trainer": trainer,
}


class Contestant:
    """A process that trains so many steps when it is told to, and says what they took.

    Args:
        name: of CONTESTANTS.
        case: index in CASES.
        dtype: of ours.
    """

    def __init__(self, name: str, case: Case, dtype: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, name, json.dumps(case.__dict__), dtype],
            env={**os.environ, **of(1), "TRANSFORMERS_VERBOSITY": "error"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.steps = 2
        for _ in range(2):  # the first steps make buffers
            seconds, _ = self.step_seconds()
        self.steps = max(3, min(200, round(SECONDS / seconds)))

    def step_seconds(self) -> tuple[float, float]:
        """(CPU, wall) seconds of one step, a mean over `steps`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(f"{self.steps}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # what it died of is said below
        for line in self.process.stdout:  # a library may print too
            if line.startswith("took "):
                _, cpu, wall = line.split()
                return float(cpu) / self.steps, float(wall) / self.steps
        error = self.process.stderr.read() if self.process.stderr else ""
        raise RuntimeError(f"a contestant of the benchmark ended: {error.strip()[-500:]}")

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def installed(peer: str) -> bool:
    """Whether a peer can be had: transformers and accelerate are of the bench extra."""
    needs = {"hf": ["transformers"], "trainer": ["transformers", "accelerate"]}.get(peer, [])
    return all(importlib.util.find_spec(name) for name in needs)


def measure(case: Case, dtype: str, rounds: int = ROUNDS) -> dict[str, tuple[list[float], list[float]]]:
    """Contestant -> CPU and wall seconds of a step, one of each a round, taken in turn."""
    names = ["ours", *(peer for peer in case.targets if installed(peer))]
    contestants = {name: Contestant(name, case, dtype) for name in names}
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in names}
    try:
        for _ in range(rounds):
            for name, contestant in contestants.items():
                for kept, seconds in zip(times[name], contestant.step_seconds(), strict=True):
                    kept.append(seconds)
    finally:
        for contestant in contestants.values():
            contestant.close()
    return times


def rows(cases: list[Case] | None = None, rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """One row per case and peer, and one per case beside the floor: the time of its products at the peak's speed."""
    from algoprogress.pipeline.output import note
    from algoprogress.pipeline.policy import best_dtype, choose

    dtype = best_dtype()
    peak = choose("cpu", "float32").peak or float("nan")
    found: list[dict[str, Any]] = []
    for case in CASES if cases is None else cases:
        times = measure(case, dtype, rounds)
        mine, my_wall = (statistics.median(each) for each in times["ours"])
        for peer, targets in case.targets.items():
            if peer not in times:
                note(f"{SAID[peer]} is left out: pip install 'algoprogress[bench]'")
                continue
            ratios = sorted(b / a for a, b in zip(times["ours"][0], times[peer][0], strict=True))
            theirs, their_wall = (statistics.median(each) for each in times[peer])
            target = targets[dtype == "bfloat16"]
            found.append(
                {
                    "case": f"{case}, {dtype}; {SAID[peer]}",
                    "ours": 1e3 * mine,
                    "peer": 1e3 * theirs,
                    "ratio": theirs / mine,
                    "unit": "CPU ms/step",
                    "target": target,
                    "holds": theirs / mine >= target,
                    "ratio_low": ratios[0],
                    "ratio_high": ratios[-1],
                    "wall_ratio": their_wall / my_wall,
                }
            )
        floor = case.spec(1).compute / peak
        found.append(
            {
                "case": f"{case}, {dtype}; the floor: its FLOP at the speed of a float32 product",
                "ours": 1e3 * mine,
                "peer": 1e3 * floor,
                "ratio": floor / mine,
                "unit": "CPU ms/step",
                "target": case.floor if dtype == "bfloat16" else None,
                "holds": floor / mine >= case.floor if case.floor and dtype == "bfloat16" else None,
            }
        )
    return found


def serve(name: str, case: str, dtype: str) -> None:
    """A contestant's life: a number of steps in, CPU and wall seconds out."""
    run = CONTESTANTS[name](Case(**json.loads(case)), dtype)
    for line in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        run(int(line))
        print("took", time.process_time() - cpu, time.perf_counter() - wall, flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
