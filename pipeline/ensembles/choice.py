"""Which runs may be trained together, and when it pays.

On a GPU a small model waits for its kernels to be launched, so K models in one launch cost little more than one. On a
CPU only what is done once per operation is saved, and that is a large share of small operations alone: `algoprogress
bench ensembles` measures where.
"""

from __future__ import annotations

import json

from algoprogress.ablations.spec import RunSpec

# The fields of a RunSpec in which the members of an ensemble may differ: each has its own optimizer and its own data.
FREE = frozenset({"learning_rate", "optimizer", "schedule", "clip", "seed"})
LARGEST = {"cpu": 8, "cuda": 16}  # members; on a CPU 16 are hardly faster than 8, and more of them wait for each other


def shape(spec: RunSpec) -> str | None:
    """What runs that train together have in common, as text; None for a run that can only be trained alone.

    Dropout draws its masks from the generator of one run. A reparameterization has weights and steps of its own.
    """
    if spec.reparameterization is not None or getattr(spec.architecture, "dropout", 0.0) > 0:  # type: ignore[arg-type]
        return None
    return json.dumps(spec.model_dump(mode="json", exclude=set(FREE)), sort_keys=True)
