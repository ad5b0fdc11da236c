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
CPU_LEAST = 8  # 4 are no faster than alone
# Tokens of a step times width: the numbers in one activation. Beside runs alone with compiled kernels `bench ensembles`
# shows 1.2 times and more up to here with 8 members; at twice as many 1.0 to 1.1 times, and less beyond.
CPU_ACTIVATION = 4_096
# Ours, not measured: cuDNN has one launch for all time steps of a run, an ensemble a few for each time step.
GPU_MEMBERS, GPU_LEAST, GPU_LEAST_RECURRENT = 16, 2, 8


@dataclass(frozen=True)
class Choice:
    """Which runs are trained together, and how many at once.

    Attributes:
        least: the fewest runs of a `shape` that are worth an ensemble; None for a run that is trained alone.
        most: members of one ensemble.
    """

    least: Callable[[RunSpec], int | None]
    most: int

    @classmethod
    def where_it_pays(cls, device: str) -> Choice:
        """On a GPU wherever it is possible; on a CPU where it was measured to be faster."""
        return cls(_least_on_a_gpu, GPU_MEMBERS) if _is_gpu(device) else cls(_least_on_a_cpu, CPU_MEMBERS)

    @classmethod
    def always(cls, device: str) -> Choice:
        """Wherever it is possible."""
        most = GPU_MEMBERS if _is_gpu(device) else CPU_MEMBERS
        return cls(lambda spec: None if shape(spec) is None else 2, most)


def shape(spec: RunSpec) -> str | None:
    """What runs that train together have in common, as text; None for a run that can only be trained alone.

    Only models that predict the next token are batched over runs: masks and batch statistics are of one run.
    Dropout draws its masks from the generator of one run. Batches that grow are no stack of one shape. A
    reparameterization has weights and steps of its own. An optimizer that is not continuous makes another run of the
    last bits in which a batched product differs.
    """
    dropout = getattr(spec.architecture, "dropout", 0.0) > 0  # type: ignore[arg-type]
    routed = getattr(spec.architecture, "experts", 1) > 1  # tokens of each expert are gathered, by numbers known late
    if spec.architecture.objective != "next token" or spec.batch_stages > 1:
        return None
    if dropout or routed or spec.reparameterization is not None or not spec.optimizer.continuous:
        return None
    return json.dumps(spec.model_dump(mode="json", exclude=set(FREE)), sort_keys=True)


def _is_gpu(device: str) -> bool:
    return not device.startswith("cpu")


def _least_on_a_gpu(spec: RunSpec) -> int | None:
    if shape(spec) is None:
        return None
    return GPU_LEAST_RECURRENT if spec.architecture.streams else GPU_LEAST


def _least_on_a_cpu(spec: RunSpec) -> int | None:
    """Small steps of models without memory; torch's own LSTM has no overhead per operation that could be saved."""
    width = getattr(spec.architecture, "width", CPU_ACTIVATION)
    small = spec.batch_tokens * width <= CPU_ACTIVATION
    return CPU_LEAST if shape(spec) is not None and small and not spec.architecture.streams else None
