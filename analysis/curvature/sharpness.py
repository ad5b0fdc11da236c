"""How sharply does the loss rise along a step?  Directional sharpness v'Hv / |v|^2, Pan and Li 2023 (arXiv 2306.00204).

f(w + v) = f + g'v + v'Hv / 2 + ...: among steps of equal length and slope the one of least sharpness descends furthest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from algoprogress.analysis.curvature.problem import Block, Problem
    from algoprogress.analysis.curvature.products import Product

SHARES = (0.001, 0.01, 0.1, 0.5)  # of all coordinates, largest |v| first; 0.1 and 0.5 are the paper's clipped shares
STEPS = 10  # of equal length, from the start to the whole update


@dataclass(frozen=True)
class Sharpness:
    """v'Hv / |v|^2, and the coordinates' parts v_i (H v)_i / |v|^2 in it, largest |v_i| first."""

    value: float
    parts: NDArray[np.float64]

    def share(self, of: float) -> float:
        """The part of the sharpness that the given share of coordinates makes, those of largest |v| first.

        It may pass 1, or be negative, where other coordinates make parts of the other sign.
        """
        return float(self.parts[: max(1, round(of * len(self.parts)))].sum()) / self.value


def directional_sharpness(product: Product, v_n: Tensor) -> Sharpness:
    """The sharpness along v, which need not be of norm 1.

    Args:
        product: with the Hessian over v's coordinates.
        v_n: a direction.

    Raises:
        ValueError: v is zero or not finite.
    """
    v = v_n.double()
    squared = float(v @ v)
    if not (squared > 0 and np.isfinite(squared)):
        raise ValueError(f"the update has the squared length {squared}: only a step that leads somewhere has sharpness")
    parts = (v * product(v[None])[0] / squared).cpu().numpy()
    order = np.argsort(-v.abs().cpu().numpy(), kind="stable")
    return Sharpness(float(parts.sum()), parts[order])


def loss_along(problem: Problem, block: Block, v_n: Tensor, lengths: Sequence[float] | None = None) -> pd.DataFrame:
    """The loss at w + length v for each length; the parameters are put back.

    Args:
        problem: the loss.
        block: the coordinates of v.
        v_n: a direction.
        lengths: multiples of v; by default even ones from 0 to 1.

    Returns:
        [length, loss].
    """
    import torch

    parameters, moves = block.parameters(), block.spread(v_n[None])
    before = [p.data for p in parameters]
    rows = []
    try:
        for length in np.linspace(0, 1, STEPS + 1) if lengths is None else lengths:
            with torch.no_grad():
                for p, old, move in zip(parameters, before, moves, strict=True):
                    p.data = old + length * move[0]  # not in place, which would spoil graphs that hold the parameters
                each = [problem.loss(problem.outputs(batch), batch) for batch in problem.batches]
            rows.append((float(length), float(torch.stack(each).mean())))
    finally:
        for p, old in zip(parameters, before, strict=True):
            p.data = old
    return pd.DataFrame(rows, columns=["length", "loss"])
