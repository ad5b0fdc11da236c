"""POET with block stochastic sampling: all coordinates, shuffled and cut into blocks of b."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from algoprogress.ablations.config import Whole
from algoprogress.ablations.reparameterizations import reparameterizations
from algoprogress.ablations.reparameterizations.poet import POET


@reparameterizations.register("poet_bs")
class POETBlockStochastic(POET):
    """R = Psi^T Diag(G_1, ..., G_m/b) Psi with a random permutation Psi: each weight is changed twice in every step."""

    name: Literal["poet_bs"] = "poet_bs"
    # 8: the largest power of two that divides every width of the presets
    block: Whole = Field(8, ge=2, description="b; every width of the model is a multiple of it")

    def blocks(self, d: int) -> tuple[int, int]:
        if d % self.block:
            raise ValueError(
                f"{d} is not a multiple of the block {self.block}: take a block that divides every width, "
                "or another width"
            )
        return d // self.block, self.block
