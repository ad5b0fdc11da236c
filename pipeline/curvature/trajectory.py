"""The weights of a run at any of its steps: trained again up to there, since the store keeps losses and no weights.

A run is a function of its spec, the tokens and the machine's policy, so on one machine they are the very same weights.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from algoprogress.ablations.spec import RunSpec
from algoprogress.pipeline.batches import Batches, carried, starts
from algoprogress.pipeline.data import Tokens
from algoprogress.pipeline.gradient import State, backward, clip
from algoprogress.pipeline.objectives import examples
from algoprogress.pipeline.policy import Policy
from algoprogress.pipeline.trainer import build


def trajectory(
    spec: RunSpec, tokens: Tokens, last: int, policy: Policy | None = None, gradient_at_last: bool = True
) -> Iterator[nn.Module]:
    """The model after 0, 1, ..., `last` steps, with the gradient of the step that follows, clipped as the run clips it.

    It is one model, which the next step changes. After the last step of the run there is no following gradient: the
    parameters' `.grad` is None.

    Args:
        spec: the run.
        tokens: the opened corpus.
        last: at most the steps of the run.
        policy: how the steps are computed, which decides the last bits.
        gradient_at_last: whether the gradient at step `last` is wanted; it costs as much as a step.

    Raises:
        ValueError: the run is shorter than that.
    """
    if not 0 <= last <= spec.steps:
        raise ValueError(f"there is no step {last} in a run of {spec.steps} steps")
    policy, device = policy or Policy(), torch.device("cpu")
    torch.set_num_threads(1)
    model, optimizer = build(spec, device)
    batches = Batches(tokens.train, starts(spec, len(tokens.train)), spec.data.context, device)
    state: State = None
    for step in range(last + 1):
        if step < min(spec.steps, last + gradient_at_last):
            for group in optimizer.param_groups:
                group["lr"] = spec.learning_rate_at(step)
            with policy.active():  # not over the yield: who looks at the model has ways of their own
                batch = batches[step]
                x, y = examples(spec, batch, step)
                _, state = backward(model, x, y, carried(state, batch), spec.dtype)
                factor = 1.0 if spec.reparameterization is None else spec.reparameterization.clip_factor(step)
                clip(model, None if spec.clip is None else spec.clip * factor)
        yield model
        if step < last:
            with policy.active():
                optimizer.step()
                optimizer.zero_grad()
                if spec.reparameterization is not None:
                    spec.reparameterization.after_step(model, optimizer, step)
