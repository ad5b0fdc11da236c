"""A linear layer whose weight is R W0 P: W0 fixed, R and P orthogonal and trained.

The factors are applied to the weight, m n (b_R + b_P) products, or one after the other to the T inputs of a batch,
T (n b_P + m b_R) products: whichever is the shorter way, so to the weight in all but small batches. R and P act on
blocks of b shuffled coordinates; W0 is kept shuffled, so that a step need not do it.

Shapes: K weights stacked in one layer (query, key and value), m outputs of each, n inputs, N blocks of b coordinates,
c = b (b - 1) / 2 entries of Q.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algoprogress.ablations.reparameterizations.cayley import above_diagonal, rotation, skew


class _Reorder(torch.autograd.Function):
    """x[order] for a permutation; its gradient is a gather too, where torch would scatter and add."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order, inverse)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        order, inverse = ctx.saved_tensors
        return _Reorder.apply(grads[0], inverse, order), None, None


class POETLinear(nn.Module):
    """y = x (R W0 P)^T + bias, with R and P the Cayley maps of Q_R and Q_P; the bias is outside, so a merge keeps it.

    Each side rotates N b of its shuffled coordinates and leaves the others alone. Q = 0 is the plain layer. Of K
    stacked weights each has its own R and P.

    Args:
        W: the K weights to start from, (K, m, n).
        bias: of all of them, trained as it is.
        blocks_R: (N, b) of the outputs of one weight.
        blocks_P: (N, b) of the inputs.
        order: of the Cayley-Neumann series; None: the exact Cayley map.
        key: (seed, layer): with the number of merges it decides each shuffle.
    """

    W0_Knm: Tensor
    shuffle_R: Tensor
    unshuffle_R: Tensor
    shuffle_P: Tensor
    unshuffle_P: Tensor
    above_R: Tensor
    above_P: Tensor
    draw: Tensor

    def __init__(
        self,
        W: Tensor,
        bias: nn.Parameter | None,
        blocks_R: tuple[int, int],
        blocks_P: tuple[int, int],
        order: int | None,
        key: tuple[int, int],
    ) -> None:
        super().__init__()
        self.K, self.m, self.n = W.shape
        (self.N_R, self.b_R), (self.N_P, self.b_P) = blocks_R, blocks_P
        self.order = order
        self.bias = bias
        self.warned = False  # of a large Q, once for a model
        self.product: Literal["weight", "input"] | None = None  # None: by size
        self.Q_R = nn.Parameter(W.new_zeros(self.K * self.N_R, self.b_R * (self.b_R - 1) // 2))
        self.Q_P = nn.Parameter(W.new_zeros(self.K * self.N_P, self.b_P * (self.b_P - 1) // 2))
        self.register_buffer("above_R", above_diagonal(self.b_R), persistent=False)
        self.register_buffer("above_P", above_diagonal(self.b_P), persistent=False)
        self.register_buffer("draw", torch.tensor([*key, 0]))  # seed, layer, merges: all that the next shuffle needs
        for side, d in (("R", self.m), ("P", self.n)):  # of the rows of the stacked weights, each within its own
            self.register_buffer(f"shuffle_{side}", torch.empty(self.K * d, dtype=torch.long))
            self.register_buffer(f"unshuffle_{side}", torch.empty(self.K * d, dtype=torch.long))
        self.register_buffer("W0_Knm", W.new_empty(self.K, self.n, self.m))
        self._reinitialise(W)

    @torch.no_grad()
    def _reinitialise(self, W_Kmn: Tensor) -> None:
        """W0 <- W, Q <- 0, new shuffles."""
        rng = np.random.default_rng(self.draw.tolist())
        for shuffle, unshuffle in ((self.shuffle_R, self.unshuffle_R), (self.shuffle_P, self.unshuffle_P)):
            d = len(shuffle) // self.K
            shuffle.copy_(torch.from_numpy(np.concatenate([k * d + rng.permutation(d) for k in range(self.K)])))
            unshuffle.copy_(shuffle.argsort())
        W = W_Kmn.flatten(0, 1)[self.shuffle_R].unflatten(0, (self.K, self.m)).mT
        self.W0_Knm.copy_(W.flatten(0, 1)[self.shuffle_P].unflatten(0, (self.K, self.n)))
        self.Q_R.zero_()
        self.Q_P.zero_()

    @torch.no_grad()
    def merge(self) -> None:
        """W0 <- R W0 P, then Q <- 0 and new shuffles: the layer computes what it did before."""
        W = self.weights()
        self.draw[2] += 1
        self._reinitialise(W)

    def skew(self) -> tuple[Tensor, Tensor]:
        """(K N, b, b) matrices Q of the outputs and of the inputs."""
        return skew(self.Q_R, self.b_R, self.above_R), skew(self.Q_P, self.b_P, self.above_P)

    def rotations(self) -> tuple[Tensor, Tensor]:
        """(K, N, b, b) blocks of R and of P."""
        if self.b_R == self.b_P:
            Q = skew(torch.cat([self.Q_R, self.Q_P]), self.b_R, self.above_R)
            G_R, G_P = rotation(Q, self.order).split([len(self.Q_R), len(self.Q_P)])
        else:
            G_R, G_P = (rotation(Q, self.order) for Q in self.skew())
        return G_R.unflatten(0, (self.K, self.N_R)), G_P.unflatten(0, (self.K, self.N_P))

    def weights(self) -> Tensor:
        """R W0 P of each stacked weight, (K, m, n)."""
        G_R, G_P = self.rotations()
        W_Knm = self._unshuffle(_rotate(G_P.mT, self.W0_Knm), self.unshuffle_P, self.shuffle_P)
        return self._unshuffle(_rotate(G_R, W_Knm.mT), self.unshuffle_R, self.shuffle_R)

    def _unshuffle(self, W_Kdw: Tensor, unshuffle: Tensor, shuffle: Tensor) -> Tensor:
        return _Reorder.apply(W_Kdw.flatten(0, 1), unshuffle, shuffle).unflatten(0, (self.K, -1))

    def shorter(self, tokens: int) -> Literal["weight", "input"]:
        """To which of the two the factors are applied for a batch of so many inputs."""
        on_input = tokens * (self.n * self.b_P + self.m * self.b_R)
        return "input" if on_input < self.m * self.n * (self.b_R + self.b_P) else "weight"

    def forward(self, x: Tensor) -> Tensor:
        product, device = self.product or self.shorter(x.numel() // self.n), x.device.type
        lowered = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        with torch.autocast(device, enabled=False):  # in bfloat16 R would be orthogonal to 3e-3 only
            if product == "input":
                y = self._through(x.flatten(0, -2).to(self.W0_Knm.dtype))
                y = y if self.bias is None else y + self.bias
                return y.view(*x.shape[:-1], y.shape[1]).to(lowered or y.dtype)
            W = self.weights().flatten(0, 1)
        return F.linear(x, W, self.bias)

    def _through(self, x_Tn: Tensor) -> Tensor:
        """x (R W0 P)^T of all stacked weights side by side, (T, K m), without forming the product."""
        G_R, G_P = self.rotations()
        parts = []
        for k in range(self.K):
            into = self.shuffle_P.view(self.K, -1)[k] - k * self.n
            out = self.unshuffle_R.view(self.K, -1)[k] - k * self.m
            turned = _rotate(G_P[None, k], x_Tn[:, into].mT[None])[0].mT
            parts.append(_rotate(G_R[None, k], (turned @ self.W0_Knm[k]).mT[None])[0].mT[:, out])
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def R(self) -> Tensor:
        """The whole matrices R since the last merge, (K, m, m)."""
        return self._whole(self.rotations()[0], self.m, self.unshuffle_R)

    @torch.no_grad()
    def P(self) -> Tensor:
        """The whole matrices P since the last merge, (K, n, n)."""
        return self._whole(self.rotations()[1].mT, self.n, self.unshuffle_P).mT

    def _whole(self, G: Tensor, d: int, unshuffle: Tensor) -> Tensor:
        eye = torch.eye(d, dtype=G.dtype, device=G.device).expand(self.K, d, d)
        within = unshuffle.view(self.K, d) - d * torch.arange(self.K, device=G.device)[:, None]
        return torch.stack([M[i][:, i] for M, i in zip(_rotate(G, eye), within, strict=True)])

    def extra_repr(self) -> str:
        return (
            f"{self.K} x {self.m} x {self.n}, R={self.N_R} x {self.b_R}, P={self.N_P} x {self.b_P}, "
            f"order={self.order}, bias={self.bias is not None}"
        )


def _rotate(G_KNbb: Tensor, W_Kdw: Tensor) -> Tensor:
    """Diag(G, I) W: each block of b rows is multiplied by its G; the rows after the last block stay."""
    K, N, b, _ = G_KNbb.shape
    blocks = W_Kdw[:, : N * b].unflatten(1, (N, b)).flatten(0, 1)
    rotated = torch.bmm(G_KNbb.flatten(0, 1), blocks).unflatten(0, (K, N)).flatten(1, 2)
    return rotated if N * b == W_Kdw.shape[1] else torch.cat([rotated, W_Kdw[:, N * b :]], dim=1)
