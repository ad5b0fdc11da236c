"""Which blocks does a model's Hessian have?  One for each weight, as the mathematics counts them and not the memory.

A product that computes several projections at once holds several weights, each a block of its own; a tied output layer
is the embedding's.
"""

from __future__ import annotations

from torch import nn

from algoprogress.ablations.architectures.transformer import Stacked
from algoprogress.ablations.optimizers.roles import roles
from algoprogress.analysis.curvature.problem import Block, Piece

STACKED = {
    "qkv": ("q", "k", "v"),
    "kv": ("k", "v"),
    "up": ("gate", "up"),
}  # the projections of a Stacked layer, in its order
# where the field's word is not ours or torch's
GROUPS = {
    "out": "o",
    "weight_ih": "input",
    "weight_hh": "recurrent",
    "position": "embedding",
    "class_token": "embedding",
}
NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


def blocks_of(model: nn.Module) -> list[Block]:
    """A block for each weight, bias and norm, in the order of the model.

    Groups: embedding, head, q, k, v, o, gate, up, down, input and recurrent of an LSTM, conv, fc and patch of models of
    images, norm, bias; of another matrix the name of its layer.
    """
    found: list[Block] = []
    part = roles(model)
    seen = set[int]()
    for path, module in model.named_modules():
        for attribute, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen or not parameter.requires_grad or not parameter.numel():
                continue
            seen.add(id(parameter))
            layer = path.rpartition(".")[2]
            full = ".".join(filter(None, (path, attribute)))
            if isinstance(module, NORMS):
                found.append(Block(full, "norm", (Piece(parameter),)))
            elif "bias" in attribute:
                found.append(Block(full, "bias", (Piece(parameter),)))
            elif part[parameter] in ("embedding", "head"):
                found.append(Block(path or attribute, part[parameter], (Piece(parameter),)))
            elif isinstance(module, Stacked) and module.n_stacked > 1:
                found += _stacked(path, layer, module)
            elif part[parameter] == "convolution":
                found.append(Block(path, "conv", (Piece(parameter),)))
            elif attribute == "weight" and layer.isdecimal():  # one of a list of layers
                found.append(Block(path, path.split(".")[-2], (Piece(parameter),)))
            elif attribute == "weight":
                group = GROUPS.get(layer, layer)
                found.append(Block(".".join([*path.split(".")[:-1], group]), group, (Piece(parameter),)))
            else:
                found.append(
                    Block(full, GROUPS.get(attribute.rpartition("_l")[0] or attribute, attribute), (Piece(parameter),))
                )
    return found


def _stacked(path: str, layer: str, module: Stacked) -> list[Block]:
    names = STACKED.get(layer, tuple(f"{layer}{k}" for k in range(module.n_stacked)))
    rows = module.weight.shape[0] // module.n_stacked
    prefix = path.split(".")[:-1]
    return [
        Block(".".join([*prefix, name]), name, (Piece(module.weight, k * rows, (k + 1) * rows),))
        for k, name in enumerate(names)
    ]
