"""Steepest descent under a norm for each role of a tensor: one family, with sign descent, Muon and Scion in it.

The step minimises <G, dW> + ||dW||^2 / (2 lr): dW = -lr ||G||_* T(G). Over layers with the norm max_l ||dW_l|| / r_l,
the dual norms add up to one global step, dW_l = -lr (sum_k r_k ||G_k||_*) r_l T_l: Bernstein and Newhouse 2024.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from algoprogress.ablations.config import Config
from algoprogress.ablations.optimizers import OptimizerConfig, optimizers, role_groups
from algoprogress.ablations.optimizers import newton_schulz as ns
from algoprogress.ablations.optimizers.base import Batch, FirstOrder, by_shape
from algoprogress.ablations.optimizers.costs import Cost, matrix, singular
from algoprogress.ablations.optimizers.norms import NORMS, NormName, duality_map
from algoprogress.ablations.optimizers.roles import ROLES, Role


class Geometry(Config):
    """The norm of one role, and the radius of the ball that a unit step reaches the edge of."""

    norm: NormName
    radius: float = Field(1.0, gt=0)


OfRole = Annotated[Geometry, BeforeValidator(lambda value: {"norm": value} if isinstance(value, str) else value)]
ELEMENTWISE = {"sign": 1, "scaled_sign": 2, "frobenius": 3, "rms": 3, "column": 3, "row": 3}  # FLOP of T; else 4


@optimizers.register("steepest")
class SteepestDescent(OptimizerConfig):
    """Bernstein and Newhouse 2024, "Old Optimizer, New Norm"; a role's norm may be given by name alone."""

    name: Literal["steepest"] = "steepest"
    linear: OfRole = Geometry(norm="rms_to_rms")
    embedding: OfRole = Geometry(norm="l1_to_rms")
    head: OfRole = Geometry(norm="rms_to_linf")
    vector: OfRole = Geometry(norm="rms")
    convolution: OfRole = Geometry(norm="rms_to_rms")
    length: Literal["unit", "dual", "modular"] = Field(
        "unit",
        description="of a step: lr alone; lr times the tensor's own dual norm; or lr times the sum of all dual norms",
    )
    beta: float = Field(0.9, ge=0, lt=1, description="of the running mean of the gradient; 0: the gradient itself")
    nesterov: bool = Field(False, description="step along (1 - beta) g + beta m")
    orthogonalization: ns.Method = Field("quintic", description="for norms of singular values; svd is exact")

    paper: ClassVar[str] = "Bernstein and Newhouse 2024"
    geometry: ClassVar[str] = "one for each role"
    rates: ClassVar[tuple[float, ...]] = (0.01, 0.02, 0.04)

    def build(self, model: nn.Module, learning_rate: float) -> SteepestOptimizer:
        groups = geometry_groups(self, model)
        return SteepestOptimizer(groups, learning_rate, **self.hyperparameters())

    def cost(self, shape: tuple[int, ...], role: Role) -> Cost:
        average = 3 * bool(self.beta) + 3 * self.nesterov
        extra = 1 + (0 if self.length == "unit" else 2)  # radius; <G, T>
        return duality_cost(shape, role, getattr(self, role).norm, self.orthogonalization, bool(self.beta)).plus(
            Cost(elementwise=(average + extra + 2) * matrix_numbers(shape))
        )


def geometry_groups(config: OptimizerConfig, model: nn.Module) -> list[dict[str, Any]]:
    """A group for each role, with the norm and the radius that the recipe's field of that name has."""
    groups = role_groups(model, config.weight_decay)
    for group in groups:
        geometry: Geometry = getattr(config, group["role"])
        group |= {"norm": geometry.norm, "radius": geometry.radius}
    return groups


def matrix_numbers(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def duality_cost(shape: tuple[int, ...], role: Role, norm: NormName, method: ns.Method, kept: bool) -> Cost:
    """T(G) of one tensor, and the running mean that it is taken of."""
    n = matrix_numbers(shape)
    state = float(n if kept else 0)
    if not NORMS[norm].spectral:
        return Cost(state=state, elementwise=ELEMENTWISE.get(norm, 4) * n)
    stack, out, in_ = matrix(shape, role)
    if method == "svd":
        product = 2.0 * out * in_ * min(out, in_)
        return Cost(state, 2.0 * n, stack * product, stack * singular(out, in_))
    form = {"cubic": (ns.CUBIC, ns.CUBIC_STEPS), "quintic": (ns.QUINTIC, ns.QUINTIC_STEPS)}[method]
    return Cost(state, 4.0 * n, stack * ns.flop(out, in_, *form))


def as_matrix(tensor: Tensor, role: Role) -> Tensor:
    """(..., out, in) of a parameter: an embedding's columns are tokens, a convolution is a stack over its taps."""
    if role == "vector" or tensor.ndim < 2:
        return tensor.reshape(-1, 1)
    if role == "convolution":
        return tensor.flatten(2).permute(2, 0, 1)
    return tensor.mT if role == "embedding" else tensor


def as_parameter(matrices: Tensor, like: Tensor, role: Role) -> Tensor:
    """The inverse of `as_matrix`."""
    if role == "convolution" and like.ndim >= 2:
        return matrices.permute(1, 2, 0).reshape(like.shape)
    if role == "embedding" and like.ndim == 2:
        return matrices.mT
    return matrices.reshape(like.shape)


class SteepestOptimizer(FirstOrder):
    """Groups have role, norm, radius, length, beta, nesterov, orthogonalization."""

    def joint_directions(self, batches: list[Batch]) -> list[list[Tensor]]:
        moved = [averaged(batch) for batch in batches]
        mapped = [duality_maps(batch, means) for batch, means in zip(batches, moved, strict=True)]
        lengths = {batch.group["length"] for batch in batches}
        if lengths <= {"unit"}:
            return mapped
        duals = [
            [float((g * t).sum()) for g, t in zip(means, maps, strict=True)]
            for means, maps in zip(moved, mapped, strict=True)
        ]
        total = sum(sum(dual) for batch, dual in zip(batches, duals, strict=True) if batch.group["length"] == "modular")
        return [
            list(torch._foreach_mul(maps, _lengths(batch.group["length"], dual, total)))
            for batch, maps, dual in zip(batches, mapped, duals, strict=True)
        ]


def _lengths(length: str, duals: list[float], total: float) -> list[float]:
    return {"unit": [1.0] * len(duals), "dual": duals, "modular": [total] * len(duals)}[length]


def averaged(batch: Batch) -> list[Tensor]:
    """The gradient that a step is taken along: its running mean, with Nesterov's look-ahead if asked."""
    means = batch.average("momentum_buffer", batch.group["beta"], batch.grads)
    if batch.group["beta"] and batch.group["nesterov"]:
        return list(torch._foreach_lerp(batch.grads, means, batch.group["beta"]))
    return means


def duality_maps(batch: Batch, gradients: list[Tensor]) -> list[Tensor]:
    """r T(G) of each tensor of a group; a convolution's norm is the number of taps times the largest over them."""
    group: dict[str, Any] = batch.group
    role: Role = group["role"]
    if role not in ROLES:
        raise ValueError(f"unknown role {role!r}; known: {', '.join(ROLES)}")
    orthogonalize = partial(ns.orthogonalize, method=group["orthogonalization"])

    def unit(G: Tensor) -> Tensor:
        taps = G.shape[-3] if role == "convolution" else 1
        return duality_map(group["norm"], G, orthogonalize) * (group["radius"] / taps)

    maps = by_shape(unit, [as_matrix(g, role) for g in gradients])
    return [as_parameter(m, g, role) for m, g in zip(maps, gradients, strict=True)]
