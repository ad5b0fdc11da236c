"""How do the weights turn, and what becomes of their singular values, while a model trains?

The trainer's own loop, looked into through the seam of a reparameterization: a watched run is bit for bit the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import PrivateAttr, SerializeAsAny
from torch import nn

from algoprogress.ablations.config import Whole
from algoprogress.ablations.reparameterizations import ReparameterizationConfig, Shapes, linear_layers, shape
from algoprogress.ablations.reparameterizations.poet import poet_layers
from algoprogress.ablations.spec import RunSpec
from algoprogress.analysis.spectrum import hyperspherical_energy, orthogonality_error, spectrum_drift, svd_entropy
from algoprogress.pipeline.trainer import train

if TYPE_CHECKING:
    from algoprogress.pipeline.data import Tokens

Matrix = NDArray[np.float64]
N_PROBES = 32  # random vectors for each rotation; their mean cosine is known to about 1 / sqrt(32 d)


class Watch(ReparameterizationConfig):
    """The reparameterization `inner`, or none, with a look at the weights every so many steps. Never stored."""

    name: Literal["watch"] = "watch"
    inner: SerializeAsAny[ReparameterizationConfig] | None = None
    every: Whole = 10
    _looks: list[pd.DataFrame] = PrivateAttr(default_factory=list)
    _initial: dict[str, Matrix] = PrivateAttr(default_factory=dict)
    _turned: dict[str, Matrix] = PrivateAttr(default_factory=dict)

    def apply(self, model: nn.Module) -> None:
        if self.inner is not None:
            self.inner.apply(model)
        self._look(model, 0)

    def after_step(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        if self.inner is not None:
            self.inner.after_step(model, optimizer, step)
        if (step + 1) % self.every == 0:
            self._look(model, step + 1)

    def clip_factor(self, step: int) -> float:
        return 1.0 if self.inner is None else self.inner.clip_factor(step)

    def check(self, layers: Shapes) -> None:
        if self.inner is not None:
            self.inner.check(layers)

    def flop_per_step(self, layers: Shapes) -> float:
        return 0.0 if self.inner is None else self.inner.flop_per_step(layers)

    def trained_shapes(self, m: int, n: int, K: int) -> list[tuple[int, ...]]:
        return [(K * m, n)] if self.inner is None else self.inner.trained_shapes(m, n, K)

    @torch.no_grad()
    def _look(self, model: nn.Module, step: int) -> None:
        rows = []
        for name, W in weights(model):
            s: Matrix = np.linalg.svd(W, compute_uv=False).astype(np.float64)
            rows.append(
                {
                    "matrix": name,
                    "svd_entropy": svd_entropy(s),
                    "spectrum_drift": spectrum_drift(s, self._initial.setdefault(name, s)),
                    "hyperspherical_energy": hyperspherical_energy(W),
                }
            )
        for name, R in rotations(model):
            v = np.random.default_rng(0).standard_normal((N_PROBES, len(R)))
            turned = v @ R.T
            before = self._turned.get(name, v)
            self._turned[name] = turned
            rows.append(
                {
                    "matrix": name,
                    "orthogonality_error": orthogonality_error(R),
                    "cosine": float(_cosines(v, turned).mean()),
                    "turn": float(np.arccos(np.clip(_cosines(before, turned), -1, 1)).mean()) / self.every,
                }
            )
        self._looks.append(pd.DataFrame(rows).assign(step=step))

    def looks(self) -> pd.DataFrame:
        """One row per (step, matrix)."""
        return pd.concat(self._looks, ignore_index=True)


def _cosines(a: Matrix, b: Matrix) -> Matrix:
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


@torch.no_grad()
def weights(model: nn.Module) -> Iterator[tuple[str, Matrix]]:
    """Each weight matrix of a linear layer but the output layer, as the model uses it; stacked ones each alone."""
    stacks = [(name, poet.weights()) for name, poet in poet_layers(model).items()]
    for name, layer in linear_layers(model).items():
        m, n, K = shape(layer)
        stacks.append((name, layer.weight.detach().view(K, m, n)))
    for name, W_Kmn in stacks:
        for k, W in enumerate(W_Kmn.double().cpu().numpy()):
            yield f"{name}[{k}]" if len(W_Kmn) > 1 else name, W


def rotations(model: nn.Module) -> Iterator[tuple[str, Matrix]]:
    """R and P of each reparameterized weight since the start; none once they have been merged."""
    for name, layer in poet_layers(model).items():
        if layer.draw[2] == 0:
            for side, stack in (("R", layer.R()), ("P", layer.P())):
                for k, M in enumerate(stack.double().cpu().numpy()):
                    yield f"{name}[{k}].{side}" if len(stack) > 1 else f"{name}.{side}", M


def watch(spec: RunSpec, tokens: Tokens, every: int = 10) -> tuple[dict[str, Any], pd.DataFrame]:
    """Train one run and look at its weights on the way.

    Args:
        spec: the run; what it computes is not changed by looking.
        tokens: the opened corpus.
        every: steps between two looks.

    Returns:
        The run's record, and one row per (step, matrix). Rows of weights have svd_entropy, spectrum_drift and
        hyperspherical_energy. Rows of rotations, up to the first merge, have orthogonality_error, cosine, the mean of
        cos(v, R v) over random v (1 at the start), and turn, radians per step since the last look.
    """
    watched = Watch(inner=spec.reparameterization, every=every)
    record = train(spec.model_copy(update={"reparameterization": watched}), tokens).record
    return record, watched.looks()


def by_step(looks: pd.DataFrame) -> pd.DataFrame:
    """Means over matrices, one row per step; of spectrum_drift and orthogonality_error the largest."""
    means = looks.drop(columns="matrix").groupby("step").mean()
    for worst in ("spectrum_drift", "orthogonality_error"):
        if worst in looks:
            means[worst] = looks.groupby("step")[worst].max()
    return means.reset_index()
