"""How large a model is and what a token costs, in named conventions.

`standard` counts every matrix product and convolution of the model: the layers, the output layer, attention scores and
weighted sums over the full T x T square (as the kernels' own counters do), and the LSTM's recurrence. `6n` and
`6n_total` are the approximations 6 N and 6 N_total FLOP per token of Kaplan et al. 2020 and Hoffmann et al. 2022, N
without the experts that a token does not pass through. A backward pass costs twice a forward pass, but for the layer
that reads an image, whose input needs no gradient. Embedding look-ups, norms and activations are not counted in any of
them. The optimizer is counted on top of any of them when asked: its FLOP per step, not per token, by the rules of
`optimizers.costs`.

The tokens of an image are its values: `standard` is what an image costs, divided by their number. 6 N takes each weight
to be used once for each token, so of a model of images it says nothing.

The products by which a reparameterization forms the weights are matrix products of the model, so `standard` counts
them, once for each step and so the less for each token the larger the batch; 6 N does not see them. N is the size of
the model, in weights, whatever number of trained parameters stands for them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from algoprogress.ablations.architectures import ArchitectureConfig
from algoprogress.ablations.optimizers import OptimizerConfig
from algoprogress.ablations.optimizers.costs import Cost
from algoprogress.ablations.reparameterizations import ReparameterizationConfig, Shapes, linear_layers, shape

BACKWARD = 2.0  # each product of the forward pass has two in the backward pass


def n_params(architecture: ArchitectureConfig, vocab_size: int, context: int) -> int:
    """Non-embedding trainable parameters: Kaplan et al. 2020's N."""
    return architecture.parameters(vocab_size, context)[0]


def n_params_total(architecture: ArchitectureConfig, vocab_size: int, context: int) -> int:
    """All trainable parameters; a tied table counts once."""
    return architecture.parameters(vocab_size, context)[1]


def _standard(architecture: ArchitectureConfig, vocab_size: int, context: int) -> float:
    parts = architecture.forward_flop(vocab_size, context)
    return sum(parts.values()) * (1 + BACKWARD) - parts.get("input", 0.0)


def _6n(architecture: ArchitectureConfig, vocab_size: int, context: int) -> float:
    return 6.0 * (n_params(architecture, vocab_size, context) - architecture.idle_parameters())


def _6n_total(architecture: ArchitectureConfig, vocab_size: int, context: int) -> float:
    return 6.0 * (n_params_total(architecture, vocab_size, context) - architecture.idle_parameters())


CONVENTIONS: dict[str, Callable[[ArchitectureConfig, int, int], float]] = {
    "standard": _standard,
    "6n": _6n,
    "6n_total": _6n_total,
}


@lru_cache(maxsize=512)
def linear_shapes(architecture: ArchitectureConfig, vocab_size: int, context: int) -> Shapes:
    """The linear layers of a model but its output layer, from a model without memory: nothing is drawn."""
    import torch

    with torch.device("meta"):
        model = architecture.build(vocab_size, context)
    return {name: shape(layer) for name, layer in linear_layers(model).items()}


def reparameterization_flop(
    reparameterization: ReparameterizationConfig | None,
    architecture: ArchitectureConfig,
    vocab_size: int,
    context: int,
    convention: str = "standard",
) -> float:
    """FLOP of one training step by which a reparameterization forms the weights; 0 in the approximations by N."""
    if reparameterization is None or convention != "standard":
        return 0.0
    return reparameterization.flop_per_step(linear_shapes(architecture, vocab_size, context))


def flop_per_token(
    architecture: ArchitectureConfig, vocab_size: int, context: int, convention: str = "standard"
) -> float:
    """FLOP of one training token, forward and backward.

    Args:
        architecture: the model's recipe.
        vocab_size: V.
        context: T, tokens.
        convention: `standard`, `6n` or `6n_total`.

    Raises:
        ValueError: an unknown convention.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"unknown FLOP convention {convention!r}; known: {', '.join(CONVENTIONS)}")
    return CONVENTIONS[convention](architecture, vocab_size, context)


@lru_cache(maxsize=1024)
def optimizer_cost(
    optimizer: OptimizerConfig,
    architecture: ArchitectureConfig,
    vocab_size: int,
    context: int,
    reparameterization: ReparameterizationConfig | None = None,
) -> Cost:
    """What one optimizer step over a model's trained parameters costs, in FLOP, and keeps, in numbers.

    The model is built without memory for its weights: nothing is drawn.

    Args:
        optimizer: the optimizer's recipe.
        architecture: the model's recipe.
        vocab_size: V.
        context: T, tokens.
        reparameterization: what is trained in place of the weights of linear layers.
    """
    import torch
    from torch import nn

    with torch.device("meta"):
        model = architecture.build(vocab_size, context)
        if reparameterization is not None:
            for name, layer in linear_layers(model).items():
                stand_in = nn.ParameterList([torch.empty(s) for s in reparameterization.trained_shapes(*shape(layer))])
                stand_in.register_parameter("bias", layer.bias)
                model.set_submodule(name, stand_in)
        return optimizer.total_cost(model)
