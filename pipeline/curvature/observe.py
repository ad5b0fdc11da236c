"""Look at a run at some of its steps: what the store has is read, the rest is measured on one walk along the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from algoprogress.ablations.probes import Probe, Sharpness, Spectra
from algoprogress.ablations.spec import RunSpec
from algoprogress.pipeline import provenance
from algoprogress.pipeline.curvature import measure
from algoprogress.pipeline.curvature.measure import Measured, Nowhere, Parts
from algoprogress.pipeline.curvature.teller import Teller
from algoprogress.pipeline.curvature.trajectory import trajectory
from algoprogress.pipeline.curvature.updates import Follower
from algoprogress.pipeline.policy import Policy
from algoprogress.results.probefile import probe_id

if TYPE_CHECKING:
    from torch import Tensor

    from algoprogress.pipeline.data import Tokens
    from algoprogress.results import Store

Wanted = Sequence[tuple[Probe, Sequence[int]]]


@dataclass(frozen=True)
class Seen:
    """A probe at a step, and what came of it."""

    probe: Probe
    step: int
    rows: pd.DataFrame
    loss: float


class StoredParts:
    """Parts of a probe in a store, so that it goes on where it was interrupted."""

    def __init__(self, store: Store, kind: str, probe: str) -> None:
        self.store, self.kind, self.probe = store, kind, probe

    def part(self, number: int) -> pd.DataFrame | None:
        return self.store.part(self.kind, self.probe, number)

    def keep(self, number: int, rows: pd.DataFrame) -> None:
        self.store.keep_part(self.kind, self.probe, number, rows)


def observe(
    spec: RunSpec,
    wanted: Wanted,
    open_tokens: Callable[[], Tokens],
    policy: Policy,
    teller: Teller,
    store: Store | None = None,
) -> list[Seen]:
    """What each probe finds at each of its steps, by step and then in the order of `wanted`.

    Args:
        spec: the run, which is trained again up to the last step that is still to be measured.
        wanted: probes, each with its steps.
        open_tokens: opens the corpus; called only if there is something to measure.
        policy: of the training.
        teller: is told what is being measured.
        store: has what was measured before, and is given the rest.

    Raises:
        ValueError: a step that the run does not have, or what `measure` raises.
    """
    found: dict[tuple[int, int], Seen] = {}
    missing: dict[int, list[int]] = {}  # step -> which of `wanted`
    for k, (probe, steps) in enumerate(wanted):
        for step in steps:
            if store is not None and store.has_probe(probe.kind, spec.run_id, step, probe.how()):
                record, rows = store.probe(probe.kind, spec.run_id, step, probe.how())
                found[step, k] = Seen(probe, step, rows, record["loss"])
            else:
                missing.setdefault(step, []).append(k)
    if missing:
        for step, k, seen in _walk(spec, wanted, missing, open_tokens(), policy, teller, store):
            found[step, k] = seen
    return [found[key] for key in sorted(found)]


def _walk(
    spec: RunSpec,
    wanted: Wanted,
    missing: dict[int, list[int]],
    tokens: Tokens,
    policy: Policy,
    teller: Teller,
    store: Store | None,
) -> Any:
    followed = {step: [k for k in found if isinstance(wanted[k][0], Sharpness)] for step, found in missing.items()}
    names = list(dict.fromkeys(name for found in followed.values() for k in found for name in _names(wanted[k][0])))
    last, last_followed = max(missing), max((step for step, found in followed.items() if found), default=-1)
    followers: dict[str, Follower] = {}
    updates: dict[str, dict[str, Tensor]] = {}
    for step, model in enumerate(trajectory(spec, tokens, last, policy, gradient_at_last=last == last_followed)):
        if step <= last_followed:
            followers = followers or {name: Follower(name, model) for name in names}
            updates = {name: follower.update(model) for name, follower in followers.items()}
        for k in missing.get(step, []):
            probe = wanted[k][0]
            teller.place = f"step {step}: "
            if isinstance(probe, Spectra):
                done = measure.spectra(probe, model, spec, tokens, teller, _parts(store, spec, probe, step))
            else:
                of_probe = {name: updates[name] for name in probe.optimizers}
                done = measure.sharpness(probe, of_probe, model, spec, tokens, teller)
            if store is not None:
                publish(store, spec, probe, step, done)
            yield step, k, Seen(probe, step, done.rows, done.loss)


def _names(probe: Probe) -> tuple[str, ...]:
    return probe.optimizers if isinstance(probe, Sharpness) else ()


def _parts(store: Store | None, spec: RunSpec, probe: Spectra, step: int) -> Parts:
    if store is None:
        return Nowhere()
    return StoredParts(store, probe.kind, probe_id(probe.kind, spec.run_id, step, probe.how()))


def publish(store: Store, spec: RunSpec, probe: Probe, step: int, done: Measured) -> bool:
    """Into the store, with where it comes from; False if another process was faster."""
    about = {
        "kind": probe.kind,
        "run_id": spec.run_id,
        "step": step,
        "how": probe.how(),
        "spec": spec.model_dump(mode="json"),
        "loss": done.loss,
        "seconds": done.seconds,
        "at": provenance.now(),
    }
    return store.publish_probe({**about, **provenance.machine(), **provenance.code()}, done.rows)
