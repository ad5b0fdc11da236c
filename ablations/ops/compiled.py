"""The kernels of the C files beside as torch operations with a gradient.

Shapes: B batch, T context, D width, H heads, K head dimension, F feed-forward width, N rows, V vocabulary.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

SOURCES = sorted(Path(__file__).parent.glob("*.[ch]"))
POINTER, LONG, FLOAT = ctypes.c_void_p, ctypes.c_long, ctypes.c_float
SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "linear_forward": (ctypes.c_int, [POINTER] * 3 + [LONG] * 4 + [POINTER]),
    "linear_backward_input": (ctypes.c_int, [POINTER] * 2 + [LONG] * 3 + [POINTER]),
    "linear_backward_weight": (ctypes.c_int, [POINTER] * 2 + [LONG] * 3 + [POINTER]),
    "column_sums": (None, [POINTER] + [LONG] * 2 + [POINTER]),
    "lstm_forward": (ctypes.c_int, [POINTER] * 3 + [LONG] * 3 + [POINTER] * 3),
    "lstm_backward": (ctypes.c_int, [POINTER] * 5 + [LONG] * 3 + [POINTER] * 3),
    "attention_forward": (ctypes.c_int, [POINTER] * 2 + [LONG] * 4 + [POINTER] * 2),
    "attention_backward": (ctypes.c_int, [POINTER] * 4 + [LONG] * 4 + [POINTER]),
    "rmsnorm_forward": (None, [POINTER] * 2 + [LONG] * 2 + [FLOAT] + [POINTER] * 2),
    "rmsnorm_backward": (None, [POINTER] * 4 + [LONG] * 2 + [POINTER] * 2),
    "layernorm_forward": (None, [POINTER] * 3 + [LONG] * 2 + [FLOAT] + [POINTER] * 2),
    "layernorm_backward": (None, [POINTER] * 4 + [LONG] * 2 + [POINTER] * 3),
    "swiglu_forward": (None, [POINTER] + [LONG] * 2 + [POINTER]),
    "swiglu_backward": (None, [POINTER] * 2 + [LONG] * 2 + [POINTER]),
    "gelu_forward": (None, [POINTER, LONG, POINTER]),
    "gelu_backward": (None, [POINTER, POINTER, LONG, POINTER]),
    "cross_entropy": (ctypes.c_double, [POINTER] * 2 + [LONG] * 2 + [FLOAT]),
}


class Kernels:
    """The compiled functions: float32, contiguous, on one thread.

    Args:
        path: the shared library.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments

    def __call__(self, name: str, *arguments: Any) -> Any:
        """Call a function; a tensor is passed as the address of its numbers."""
        plain = [a.data_ptr() if isinstance(a, Tensor) else a for a in arguments]
        result = getattr(self._library, name)(*plain)
        if SIGNATURES[name][0] is ctypes.c_int and result:
            raise MemoryError(f"{name} has no memory for its scratch space")
        return result

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None) -> Tensor:
        return _Linear.apply(self, x, weight, bias, residual)  # type: ignore[no-any-return]

    def lstm(self, module: nn.LSTM, x_BTD: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Any]:
        """module(x, state), layer by layer."""
        if state is None:
            zeros = x_BTD.new_zeros(module.num_layers, x_BTD.shape[0], module.hidden_size)
            state = (zeros, zeros)
        x_TBD, last = x_BTD.transpose(0, 1).contiguous(), []
        for weights, h0, c0 in zip(module.all_weights, *state, strict=True):
            input_weight, weight, input_bias, bias = weights
            gates = self.linear(x_TBD, input_weight, input_bias + bias, None)
            x_TBD, h, c = _LSTM.apply(self, gates, weight, h0.contiguous(), c0.contiguous())
            last.append((h, c))
        return x_TBD.transpose(0, 1), tuple(torch.stack(s) for s in zip(*last, strict=True))

    def attention(self, qkv_BTD: Tensor, n_heads: int, turns_TK2: Tensor | None) -> Tensor:
        return _Attention.apply(self, qkv_BTD, turns_TK2, n_heads)  # type: ignore[no-any-return]

    def rmsnorm(self, x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        return _RMSNorm.apply(self, x, weight_D, eps)  # type: ignore[no-any-return]

    def layernorm(self, x: Tensor, weight_D: Tensor, bias_D: Tensor, eps: float) -> Tensor:
        return _LayerNorm.apply(self, x, weight_D, bias_D, eps)  # type: ignore[no-any-return]

    def swiglu(self, h: Tensor) -> Tensor:
        return _SwiGLU.apply(self, h)  # type: ignore[no-any-return]

    def gelu(self, x: Tensor) -> Tensor:
        return _GELU.apply(self, x)  # type: ignore[no-any-return]

    def cross_entropy(self, logits_NV: Tensor, targets_N: Tensor) -> Tensor:
        return _CrossEntropy.apply(self, logits_NV, targets_N)  # type: ignore[no-any-return]


class _Linear(torch.autograd.Function):
    """x weight' + bias + residual."""

    @staticmethod
    def forward(
        ctx: Any, kernels: Kernels, x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None
    ) -> Tensor:
        N, K = weight.shape
        ctx.kernels, ctx.shape = kernels, (x.numel() // K, K, N)
        y = x.new_empty(*x.shape[:-1], N)
        start = bias if residual is None else residual if bias is None else residual + bias
        kernels("linear_forward", x, weight, start, residual is not None, *ctx.shape, y)
        ctx.save_for_backward(x, weight)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        _, to_x, to_weight, to_bias, to_residual = ctx.needs_input_grad
        dx = dweight = dbias = None
        plain = dy.contiguous()
        if to_x:
            dx = torch.empty_like(x)
            ctx.kernels("linear_backward_input", plain, weight, *ctx.shape, dx)
        if to_weight:
            dweight = torch.empty_like(weight)
            ctx.kernels("linear_backward_weight", plain, x, *ctx.shape, dweight)
        if to_bias:
            dbias = dy.new_empty(ctx.shape[-1])
            ctx.kernels("column_sums", plain, ctx.shape[0], ctx.shape[-1], dbias)
        return None, dx, dweight, dbias, dy if to_residual else None


class _LSTM(torch.autograd.Function):
    """The recurrence of one layer, given the part of its gates that comes from the inputs, which is overwritten."""

    @staticmethod
    def forward(
        ctx: Any, kernels: Kernels, gates: Tensor, weight: Tensor, h0: Tensor, c0: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        T, B, D = gates.shape[0], *h0.shape
        ctx.kernels, ctx.shape = kernels, (T, B, D)
        cells, y = gates.new_empty(T, B, D), gates.new_empty(T, B, D)
        kernels("lstm_forward", weight, h0, c0, T, B, D, gates, cells, y)
        ctx.save_for_backward(weight, h0, c0, gates, cells, y)
        return y, y[-1].clone(), cells[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dh: Tensor, dc: Tensor) -> tuple[Tensor | None, ...]:
        weight, h0, c0, gates, cells, y = ctx.saved_tensors
        T, B, D = ctx.shape
        dgates, dh, dc = torch.empty_like(gates), dh.clone(), dc.clone()
        ctx.kernels("lstm_backward", dy.contiguous(), weight, gates, cells, c0, T, B, D, dgates, dh, dc)
        before = torch.cat([h0[None], y[:-1]])
        dweight = torch.empty_like(weight)
        ctx.kernels("linear_backward_weight", dgates, before, T * B, D, 4 * D, dweight)
        return None, dgates, dweight, dh, dc


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernels: Kernels, qkv: Tensor, turns: Tensor | None, n_heads: int) -> Tensor:
        B, T, D3 = qkv.shape
        ctx.kernels, ctx.shape = kernels, (B, T, n_heads, D3 // (3 * n_heads))
        y_BTD, norms = qkv.new_empty(B, T, D3 // 3), qkv.new_empty(B, n_heads, T, 2)
        kernels("attention_forward", qkv, turns, *ctx.shape, y_BTD, norms)
        ctx.save_for_backward(qkv, turns, norms)
        return y_BTD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        qkv, turns, norms = ctx.saved_tensors
        dqkv = torch.empty_like(qkv)
        ctx.kernels("attention_backward", dy.contiguous(), qkv, turns, norms, *ctx.shape, dqkv)
        return None, dqkv, None, None


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernels: Kernels, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        D = x.shape[-1]
        ctx.kernels, ctx.shape = kernels, (x.numel() // D, D)
        y, rates = torch.empty_like(x), x.new_empty(ctx.shape[0])
        kernels("rmsnorm_forward", x, weight, *ctx.shape, eps, y, rates)
        ctx.save_for_backward(x, weight, rates)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, rates = ctx.saved_tensors
        dx, dweight = torch.empty_like(x), torch.empty_like(weight)
        ctx.kernels("rmsnorm_backward", dy.contiguous(), x, weight, rates, *ctx.shape, dx, dweight)
        return None, dx, dweight, None


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernels: Kernels, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        D = x.shape[-1]
        ctx.kernels, ctx.shape = kernels, (x.numel() // D, D)
        y, moments = torch.empty_like(x), x.new_empty(ctx.shape[0], 2)
        kernels("layernorm_forward", x, weight, bias, *ctx.shape, eps, y, moments)
        ctx.save_for_backward(x, weight, moments)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, moments = ctx.saved_tensors
        dx, dweight, dbias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
        ctx.kernels("layernorm_backward", dy.contiguous(), x, weight, moments, *ctx.shape, dx, dweight, dbias)
        return None, dx, dweight, dbias, None


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernels: Kernels, h: Tensor) -> Tensor:
        F = h.shape[-1] // 2
        ctx.kernels, ctx.shape = kernels, (h.numel() // (2 * F), F)
        y = h.new_empty(*h.shape[:-1], F)
        kernels("swiglu_forward", h, *ctx.shape, y)
        ctx.save_for_backward(h)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        (h,) = ctx.saved_tensors
        dh = torch.empty_like(h)
        ctx.kernels("swiglu_backward", dy.contiguous(), h, *ctx.shape, dh)
        return None, dh


class _GELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernels: Kernels, x: Tensor) -> Tensor:
        ctx.kernels = kernels
        y = torch.empty_like(x)
        kernels("gelu_forward", x, x.numel(), y)
        ctx.save_for_backward(x)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        dx = torch.empty_like(x)
        ctx.kernels("gelu_backward", dy.contiguous(), x, x.numel(), dx)
        return None, dx


class _CrossEntropy(torch.autograd.Function):
    """The gradient takes the place of the logits, which no other backward pass needs."""

    @staticmethod
    def forward(ctx: Any, kernels: Kernels, logits: Tensor, targets: Tensor) -> Tensor:
        N, V = logits.shape
        loss = kernels("cross_entropy", logits, targets.contiguous(), N, V, 1.0 / N) / N
        ctx.save_for_backward(logits)
        return logits.new_tensor(loss)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return None, gradient if scale.item() == 1.0 else gradient.mul_(scale), None
