"""How fast is an optimizer step, beside torch's own? The weights are those of the Transformer, at two widths.

Equal work: the same tensors in the same groups, under the same gradients. torch.optim.Muon orthogonalizes one matrix at
a time, in bfloat16; ours stacks equal shapes and iterates in float32, or in bfloat16 where the processor multiplies in
it, as the case says. Where it does not, torch's Muon is slow for that reason alone: so it is timed in float32 as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import nn

from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.optimizers import parameter_groups
from algoprogress.ablations.optimizers.adamw import AdamW
from algoprogress.ablations.optimizers.muon import Muon
from algoprogress.ablations.optimizers.roles import roles

VOCAB_SIZE, CONTEXT = 512, 64
AT_MOST = 0.7  # of torch's time, for Muon where matrices are small
# "no slower": two medians of five of one and the same step lie up to 5 % apart on a busy machine
NO_SLOWER = 0.95
BFLOAT16_FROM = 128  # a narrower matrix is faster in float32 even on processors that multiply in bfloat16
# width -> (layers, Muon steps, AdamW steps) that are timed at once: tens of milliseconds for the faster side
SIZES = {64: (4, 10, 200), 256: (2, 1, 40)}


def rows() -> list[dict[str, Any]]:
    from algoprogress.pipeline.bench import compare

    torch.set_num_threads(1)
    found = []
    for width, (n_layers, muon_steps, adam_steps) in SIZES.items():
        hidden = Hidden(model(width, n_layers))
        precision = "bfloat16" if width >= BFLOAT16_FROM and bfloat16_products() else "weights"
        ours = Muon(precision=precision).build(hidden, 0.02)
        peer = torch.optim.Muon(hidden.parameters(), lr=0.02, weight_decay=0.0)
        said = precision if precision == "bfloat16" else "float32"
        case = f"Muon step, width {width}, {len(list(hidden.parameters()))} matrices, {said}; torch.optim.Muon"
        target = 1 / AT_MOST if width == min(SIZES) else NO_SLOWER
        found.append(compare(case, repeat(ours, muon_steps), repeat(peer, muon_steps), target))
        single = Muon().build(hidden, 0.02)
        case = f"Muon step, width {width}, float32; torch.optim.Muon made to iterate in float32"
        found.append(compare(case, repeat(single, muon_steps), in_float32(repeat(peer, muon_steps)), 1.0))

        config, whole = AdamW(), with_gradients(model(width, n_layers))
        fused = torch.optim.AdamW(parameter_groups(whole, config.weight_decay), lr=0.01, betas=(0.9, 0.95), fused=True)
        case = f"{adam_steps} AdamW steps, width {width}, {sum(p.numel() for p in whole.parameters()):,} parameters; "
        found.append(
            compare(
                case + "torch.optim.AdamW(fused=True)",
                repeat(config.build(whole, 0.01), adam_steps),
                repeat(fused, adam_steps),
                NO_SLOWER,
            )
        )
    return found


class Hidden(nn.Module):
    """The hidden matrices of a model and nothing else, since torch.optim.Muon takes nothing else."""

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        matrices = [p for p, role in roles(whole).items() if role == "linear"]
        self.layers = nn.ModuleList(nn.Linear(p.shape[1], p.shape[0], bias=False) for p in matrices)
        self.table = nn.Embedding(1, 1).requires_grad_(False)  # with it, the last layer is no output layer
        with_gradients(self)

    def parameters(self, recurse: bool = True) -> Any:
        return (p for p in super().parameters(recurse) if p.requires_grad)


def model(width: int, n_layers: int) -> nn.Module:
    torch.manual_seed(0)
    return Transformer.preset("modern", width=width, n_layers=n_layers).build(VOCAB_SIZE, CONTEXT)


def with_gradients(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        parameter.grad = torch.randn_like(parameter)
    return module


def repeat(optimizer: torch.optim.Optimizer, steps: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(steps):
            optimizer.step()

    return run


def in_float32(work: Callable[[], None]) -> Callable[[], None]:
    """The same work, with torch's conversion to bfloat16 a copy."""

    def run() -> None:
        with mock.patch.object(torch.Tensor, "bfloat16", lambda tensor: tensor.clone()):
            work()

    return run


def bfloat16_products() -> bool:
    """Whether this processor has instructions for products in bfloat16."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
