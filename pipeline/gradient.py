"""The gradient of one batch, in as many parts as its memory asks for.

The loss of a batch is the mean over what is predicted in it, as much in each sequence, so the gradient of the whole is
the mean of the parts' gradients, weighted by their sequences: the mathematics does not depend on the number of parts,
only the last bits and the random numbers of dropout do. Batch norm is the exception: each part has its own statistics.

Shapes: B sequences, T context, V vocabulary; for the class of an image logits and targets have 1 in place of T.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from algoprogress.ablations import ops

State = tuple[Tensor, ...] | None


def backward(
    model: nn.Module, x_BT: Tensor, y_BT: Tensor, state: State, dtype: str, micro_batches: int = 1
) -> tuple[Tensor, State]:
    """Adds the batch's gradient to the parameters' `.grad`.

    Args:
        model: maps (tokens, state) to (logits, state).
        x_BT: what is read.
        y_BT: what is to be predicted, see `objectives`.
        state: carried from the batch before; its second dimension is B.
        dtype: float32, bfloat16 (autocast) or float64.
        micro_batches: parts, at most B.

    Returns:
        The mean loss over the batch in nats for each prediction, and the state after it, both detached.
    """
    if micro_batches == 1:
        loss, after = loss_of(model, x_BT, y_BT, state, dtype)
        loss.backward()
        return loss.detach(), None if after is None else tuple(s.detach() for s in after)
    total, states = torch.zeros((), device=x_BT.device), []
    xs, ys = x_BT.tensor_split(micro_batches), y_BT.tensor_split(micro_batches)
    pieces = None if state is None else [s.tensor_split(micro_batches, 1) for s in state]
    for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
        before = None if pieces is None else tuple(piece[i].contiguous() for piece in pieces)
        loss, after = loss_of(model, x, y, before, dtype)
        weighted = loss * (len(x) / len(x_BT))
        weighted.backward()
        total = total + weighted.detach()
        states.append(None if after is None else tuple(s.detach() for s in after))
    if states[0] is None:
        return total, None
    return total, tuple(torch.cat(piece, 1) for piece in zip(*states, strict=True))


def loss_of(
    model: Callable[[Tensor, Any], tuple[Tensor, Any]], x_BT: Tensor, y_BT: Tensor, state: State, dtype: str
) -> tuple[Tensor, State]:
    """Mean cross-entropy of a batch, nats for each prediction, and the model's next state.

    Products are in `dtype`, the loss in float32 or more.
    """
    with torch.autocast(x_BT.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        logits_BTV, after = model(x_BT, state)
    logits_BTV = logits_BTV if dtype == "float64" else logits_BTV.float()
    return ops.cross_entropy(logits_BTV.flatten(0, 1), y_BT.flatten()), after


def clip(model: nn.Module, largest: float | None) -> Tensor:
    """Scale the gradient down to a norm of at most `largest`; the norm that it had, left on the device."""
    return torch.nn.utils.clip_grad_norm_(model.parameters(), math.inf if largest is None else largest)
