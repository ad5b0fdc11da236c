"""POET with fully stochastic sampling: one block of coordinates, drawn at random, a fixed fraction of each width."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from algoprogress.ablations.reparameterizations import reparameterizations
from algoprogress.ablations.reparameterizations.poet import POET


@reparameterizations.register("poet_fs")
class POETFullyStochastic(POET):
    """R = I + D (G - I_b) D^T, where D selects b = fraction * m of m coordinates; P likewise of n."""

    name: Literal["poet_fs"] = "poet_fs"
    fraction: float = Field(0.5, gt=0, le=1, description="b of each width; 1: a rotation of the whole space")

    def blocks(self, d: int) -> tuple[int, int]:
        b = round(self.fraction * d)
        if b < 2 or abs(b - self.fraction * d) > 1e-9 * d:
            raise ValueError(
                f"{self.fraction:g} of {d} is {self.fraction * d:g}, not a whole number of 2 or more coordinates: "
                "take another fraction, or another width"
            )
        return 1, b
