"""Whose curvature is measured: a stored run or an architecture's preset, at which steps, and on which tokens."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algoprogress.ablations import ops
from algoprogress.ablations.architectures import ArchitectureConfig, architectures
from algoprogress.ablations.optimizers import optimizers
from algoprogress.ablations.schedules import Constant
from algoprogress.ablations.spec import Data, RunSpec
from algoprogress.analysis.curvature.problem import Problem
from algoprogress.pipeline import provenance
from algoprogress.pipeline.curvature.updates import middle_rate
from algoprogress.pipeline.objectives import n_windows, validation
from algoprogress.results.record import is_run_id

if TYPE_CHECKING:
    from algoprogress.pipeline.data import Tokens
    from algoprogress.results import Store

Dtype = Literal["float32", "float64"]
BatchNorm = Literal["eval", "train"]
IMAGES = "digits"  # that a preset reads where it reads images
CONTEXT = 128  # of a preset that reads text: the default of a run
STEP_IMAGES = 32  # of a step of training a preset: 2,048 values of digits, the tokens of a step of text


def presets() -> dict[str, ArchitectureConfig]:
    """Name -> architecture: each registered one with its defaults, and each of their presets."""
    found = {}
    for name in architectures:
        kind = architectures[name]
        found[name] = kind.model_validate({})
        found |= {preset: kind.preset(preset) for preset in getattr(kind, "presets", {})}
    return found


def spec_of(
    target: str,
    store: Store,
    steps: int,
    along: str,
    seed: int,
    corpus: str | None = None,
    tokenizer: str | None = None,
    context: int | None = None,
) -> RunSpec:
    """The spec of a stored run, or one that trains a preset with its default sizes.

    Args:
        target: a run_id, an architecture or a preset.
        store: has the run.
        steps: that a preset has to be trained for.
        along: the optimizer that a preset is trained with, at the middle one of the rates that it is tuned over.
        seed: of a preset.
        corpus: of a preset; by default the corpus that studies have, or digits for a model of images.
        tokenizer, context: of a preset that reads text; by default bytes, and as many as a run has by default.

    Raises:
        ValueError: no such run, architecture or optimizer; or the corpus is not what the architecture reads.
    """
    from algoprogress.results.store import UnknownRun

    if is_run_id(target):
        try:
            return RunSpec.model_validate(store.record(target)["spec"])
        except UnknownRun as error:
            raise ValueError(str(error)) from None
    known = presets()
    if target not in known:
        raise ValueError(f"{target!r} is neither a run_id of 20 hex digits nor one of {', '.join(known)}")
    optimizer = optimizers[along].model_validate({})
    data, batch_tokens = _data(known[target], corpus, tokenizer or "bytes", context or CONTEXT)
    return RunSpec(
        architecture=known[target],
        tokens=max(steps, 1) * batch_tokens,
        learning_rate=middle_rate(optimizer),
        optimizer=optimizer,
        schedule=Constant(),
        data=data,
        batch_tokens=batch_tokens,
        seed=seed,
    )


def _data(architecture: ArchitectureConfig, corpus: str | None, tokenizer: str, context: int) -> tuple[Data, int]:
    """What a preset reads, and the tokens of a step."""
    from algoprogress.pipeline.corpora.store import image_facts
    from algoprogress.pipeline.data import default_corpus, resolve

    images = architecture.objective == "class"
    found = resolve(corpus or (IMAGES if images else default_corpus()))
    corpus_is = {"corpus": found.name, "corpus_sha256": found.sha256}
    if not images:
        default = RunSpec.model_fields["batch_tokens"].default
        return Data(**corpus_is, tokenizer=tokenizer, context=context), -(-default // context) * context
    n_classes, values = image_facts(found.name, found.sha256)
    return Data(**corpus_is, tokenizer=f"pixels-{n_classes}", context=values), STEP_IMAGES * values


def doubts(spec: RunSpec, store: Store) -> list[str]:
    """Why the weights that are trained again may not be those of the stored run, one sentence each.

    The store keeps losses and no weights: a run is trained again, on a CPU and with the libraries that are here.
    """
    if not store.has(spec.run_id):
        return []
    record = store.record(spec.run_id)
    here = {"device": "cpu", **provenance.machine()}
    found = []
    for name, what in (("device", "on {}"), ("torch_version", "with torch {}")):
        there = str(record.get(name))
        if record.get(name) and not there.startswith(str(here[name])):
            found.append(
                f"run {spec.run_id} was trained {what.format(there)} and is trained again {what.format(here[name])}: "
                "its weights are the same but for rounding, which grows with the steps"
            )
    return found


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
    """The first windows of the validation split, the same for every model: (read, to be predicted), each (B, T), or
    (B, T) and (B, 1) of images.

    Raises:
        ValueError: the split is too short, or a batch has no whole context.
    """
    T = spec.data.context
    B = batch_tokens // T
    if B < 1 or n_batches < 1:
        raise ValueError(
            f"{n_batches} batches of {batch_tokens} tokens: take at least one, of at least one context of {T} tokens"
        )
    n, has = n_batches * B, n_windows(spec, len(tokens.val))
    if n > has:
        raise ValueError(f"{n * T:,} tokens are wanted, and the validation split has {has * T:,}: take fewer")
    of = validation(spec, tokens.val, n)
    return list(zip(of.x_NT.split(B), of.y_NM.split(B), strict=True))


def problem_of(
    model: nn.Module, batches: list[tuple[Tensor, Tensor]], dtype: Dtype, batch_norm: BatchNorm = "eval"
) -> tuple[nn.Module, Problem]:
    """A copy of the model as it is measured, and the loss of it: no dropout, operations that have two derivatives.

    A recurrent model begins each context with a state of zeros.

    Args:
        model: maps (read, state) to (logits, state).
        batches: see `batches_of`.
        dtype: of the copy.
        batch_norm: with the running statistics, so that images are independent, or with those of each batch, as in
            training, of which the derivatives are then a part.
    """
    copied = copy.deepcopy(model).to(torch.float64 if dtype == "float64" else torch.float32)
    copied.eval()
    for module in copied.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train(batch_norm == "train")

    def outputs(batch: Any) -> Tensor:
        with ops.math_attention():
            logits: Tensor = copied(batch[0], None)[0]
            return logits.flatten(0, 1)

    def loss(logits_NV: Tensor, batch: Any) -> Tensor:
        return F.cross_entropy(logits_NV, batch[1].flatten(), ignore_index=ops.UNSCORED)

    return copied, Problem(batches, outputs, loss)
