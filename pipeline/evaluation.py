"""Validation: the same tokens or images for every run, each scored once, with the standard error over documents.

Shapes: B windows, T context, M targets of a window, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from algoprogress.ablations.ops import UNSCORED
from algoprogress.ablations.spec import RunSpec
from algoprogress.pipeline.objectives import Scored, n_windows, validation

WINDOWS = 32  # evaluated at once: 4,096 tokens at the default context keep the logits in cache


@dataclass(frozen=True)
class Validation:
    """Loss in nats for each of `tokens` predictions, its standard error over documents, and bits per byte of text.

    Bits per byte are NaN where not every token is predicted from those before it.
    """

    loss: float
    loss_se: float
    bits_per_byte: float
    tokens: int


def scored(tokens: NDArray[Any], spec: RunSpec) -> Scored:
    """What the run is validated on: as many whole windows of the split as `evaluation.tokens` are.

    Raises:
        ValueError: the split has not one.
    """
    T = spec.data.context
    n = min(spec.evaluation.tokens // T, n_windows(spec, len(tokens)))
    if n < 1:
        raise ValueError(
            f"the validation split has {len(tokens):,} tokens, and {spec.evaluation.tokens:,} are wanted, of which one "
            f"is less than one context of {T}: use a larger corpus or more evaluation.tokens"
        )
    return validation(spec, tokens, n)


@torch.no_grad()
def token_losses(model: nn.Module, of: Scored, spec: RunSpec, device: torch.device) -> NDArray[np.float64]:
    """Loss of each target that counts, nats, in order: of text tokens 1, 2, ... up to a whole number of contexts.

    With `evaluation.state` "carry" the split is read as 32 contiguous streams, whose state starts at zero and is kept;
    otherwise every context starts from nothing.
    """
    n = len(of.x_NT)
    out = torch.empty(of.y_NM.shape, dtype=torch.float64)
    carry = spec.evaluation.state == "carry"
    # windows that are scored together: consecutive ones, or the next one of each stream
    if carry:
        lanes = torch.arange(n).tensor_split(min(WINDOWS, n))
        groups = [torch.stack([lane[i] for lane in lanes if i < len(lane)]) for i in range(len(lanes[0]))]
    else:
        groups = list(torch.arange(n).split(WINDOWS))
    model.eval()
    state = None
    for rows in groups:
        if state is not None and len(rows) < state[0].shape[1]:
            state = tuple(s[:, : len(rows)].contiguous() for s in state)  # the shorter streams, at the end, have ended
        with torch.autocast(device.type, torch.bfloat16, enabled=spec.dtype == "bfloat16"):
            logits_BMV, state = model(of.x_NT[rows].to(device), state if carry else None)
        losses = F.cross_entropy(
            (logits_BMV if spec.dtype == "float64" else logits_BMV.float()).flatten(0, 1),
            of.y_NM[rows].to(device).flatten(),
            reduction="none",
            ignore_index=UNSCORED,
        )
        out[rows] = losses.double().cpu().view(len(rows), -1)
    model.train()
    return out[of.y_NM != UNSCORED].numpy()


def validate(model: nn.Module, tokens: Any, spec: RunSpec, device: torch.device) -> Validation:
    """Mean loss over the validation tokens, or images.

    The standard error is that of a ratio over documents (nats of a document / its tokens), documents taken as drawn
    independently: Cochran 1977, section 2.11. An image is a document.

    Args:
        model: maps (tokens_BT, state) to (logits_BTV, state).
        tokens: the opened corpus.
        spec: the run.
        device: where the model is.
    """
    of = scored(tokens.val, spec)
    losses = token_losses(model, of, spec, device)
    n = len(losses)
    places = of.place_NM[of.y_NM != UNSCORED].numpy()
    document = np.searchsorted(tokens.val_documents, places, side="right") - 1
    nats = np.bincount(document, weights=losses)
    count = np.bincount(document)
    nats, count = nats[count > 0], count[count > 0]
    loss = float(losses.mean())
    k = len(count)
    se = math.sqrt(float(((nats - loss * count) ** 2).sum()) * k / (k - 1)) / n if k > 1 else math.nan
    causal = spec.architecture.objective == "next token"
    n_bytes = tokens.bytes_in("val", n + 1) - tokens.bytes_in("val", 1) if causal else 0
    return Validation(loss, se, float(losses.sum()) / (math.log(2) * n_bytes) if n_bytes else math.nan, n)
