"""Muon: W <- W - lr s U V^T for the momentum U S V^T of each hidden matrix; AdamW for all else."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from algoprogress.ablations.optimizers import OptimizerConfig, optimizers, role_groups
from algoprogress.ablations.optimizers import newton_schulz as ns
from algoprogress.ablations.optimizers.adam import adam_directions, adam_fused
from algoprogress.ablations.optimizers.base import Batch, FirstOrder, by_shape
from algoprogress.ablations.optimizers.costs import Cost, per_element
from algoprogress.ablations.optimizers.roles import Role
from algoprogress.ablations.optimizers.steepest import averaged, duality_cost

HIDDEN: tuple[Role, ...] = ("linear", "convolution")  # orthogonalized, a kernel as the matrix (out, in taps)


@optimizers.register("muon")
class Muon(OptimizerConfig):
    """Jordan et al. 2024; `adjust` as in torch.optim.Muon."""

    name: Literal["muon"] = "muon"
    momentum: float = Field(0.95, ge=0, lt=1, description="Jordan et al. 2024; as a running mean: the scale falls out")
    nesterov: bool = True
    orthogonalization: ns.Method = Field("quintic", description="svd is exact")
    precision: Literal["weights", "bfloat16"] = Field(
        "weights", description="of the iteration; bfloat16 is faster only where the processor multiplies in it"
    )
    adjust: Literal["original", "match_rms_adamw"] = Field(
        "original", description="s = sqrt(max(1, out / in)): Jordan et al. 2024; or 0.2 sqrt(max(out, in)): Liu 2025"
    )
    adam_rate: float = Field(0.3, gt=0, description="rate of AdamW on embedding, head and vectors, share of the run's")
    beta1: float = Field(0.9, ge=0, lt=1, description="of AdamW")
    beta2: float = Field(0.95, ge=0, lt=1, description="of AdamW")
    eps: float = Field(1e-8, gt=0, description="of AdamW")

    paper: ClassVar[str] = "Jordan et al. 2024"
    geometry: ClassVar[str] = "spectral; sign"
    rates: ClassVar[tuple[float, ...]] = (0.01, 0.02, 0.04)

    def build(self, model: nn.Module, learning_rate: float) -> MuonOptimizer:
        groups = role_groups(model, self.weight_decay)
        for group in groups:
            if group["role"] not in HIDDEN:
                group |= {"rate": self.adam_rate, "fused": True}
        return MuonOptimizer(groups, learning_rate, **self.hyperparameters(), beta=self.momentum)

    def cost(self, shape: tuple[int, ...], role: Role) -> Cost:
        if role not in HIDDEN:
            return per_element(shape, state=2, flop=13)  # as Adam's
        flat = (shape[0], math.prod(shape[1:]))
        # the mean 3, looking ahead 3, s, rate, difference
        others = per_element(shape, state=0, flop=3 * bool(self.momentum) * (1 + self.nesterov) + 3)
        return duality_cost(flat, "linear", "spectral", self.orthogonalization, bool(self.momentum)).plus(others)


class MuonOptimizer(FirstOrder):
    """Groups have a role, and with it the fields of `Muon` that concern it."""

    def fused(self, batch: Batch) -> bool:
        return batch.group["role"] not in HIDDEN and adam_fused(batch, decoupled=True)

    def directions(self, batch: Batch) -> list[Tensor]:
        group: dict[str, Any] = batch.group
        if group["role"] not in HIDDEN:
            return adam_directions(batch)

        def orthogonal(M: Tensor) -> Tensor:
            X = M.bfloat16() if group["precision"] == "bfloat16" else M
            return ns.orthogonalize(X, group["orthogonalization"]).to(M.dtype)

        matrices = [m.flatten(1) for m in averaged(batch)]
        found = by_shape(orthogonal, matrices)
        torch._foreach_mul_(found, [scale(m.shape[0], m.shape[1], group["adjust"]) for m in matrices])
        return [f.view(p.shape) for f, p in zip(found, batch.params, strict=True)]


def scale(out: int, in_: int, adjust: str) -> float:
    """s of one matrix."""
    return math.sqrt(max(1.0, out / in_)) if adjust == "original" else 0.2 * math.sqrt(max(out, in_))
