"""Learning-rate schedules: the factor on the peak rate at each step, each with a linear warm-up."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from algoprogress.ablations.config import Config
from algoprogress.ablations.registry import Registry


class ScheduleConfig(Config):
    """factor(step, steps) in (0, 1] for step = 0 .. steps - 1; the step before the first has factor 0.

    A decay to 0 reaches it at the last step.
    """

    name: str
    warmup: float = Field(0.1, ge=0, lt=1, description="share of all steps; 10 %: Gundlach et al. 2025")

    def warmup_steps(self, steps: int) -> int:
        return math.ceil(self.warmup * steps)

    def factor(self, step: int, steps: int) -> float:
        """Multiplier of the peak learning rate at `step` of a run of `steps`."""
        if not 0 <= step < steps:
            raise ValueError(f"step {step} is outside a run of {steps} steps")
        warm = self.warmup_steps(steps)
        if step < warm:
            return (step + 1) / warm
        # 0 at the end of warm-up, 1 at the last step
        progress = (step - warm + 1) / (steps - warm)
        return self.decay(progress, step + 1, max(warm, 1))

    def decay(self, progress: float, step: int, warm: int) -> float:
        raise NotImplementedError


schedules: Registry[type[ScheduleConfig]] = Registry("schedule", __name__)


@schedules.register("constant")
class Constant(ScheduleConfig):
    name: Literal["constant"] = "constant"

    def decay(self, progress: float, step: int, warm: int) -> float:
        return 1.0


@schedules.register("linear")
class Linear(ScheduleConfig):
    """Straight down to `final`."""

    name: Literal["linear"] = "linear"
    final: float = Field(0.1, ge=0, le=1)

    def decay(self, progress: float, step: int, warm: int) -> float:
        return 1 + (self.final - 1) * progress


@schedules.register("inverse_sqrt")
class InverseSqrt(ScheduleConfig):
    """sqrt(warm-up / step): Vaswani et al. 2017, with its peak at the end of the warm-up."""

    name: Literal["inverse_sqrt"] = "inverse_sqrt"

    def decay(self, progress: float, step: int, warm: int) -> float:
        return math.sqrt(warm / step)


@schedules.register("cosine")
class Cosine(ScheduleConfig):
    """Half a cosine down to `final`: Loshchilov and Hutter 2017; to 10 %: Hoffmann et al. 2022."""

    name: Literal["cosine"] = "cosine"
    final: float = Field(0.1, ge=0, le=1)

    def decay(self, progress: float, step: int, warm: int) -> float:
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


@schedules.register("wsd")
class WSD(ScheduleConfig):
    """Warm up, stay, decay linearly over the last `decay_share`: Hu et al. 2024; 20 %: Haegele et al. 2024."""

    name: Literal["wsd"] = "wsd"
    final: float = Field(0.0, ge=0, le=1)
    decay_share: float = Field(0.2, gt=0, le=1)

    def decay(self, progress: float, step: int, warm: int) -> float:
        left = min(1.0, (1 - progress) / self.decay_share)
        return self.final + (1 - self.final) * left
