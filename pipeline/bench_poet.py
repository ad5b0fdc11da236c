"""What does a training step with POET cost beside the plain model's, and beside the product formed the other way?

The input-centric peer forms x P^T W0^T R^T from the left, as POET-X does (arXiv 2603.05500), on the same layers,
shuffles and maps. With few tokens that is the shorter way, which a layer then takes: the last case.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.optimizers.adamw import AdamW
from algoprogress.ablations.reparameterizations.poet import POET, poet_layers
from algoprogress.ablations.reparameterizations.poet_bs import POETBlockStochastic
from algoprogress.pipeline.bench import compare

MODEL = Transformer.preset("modern", width=256, n_layers=2, head_dim=64, ff_ratio=3)
VOCAB_SIZE, CONTEXT = 257, 128
BATCH_TOKENS = 2048  # the default of a RunSpec
STEPS = 3  # in one timing
# Of the cost of the plain step. The FLOP counted are 3 % more for b = 32 and 7 % for b = 64.
AT_MOST = 1.35
FASTER = 1.4  # than the input-centric formulation


Product = Literal["weight", "input"]


def stepper(poet: POET | None, product: Product | None = None, tokens: int = BATCH_TOKENS) -> Callable[[], None]:
    """`STEPS` training steps of a model, with AdamW, each time they are called; the product by size without one."""
    torch.manual_seed(0)
    model = MODEL.build(VOCAB_SIZE, CONTEXT)
    if poet is not None:
        poet.apply(model)
    optimizer = AdamW().build(model, 1e-3)
    parameters = list(model.parameters())
    for layer in poet_layers(model).values() if product else ():
        layer.product = product
    x, y = torch.randint(VOCAB_SIZE, (2, tokens // CONTEXT, CONTEXT))
    done = 0

    def steps() -> None:
        nonlocal done
        for _ in range(STEPS):
            F.cross_entropy(model(x)[0].flatten(0, 1), y.flatten()).backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if poet is not None:
                poet.after_step(model, optimizer, done)
            done += 1

    return steps


def rows() -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    found = []
    for block in (32, 64):
        poet = POETBlockStochastic(block=block)
        case = f"POET-BS training step, width 256, block {block}, {BATCH_TOKENS:,} tokens"
        found += [
            compare(f"{case}; the plain model with AdamW", stepper(poet), stepper(None), 1 / AT_MOST),
            compare(f"{case}; the input-centric product", stepper(poet), stepper(poet, "input"), FASTER),
        ]
    few = f"POET-BS training step, width 256, block 32, {CONTEXT} tokens; the weight-centric product"
    poet = POETBlockStochastic(block=32)
    return [*found, compare(few, stepper(poet, tokens=CONTEXT), stepper(poet, "weight", CONTEXT), 1.0)]
