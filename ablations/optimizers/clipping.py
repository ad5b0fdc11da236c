"""Clipping as part of any optimizer: of the largest coordinates, or of the global norm, of a gradient or an update."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeVar

from pydantic import Field

from algoprogress.ablations.config import Config

if TYPE_CHECKING:
    from torch import Tensor

    from algoprogress.ablations.optimizers import OptimizerConfig

    C = TypeVar("C", bound=OptimizerConfig)

Of = Literal["gradient", "momentum", "update"]


class _Clipping(Config):
    of: Of = Field(
        "gradient",
        description="gradient: wherever it enters; momentum: only where it moves the weights, so that second moments "
        "and preconditioners see it whole; update: what is taken from the weights, decay not among it",
    )
    flop_per_element: ClassVar[float]

    def __call__(self, tensors: list[Tensor]) -> list[Tensor]:
        """The tensors of a whole model, clipped jointly; the ones given stay as they are."""
        raise NotImplementedError


class CoordinateClipping(_Clipping):
    """Every coordinate to [-t, t], t the |value| of rank floor(fraction N) among all N of the model: Pan and Li 2023.

    The share `fraction` of the coordinates ends at the threshold (more with ties); 0 changes nothing, and 1 leaves
    the signs, times the least |value|.
    """

    name: Literal["coordinate"] = "coordinate"
    fraction: float = Field(0.1, ge=0, le=1, description="0.1 for SGD, 0.5 for Adam: Pan and Li 2023")

    # |value|, two comparisons; quickselect's 2 (1 + ln 2) comparisons at the median, its worst rank (Knuth 1971)
    flop_per_element: ClassVar[float] = 3 + 2 * (1 + math.log(2))

    def __call__(self, tensors: list[Tensor]) -> list[Tensor]:
        import torch

        values = torch.cat([t.abs().flatten() for t in tensors])
        rank = math.floor(self.fraction * values.numel())
        if rank == 0:
            return tensors
        threshold = values.kthvalue(values.numel() - rank + 1).values
        return [t.clamp(-threshold.to(t.dtype), threshold.to(t.dtype)) for t in tensors]


class NormClipping(_Clipping):
    """All tensors times min(1, max_norm / their joint Euclidean norm): Pascanu et al. 2013."""

    name: Literal["norm"] = "norm"
    max_norm: float = Field(1.0, gt=0)

    flop_per_element: ClassVar[float] = 3  # square, sum, scale

    def __call__(self, tensors: list[Tensor]) -> list[Tensor]:
        import torch

        norm = torch.stack([n.double() for n in torch._foreach_norm(tensors)]).norm().item()
        return list(torch._foreach_mul(tensors, self.max_norm / norm)) if norm > self.max_norm else tensors


Clipping = Annotated[CoordinateClipping | NormClipping, Field(discriminator="name")]


def clipped(inner: C, fraction: float, of: Of = "gradient") -> C:
    """The same optimizer with its largest coordinates clipped, in float order and jointly over all parameters.

    >>> from algoprogress.ablations.optimizers.adam import Adam
    >>> clipped(Adam(), 0.5, of="momentum").clipping
    CoordinateClipping(of='momentum', name='coordinate', fraction=0.5)
    """
    return inner.model_copy(update={"clipping": CoordinateClipping(fraction=fraction, of=of)})


def norm_clipped(inner: C, max_norm: float = 1.0, of: Of = "gradient") -> C:
    """The same optimizer with a bound on the global norm."""
    return inner.model_copy(update={"clipping": NormClipping(max_norm=max_norm, of=of)})
