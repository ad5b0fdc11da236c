"""Validation: the same tokens for every run, each scored once, with the standard error over documents.

Shapes: B windows, T context, V vocabulary.
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

from algoprogress.ablations.spec import RunSpec

WINDOWS = 32  # evaluated at once: 4,096 tokens at the default context keep the logits in cache


@dataclass(frozen=True)
class Validation:
    """Loss in nats/token, its standard error over documents, and bits per byte of text."""

    loss: float
    loss_se: float
    bits_per_byte: float
    tokens: int


@torch.no_grad()
def token_losses(model: nn.Module, tokens: NDArray[Any], spec: RunSpec, device: torch.device) -> NDArray[np.float64]:
    """Loss of each predicted token, nats, in order: of tokens 1, 2, ... up to a whole number of contexts.

    With `evaluation.state` "carry" the split is read as 32 contiguous streams, whose state starts at zero and is kept;
    otherwise every context starts from nothing.
    """
    T = spec.data.context
    n = min(spec.evaluation.tokens, len(tokens) - 1) // T
    if n < 1:
        raise ValueError(
            f"the validation split has {len(tokens):,} tokens, less than one context of {T}: use a larger corpus"
        )
    stream = torch.from_numpy(np.asarray(tokens[: n * T + 1], dtype=np.int64))
    x_NT, y_NT = stream[:-1].view(n, T), stream[1:].view(n, T)
    out = torch.empty(n, T, dtype=torch.float64)
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
            logits_BTV, state = model(x_NT[rows].to(device), state if carry else None)
        losses = F.cross_entropy(
            (logits_BTV if spec.dtype == "float64" else logits_BTV.float()).flatten(0, 1),
            y_NT[rows].to(device).flatten(),
            reduction="none",
        )
        out[rows] = losses.double().cpu().view(len(rows), T)
    model.train()
    return out.flatten().numpy()


def validate(model: nn.Module, tokens: Any, spec: RunSpec, device: torch.device) -> Validation:
    """Mean loss over the validation tokens.

    The standard error is that of a ratio over documents (nats of a document / its tokens), documents taken as drawn
    independently: Cochran 1977, section 2.11.

    Args:
        model: maps (tokens_BT, state) to (logits_BTV, state).
        tokens: the opened corpus.
        spec: the run.
        device: where the model is.
    """
    losses = token_losses(model, tokens.val, spec, device)
    n = len(losses)
    document = np.searchsorted(tokens.val_documents, np.arange(1, n + 1), side="right") - 1
    nats = np.bincount(document, weights=losses)
    count = np.bincount(document)
    nats, count = nats[count > 0], count[count > 0]
    loss = float(losses.mean())
    k = len(count)
    se = math.sqrt(float(((nats - loss * count) ** 2).sum()) * k / (k - 1)) / n if k > 1 else math.nan
    n_bytes = tokens.bytes_in("val", n + 1) - tokens.bytes_in("val", 1)
    return Validation(loss, se, float(losses.sum()) / (math.log(2) * n_bytes) if n_bytes else math.nan, n)
