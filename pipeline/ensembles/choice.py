"""Which runs may be trained together, and when it pays."""

from __future__ import annotations

import json

from algoprogress.ablations.spec import RunSpec

# The fields of a RunSpec in which the members of an ensemble may differ.
FREE = ("learning_rate", "optimizer", "schedule", "clip", "seed")


def shape(spec: RunSpec) -> str | None:
    """What runs that train together have in common, as text; None for a run that can only be trained alone.

    Dropout draws its masks from the generator of one run. A reparameterization has weights and steps of its own.
    """
    if spec.reparameterization is not None or getattr(spec.architecture, "dropout", 0.0):
        return None
    return json.dumps(spec.model_dump(mode="json", exclude=set(FREE)), sort_keys=True)
