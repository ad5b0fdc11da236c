"""POET: every weight but the output layer's is R W0 P with W0 fixed and random, R and P orthogonal and trained.

Qiu et al. 2025, "Reparameterized LLM Training via Orthogonal Equivalence Transformation". The singular values of W are
those of W0, whatever the training does. R and P act on few coordinates at a time; every `merge_every` steps they are
multiplied into W0, and others are drawn. What is drawn is said in poet_bs.py and poet_fs.py.

Where this differs from the paper: Q has no weight decay, which would pull R to the identity and not a weight to zero.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from algoprogress.ablations.config import Whole
from algoprogress.ablations.reparameterizations import (
    ReparameterizationConfig,
    Shapes,
    cayley,
    linear_layers,
    shape,
)

if TYPE_CHECKING:
    import torch
    from torch import nn

    from algoprogress.ablations.reparameterizations.poet_linear import POETLinear

LARGEST_Q = 0.9  # ||Q||_2 from which the series is no rotation: at 1 it keeps no singular value (1 - t^4 for k = 3)
LOOK_EVERY = 100  # steps between two looks at ||Q||_2 where no merge comes before
RAMP_FROM = 0.1  # of the clip, just after a merge: the authors' released code


class SpectrumWarning(UserWarning):
    """Q is so large that the truncated series changes the singular values of the weights."""


class POET(ReparameterizationConfig):
    """What fully and block stochastic sampling have in common."""

    order: Whole | None = Field(3, ge=1, le=5, description="k of the Cayley-Neumann series; None: the exact map")
    merge_every: Whole = Field(400, ge=1, description="steps T_m after which R and P are merged and drawn anew")
    init: Literal["normalized", "uniform_spectrum", "standard", "xavier"] = Field(
        "normalized", description="W0, in place of the architecture's initial weights; see initialisation.py"
    )
    rate: float = Field(1.0, gt=0, description="learning rate of Q as a multiple of the run's")
    clip_ramp: Whole = Field(10, ge=0, description="steps after a merge in which the clip, if any, rises from a tenth")

    def blocks(self, d: int) -> tuple[int, int]:
        """(N, b): how many blocks of how many coordinates of d are rotated at a time.

        Raises:
            ValueError: d cannot be divided so.
        """
        raise NotImplementedError

    def check(self, layers: Shapes) -> None:
        if not layers:
            raise ValueError(
                f"{self.name} rotates the weights of linear layers, and this model has none but its output layer: "
                "take another architecture, or no reparameterization"
            )
        for name, (m, n, _) in layers.items():
            for d in (m, n):
                try:
                    self.blocks(d)
                except ValueError as error:
                    raise ValueError(f"{name} is {m} x {n}, and {error}") from None

    def apply(self, model: nn.Module) -> None:
        import torch

        from algoprogress.ablations.reparameterizations.initialisation import INITIALISATIONS
        from algoprogress.ablations.reparameterizations.poet_linear import POETLinear

        layers = linear_layers(model)
        self.check({name: shape(layer) for name, layer in layers.items()})
        seed = int(torch.randint(2**31, ()))
        for i, (name, layer) in enumerate(layers.items()):
            m, n, K = shape(layer)
            W = torch.stack([INITIALISATIONS[self.init](m, n, layer.weight.dtype) for _ in range(K)])
            W = W.to(layer.weight.device)
            new = POETLinear(W, layer.bias, self.blocks(m), self.blocks(n), self.order, (seed, i))
            if self.rate != 1:
                new.register_buffer("before_R", new.Q_R.detach().clone())
                new.register_buffer("before_P", new.Q_P.detach().clone())
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, new.to(layer.weight.device))

    def after_step(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        layers = list(poet_layers(model).values())
        if self.rate != 1:
            for layer in layers:
                _rescale(layer, self.rate)
        merges = (step + 1) % self.merge_every == 0
        if merges or (step + 1) % LOOK_EVERY == 0:
            self._warn_of_large_Q(layers, step)
        if merges:
            for layer in layers:
                layer.merge()
                for q, before in _rotated(layer):
                    _forget(optimizer, q)
                    if before is not None:
                        before.zero_()

    def _warn_of_large_Q(self, layers: list[POETLinear], step: int) -> None:
        import torch

        if self.order is None or layers[0].warned:
            return  # the exact map is orthogonal for every Q
        if max(float(cayley.spectral_norm_bound(q.detach()).max()) for x in layers for q in (x.Q_R, x.Q_P)) < LARGEST_Q:
            return
        with torch.no_grad():
            largest = max(float(torch.linalg.matrix_norm(Q, 2).max()) for x in layers for Q in x.skew())
        if largest > LARGEST_Q:
            layers[0].warned = True
            warnings.warn(
                f"||Q||_2 is {largest:.3g} after step {step + 1}, above {LARGEST_Q}: the Cayley-Neumann series of "
                f"order {self.order} no longer keeps the singular values. Lower the learning rate or merge_every "
                f"({self.merge_every}), or set order to null, the exact map.",
                SpectrumWarning,
                stacklevel=2,
            )

    def clip_factor(self, step: int) -> float:
        """A tenth at the first step after a merge, and from there in a line to 1, `clip_ramp` steps later."""
        since = step % self.merge_every
        if step < self.merge_every or since >= self.clip_ramp:
            return 1.0
        return RAMP_FROM + (1 - RAMP_FROM) * since / self.clip_ramp

    def flop_per_step(self, layers: Shapes) -> float:
        """R W0 P forward and backward, the two Cayley maps of each layer, and a share of the merge.

        Forward are P's product on W0, 2 N b^2 m, and R's, 2 N b^2 n; backward R's has two, since its other factor
        depends on P, and P's has one, since W0 is fixed. A merge is one forward pass more.
        """
        total = 0.0
        for m, n, K in layers.values():
            (N_R, b_R), (N_P, b_P) = self.blocks(m), self.blocks(n)
            of_R, of_P = 2.0 * N_R * b_R**2 * n, 2.0 * N_P * b_P**2 * m
            maps = N_R * cayley.flop(b_R, self.order) + N_P * cayley.flop(b_P, self.order)
            total += K * (3 * of_R + 2 * of_P + maps + (of_R + of_P + maps / 3) / self.merge_every)
        return total

    def trained_shapes(self, m: int, n: int, K: int) -> list[tuple[int, ...]]:
        return [(K * N, b * (b - 1) // 2) for N, b in (self.blocks(m), self.blocks(n))]

    def n_kept_with_adam(self, layers: Shapes) -> int:
        """Numbers kept from step to step for these layers: W0, Q and Adam's two moments of Q; 3 m n without POET.

        For one m x n weight m n + 1.5 (m + n) (b - 1) with block stochastic sampling, and m n + 3 b (b - 1) with fully
        stochastic sampling of b coordinates on each side: Qiu et al. 2025, table 1. A step also forms R W0 P and its
        gradient, as the plain model forms the gradient of its weight; `rate` keeps one more Q.
        """
        return sum(m * n * K for m, n, K in layers.values()) + (3 + (self.rate != 1)) * self.n_trained(layers)


def poet_layers(model: nn.Module) -> dict[str, POETLinear]:
    """The reparameterized layers of a model by name, in its order."""
    from algoprogress.ablations.reparameterizations.poet_linear import POETLinear

    return {name: module for name, module in model.named_modules() if isinstance(module, POETLinear)}


def _rotated(layer: POETLinear) -> list[tuple[nn.Parameter, torch.Tensor | None]]:
    """Q of each side, and what it was before the step if that is kept."""
    return [(layer.Q_R, getattr(layer, "before_R", None)), (layer.Q_P, getattr(layer, "before_P", None))]


def _forget(optimizer: torch.optim.Optimizer, q: nn.Parameter) -> None:
    """Put the optimizer's state of one parameter back to where it starts.

    Torch's own optimizers start at zero, and some fail where a parameter that they have seen has no state; others make
    the state that they miss.
    """
    import torch

    if not type(optimizer).__module__.startswith("torch.optim"):
        optimizer.state.pop(q, None)
        return
    for value in optimizer.state.get(q, {}).values():
        if isinstance(value, torch.Tensor):
            value.zero_()


def _rescale(layer: POETLinear, rate: float) -> None:
    """Q <- Q_before + rate (Q - Q_before): a step at `rate` times the learning rate, of every optimizer whose step is
    proportional to it."""
    for q, before in _rotated(layer):
        assert before is not None
        before.lerp_(q.detach(), rate)
        q.detach().copy_(before)
