"""How a compute budget C is split into model size N and tokens D, solved for models that can be built.

Every row says how far its true compute lies from the asked one: tokens come in whole batches, sizes in whole widths.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from pydantic import Field

from algoprogress.ablations import accounting
from algoprogress.ablations.architectures import ArchitectureConfig
from algoprogress.ablations.config import Config, Whole
from algoprogress.ablations.registry import Registry
from algoprogress.ablations.reparameterizations import ReparameterizationConfig


class Allocated(Config):
    """A model and a number of tokens for one budget."""

    architecture: ArchitectureConfig
    n_params: Whole = Field(description="non-embedding")
    n_params_total: Whole
    tokens: Whole
    budget: float = Field(description="asked, FLOP")
    compute: float = Field(description="true, FLOP, in the `standard` convention")

    @property
    def compute_error(self) -> float:
        """compute / budget - 1."""
        return self.compute / self.budget - 1


class AllocationConfig(Config):
    """A rule C -> N. D follows from what a token of the chosen model costs."""

    name: str
    counts: Literal["n_params", "n_params_total"] = "n_params"

    def ideal_n_params(self, compute: float) -> float:
        """N for a budget in FLOP, counted as `counts` says."""
        raise NotImplementedError


allocations: Registry[type[AllocationConfig]] = Registry("allocation", __name__)


@allocations.register("kaplan")
class Kaplan(AllocationConfig):
    """N = 1.3e9 (C / PF-day)^0.73, non-embedding: Kaplan et al. 2020, section 6.1."""

    name: Literal["kaplan"] = "kaplan"

    def ideal_n_params(self, compute: float) -> float:
        return 1.3e9 * (compute / 8.64e19) ** 0.73


@allocations.register("chinchilla")
class Chinchilla(AllocationConfig):
    """D = r N with C = 6 N D, all parameters; r = 20: Hoffmann et al. 2022."""

    name: Literal["chinchilla"] = "chinchilla"
    counts: Literal["n_params", "n_params_total"] = "n_params_total"
    tokens_per_param: float = Field(20.0, gt=0)

    def ideal_n_params(self, compute: float) -> float:
        return math.sqrt(compute / (6 * self.tokens_per_param))


@allocations.register("fixed_ratio")
class FixedRatio(AllocationConfig):
    """D = r N with C = 6 N D, non-embedding: the study's own ratio is about 40 (Gundlach et al. 2025)."""

    name: Literal["fixed_ratio"] = "fixed_ratio"
    tokens_per_param: float = Field(40.0, gt=0)

    def ideal_n_params(self, compute: float) -> float:
        return math.sqrt(compute / (6 * self.tokens_per_param))


def isoflop(
    compute: float,
    architectures: Iterable[ArchitectureConfig],
    vocab_size: int = 257,
    context: int = 128,
    batch_tokens: int = 2048,
    reparameterization: ReparameterizationConfig | None = None,
) -> list[Allocated]:
    """One row of an isoFLOP grid: each model with the whole batches of tokens that come nearest to the budget.

    Raises:
        ValueError: a model whose single batch costs two budgets or more, or a budget that is no positive number.
    """
    if not (math.isfinite(compute) and compute > 0):
        raise ValueError(f"a budget is a positive number of FLOP, not {compute!r}")
    rows = []
    for architecture in architectures:
        extra = accounting.reparameterization_flop(reparameterization, architecture, vocab_size, context)
        per_token = accounting.flop_per_token(architecture, vocab_size, context) + extra / batch_tokens
        batches = round(compute / (per_token * batch_tokens))
        if batches < 1:
            raise ValueError(
                f"one batch of {batch_tokens} tokens costs {per_token * batch_tokens:.3g} FLOP in a "
                f"{architecture.name} of {accounting.n_params(architecture, vocab_size, context):,} parameters, "
                f"more than the budget {compute:.3g}: take a smaller model or batch"
            )
        tokens = batches * batch_tokens
        rows.append(
            Allocated(
                architecture=architecture,
                n_params=accounting.n_params(architecture, vocab_size, context),
                n_params_total=accounting.n_params_total(architecture, vocab_size, context),
                tokens=tokens,
                budget=compute,
                compute=per_token * tokens,
            )
        )
    return rows


def allocate(
    compute: float,
    rule: AllocationConfig,
    family: Callable[[int], ArchitectureConfig],
    widths: Sequence[int],
    vocab_size: int = 257,
    context: int = 128,
    batch_tokens: int = 2048,
) -> Allocated:
    """The model of a family whose N is nearest, in log, to the rule's, with the tokens that the budget leaves it.

    Args:
        compute: C, FLOP.
        rule: C -> N.
        family: width -> architecture.
        widths: the widths that may be built.

    Raises:
        ValueError: the rule's N lies more than a factor 2 outside what the widths offer.
    """
    ideal = rule.ideal_n_params(compute)
    count = getattr(accounting, rule.counts)
    sizes = {w: count(family(w), vocab_size, context) for w in sorted(widths)}
    if not min(sizes.values()) / 2 <= ideal <= max(sizes.values()) * 2:
        raise ValueError(
            f"{rule.name} asks for {ideal:,.0f} parameters at {compute:.3g} FLOP; widths {min(sizes)} to {max(sizes)} "
            f"give {min(sizes.values()):,} to {max(sizes.values()):,}: widen the widths or change the budget"
        )
    width = min(sizes, key=lambda w: abs(math.log(sizes[w] / ideal)))
    return isoflop(compute, [family(width)], vocab_size, context, batch_tokens)[0]
