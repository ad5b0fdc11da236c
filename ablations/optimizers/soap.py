"""SOAP: Adam in the eigenbasis of Shampoo's two preconditioners."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from algoprogress.ablations.config import Whole
from algoprogress.ablations.optimizers import OptimizerConfig, optimizers, parameter_groups
from algoprogress.ablations.optimizers.base import Batch, FirstOrder
from algoprogress.ablations.optimizers.costs import Cost, orthonormal
from algoprogress.ablations.optimizers.roles import Role

SIDES = ("left", "right")


@optimizers.register("soap")
class SOAP(OptimizerConfig):
    """Vyas et al. 2024, as the authors' code has it.

    Q_L and Q_R are eigenvectors of the running G G^T and G^T G; Adam's second moment is kept of Q_L^T G Q_R, its first
    of G. The first step only fills the state. Vectors have Adam.
    """

    name: Literal["soap"] = "soap"
    weight_decay: float = Field(0.01, ge=0, description="0.01: the authors' code")
    beta1: float = Field(0.95, ge=0, lt=1, description="the authors' code")
    beta2: float = Field(0.95, ge=0, lt=1, description="the authors' code; of both kinds of second moment")
    eps: float = Field(1e-8, gt=0)
    every: Whole = Field(10, ge=1, description="steps between two QR steps towards the eigenvectors")
    largest: Whole = Field(10_000, ge=1, description="a longer side is not rotated")

    paper: ClassVar[str] = "Vyas et al. 2024"
    geometry: ClassVar[str] = "sign, in the eigenbasis"
    rates: ClassVar[tuple[float, ...]] = (0.01, 0.02, 0.04)
    continuous: ClassVar[bool] = False

    def build(self, model: nn.Module, learning_rate: float) -> SOAPOptimizer:
        groups = parameter_groups(model, self.weight_decay)
        return SOAPOptimizer(groups, learning_rate, **self.hyperparameters())

    def cost(self, shape: tuple[int, ...], role: Role) -> Cost:
        n = math.prod(shape)
        rotated = [s for s in (shape[0], math.prod(shape[1:])) if s <= self.largest] if len(shape) > 1 else []
        return Cost(
            state=2 * n + sum(2 * s * s for s in rotated),
            elementwise=13 * n + sum(3 * s * s for s in rotated),
            # G G^T; Q^T G, Q^T m and Q u; now and then L Q and Q^T (L Q)'s diagonal
            products=sum(2.0 * s * n * 4 + 2.0 * s**3 / self.every for s in rotated),
            factorizations=sum(orthonormal(s) for s in rotated) / self.every,
        )


class SOAPOptimizer(FirstOrder):
    def directions(self, batch: Batch) -> list[Tensor]:
        group, means, squares = batch.group, batch.buffers("exp_avg"), batch.buffers("exp_avg_sq")
        updates = []
        for i, (grad, raw, state) in enumerate(zip(batch.grads, batch.raw, batch.states, strict=True)):
            if "step" not in state:
                state["step"] = 0
                _accumulate(_matrix(raw), state, group)
                updates.append(torch.zeros_like(grad))
                continue
            step = state["step"] = state["step"] + 1
            rotated = _rotate(_matrix(raw), state)
            means[i].lerp_(grad, 1 - group["beta1"])
            squares[i].lerp_(rotated.square().view_as(grad), 1 - group["beta2"])
            root = squares[i].sqrt().add_(group["eps"])
            update = _rotate(_rotate(_matrix(means[i]), state) / root.view_as(rotated), state, back=True)
            correction = math.sqrt(1 - group["beta2"] ** step) / (1 - group["beta1"] ** step)
            updates.append(update.view_as(grad) * correction)
            _accumulate(_matrix(raw), state, group)
            if step % group["every"] == 0:
                squares[i].copy_(_turn(_matrix(squares[i]), state).view_as(grad))
        return updates


def _matrix(tensor: Tensor) -> Tensor:
    return tensor.flatten(1) if tensor.ndim > 1 else tensor


def _rotate(M: Tensor, state: dict[str, Any], back: bool = False) -> Tensor:
    """Q_L^T M Q_R, or Q_L M Q_R^T; a side without Q stays as it is."""
    left, right = state.get("left_q"), state.get("right_q")
    if left is not None:
        M = (left if back else left.mT) @ M
    if right is not None:
        M = M @ (right.mT if back else right)
    return M


def _accumulate(G: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """The running G G^T and G^T G; at the first gradient, their eigenvectors too."""
    if G.ndim < 2:
        return
    for side, M in zip(SIDES, (G, G.mT), strict=True):
        if M.shape[0] > group["largest"]:
            continue
        if side not in state:
            state[side] = M.new_zeros(M.shape[0], M.shape[0])
        state[side].lerp_(M @ M.mT, 1 - group["beta2"])
        if f"{side}_q" not in state:
            state[f"{side}_q"] = _eigenvectors(state[side])


def _eigenvectors(A: Tensor) -> Tensor:
    """Columns by falling eigenvalue; NaN for what is not finite, so that a run that diverges ends as one."""
    return torch.linalg.eigh(A).eigenvectors.flip(-1) if bool(A.isfinite().all()) else A * torch.nan


def _turn(squares: Tensor, state: dict[str, Any]) -> Tensor:
    """One step of orthogonal iteration on each Q; the second moments in the order of the new columns."""
    for side, dim in zip(SIDES, (0, 1), strict=True):
        if side not in state:
            continue
        Q, product = state[f"{side}_q"], state[side] @ state[f"{side}_q"]
        order = (Q * product).sum(0).argsort(descending=True)
        squares = squares.index_select(dim, order)
        power = product.index_select(1, order)
        state[f"{side}_q"] = torch.linalg.qr(power).Q if bool(power.isfinite().all()) else power * torch.nan
    return squares
