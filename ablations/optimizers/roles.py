"""Which part a parameter plays: found from the module that owns it and its place in the model, never from its name."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn

Role = Literal["linear", "embedding", "head", "vector", "convolution"]
ROLES: tuple[Role, ...] = get_args(Role)
# decayed; norms, biases and embeddings never are
MATRICES: frozenset[Role] = frozenset({"linear", "head", "convolution"})


def roles(model: nn.Module) -> dict[Tensor, Role]:
    """The role of each trainable parameter, in the order of `model.parameters()`.

    embedding: a table of nn.Embedding, also where an output layer is tied to it. head: the last nn.Linear; where the
    model has an embedding, only if it has as many outputs as an embedding has rows. linear: matrices of every other
    linear, recurrent or attention layer. convolution: kernels. vector: all else, among them norms, biases, and the
    parameters of modules that are not torch's.
    """
    found: dict[Tensor, Role] = {}
    rows = set[int]()
    for module in model.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            found[module.weight] = "embedding"
            rows.add(module.num_embeddings)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.RNNBase | nn.MultiheadAttention):
            for parameter in module.parameters(recurse=False):
                if parameter.ndim == 2:
                    found.setdefault(parameter, "linear")
        elif isinstance(module, nn.modules.conv._ConvNd):
            found.setdefault(module.weight, "convolution")
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1:]
    alone = len(found) == 1
    if last and found.get(last[0].weight) == "linear" and not alone and (not rows or last[0].out_features in rows):
        found[last[0].weight] = "head"
    return {p: found.get(p, "vector") for p in model.parameters() if p.requires_grad}
