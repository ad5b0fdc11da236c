"""Whose curvature is measured: a stored run or an architecture's preset, at which steps, and on which tokens."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algoprogress.ablations import ops
from algoprogress.ablations.architectures import ArchitectureConfig, architectures
from algoprogress.ablations.optimizers import optimizers
from algoprogress.ablations.schedules import Constant
from algoprogress.ablations.spec import Data, RunSpec
from algoprogress.analysis.curvature.problem import Problem
from algoprogress.pipeline.curvature.updates import middle_rate
from algoprogress.results.record import is_run_id

if TYPE_CHECKING:
    from algoprogress.pipeline.data import Tokens
    from algoprogress.results import Store

Dtype = Literal["float32", "float64"]
CONTEXT = 128  # of a preset: the default of a run


def presets() -> dict[str, ArchitectureConfig]:
    """Name -> architecture: each registered one with its defaults, and each of their presets."""
    found = {}
    for name in architectures:
        kind = architectures[name]
        found[name] = kind.model_validate({})
        found |= {preset: kind.preset(preset) for preset in getattr(kind, "presets", {})}
    return found


def spec_of(target: str, store: Store, steps: int, along: str, seed: int, corpus: str | None = None) -> RunSpec:
    """The spec of a stored run, or one that trains a preset with its default sizes.

    Args:
        target: a run_id, an architecture or a preset.
        store: has the run.
        steps: that a preset has to be trained for.
        along: the optimizer that a preset is trained with, at the middle one of the rates that it is tuned over.
        seed: of a preset.
        corpus: of a preset; by default the corpus that studies have.

    Raises:
        ValueError: no such run, architecture or optimizer.
    """
    from algoprogress.pipeline.data import default_corpus, resolve
    from algoprogress.results.store import UnknownRun

    if is_run_id(target):
        try:
            return RunSpec.model_validate(store.record(target)["spec"])
        except UnknownRun as error:
            raise ValueError(str(error)) from None
    known = presets()
    if target not in known:
        raise ValueError(f"{target!r} is neither a run_id of 20 hex digits nor one of {', '.join(known)}")
    found = resolve(corpus or default_corpus())
    optimizer = optimizers[along].model_validate({})
    batch_tokens = RunSpec.model_fields["batch_tokens"].default
    return RunSpec(
        architecture=known[target],
        tokens=max(steps, 1) * batch_tokens,
        learning_rate=middle_rate(optimizer),
        optimizer=optimizer,
        schedule=Constant(),
        data=Data(corpus=found.name, corpus_sha256=found.sha256, context=CONTEXT),
        batch_tokens=batch_tokens,
        seed=seed,
    )


def steps_of(at: str) -> list[str | int]:
    """`init,100,final` as [0, 100, "final"].

    Raises:
        ValueError: a part that is neither a step, init nor final.
    """
    found: list[str | int] = []
    for part in at.split(","):
        word = part.strip()
        if word not in ("init", "final") and not word.isdecimal():
            raise ValueError(f"--at takes init, final, or steps such as 100, with commas between; not {word!r}")
        found.append(0 if word == "init" else word if word == "final" else int(word))
    return found


def batches_of(spec: RunSpec, tokens: Tokens, n_batches: int, batch_tokens: int) -> list[tuple[Tensor, Tensor]]:
    """The first tokens of the validation split, the same for every model: (read, to be predicted), each (B, T).

    Raises:
        ValueError: the split is too short, or a batch has no whole context.
    """
    T = spec.data.context
    B = batch_tokens // T
    if B < 1 or n_batches < 1:
        raise ValueError(
            f"{n_batches} batches of {batch_tokens} tokens: take at least one, of at least one context of {T} tokens"
        )
    n = n_batches * B * T
    if n + 1 > len(tokens.val):
        raise ValueError(f"{n:,} tokens are wanted, and the validation split has {len(tokens.val):,}: take fewer")
    stream = torch.from_numpy(np.asarray(tokens.val[: n + 1]).astype(np.int64))
    shape = (n_batches, B, T)
    return list(zip(stream[:-1].view(shape), stream[1:].view(shape), strict=True))


def problem_of(model: nn.Module, batches: list[tuple[Tensor, Tensor]], dtype: Dtype) -> tuple[nn.Module, Problem]:
    """A copy of the model as it is measured, and the loss of it: no dropout, operations that have two derivatives.

    A recurrent model begins each context with a state of zeros.
    """
    copied = copy.deepcopy(model).to(torch.float64 if dtype == "float64" else torch.float32)
    copied.eval()

    def outputs(batch: Any) -> Tensor:
        with ops.math_attention():
            logits_BTV: Tensor = copied(batch[0], None)[0]
            return logits_BTV.flatten(0, 1)

    def loss(logits_NV: Tensor, batch: Any) -> Tensor:
        return F.cross_entropy(logits_NV, batch[1].flatten())

    return copied, Problem(batches, outputs, loss)
