"""train_together(specs) -> runs: what train(spec) gives for each of them, from one loop.

Shapes: K members, B sequences, T context, S steps.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from algoprogress.ablations.spec import RunSpec
from algoprogress.pipeline import checkpoint
from algoprogress.pipeline.batches import Batches, starts
from algoprogress.pipeline.bookkeeping import Bookkeeping, Run
from algoprogress.pipeline.data import Tokens
from algoprogress.pipeline.ensembles.choice import shape
from algoprogress.pipeline.ensembles.stack import Stack, State
from algoprogress.pipeline.evaluation import validate
from algoprogress.pipeline.policy import Policy
from algoprogress.pipeline.trainer import build
from algoprogress.results import StoreError

BEATS_PER_SECOND = 4.0  # of all members: each heartbeat is a small file


@dataclass
class _Member:
    spec: RunSpec
    model: nn.Module
    optimizer: torch.optim.Optimizer
    book: Bookkeeping
    order_SB: NDArray[np.int64]
    state: State = ()
    seconds: float = 0.0  # of its share, before it was interrupted


def train_together(
    specs: Sequence[RunSpec],
    tokens: Tokens,
    *,
    device: str = "cpu",
    n_threads: int = 1,
    on_progress: Callable[[str, dict[str, Any]], None] | None = None,
    checkpoint_paths: Mapping[str, str | Path] | None = None,
    checkpoint_seconds: float = 600.0,
    policy: Policy | None = None,
) -> Iterator[Run]:
    """Train runs of one shape with stacked weights, and yield each as it ends.

    A member's losses are those of `train(spec, tokens)` but for the order in which floating-point sums are taken. One
    that diverges leaves the stack, and the others go on. The time of a record is the member's share of the ensemble's.

    Args:
        specs: of one `shape`.
        tokens: the opened corpus.
        device: a torch device.
        n_threads: intra-op threads.
        on_progress: called now and then with a run_id and step, steps, tokens, loss, tokens_per_second.
        checkpoint_paths: run_id -> file or URL where the run is kept while it is unfinished, as `train` keeps it: an
            interrupted member may go on alone, and a run that was interrupted alone as a member. Who publishes a run
            removes it.
        checkpoint_seconds: between two checkpoints.
        policy: how a run alone is computed here; what cannot be done for several models at once is left to torch.

    Raises:
        ValueError: the specs differ in shape, one can only be trained alone, or the corpus does not fit them.
    """
    shapes = {shape(spec) for spec in specs}
    if len(shapes) != 1 or None in shapes:
        raise ValueError(
            "these runs have different shapes, dropout, batches that grow, a reparameterization, or an optimizer such "
            "as soap that is not continuous: train them one by one"
        )
    first, paths = specs[0], checkpoint_paths or {}
    if tokens.vocab_size != first.data.vocab_size:
        raise ValueError(f"the tokens have a vocabulary of {tokens.vocab_size}, the spec says {first.data.vocab_size}")
    torch.set_num_threads(n_threads)
    torch.set_default_dtype(torch.float32)
    where = torch.device(device)
    members = [_member(spec, tokens, where, paths.get(spec.run_id)) for spec in specs]
    keep, policy = _Checkpoints(paths, checkpoint_seconds), (policy or Policy()).stacked()
    for _, group in groupby(sorted(members, key=lambda m: m.book.step), key=lambda m: m.book.step):
        yield from _train(list(group), tokens, where, n_threads, on_progress, keep, policy)


def _member(spec: RunSpec, tokens: Tokens, device: torch.device, path: str | Path | None) -> _Member:
    """As it begins, or as it was when it was interrupted."""
    order_SB = starts(spec, len(tokens.train))
    if path is not None and checkpoint.exists(path):
        try:
            member = _Member(spec, *build(spec, device), Bookkeeping(spec, tokens), order_SB)
            state, kept = checkpoint.read(path, member.model, member.optimizer, device)
            member.book.resume(kept)
            member.state, member.seconds = state or (), kept["seconds"]
            return member
        except Exception as error:  # whatever is wrong with it, the run can begin again
            warnings.warn(f"{path} cannot be read ({error}): {spec.run_id} begins again", stacklevel=2)
    return _Member(spec, *build(spec, device), Bookkeeping(spec, tokens), order_SB)


@dataclass
class _Checkpoints:
    paths: Mapping[str, str | Path]
    seconds: float

    def write(self, members: list[_Member], state: State, share: float) -> None:
        for k, member in enumerate(members):
            path = self.paths.get(member.spec.run_id)
            own = tuple(s[k] for s in state) or None
            if path is not None:
                checkpoint.write(path, member.model, member.optimizer, own, member.book.kept(share + member.seconds))


def _train(
    members: list[_Member],
    tokens: Tokens,
    device: torch.device,
    n_threads: int,
    on_progress: Callable[[str, dict[str, Any]], None] | None,
    keep: _Checkpoints,
    policy: Policy,
) -> Iterator[Run]:
    """Of members that are at the same step."""
    first, step = members[0].spec, members[0].book.step
    order_SKB = np.stack([m.order_SB for m in members], axis=1)
    batches = Batches(tokens.train, order_SKB, first.data.context, device)
    state: State = tuple(torch.stack(part) for part in zip(*(m.state for m in members), strict=True))
    unread: list[tuple[int, Tensor, Tensor, list[float], float]] = []
    begun = reported = saved = since = time.perf_counter()
    resumed_at, shared = step, 0.0  # seconds of each member's share until `since`

    def share() -> float:
        return shared + (time.perf_counter() - since) / len(members)

    stack: Stack | None = None
    while members:
        if stack is None:
            stack = Stack([m.model for m in members], [m.spec.clip for m in members], first.dtype)
        rates = [m.spec.learning_rate_at(step) for m in members]
        batch = batches[step]
        with policy.active():  # never while the caller has a run, and does with it what it likes
            losses_K, norms_K, state = stack.gradients(batch[..., :-1], batch[..., 1:], state)
            for member, rate in zip(members, rates, strict=True):
                for group in member.optimizer.param_groups:
                    group["lr"] = rate
                member.optimizer.step()
        step += 1
        unread.append((step, losses_K, norms_K, rates, share()))
        if not members[0].book.due(step, len(unread)):
            continue

        losses = torch.stack([u[1] for u in unread]).tolist()
        norms = torch.stack([u[2] for u in unread]).tolist()
        for k, member in enumerate(members):
            for (at, _, _, rates_at, share_at), losses_at, norms_at in zip(unread, losses, norms, strict=True):
                member.book.note(at, losses_at[k], norms_at[k], rates_at[k], share_at + member.seconds)
            if member.book.wants_validation:
                with policy.active():
                    member.book.validated(validate(member.model, tokens, member.spec, device))
        unread.clear()

        now = time.perf_counter()
        late = now - reported > max(1.0, len(members) / BEATS_PER_SECOND)
        if on_progress is not None and (late or step == first.steps):
            reported = now
            speed = (step - resumed_at) * first.batch_tokens / (now - begun)
            for k, member in enumerate(members):
                on_progress(member.spec.run_id, member.book.beat(losses[-1][k], speed))

        ended = [m for m in members if m.book.over]
        if ended:
            shared, since = share(), time.perf_counter()
            left = [k for k, m in enumerate(members) if not m.book.over]
            members, state, stack = [members[k] for k in left], tuple(s[left] for s in state), None
            batches.keep(left)
            for member in ended:
                yield member.book.finish(shared + member.seconds, device, n_threads, policy)
        if members and now - saved > keep.seconds:
            try:
                keep.write(members, state, share())
            except StoreError as error:
                warnings.warn(f"{error} The ensemble goes on without checkpoints.", stacklevel=2)
                keep = _Checkpoints({}, keep.seconds)
            saved = time.perf_counter()
