"""What torch.func.vmap needs to be told: two functions of the models that torch cannot batch over members itself.

Attention of K members is attention of K times as many sequences, by the same kernel as for one member. An LSTM is
`StackedLSTM`, layer by layer.

Shapes: K members, B batch, T context, D width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from algoprogress.pipeline.ensembles.lstm import StackedLSTM


class _Batched(torch.autograd.Function):
    """A function that is only ever called by vmap, so that its rule is all there is of it."""

    @staticmethod
    def forward(*args: Any) -> Any:
        raise NotImplementedError

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        raise NotImplementedError


class _Attention(_Batched):
    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], q: Tensor, k: Tensor, v: Tensor, options: Any) -> Any:  # type: ignore[override]
        members = [_leading(x, dim, info.batch_size) for x, dim in zip((q, k, v), dims, strict=False)]
        q, k, v = (x.flatten(0, 1) for x in members)
        return F.scaled_dot_product_attention(q, k, v, **options).unflatten(0, members[0].shape[:2]), 0


class _LSTM(_Batched):
    """One layer of one member: (x_BTD, h_BD, c_BD, W, U, b_W, b_U) -> (y_BTD, h_BD, c_BD)."""

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *inputs: Tensor) -> Any:  # type: ignore[override]
        device = inputs[0].device.type
        precise = [_leading(x, dim, info.batch_size) for x, dim in zip(inputs, dims, strict=True)]
        if torch.is_autocast_enabled(device):  # torch's own LSTM is in the lower precision as a whole
            precise = [x.to(torch.get_autocast_dtype(device)) for x in precise]
        x, h, c, W, U, b_W, b_U = precise
        with torch.autocast(device, enabled=False):
            y, h, c = StackedLSTM.apply(x.transpose(1, 2), h, c, W, U, b_W + b_U)
        return (y.transpose(1, 2), h, c), (0, 0, 0)


def _leading(x: Tensor, dim: int | None, size: int) -> Tensor:
    return x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)


def _attention(
    q: Tensor, k: Tensor, v: Tensor, attn_mask: None = None, dropout_p: float = 0.0, is_causal: bool = False
) -> Tensor:
    if attn_mask is not None or dropout_p:
        raise NotImplementedError("members of an ensemble have neither attention masks nor dropout")
    return _Attention.apply(q, k, v, {"is_causal": is_causal})


def _lstm(
    x_BTD: Tensor,
    state: tuple[Tensor, Tensor],
    weights: list[Tensor],
    has_biases: bool,
    n_layers: int,
    dropout: float,
    training: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    if bidirectional or dropout or not has_biases or not batch_first:
        raise NotImplementedError("members of an ensemble have LSTMs in one direction, batch first, without dropout")
    after = []
    for layer in range(n_layers):
        h_BD, c_BD = (part[layer] for part in state)
        x_BTD, *ends = _LSTM.apply(x_BTD, h_BD, c_BD, *weights[4 * layer : 4 * layer + 4])
        after.append(ends)
    h_LBD, c_LBD = (torch.stack(part) for part in zip(*after, strict=True))
    return x_BTD, h_LBD, c_LBD


RULES: dict[Callable[..., Any], Callable[..., Any]] = {F.scaled_dot_product_attention: _attention, torch.lstm: _lstm}


class _Rules(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return RULES.get(func, func)(*args, **(kwargs or {}))


@contextlib.contextmanager
def batchable() -> Iterator[None]:
    """Inside this block the models can be given to vmap."""
    with _Rules():
        yield
