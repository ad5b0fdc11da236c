"""Which runs may be trained together, and when it pays.

On a GPU a small model waits for its kernels to be launched, so K models in one launch cost little more than one. On a
CPU only what is done once per operation is saved, and that is a large share of small operations alone: `algoprogress
bench ensembles` measures where.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from algoprogress.ablations.spec import RunSpec

# The fields of a RunSpec in which the members of an ensemble may differ: each has its own optimizer and its own data.
FREE = frozenset({"learning_rate", "optimizer", "schedule", "clip", "seed"})
CPU_MEMBERS = 8  # 16 are hardly faster, and what ends together is published together
GPU_MEMBERS = 16  # ours: not measured


@dataclass(frozen=True)
class Choice:
    """Which runs are trained together, and how many at once.

    Attributes:
        takes: whether a run may be; others of its `shape` then may too.
        least: with fewer, each is trained alone.
        most: members of one ensemble.
    """

    takes: Callable[[RunSpec], bool]
    least: int
    most: int

    @classmethod
    def where_it_pays(cls, device: str) -> Choice:
        """On a GPU wherever it is possible; on a CPU where it was measured to be faster."""
        return cls.always(device) if _is_gpu(device) else cls(_pays_on_a_cpu, 4, CPU_MEMBERS)

    @classmethod
    def always(cls, device: str) -> Choice:
        """Wherever it is possible."""
        return cls(lambda spec: shape(spec) is not None, 2, GPU_MEMBERS if _is_gpu(device) else CPU_MEMBERS)


def shape(spec: RunSpec) -> str | None:
    """What runs that train together have in common, as text; None for a run that can only be trained alone.

    Dropout draws its masks from the generator of one run. A reparameterization has weights and steps of its own.
    """
    if spec.reparameterization is not None or getattr(spec.architecture, "dropout", 0.0) > 0:  # type: ignore[arg-type]
        return None
    return json.dumps(spec.model_dump(mode="json", exclude=set(FREE)), sort_keys=True)


def _is_gpu(device: str) -> bool:
    return not device.startswith("cpu")


def _pays_on_a_cpu(spec: RunSpec) -> bool:
    return shape(spec) is not None and not spec.architecture.streams and spec.batch_tokens <= 512
