"""train(spec) -> record and curve: one training from initial weights to validated loss. No Ray, no store.

Shapes: B sequences, T context, V vocabulary.
"""

from __future__ import annotations

import math
import resource
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from algoprogress.ablations import ops
from algoprogress.ablations.accounting import flop_per_token
from algoprogress.ablations.spec import RunSpec
from algoprogress.pipeline import checkpoint
from algoprogress.pipeline.batches import Batches, starts
from algoprogress.pipeline.data import Tokens
from algoprogress.pipeline.evaluation import Validation, validate
from algoprogress.pipeline.policy import Policy
from algoprogress.results import StoreError

STRETCH = 16  # steps between two readings of the device: a loss is looked at late, but always in order
CURVE_ROWS = 60  # log-spaced, so that a curve of any length has the same size
DIVERGED = 1.0  # nats/token above the first loss, after warm-up


@dataclass(frozen=True)
class Run:
    """What a training leaves: a JSON-able record, and its curve as rows."""

    record: dict[str, Any]
    curve: pd.DataFrame


def log_spaced(steps: int, n: int) -> set[int]:
    """About n step counts from 1 to `steps`, evenly spaced in log, both ends among them."""
    return {int(s) for s in np.unique(np.geomspace(1, steps, n).round())} | {steps}


def train(
    spec: RunSpec,
    tokens: Tokens,
    *,
    device: str = "cpu",
    n_threads: int = 1,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
    checkpoint_path: Path | None = None,
    checkpoint_seconds: float = 600.0,
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
        checkpoint_path: where an unfinished run is kept; read when it exists, removed at the end.
        checkpoint_seconds: between two checkpoints.
        policy: how it is computed, which decides the last bits; by default in torch's own ways.

    Raises:
        ValueError: the corpus is too small, or has another vocabulary than the spec says.
    """
    policy = policy or Policy()
    with policy.active():
        run = _train(spec, tokens, device, n_threads, on_progress, checkpoint_path, checkpoint_seconds, policy)
    return Run(run.record | policy.facts(run.record["flop_per_second"]), run.curve)


def _train(
    spec: RunSpec,
    tokens: Tokens,
    device: str,
    n_threads: int,
    on_progress: Callable[[dict[str, Any]], None] | None,
    checkpoint_path: Path | None,
    checkpoint_seconds: float,
    policy: Policy,
) -> Run:
    if tokens.vocab_size != spec.data.vocab_size:
        raise ValueError(f"the tokens have a vocabulary of {tokens.vocab_size}, the spec says {spec.data.vocab_size}")
    torch.set_num_threads(n_threads)
    torch.set_default_dtype(torch.float32)
    where = torch.device(device)
    T, V, S = spec.data.context, spec.data.vocab_size, spec.steps

    model, optimizer = build(spec, where)

    batches = Batches(tokens.train, starts(spec, len(tokens.train)), T, where)
    per_token = flop_per_token(spec.architecture, V, T)
    rows_at, validations_at = log_spaced(S, CURVE_ROWS), log_spaced(S, spec.evaluation.times)
    if spec.evaluation.times == 1:
        validations_at = {S}

    step, state, seconds_before = 0, None, 0.0
    rows: list[dict[str, Any]] = []
    initial_loss = last_finite = math.nan
    stretch_sum, stretch_n = 0.0, 0  # since the last row of the curve
    if checkpoint_path is not None and checkpoint_path.exists():
        try:
            state, kept = checkpoint.read(checkpoint_path, model, optimizer, where)
            step, rows, seconds_before = kept["step"], kept["rows"], kept["seconds"]
            initial_loss, last_finite = kept["initial_loss"], kept["last_finite"]
            stretch_sum, stretch_n = kept["stretch_sum"], kept["stretch_n"]
        except Exception as error:  # whatever is wrong with it, the run can begin again
            warnings.warn(f"{checkpoint_path} cannot be read ({error}): {spec.run_id} begins again", stacklevel=2)
            model, optimizer = build(spec, where)
            state, step, rows, seconds_before = None, 0, [], 0.0

    compiled = compile_model(model, where) if policy.torch_compile else model
    begun = time.perf_counter()
    resumed_at, reported, saved = step, begun, begun
    diverged = False
    validation: Validation | None = None
    pending: list[tuple[int, Tensor, Tensor, float, float]] = []
    while step < S and not diverged:
        rate = spec.learning_rate * spec.schedule.factor(step, S)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = batches[step]
        loss, new_state = loss_of(compiled, batch[:, :-1], batch[:, 1:], state, spec.dtype)
        loss.backward()
        norm = clip(model, spec.clip)
        optimizer.step()
        optimizer.zero_grad()
        if spec.reparameterization is not None:
            spec.reparameterization.after_step(model, optimizer, step)
        state = None if new_state is None else tuple(s.detach() for s in new_state)
        step += 1
        pending.append((step, loss.detach(), norm.detach(), rate, time.perf_counter() - begun + seconds_before))

        if not (len(pending) == STRETCH or step in validations_at or step == S):
            continue
        losses = torch.stack([p[1] for p in pending]).tolist()
        norms = torch.stack([p[2] for p in pending]).tolist()
        for (at, _, _, rate_at, seconds), loss_at, norm_at in zip(pending, losses, norms, strict=True):
            initial_loss = loss_at if at == 1 else initial_loss
            warm = at > spec.schedule.warmup_steps(S)
            diverged = not math.isfinite(loss_at) or (warm and loss_at > initial_loss + DIVERGED)
            if math.isfinite(loss_at):
                last_finite = loss_at
                stretch_sum, stretch_n = stretch_sum + loss_at, stretch_n + 1
            if at in rows_at or diverged:
                rows.append(
                    {
                        "step": at,
                        "tokens": at * spec.batch_tokens,
                        "compute": at * spec.batch_tokens * per_token,
                        "loss": stretch_sum / stretch_n if stretch_n else loss_at,
                        "val_loss": math.nan,
                        "val_loss_se": math.nan,
                        "learning_rate": rate_at,
                        "grad_norm": norm_at,
                        "wall_seconds": seconds,
                    }
                )
                stretch_sum, stretch_n = 0.0, 0
            if diverged:
                step = at
                break
        pending.clear()
        if step in validations_at and not diverged:
            validation = validate(model, tokens, spec, where)
            rows[-1] |= {"val_loss": validation.loss, "val_loss_se": validation.loss_se}
            diverged = not math.isfinite(validation.loss)

        now = time.perf_counter()
        if on_progress is not None and (now - reported > 1.0 or step == S):
            reported = now
            speed = (step - resumed_at) * spec.batch_tokens / (now - begun)
            on_progress(
                {
                    "step": step,
                    "steps": S,
                    "tokens": step * spec.batch_tokens,
                    "loss": losses[-1],
                    "tokens_per_second": speed,
                }
            )
        if checkpoint_path is not None and now - saved > checkpoint_seconds and step < S and not diverged:
            progress = {
                "step": step,
                "rows": rows,
                "seconds": now - begun + seconds_before,
                "initial_loss": initial_loss,
                "last_finite": last_finite,
                "stretch_sum": stretch_sum,
                "stretch_n": stretch_n,
            }
            try:
                checkpoint.write(checkpoint_path, model, optimizer, state, progress)
            except StoreError as error:
                warnings.warn(f"{error} {spec.run_id} goes on without checkpoints.", stacklevel=2)
                checkpoint_path = None
            saved = time.perf_counter()

    wall = time.perf_counter() - begun + seconds_before
    trained = step * spec.batch_tokens
    record: dict[str, Any] = {
        "run_id": spec.run_id,
        "configuration_id": spec.configuration_id,
        "spec": spec.model_dump(mode="json"),
        "status": "diverged" if diverged else "done",
        "loss": last_finite if diverged or validation is None else validation.loss,
        "loss_se": math.nan if diverged or validation is None else validation.loss_se,
        "bits_per_byte": math.nan if diverged or validation is None else validation.bits_per_byte,
        "train_loss": rows[-1]["loss"],
        "initial_loss": initial_loss,
        "n_params": spec.n_params,
        "n_params_total": spec.n_params_total,
        "tokens": trained,
        "steps": step,
        "compute": per_token * trained,
        "compute_6n": flop_per_token(spec.architecture, V, T, "6n") * trained,
        "compute_6n_total": flop_per_token(spec.architecture, V, T, "6n_total") * trained,
        "epochs_seen": tokens.epochs(trained),
        "corpus": tokens.corpus,
        "corpus_sha256": tokens.corpus_sha256,
        "tokenizer": tokens.tokenizer,
        "tokenizer_sha256": tokens.tokenizer_sha256,
        "val_tokens": 0 if validation is None else validation.tokens,
        "wall_seconds": wall,
        "tokens_per_second": trained / wall,
        "flop_per_second": per_token * trained / wall,
        "peak_memory_bytes": peak_memory(where),
        "device": device_name(where),
        "n_threads": n_threads,
    }
    if checkpoint_path is not None:
        checkpoint_path.unlink(missing_ok=True)
    return Run(record, pd.DataFrame(rows))


def loss_of(
    model: nn.Module, x_BT: Tensor, y_BT: Tensor, state: Any, dtype: str
) -> tuple[Tensor, tuple[Tensor, ...] | None]:
    """Mean cross-entropy of a batch, nats/token, and the model's next state; products in `dtype`, the loss in float32
    or more."""
    with torch.autocast(x_BT.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        logits_BTV, state = model(x_BT, state)
    logits_BTV = logits_BTV if dtype == "float64" else logits_BTV.float()
    return ops.cross_entropy(logits_BTV.flatten(0, 1), y_BT.flatten()), state


def clip(model: nn.Module, largest: float | None) -> Tensor:
    """Scale the gradient down to a norm of at most `largest`; the norm that it had, left on the device."""
    return torch.nn.utils.clip_grad_norm_(model.parameters(), math.inf if largest is None else largest)


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


def peak_memory(device: torch.device) -> int:
    """Bytes: of the device's allocator on a GPU, else the process's largest resident set so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kilobytes on Linux


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.backends.cpu.get_cpu_capability()})"
