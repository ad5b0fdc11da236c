"""train(spec) -> record and curve: one training from initial weights to validated loss. No Ray, no store.

Shapes: B sequences, T context.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from algoprogress.ablations.spec import RunSpec
from algoprogress.pipeline import checkpoint
from algoprogress.pipeline.batches import Batches, carried, starts
from algoprogress.pipeline.bookkeeping import Bookkeeping, Run
from algoprogress.pipeline.data import Tokens
from algoprogress.pipeline.evaluation import validate
from algoprogress.pipeline.gradient import State, backward, clip
from algoprogress.pipeline.objectives import check, examples
from algoprogress.pipeline.policy import Policy, lstm_in_bfloat16
from algoprogress.results import StoreError


def train(
    spec: RunSpec,
    tokens: Tokens,
    *,
    device: str = "cpu",
    n_threads: int = 1,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
    checkpoint_path: str | Path | None = None,
    checkpoint_seconds: float = 600.0,
    micro_batches: int = 1,
    policy: Policy | None = None,
) -> Run:
    """Train one model and validate it; a function of (spec, tokens, device, n_threads, policy) and of nothing else.

    A loss that is not finite, or more than 1 nat/token above the first after warm-up, ends the run: its status is
    "diverged" and its loss the last finite training loss. That is a result and not an error.

    Args:
        spec: the run.
        tokens: the opened corpus.
        device: a torch device.
        n_threads: intra-op threads; other numbers give other last bits.
        on_progress: called about once a second with step, steps, tokens, loss, tokens_per_second.
        checkpoint_path: file or URL where an unfinished run is kept; read when it exists. Who publishes the run removes
            it, so that a result that could not be published is not lost.
        checkpoint_seconds: between two checkpoints.
        micro_batches: parts that each batch is split into, to fit in memory; other numbers give other last bits.
        policy: how it is computed, which decides the last bits; by default in torch's own ways.

    Raises:
        ValueError: the corpus is too small, or has another vocabulary than the spec says.
    """
    policy = policy or Policy()
    with policy.active():
        return _train(
            spec,
            tokens,
            device,
            n_threads,
            on_progress,
            checkpoint_path,
            checkpoint_seconds,
            micro_batches,
            policy,
        )


def _train(
    spec: RunSpec,
    tokens: Tokens,
    device: str,
    n_threads: int,
    on_progress: Callable[[dict[str, Any]], None] | None,
    checkpoint_path: str | Path | None,
    checkpoint_seconds: float,
    micro_batches: int,
    policy: Policy,
) -> Run:
    check(spec, tokens)
    if spec.dtype == "bfloat16" and spec.architecture.name == "lstm" and device == "cpu" and not lstm_in_bfloat16():
        raise ValueError("torch has no LSTM in bfloat16 for this processor: give these runs dtype float32 or auto")
    torch.set_num_threads(n_threads)
    torch.set_default_dtype(torch.float32)
    where = torch.device(device)
    S = spec.steps
    model, optimizer = build(spec, where)

    batches = Batches(tokens.train, starts(spec, len(tokens.train)), spec.data.context, where)
    book = Bookkeeping(spec, tokens)
    step, seconds_before = 0, 0.0
    state: State = None
    if checkpoint_path is not None and checkpoint.exists(checkpoint_path):
        try:
            state, kept = checkpoint.read(checkpoint_path, model, optimizer, where)
            book.resume(kept)
            step, seconds_before = kept["step"], kept["seconds"]
        except Exception as error:  # whatever is wrong with it, the run can begin again
            warnings.warn(f"{checkpoint_path} cannot be read ({error}): {spec.run_id} begins again", stacklevel=2)
            model, optimizer = build(spec, where)
            book = Bookkeeping(spec, tokens)
            step, state, seconds_before = 0, None, 0.0

    compiled = compile_model(model, where) if policy.torch_compile else model
    begun = time.perf_counter()
    resumed_at, reported, saved = step, begun, begun
    unread: list[tuple[int, Tensor, Tensor, float, float]] = []
    while not book.over:
        rate = spec.learning_rate_at(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = batches[step]
        x, y = examples(spec, batch, step)
        state, parts = carried(state, batch), min(micro_batches, len(batch))
        loss, state = backward(compiled, x, y, state, spec.dtype, parts)
        factor = 1.0 if spec.reparameterization is None else spec.reparameterization.clip_factor(step)
        norm = clip(model, None if spec.clip is None else spec.clip * factor)
        optimizer.step()
        optimizer.zero_grad()
        if spec.reparameterization is not None:
            spec.reparameterization.after_step(model, optimizer, step)
        step += 1
        unread.append((step, loss, norm.detach(), rate, time.perf_counter() - begun + seconds_before))

        if not book.due(step, len(unread)):
            continue
        losses = torch.stack([u[1] for u in unread]).tolist()
        norms = torch.stack([u[2] for u in unread]).tolist()
        for (at, _, _, rate_at, seconds), loss_at, norm_at in zip(unread, losses, norms, strict=True):
            book.note(at, loss_at, norm_at, rate_at, seconds)
        unread.clear()
        if book.wants_validation:
            book.validated(validate(model, tokens, spec, where))

        now = time.perf_counter()
        if on_progress is not None and (now - reported > 1.0 or book.step == S):
            reported = now
            trained = spec.tokens_after(book.step) - spec.tokens_after(resumed_at)
            on_progress(book.beat(losses[-1], trained / (now - begun)))
        if checkpoint_path is not None and now - saved > checkpoint_seconds and not book.over:
            try:
                checkpoint.write(checkpoint_path, model, optimizer, state, book.kept(now - begun + seconds_before))
            except StoreError as error:
                warnings.warn(f"{error} {spec.run_id} goes on without checkpoints.", stacklevel=2)
                checkpoint_path = None
            saved = time.perf_counter()

    return book.finish(time.perf_counter() - begun + seconds_before, where, n_threads, policy)


def compile_model(model: nn.Module, device: torch.device) -> nn.Module:
    """The model through torch.compile, for batches of one shape; on a GPU its launches are replayed as one graph."""
    import torch._dynamo

    torch._dynamo.config.recompile_limit = 256  # a worker of many shapes would go back to uncompiled code after 8
    mode = "reduce-overhead" if device.type == "cuda" else None
    return torch.compile(model, dynamic=False, mode=mode)  # type: ignore[return-value]


def build(spec: RunSpec, device: torch.device) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model with the spec's initial weights, and its optimizer."""
    torch.manual_seed(spec.seed)
    model = spec.architecture.build(spec.data.vocab_size, spec.data.context)
    if spec.reparameterization is not None:
        spec.reparameterization.apply(model)
    model = (model.double() if spec.dtype == "float64" else model).to(device)
    model.train()
    return model, spec.optimizer.build(model, spec.learning_rate)
