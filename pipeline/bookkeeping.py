"""What is kept of one run while it trains: its curve, whether it has diverged, and in the end its record.

The same whoever makes the steps, so that a run's record does not tell how it was scheduled.
"""

from __future__ import annotations

import math
import resource
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from algoprogress.ablations.spec import RunSpec
from algoprogress.pipeline.data import Tokens
from algoprogress.pipeline.evaluation import Validation
from algoprogress.pipeline.policy import Policy

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


class Bookkeeping:
    """The losses of one run, in the order of its steps.

    Args:
        spec: the run.
        tokens: the opened corpus.
    """

    def __init__(self, spec: RunSpec, tokens: Tokens) -> None:
        self.spec, self.tokens = spec, tokens
        self.per_token = spec.flop_per_token()
        self.rows_at = log_spaced(spec.steps, CURVE_ROWS)
        times = spec.evaluation.times
        self.validations_at = log_spaced(spec.steps, times) if times > 1 else {spec.steps}
        self.step = 0  # the last whose loss is known
        self.rows: list[dict[str, Any]] = []
        self.initial_loss = self.last_finite = math.nan
        self.stretch_sum, self.stretch_n = 0.0, 0  # since the last row of the curve
        self.diverged = False
        self.validation: Validation | None = None

    def due(self, step: int, unread: int) -> bool:
        """Whether the losses of the last `unread` steps are to be read from the device after `step`."""
        return unread == STRETCH or step in self.validations_at or step == self.spec.steps

    def note(self, step: int, loss: float, grad_norm: float, learning_rate: float, seconds: float) -> None:
        """Take in a step; what comes after a divergence is not looked at.

        A run has diverged when its loss is not finite, or is more than 1 nat/token above its first after warm-up.

        Args:
            step: counted from 1.
            loss: nats/token.
            grad_norm: before clipping.
            learning_rate: of the step.
            seconds: since training began.
        """
        if self.diverged:
            return
        self.step = step
        self.initial_loss = loss if step == 1 else self.initial_loss
        whole = self.spec.tokens // self.spec.batch_tokens
        warm = self.spec.whole_batches(step - 1) >= self.spec.schedule.warmup_steps(whole)
        self.diverged = not math.isfinite(loss) or (warm and loss > self.initial_loss + DIVERGED)
        if math.isfinite(loss):
            self.last_finite = loss
            self.stretch_sum, self.stretch_n = self.stretch_sum + loss, self.stretch_n + 1
        if step in self.rows_at or self.diverged:
            self.rows.append(
                {
                    "step": step,
                    "tokens": self.spec.tokens_after(step),
                    "compute": self.spec.tokens_after(step) * self.per_token,
                    "loss": self.stretch_sum / self.stretch_n if self.stretch_n else loss,
                    "val_loss": math.nan,
                    "val_loss_se": math.nan,
                    "learning_rate": learning_rate,
                    "grad_norm": grad_norm,
                    "wall_seconds": seconds,
                }
            )
            self.stretch_sum, self.stretch_n = 0.0, 0

    def validated(self, validation: Validation) -> None:
        """Take in the validation after the last noted step."""
        self.validation = validation
        self.rows[-1] |= {"val_loss": validation.loss, "val_loss_se": validation.loss_se}
        self.diverged = not math.isfinite(validation.loss)

    @property
    def wants_validation(self) -> bool:
        return self.step in self.validations_at and not self.diverged

    @property
    def over(self) -> bool:
        return self.diverged or self.step == self.spec.steps

    def kept(self, seconds: float) -> dict[str, Any]:
        """What a checkpoint keeps, JSON-able; `seconds` since training began."""
        return {
            "step": self.step,
            "rows": self.rows,
            "seconds": seconds,
            "initial_loss": self.initial_loss,
            "last_finite": self.last_finite,
            "stretch_sum": self.stretch_sum,
            "stretch_n": self.stretch_n,
        }

    def resume(self, kept: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        self.step, self.rows = kept["step"], kept["rows"]
        self.initial_loss, self.last_finite = kept["initial_loss"], kept["last_finite"]
        self.stretch_sum, self.stretch_n = kept["stretch_sum"], kept["stretch_n"]

    def beat(self, loss: float, tokens_per_second: float) -> dict[str, Any]:
        """What a heartbeat says."""
        return {
            "step": self.step,
            "steps": self.spec.steps,
            "tokens": self.spec.tokens_after(self.step),
            "loss": loss,
            "tokens_per_second": tokens_per_second,
        }

    def finish(self, wall_seconds: float, device: torch.device, n_threads: int, policy: Policy) -> Run:
        """The run, at its end.

        Args:
            wall_seconds: of training and evaluation.
            device: where it was trained.
            n_threads: intra-op threads.
            policy: how it was computed.
        """
        spec, tokens = self.spec, self.tokens
        validation = None if self.diverged else self.validation
        trained = spec.tokens_after(self.step)
        speed = self.per_token * trained / wall_seconds
        record: dict[str, Any] = {
            "run_id": spec.run_id,
            "configuration_id": spec.configuration_id,
            "spec": spec.model_dump(mode="json"),
            "status": "diverged" if self.diverged else "done",
            "loss": self.last_finite if validation is None else validation.loss,
            "loss_se": math.nan if validation is None else validation.loss_se,
            "bits_per_byte": math.nan if validation is None else validation.bits_per_byte,
            "train_loss": self.rows[-1]["loss"],
            "initial_loss": self.initial_loss,
            "n_params": spec.n_params,
            "n_params_total": spec.n_params_total,
            "tokens": trained,
            "steps": self.step,
            "compute": self.per_token * trained,
            "compute_6n": spec.flop_per_token("6n") * trained,
            "compute_6n_total": spec.flop_per_token("6n_total") * trained,
            "epochs_seen": tokens.epochs(trained),
            "corpus": tokens.corpus,
            "corpus_sha256": tokens.corpus_sha256,
            "tokenizer": tokens.tokenizer,
            "tokenizer_sha256": tokens.tokenizer_sha256,
            "val_tokens": 0 if self.validation is None else self.validation.tokens,
            "wall_seconds": wall_seconds,
            "tokens_per_second": trained / wall_seconds,
            "flop_per_second": speed,
            **policy.facts(speed),
            "peak_memory_bytes": peak_memory(device),
            "device": device_name(device),
            "n_threads": n_threads,
        }
        return Run(record, pd.DataFrame(self.rows))


def peak_memory(device: torch.device) -> int:
    """Bytes: of the device's allocator on a GPU, else the process's largest resident set so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kilobytes on Linux


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.backends.cpu.get_cpu_capability()})"
