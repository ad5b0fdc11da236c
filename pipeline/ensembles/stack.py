"""K models of one shape with their weights in one tensor each: a step of all of them is one forward and one backward.

Every member stays a model of its own, whose parameters are views into the stacked tensors. So its own optimizer makes
its steps, and it is validated as a model that trains alone is.

Shapes: K members, B sequences, T context, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from algoprogress.pipeline.ensembles.batching import batchable
from algoprogress.pipeline.gradient import loss_of

State = tuple[Tensor, ...]  # carried from step to step, members first; empty for models without memory


class Stack:
    """K models, trained from the first weights that they have.

    Args:
        models: of one architecture; their parameters and gradients become views into the stack.
        clips: largest gradient norm of each; None: no clipping.
        dtype: of the arithmetic, as a RunSpec says it.
    """

    def __init__(self, models: Sequence[nn.Module], clips: Sequence[float | None], dtype: str) -> None:
        self.models, self.dtype = list(models), dtype
        members = [dict(model.named_parameters()) for model in self.models]
        first = next(self.models[0].parameters())
        self.clips_K = first.new_tensor([math.inf if clip is None else clip for clip in clips])
        self.weights: dict[str, Tensor] = {}
        self._gradients: dict[str, Tensor] = {}  # laid out as the weights are, which fused optimizers rely on
        for name in members[0]:
            weight = torch.stack([member[name].detach() for member in members])
            gradient = torch.zeros_like(weight)
            for k, member in enumerate(members):
                member[name].data, member[name].grad = weight[k], gradient[k]
            self.weights[name], self._gradients[name] = weight.requires_grad_(), gradient

    def gradients(self, x_KBT: Tensor, y_KBT: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """Leave in each member's parameters the gradient of its own loss, clipped to its own global norm.

        Args:
            x_KBT: each member's tokens.
            y_KBT: the tokens after them.
            state: what the last step returned; empty at first.

        Returns:
            The losses and the gradient norms before clipping, K each, and the state.
        """
        with batchable():
            losses_K, *state_after = vmap(self._loss)(self.weights, x_KBT, y_KBT, state)
        gradients = torch.autograd.grad(losses_K.sum(), list(self.weights.values()))
        norms_K = torch.linalg.vector_norm(torch.stack([g.flatten(1).norm(dim=1) for g in gradients]), dim=0)
        factors_K = (self.clips_K / (norms_K + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_
        for gradient, clipped in zip(gradients, self._gradients.values(), strict=True):
            torch.mul(gradient, factors_K.view(-1, *[1] * (gradient.ndim - 1)), out=clipped)
        return losses_K.detach(), norms_K, tuple(s.detach() for s in state_after)

    def _loss(self, weights: dict[str, Tensor], x_BT: Tensor, y_BT: Tensor, state: State) -> tuple[Tensor, ...]:
        """Of one member: (loss, *state)."""

        def model(x_BT: Tensor, state: State | None) -> tuple[Tensor, State | None]:
            return functional_call(self.models[0], weights, (x_BT, state))

        loss, after = loss_of(model, x_BT, y_BT, state or None, self.dtype)
        return loss, *(after or ())
