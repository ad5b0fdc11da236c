"""The recipes of 2017 and of 2023 and the LSTM, at each compute budget: which size, which batch, which rates to sweep.

Sizes follow 20 tokens per parameter (Hoffmann et al. 2022), all parameters counted. Transformers of one budget have one
width and depth whatever the recipe, so that arms differ in what they name and in nothing else; their tokens differ, so
that they cost the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from typing import Any

from algoprogress.ablations import accounting
from algoprogress.ablations.allocation import Chinchilla, isoflop
from algoprogress.ablations.architectures import ArchitectureConfig
from algoprogress.ablations.architectures.lstm import LSTM
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.optimizers.adam import Adam
from algoprogress.ablations.presets import Preset
from algoprogress.ablations.schedules import InverseSqrt
from algoprogress.ablations.spec import Data, Evaluation, RunSpec
from algoprogress.ablations.study import Entry

# N(0, .02), the usual start, is too small for models this narrow: either Transformer learns faster from these.
# Logits are products of a tied table with as many numbers of size 1 as the model is wide: wider models start smaller.
LARGEST_STD, LOGIT_STD = 0.1, 0.8
CONTEXT = 128  # Gundlach et al. 2025
WIDTHS = tuple(range(16, 2049, 16))
LSTM_WIDTHS = tuple(range(8, 4097, 8))
WIDTH_PER_LAYER = 32  # a layer for each: between Gundlach et al.'s 16 and the 64 and more of large models
# Three rates a factor 2 apart, and further where the best is at an edge; an optimizer that is not here has its own.
RATES = {"adam": (0.005, 0.01, 0.02), "adamw": (0.005, 0.01, 0.02)}
LSTM_RATES = (0.01, 0.02, 0.04)
# Momenta of SGD that are swept beside its rates: that of Polyak's heavy ball as most use it, Gundlach et al. 2025's of
# .98, and one between. The longest step is rate / (1 - momentum), so each begins with rates of the same longest steps.
MOMENTA = {"momentum": (0.9, 0.95, 0.98), "nesterov": (0.9, 0.95, 0.98)}

Sized = Callable[[float], RunSpec]  # budget -> recipe of that size, its tokens and rate still to be set


def batch_tokens(compute: float) -> int:
    """Tokens of a step, a power of two: about 256 (C / 3e10)^0.4, which gives small runs their many small steps."""
    return max(256, 2 ** round(math.log2(256 * (compute / 3e10) ** 0.4)))


def transformer(width: int, **fields: Any) -> Transformer:
    n_layers = max(1, width // WIDTH_PER_LAYER)
    init = {"init": "xavier", "init_std": min(LARGEST_STD, round(LOGIT_STD / math.sqrt(width), 3))}
    return Transformer(**{**Transformer.presets["modern"], **init, "width": width, "n_layers": n_layers, **fields})


def lstm(width: int, n_layers: int) -> LSTM:
    return LSTM(width=width, n_layers=n_layers)


def deepening(width: int) -> int:
    """Layers of an LSTM that grows deeper: 1 below a width of 48, one more with each doubling."""
    return 1 + max(0, math.floor(math.log2(width / 24)))


def nearest(compute: float, family: Callable[[int], ArchitectureConfig], widths: Iterable[int], vocab_size: int) -> int:
    """The width whose parameters are nearest, in log, to those that 20 tokens each would use the budget up with."""
    ideal = Chinchilla().ideal_n_params(compute)

    def off(width: int) -> float:
        return abs(math.log(accounting.n_params_total(family(width), vocab_size, CONTEXT) / ideal))

    best, least = 0, math.inf
    for width in widths:
        if off(width) > least:
            return best  # parameters grow with the width
        best, least = width, off(width)
    return best


def recipe(architecture: ArchitectureConfig, preset: Preset, compute: float, **fields: Any) -> RunSpec:
    """A run of one batch: the rest of its tokens, and its rate, are set when it takes its place on a ladder."""
    state = "carry" if architecture.streams else "reset"
    return RunSpec(
        **{
            "architecture": architecture,
            "tokens": batch_tokens(compute),
            "batch_tokens": batch_tokens(compute),
            "learning_rate": 0.01,
            "data": Data(context=CONTEXT, tokenizer=preset.tokenizer),
            "evaluation": Evaluation(tokens=preset.validation_tokens, state=state),
            **fields,
        }
    )


def modern(preset: Preset) -> Sized:
    """Pre-RMSNorm, rotary, SwiGLU, no biases; AdamW, cosine."""

    def at(compute: float) -> RunSpec:
        width = nearest(compute, transformer, WIDTHS, Data(tokenizer=preset.tokenizer).vocab_size)
        return recipe(transformer(width), preset, compute)

    return at


def retro(preset: Preset) -> Sized:
    """Post-LayerNorm, sinusoidal, GELU, biases; Adam, inverse square root. As large as `modern`."""

    def at(compute: float) -> RunSpec:
        width = nearest(compute, transformer, WIDTHS, Data(tokenizer=preset.tokenizer).vocab_size)
        architecture = transformer(width, **Transformer.presets["retro"])
        return recipe(architecture, preset, compute, optimizer=Adam(), schedule=InverseSqrt())

    return at


def recurrent(preset: Preset, depth: Callable[[int], int]) -> Sized:
    """LSTM; AdamW, cosine, as `modern`."""

    def family(width: int) -> LSTM:
        return lstm(width, depth(width))

    def at(compute: float) -> RunSpec:
        width = nearest(compute, family, LSTM_WIDTHS, Data(tokenizer=preset.tokenizer).vocab_size)
        return recipe(family(width), preset, compute)

    return at


def with_budget(spec: RunSpec, compute: float, **fields: Any) -> RunSpec:
    """The recipe with the tokens that the budget leaves it."""
    (row,) = isoflop(
        compute,
        [spec.architecture],
        spec.data.vocab_size,
        spec.data.context,
        spec.batch_tokens,
        spec.reparameterization,
    )
    return spec.model_copy(update={"tokens": row.tokens, **fields})


def rates(spec: RunSpec) -> tuple[float, ...]:
    """Where the sweep of a recipe begins."""
    if spec.optimizer.name in MOMENTA:
        first, longest = MOMENTA[spec.optimizer.name][0], 1 - spec.optimizer.momentum  # type: ignore[attr-defined]
        return tuple(float(f"{rate * longest / (1 - first):.4g}") for rate in spec.optimizer.rates)
    return LSTM_RATES if spec.architecture.streams else RATES.get(spec.optimizer.name, spec.optimizer.rates)


def momenta(spec: RunSpec) -> tuple[RunSpec, ...]:
    """The recipe at each momentum that is swept; itself alone where none is."""
    return tuple(
        spec.model_copy(update={"optimizer": spec.optimizer.model_copy(update={"momentum": momentum})})
        for momentum in MOMENTA.get(spec.optimizer.name, ())
    ) or (spec,)


def sweep(sized: Sized, budgets: Collection[float]) -> tuple[Entry, ...]:
    """One size a budget, at each rate; of SGD with momentum at each momentum too."""
    return tuple(
        Entry(spec=with_budget(spec, budget, learning_rate=rate), compute_budget=budget, stage="sweep")
        for budget in budgets
        for spec in momenta(sized(budget))
        for rate in rates(spec)
    )


def main(sized: Sized, budgets: Collection[float], seeds: int) -> tuple[Entry, ...]:
    """One size a budget and seed; their rates are placeholders until the sweep is done."""
    return tuple(
        Entry(spec=with_budget(spec, budget, seed=seed), compute_budget=budget)
        for budget in budgets
        for spec in [sized(budget)]
        for seed in range(seeds)
    )
