"""Nesterov's accelerated gradient: m <- beta m + g, W <- W - lr (g + beta m)."""

from __future__ import annotations

from typing import ClassVar, Literal

from algoprogress.ablations.optimizers import optimizers
from algoprogress.ablations.optimizers.momentum import Momentum


@optimizers.register("nesterov")
class Nesterov(Momentum):
    """Nesterov 1983 in the form of Sutskever et al. 2013: `Momentum` with its look-ahead on from the start."""

    name: Literal["nesterov"] = "nesterov"  # type: ignore[assignment]
    nesterov: bool = True

    paper: ClassVar[str] = "Nesterov 1983"
