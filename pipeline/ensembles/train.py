"""train_together(specs) -> runs: what train(spec) gives for each of them, from one loop.

Shapes: K members, B sequences, T context.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from algoprogress.ablations.spec import RunSpec
from algoprogress.pipeline.batches import starts
from algoprogress.pipeline.bookkeeping import Bookkeeping, Run
from algoprogress.pipeline.data import Tokens
from algoprogress.pipeline.ensembles.choice import shape
from algoprogress.pipeline.ensembles.stack import Stack, State
from algoprogress.pipeline.evaluation import validate
from algoprogress.pipeline.trainer import build

BEATS_PER_SECOND = 4.0  # of all members: each heartbeat is a small file


@dataclass
class _Member:
    spec: RunSpec
    model: nn.Module
    optimizer: torch.optim.Optimizer
    book: Bookkeeping
    order_SB: NDArray[np.int64]


def train_together(
    specs: Sequence[RunSpec],
    tokens: Tokens,
    *,
    device: str = "cpu",
    n_threads: int = 1,
    on_progress: Callable[[str, dict[str, Any]], None] | None = None,
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

    Raises:
        ValueError: the specs differ in shape, one can only be trained alone, or the corpus does not fit them.
    """
    shapes = {shape(spec) for spec in specs}
    if len(shapes) != 1 or None in shapes:
        raise ValueError("runs of different shapes, or with dropout or a reparameterization, are trained one by one")
    first = specs[0]
    if tokens.vocab_size != first.data.vocab_size:
        raise ValueError(f"the tokens have a vocabulary of {tokens.vocab_size}, the spec says {first.data.vocab_size}")
    torch.set_num_threads(n_threads)
    torch.set_default_dtype(torch.float32)
    where = torch.device(device)
    text, within = np.asarray(tokens.train), np.arange(first.data.context + 1)
    members = [_Member(spec, *build(spec, where), Bookkeeping(spec, tokens), starts(spec, len(text))) for spec in specs]
    step, state, unread = 0, State(), list[tuple[int, Tensor, Tensor, list[float], float]]()
    begun = reported = time.perf_counter()
    shared, since = 0.0, begun  # seconds of each member's share until then

    def seconds() -> float:
        return shared + (time.perf_counter() - since) / len(members)

    stack: Stack | None = None
    while members:
        if stack is None:
            stack = Stack([m.model for m in members], [m.spec.clip for m in members], first.dtype)
        rates = [m.spec.learning_rate * m.spec.schedule.factor(step, m.spec.steps) for m in members]
        starts_KB = np.stack([m.order_SB[step] for m in members])
        batch = torch.from_numpy(text[starts_KB[..., None] + within].astype(np.int64)).to(where)
        losses_K, norms_K, state = stack.gradients(batch[..., :-1], batch[..., 1:], state)
        for member, rate in zip(members, rates, strict=True):
            for group in member.optimizer.param_groups:
                group["lr"] = rate
            member.optimizer.step()
        step += 1
        unread.append((step, losses_K, norms_K, rates, seconds()))
        if not members[0].book.due(step, len(unread)):
            continue

        losses = torch.stack([u[1] for u in unread]).tolist()
        norms = torch.stack([u[2] for u in unread]).tolist()
        for k, member in enumerate(members):
            for (at, _, _, rates_at, seconds_at), losses_at, norms_at in zip(unread, losses, norms, strict=True):
                member.book.note(at, losses_at[k], norms_at[k], rates_at[k], seconds_at)
            if member.book.wants_validation:
                member.book.validated(validate(member.model, tokens, member.spec, where))
        unread.clear()

        now = time.perf_counter()
        late = now - reported > max(1.0, len(members) / BEATS_PER_SECOND)
        if on_progress is not None and (late or step == first.steps):
            reported = now
            for k, member in enumerate(members):
                speed = member.book.step * first.batch_tokens / (now - begun)
                on_progress(member.spec.run_id, member.book.beat(losses[-1][k], speed))

        ended = [m.book for m in members if m.book.over]
        if ended:
            shared, since = seconds(), time.perf_counter()
            left = [k for k, m in enumerate(members) if not m.book.over]
            members, state, stack = [members[k] for k in left], tuple(s[left] for s in state), None
            for book in ended:
                yield book.finish(shared, where, n_threads)
