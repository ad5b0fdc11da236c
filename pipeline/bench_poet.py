"""What does a training step with POET cost beside the plain model's, and beside the product formed on the input?

The peer forms x P^T W0^T R^T from the left, as POET-X does (arXiv 2603.05500), on the same layers, shuffles and maps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.optimizers.adamw import AdamW
from algoprogress.ablations.reparameterizations.poet import POET, poet_layers
from algoprogress.ablations.reparameterizations.poet_bs import POETBlockStochastic
from algoprogress.ablations.reparameterizations.poet_linear import POETLinear
from algoprogress.pipeline.bench import compare

MODEL = Transformer.preset("modern", width=256, n_layers=2, head_dim=64, ff_ratio=3)
VOCAB_SIZE, CONTEXT = 257, 128
BATCH_TOKENS = 2048  # the default of a RunSpec
STEPS = 3  # in one timing
# Of the cost of the plain step. The FLOP counted are 3 % more for b = 32 and 7 % for b = 64.
AT_MOST = 1.35
FASTER = 1.4  # than the input-centric formulation


class InputCentric(nn.Module):
    """The same layer with its factors applied to the input one after the other; the weight is never formed."""

    def __init__(self, layer: POETLinear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        G_R, G_P = layer.rotations()
        flat = x.flatten(0, -2)
        out = []
        for k in range(layer.K):
            within_P = layer.shuffle_P.view(layer.K, -1)[k] - k * layer.n
            within_R = layer.unshuffle_R.view(layer.K, -1)[k] - k * layer.m
            turned = _blocks(flat[:, within_P], G_P[k])
            out.append(_blocks(turned @ layer.W0_Knm[k], G_R[k])[:, within_R])
        y = torch.cat(out, dim=1) if layer.K > 1 else out[0]
        return (y if layer.bias is None else y + layer.bias).view(*x.shape[:-1], -1)


def _blocks(x: Tensor, G_Nbb: Tensor) -> Tensor:
    """x Diag(G)^T, a batched product over blocks of columns."""
    N, b, _ = G_Nbb.shape
    return torch.bmm(x.view(-1, N, b).transpose(0, 1), G_Nbb.mT).transpose(0, 1).reshape(len(x), N * b)


def stepper(poet: POET | None, input_centric: bool = False) -> Callable[[], None]:
    """`STEPS` training steps of a model, with AdamW, each time they are called."""
    torch.manual_seed(0)
    model = MODEL.build(VOCAB_SIZE, CONTEXT)
    if poet is not None:
        poet.apply(model)
    optimizer = AdamW().build(model, 1e-3)
    parameters = list(model.parameters())
    layers = poet_layers(model) if input_centric else {}
    for name, layer in layers.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, InputCentric(layer))
    x, y = torch.randint(VOCAB_SIZE, (2, BATCH_TOKENS // CONTEXT, CONTEXT))
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
            compare(f"{case}; the input-centric product", stepper(poet), stepper(poet, input_centric=True), FASTER),
        ]
    return found
