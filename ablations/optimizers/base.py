"""The step that all optimizers share: gradients in, clipped if asked; a direction for each weight out; decay apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from algoprogress.ablations.optimizers.clipping import Clipping


@dataclass
class Batch:
    """The parameters of one group that have a gradient, with their states.

    `grads` is what moves the weights; `raw` is what second moments and preconditioners see. The two differ only under
    clipping "of momentum".
    """

    group: dict[str, Any]
    params: list[Tensor]
    grads: list[Tensor]
    raw: list[Tensor]
    states: list[dict[str, Any]]

    @property
    def rate(self) -> float:
        """The group's learning rate, times the share `rate` that the group may have of the run's."""
        return self.group["lr"] * self.group.get("rate", 1.0)

    def buffers(self, name: str, like: Sequence[Tensor] | None = None) -> list[Tensor]:
        """The state of that name of each parameter, zeros of its shape (or of the shape of `like`) at first."""
        for state, tensor in zip(self.states, like or self.params, strict=True):
            if name not in state:
                state[name] = torch.zeros_like(tensor)
        return [state[name] for state in self.states]

    def advance(self) -> list[int]:
        """Count this step; the number of steps that each parameter has had, this one among them."""
        for state in self.states:
            state["step"] = state.get("step", 0) + 1
        return [state["step"] for state in self.states]

    def average(self, name: str, beta: float, tensors: list[Tensor]) -> list[Tensor]:
        """m <- beta m + (1 - beta) x, kept under that name; x itself, and nothing kept, at beta = 0."""
        if beta == 0:
            return tensors
        means = self.buffers(name)
        torch._foreach_lerp_(means, tensors, 1 - beta)
        return means


class FirstOrder(torch.optim.Optimizer):
    """An optimizer whose step is W <- (1 - lr decay) W - lr u, with u from `directions`.

    Every number of its state is a tensor or a plain scalar of a parameter's own state, so that a checkpoint needs
    nothing but `state_dict()["state"]` and the recipe.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        learning_rate: float,
        *,
        decoupled: bool = True,
        clipping: Clipping | None = None,
        **hyperparameters: Any,
    ) -> None:
        """Args:
        groups: parameter groups; a key given there goes before the same one in `hyperparameters`.
        learning_rate: of every group; a schedule sets group["lr"].
        decoupled: decay apart from the step; else decay times W is added to the gradient.
        clipping: done jointly over all parameters.
        hyperparameters: of every group.
        """
        super().__init__(groups, {"lr": learning_rate, "weight_decay": 0.0, **hyperparameters})
        self.decoupled, self.clipping = decoupled, clipping

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"decoupled": self.decoupled, "clipping": self.clipping}

    def directions(self, batch: Batch) -> list[Tensor]:
        """u of each parameter of one group; may advance its state."""
        raise NotImplementedError

    def joint_directions(self, batches: list[Batch]) -> list[list[Tensor]]:
        """u of each parameter of each group, for optimizers in which a step depends on all of them."""
        return [self.directions(batch) for batch in batches]

    def fused(self, batch: Batch) -> bool:
        """True when one kernel has taken the whole step of this group."""
        return False

    def apply(self, batch: Batch, updates: list[Tensor]) -> None:
        if batch.group["weight_decay"] and self.decoupled:
            torch._foreach_mul_(batch.params, 1 - batch.rate * batch.group["weight_decay"])
        torch._foreach_add_(batch.params, updates, alpha=-batch.rate)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step on the gradients that are there; a parameter without one stays as it is, and so does its state."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        batches = self._batches()
        if self.clipping is not None and self.clipping.of != "update":
            self._clip(batches)
        if self.clipping is not None and self.clipping.of == "update":
            updates = _jointly(self.clipping, self._updates(batches))
        else:
            batches = [batch for batch in batches if not self.fused(batch)]
            updates = self._updates(batches)
        for batch, update in zip(batches, updates, strict=True):
            self.apply(batch, update)
        return loss

    def _batches(self) -> list[Batch]:
        batches = []
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None and p.numel()]
            grads = [p.grad for p in params]
            if any(g.is_sparse for g in grads):
                raise ValueError("a sparse gradient cannot be used here: build the embedding with sparse=False")
            if params:
                batches.append(Batch(group, params, grads, grads, [self.state[p] for p in params]))
        return batches

    def _clip(self, batches: list[Batch]) -> None:
        assert self.clipping is not None
        clipped = _jointly(self.clipping, [batch.grads for batch in batches])
        for batch, grads in zip(batches, clipped, strict=True):
            batch.grads = grads
            if self.clipping.of == "gradient":
                batch.raw = grads

    def _updates(self, batches: list[Batch]) -> list[list[Tensor]]:
        for batch in batches:
            decay = batch.group["weight_decay"]
            if decay and not self.decoupled:
                shared = batch.raw is batch.grads
                batch.grads = list(torch._foreach_add(batch.grads, batch.params, alpha=decay))
                batch.raw = batch.grads if shared else list(torch._foreach_add(batch.raw, batch.params, alpha=decay))
        return self.joint_directions(batches)


def _jointly(clipping: Clipping, parts: list[list[Tensor]]) -> list[list[Tensor]]:
    tensors = [t for part in parts for t in part]
    left = iter(clipping(tensors) if tensors else tensors)
    return [[next(left) for _ in part] for part in parts]


def by_shape(function: Callable[[Tensor], Tensor], tensors: Sequence[Tensor]) -> list[Tensor]:
    """function(tensor) for each; equal shapes are stacked, so that one batched kernel does the work of many.

    Args:
        function: maps (..., m, n) to the same shape, each matrix for itself.
        tensors: of any shapes and precisions.
    """
    places: dict[tuple[Any, ...], list[int]] = {}
    for i, tensor in enumerate(tensors):
        places.setdefault((tensor.shape, tensor.dtype, tensor.device), []).append(i)
    found: dict[int, Tensor] = {}
    for where in places.values():
        if len(where) == 1:
            found[where[0]] = function(tensors[where[0]])
        else:
            found |= zip(where, function(torch.stack([tensors[i] for i in where])).unbind(), strict=True)
    return [found[i] for i in range(len(tensors))]


def debias(beta: float, steps: list[int]) -> list[float]:
    """1 - beta^t for each t: what a running mean that began at zero is divided by."""
    return [1 - beta**step for step in steps]
