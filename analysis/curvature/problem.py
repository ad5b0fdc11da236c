"""What is differentiated: a loss averaged over batches, and the blocks of its parameters.

The outputs are kept apart from the loss, since the Gauss-Newton matrix treats the two differently.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Problem:
    """L = mean over batches of loss(outputs(batch), batch).

    Attributes:
        batches: whatever `outputs` takes, each with the same weight: batches of one size make the mean that of tokens.
        outputs: what the model makes of a batch.
        loss: a scalar of those outputs.
    """

    batches: Sequence[Any]
    outputs: Callable[[Any], Tensor]
    loss: Callable[[Tensor, Any], Tensor]

    def batch_loss(self, i: int) -> Tensor:
        """Loss of batch i, with its graph.

        Raises:
            ValueError: the loss is no finite number, and so nothing can be said of its curvature.
        """
        batch = self.batches[i]
        found = self.loss(self.outputs(batch), batch)
        if not math.isfinite(value := float(found.detach())):
            raise ValueError(
                f"the loss of batch {i} is {value}: curvature needs a finite loss, so measure an earlier step or "
                "take a smaller learning rate"
            )
        return found

    def mean_loss(self) -> float:
        """L at the parameters as they are."""
        import torch

        with torch.no_grad():
            return sum(float(self.batch_loss(i)) for i in range(len(self.batches))) / len(self.batches)


@dataclass(frozen=True, eq=False)
class Piece:
    """A parameter tensor, or the rows first .. last - 1 of one that holds several weights on top of each other."""

    parameter: Tensor
    first: int = 0
    last: int | None = None

    @property
    def rows(self) -> slice:
        return slice(self.first, self.last)

    @property
    def whole(self) -> bool:
        return self.first == 0 and self.last is None

    @property
    def n(self) -> int:
        return self.parameter.numel() if self.whole else self.parameter[self.rows].numel()


@dataclass(frozen=True, eq=False)
class Block:
    """Coordinates of the parameters, in the order of its pieces: a diagonal block of the Hessian.

    Attributes:
        name: tells it from the others.
        group: what it is for, such as q, down or embedding.
        pieces: where its coordinates are.
    """

    name: str
    group: str
    pieces: tuple[Piece, ...]

    @property
    def n(self) -> int:
        return sum(piece.n for piece in self.pieces)

    def parameters(self) -> list[Tensor]:
        """Each tensor that it has a part in, once."""
        return list({id(piece.parameter): piece.parameter for piece in self.pieces}.values())

    def spread(self, V_Kn: Tensor) -> list[Tensor]:
        """K vectors of the block as (K, ...) tensors of its parameters' shapes and dtypes, zero outside the block."""
        import torch

        found = {id(p): torch.zeros(len(V_Kn), *p.shape, dtype=p.dtype, device=p.device) for p in self.parameters()}
        at = 0
        for piece in self.pieces:
            part = found[id(piece.parameter)][:, piece.rows] if piece.parameter.ndim else found[id(piece.parameter)]
            part.copy_(V_Kn[:, at : at + piece.n].reshape(part.shape))
            at += piece.n
        return list(found.values())

    def gather(self, tensors: list[Tensor]) -> Tensor:
        """The inverse of `spread`: (K, n) in float64 from one (K, ...) tensor for each of `parameters()`."""
        import torch

        of = dict(zip(map(id, self.parameters()), tensors, strict=True))
        parts = [of[id(p.parameter)] if p.whole else of[id(p.parameter)][:, p.rows] for p in self.pieces]
        return torch.cat([part.flatten(1).double() for part in parts], 1)


def whole(blocks: Sequence[Block], name: str = "all") -> Block:
    """One block of all coordinates of these: with it, the full Hessian."""
    return Block(name, name, tuple(piece for block in blocks for piece in block.pieces))


def grouped(blocks: Sequence[Block]) -> list[Block]:
    """One block for each group, in the order in which they come."""
    return [whole([b for b in blocks if b.group == group], group) for group in dict.fromkeys(b.group for b in blocks)]


def named(blocks: Sequence[Block], names: Sequence[str]) -> list[Block]:
    """The blocks of these names or groups.

    Raises:
        ValueError: there is none of some name.
    """
    for name in names:
        if not any(name in (block.name, block.group) for block in blocks):
            groups = ", ".join(dict.fromkeys(block.group for block in blocks))
            known = ", ".join(block.name for block in blocks)
            raise ValueError(f"there is no block {name!r}; the groups are {groups}, and the blocks {known}")
    return [block for block in blocks if block.name in names or block.group in names]
