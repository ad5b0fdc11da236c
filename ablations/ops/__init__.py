"""The operations of a model in which most of its time goes: one meaning, several ways to do them.

By default each is plain torch, which works for every dtype and device, under vmap and for second derivatives. A trainer
may choose faster ways for the length of a block with `using`; they change the last bits of a float and nothing else.

Shapes: B batch, T context, D width, H heads, K head dimension, F feed-forward width, V vocabulary.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

if TYPE_CHECKING:
    from algoprogress.ablations.ops.compiled import Kernels


UNSCORED = -100  # the target of a token that is read and not predicted: torch's default
Attention = Literal["fused", "products", "twice_differentiable"]


@dataclass(frozen=True)
class Ways:
    """How the operations are done.

    Attributes:
        attention: torch's fused kernel; batched products, which some processors do faster; or plain products that can
            be differentiated twice.
        kernels: compiled for this machine; used where they apply (float32 on a CPU, no dropout), else torch is.
        without: operations of this module, by name, that stay with torch all the same.
    """

    attention: Attention = "fused"
    kernels: Kernels | None = None
    without: frozenset[str] = frozenset()


_ways: contextvars.ContextVar[Ways] = contextvars.ContextVar("ways", default=Ways())  # noqa: B039 (it is frozen)


@contextlib.contextmanager
def using(ways: Ways) -> Iterator[None]:
    """Do the operations in these ways inside this block."""
    token = _ways.set(ways)
    try:
        yield
    finally:
        _ways.reset(token)


@contextlib.contextmanager
def math_attention() -> Iterator[None]:
    """Plain torch inside this block, attention by plain products: the fused kernels have no second derivative."""
    with using(Ways("twice_differentiable")):
        yield


def chosen() -> Ways:
    """The ways of the block we are in; plain torch for torch.compile, which makes kernels of its own."""
    return Ways() if torch.compiler.is_compiling() else _ways.get()


def kernels_for(operation: str, *tensors: Tensor) -> Kernels | None:
    """The compiled kernels, if there are any for the operation and they can work on these tensors."""
    ways = chosen()
    kernels = ways.kernels
    if kernels is None or operation in ways.without or torch.is_autocast_enabled("cpu"):
        return None
    fits = all(t.dtype == torch.float32 and t.device.type == "cpu" and t.is_contiguous() for t in tensors)
    return kernels if fits else None


def linear(module: nn.Linear, x: Tensor, residual: Tensor | None = None, dropout: float = 0.0) -> Tensor:
    """residual + dropout(module(x))."""
    plain = type(module).forward is nn.Linear.forward and not dropout  # a reparameterized layer knows what to do
    if plain and (kernels := kernels_for("linear", x, module.weight, *([] if residual is None else [residual]))):
        return kernels.linear(x, module.weight, module.bias, residual)
    y = module(x)
    y = F.dropout(y, dropout) if dropout else y
    return y if residual is None else residual + y


def lstm(module: nn.LSTM, x_BTD: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """module(x, state)."""
    dropout = module.dropout if module.training else 0.0
    plain = type(module) is nn.LSTM and module.batch_first and not (module.bidirectional or module.proj_size or dropout)
    if plain and (kernels := kernels_for("lstm", x_BTD.contiguous(), *(module.parameters()))):
        return kernels.lstm(module, x_BTD, state)
    return module(x_BTD, state)  # type: ignore[no-any-return]


def rotate(x_BTHK: Tensor, turns_T1K: Tensor) -> Tensor:
    """Neighbouring pairs as complex numbers, turned: one product instead of six real ones."""
    pairs = torch.view_as_complex(x_BTHK.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns_T1K).flatten(-2)


def attention(
    qkv_BTD: Tensor, n_heads: int, turns_TK2: Tensor | None, dropout: float = 0.0, causal: bool = True
) -> Tensor:
    """softmax(q k' / sqrt K) v over the tokens so far, or over all of them; (B, T, D).

    Args:
        qkv_BTD: queries, keys and values side by side, each of H heads; (B, T, 3 D).
        n_heads: H.
        turns_TK2: cosines and sines by which queries and keys are turned (Su et al. 2021), (T, 1, K/2, 2); or None.
        dropout: of the weights.
        causal: whether a token sees none after it.
    """
    if causal and not dropout and (kernels := kernels_for("attention", qkv_BTD)):
        return kernels.attention(qkv_BTD, n_heads, turns_TK2)
    (B, T, D3), H = qkv_BTD.shape, n_heads
    qk_BTHK, v = qkv_BTD.view(B, T, 3 * H, D3 // (3 * H)).split([2 * H, H], dim=2)
    if turns_TK2 is not None:
        turns_T1K = torch.view_as_complex(turns_TK2)
        qk_BTHK = rotate(qk_BTHK.float() if qk_BTHK.dtype == torch.bfloat16 else qk_BTHK, turns_T1K).to(v.dtype)
    q, k, v = (x.transpose(1, 2) for x in (*qk_BTHK.chunk(2, dim=2), v))
    way = chosen().attention
    if way == "products" and not dropout:
        y_BHTK = _by_products(q, k, v, causal)
    else:
        twice = way == "twice_differentiable"
        with sdpa_kernel(SDPBackend.MATH) if twice else contextlib.nullcontext():
            y_BHTK = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal)
    return y_BHTK.transpose(1, 2).reshape(B, T, D3 // 3)


def _by_products(q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor, causal: bool) -> Tensor:
    B, H, T, K = q_BHTK.shape
    q, k, v = (x.reshape(B * H, T, K) for x in (q_BHTK, k_BHTK, v_BHTK))
    unseen_TT = torch.full((T, T), -math.inf if causal else 0.0, dtype=q.dtype, device=q.device).triu(1)
    scores_NTT = torch.baddbmm(unseen_TT, q, k.transpose(1, 2), alpha=K**-0.5)
    return torch.bmm(scores_NTT.softmax(-1).to(v.dtype), v).view(B, H, T, K)


def norm(module: nn.Module, x: Tensor) -> Tensor:
    """module(x), for a norm over the last dimension."""
    if type(module) is nn.RMSNorm and (kernels := kernels_for("norm", x)):
        return kernels.rmsnorm(x, module.weight, module.eps or torch.finfo(x.dtype).eps)
    if type(module) is nn.LayerNorm and (kernels := kernels_for("norm", x)):
        return kernels.layernorm(x, module.weight, module.bias, module.eps)
    return module(x)


def swiglu(h_BTF: Tensor) -> Tensor:
    """silu(gate) up, for h = (gate, up) side by side: Shazeer 2020; (B, T, F)."""
    if kernels := kernels_for("swiglu", h_BTF):
        return kernels.swiglu(h_BTF)
    gate, up = h_BTF.chunk(2, dim=-1)
    return F.silu(gate) * up


def gelu(x: Tensor) -> Tensor:
    """x Phi(x), Phi the normal distribution function: Hendrycks and Gimpel 2016."""
    if kernels := kernels_for("gelu", x):
        return kernels.gelu(x)
    return F.gelu(x)


def cross_entropy(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Mean of -ln softmax(logits)[target], nats/token, over the targets that are not UNSCORED.

    The logits may be overwritten: they are not to be used again.
    """
    if logits_NV.requires_grad and (kernels := kernels_for("cross_entropy", logits_NV)):
        scored = targets_N != UNSCORED
        if not scored.all():
            logits_NV, targets_N = logits_NV[scored], targets_N[scored]
        return kernels.cross_entropy(logits_NV, targets_N)
    return F.cross_entropy(logits_NV, targets_N, ignore_index=UNSCORED)
