"""Operations with second derivatives of their own: what torch computes anew for each product is computed once.

Torch takes the second derivative of a softmax or of an activation from the input again each time. A spectrum asks for
hundreds of products at the same weights, so here the elementwise factors stay with the graph. The functions and all
their derivatives are the same. Shapes: N predictions over V classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.overrides import TorchFunctionMode

Derivatives = Callable[[Tensor], tuple[Tensor, Tensor]]


def gelu(x: Tensor) -> tuple[Tensor, Tensor]:
    """f' = Phi + x phi, f'' = phi (2 - x^2) of f = x Phi(x), with Phi and phi of the normal distribution."""
    phi = torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return torch.special.ndtr(x) + x * phi, phi * (2 - x * x)


def silu(x: Tensor) -> tuple[Tensor, Tensor]:
    """f' = s + x s (1 - s), f'' = s (1 - s) (2 + x (1 - 2 s)) of f = x s(x), with s the logistic function."""
    s = torch.sigmoid(x)
    slope = s * (1 - s)
    return s + x * slope, slope * (2 + x * (1 - 2 * s))


class _Activation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor], derivatives: Derivatives) -> Tensor:
        ctx.save_for_backward(x)
        ctx.derivatives = derivatives
        return function(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        if not hasattr(ctx, "remembered"):  # each product comes by here again
            with torch.no_grad():
                ctx.remembered = ctx.derivatives(x)
        if not torch.is_grad_enabled():
            return gradients[0] * ctx.remembered[0], None, None
        return _ActivationBackward.apply(gradients[0], x, *ctx.remembered), None, None


class _ActivationBackward(torch.autograd.Function):
    """g f'(x), whose derivatives are f'(x) along g and g f''(x) along x."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        ctx.save_for_backward(first, g * second)
        return g * first

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        first, along_x = ctx.saved_tensors
        v = gradients[0]
        return (
            v * first if ctx.needs_input_grad[0] else None,
            v * along_x if ctx.needs_input_grad[1] else None,
            None,
            None,
        )


class _CrossEntropy(torch.autograd.Function):
    """Mean of -log p[target] over those of the N that have a target; the others have the target `ignored`."""

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, targets_N: Tensor, ignored: int) -> Tensor:
        ctx.save_for_backward(logits_NV, targets_N)
        ctx.ignored = ignored
        return F.cross_entropy(logits_NV, targets_N, ignore_index=ignored)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        logits_NV, targets_N = ctx.saved_tensors
        if not hasattr(ctx, "remembered"):
            with torch.no_grad():
                scored_N = (targets_N != ctx.ignored).to(logits_NV)
                weights_N1 = (scored_N / scored_N.sum())[:, None]
                ctx.remembered = F.softmax(logits_NV, 1), weights_N1, torch.where(scored_N > 0, targets_N, 0)[:, None]
        return _CrossEntropyBackward.apply(gradients[0], logits_NV, *ctx.remembered), None, None


class _CrossEntropyBackward(torch.autograd.Function):
    """(p - onehot) w g, whose derivative along the logits is (diag p - p p') w g, with weights w that add to 1."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, g: Tensor, logits_NV: Tensor, p_NV: Tensor, weights_N1: Tensor, targets_N1: Tensor
    ) -> Tensor:
        scaled_NV = p_NV * (weights_N1 * g)
        ctx.save_for_backward(p_NV, scaled_NV, weights_N1, targets_N1)
        return scaled_NV.scatter_add(1, targets_N1, -weights_N1 * g)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        p_NV, scaled_NV, weights_N1, targets_N1 = ctx.saved_tensors
        v_NV = gradients[0]
        along_logits = along_g = None
        mean_N1 = torch.bmm(p_NV[:, None], v_NV[:, :, None])[:, 0]
        if ctx.needs_input_grad[1]:
            along_logits = (v_NV - mean_N1).mul_(scaled_NV)
        if ctx.needs_input_grad[0]:
            along_g = ((mean_N1 - v_NV.gather(1, targets_N1)) * weights_N1).sum()
        return along_g, along_logits, None, None, None


class RememberedDerivatives(TorchFunctionMode):
    """Within it, activations and cross-entropies keep what their second derivatives are made of.

    Whatever else a call asks for, such as class weights, is left to torch.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.gelu and len(args) == 1 and kwargs.get("approximate", "none") == "none":
            return _Activation.apply(args[0], func, gelu)
        if func is F.silu and len(args) == 1 and not kwargs.get("inplace"):
            return _Activation.apply(args[0], func, silu)
        if func is F.cross_entropy and len(args) == 2 and _plain_classes(args[1], args[0], kwargs):
            return _CrossEntropy.apply(*args, kwargs.get("ignore_index", -100))
        return func(*args, **kwargs)


def _plain_classes(targets: Tensor, logits: Tensor, kwargs: dict[str, Any]) -> bool:
    usual = {"weight": None, "size_average": None, "reduce": None, "reduction": "mean", "label_smoothing": 0.0}
    if any(kwargs.get(name, value) != value for name, value in usual.items()):
        return False
    return logits.ndim == 2 and targets.ndim == 1 and not targets.is_floating_point()
