"""AdamW: Adam's step, and apart from it W <- (1 - lr decay) W."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from algoprogress.ablations.optimizers import optimizers
from algoprogress.ablations.optimizers.adam import Adam


@optimizers.register("adamw")
class AdamW(Adam):
    """Loshchilov and Hutter 2019."""

    name: Literal["adamw"] = "adamw"  # type: ignore[assignment]
    weight_decay: float = Field(0.01, ge=0, description="0.01: Gundlach et al. 2025; on matrices alone")

    paper: ClassVar[str] = "Loshchilov and Hutter 2019"
    decoupled: ClassVar[bool] = True
