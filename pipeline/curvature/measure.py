"""One probe of one model: spectra of the blocks of its Hessian, or sharpness along the updates of optimizers."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from torch import Tensor, nn

from algoprogress.ablations.probes import Measurement, Sharpness, Spectra
from algoprogress.ablations.spec import RunSpec
from algoprogress.analysis.curvature.basis import MEMORY
from algoprogress.analysis.curvature.frames import rows_of
from algoprogress.analysis.curvature.heterogeneity import VECTORS
from algoprogress.analysis.curvature.problem import Block, Problem, grouped, named, whole
from algoprogress.analysis.curvature.products import Curvature, GaussNewton, Hessian
from algoprogress.analysis.curvature.quadrature import Estimate, spectrum
from algoprogress.analysis.curvature.sharpness import SHARES, directional_sharpness, loss_along
from algoprogress.analysis.curvature.trace import hutch, hutch_bytes
from algoprogress.pipeline.curvature.blocks import blocks_of
from algoprogress.pipeline.curvature.subject import batches_of, problem_of
from algoprogress.pipeline.curvature.teller import Teller
from algoprogress.pipeline.curvature.updates import as_vector, clipped
from algoprogress.pipeline.data import Tokens

KEPT = 8  # batches whose graphs stay in memory, each some times what a training step holds; others are built again


@dataclass(frozen=True)
class Measured:
    """What came of a probe: rows as the store keeps them, the loss on the tokens, and CPU seconds."""

    rows: pd.DataFrame
    loss: float
    seconds: float


class Parts(Protocol):
    """Where the parts of a long probe are kept until it is whole."""

    def part(self, number: int) -> pd.DataFrame | None: ...
    def keep(self, number: int, rows: pd.DataFrame) -> None: ...


class Nowhere:
    """Parts that are not kept."""

    def part(self, number: int) -> pd.DataFrame | None:
        return None

    def keep(self, number: int, rows: pd.DataFrame) -> None:
        """Nothing is kept."""


def spectra(probe: Spectra, model: nn.Module, spec: RunSpec, tokens: Tokens, teller: Teller, parts: Parts) -> Measured:
    """The spectrum of each block that the probe asks for.

    Args:
        probe: of what, with how many random directions and steps.
        model: at the step to be looked at; it stays as it is.
        spec: the run.
        tokens: of its corpus.
        teller: is told of each block.
        parts: has blocks that were measured before.

    Raises:
        ValueError: a block that does not exist, a loss that is not finite or cannot be differentiated twice.
    """
    begun = time.process_time()
    copied, problem = measured_problem(probe, model, spec, tokens)
    blocks = chosen(probe, blocks_of(copied))
    curvature = (GaussNewton if probe.matrix == "gauss_newton" else Hessian)(problem, blocks, KEPT)
    found = []
    for i, block in enumerate(blocks):
        rows = parts.part(i)
        if rows is None:
            teller.begin(f"{i + 1}/{len(blocks)} {block.name}")
            q = spectrum(curvature, block, probe.probes, probe.steps, probe.seed, on_step=teller.share)
            trace = trace_of(curvature, block, probe.trace_products, probe.seed)
            rows = rows_of(block.name, block.group, q, trace)
            parts.keep(i, rows)
        found.append(rows)
    return Measured(pd.concat(found, ignore_index=True), problem.mean_loss(), time.process_time() - begun)


def trace_of(curvature: Curvature, block: Block, products: int, seed: int, memory: int = 4 * MEMORY) -> Estimate | None:
    """The trace of a block by Hutch++; None where no products are asked for, or too much would have to be held."""
    if products and (needed := hutch_bytes(block.n, products)) > memory:
        warnings.warn(
            f"the trace of {block.name} is left out: {products} products of Hutch++ with {block.n:,} coordinates hold "
            f"{needed / 2**30:.1f} GiB, and {memory / 2**30:.1f} are allowed; ask for fewer with --trace-products",
            stacklevel=2,
        )
        return None
    return hutch(curvature.product(block), block.n, products, seed) if products else None


def measured_problem(probe: Measurement, model: nn.Module, spec: RunSpec, tokens: Tokens) -> tuple[nn.Module, Problem]:
    """A copy of the model as the probe measures it, and its loss on the probe's tokens."""
    batches = batches_of(spec, tokens, probe.batches, probe.batch_tokens)
    return problem_of(model, batches, probe.dtype, probe.batch_norm)


def chosen(probe: Spectra, blocks: Sequence[Block]) -> list[Block]:
    """The blocks that a probe asks for.

    Raises:
        ValueError: there is no block of some name, or none is left.
    """
    found = named(blocks, probe.blocks) if probe.blocks else list(blocks)
    if probe.by == "matrix" and not probe.blocks:
        found = [block for block in found if block.group not in VECTORS]
    if not found:
        raise ValueError("this model has no weight matrix: ask for its blocks with --by tensor")
    if probe.by == "full":
        return [whole(found)]
    found = grouped(found) if probe.by == "group" else found
    if probe.sample is None or probe.sample >= len(found):
        return found
    drawn = np.random.default_rng(probe.seed).choice(len(found), probe.sample, replace=False)
    return [found[i] for i in sorted(drawn)]


def sharpness(
    probe: Sharpness,
    updates: Mapping[str, dict[str, Tensor]],
    model: nn.Module,
    spec: RunSpec,
    tokens: Tokens,
    teller: Teller,
) -> Measured:
    """Sharpness of each optimizer's update, as it is and clipped, and the loss along it.

    Args:
        probe: on which tokens, and what share of coordinates is clipped.
        updates: optimizer -> parameter -> what its next step would take it by.
        model, spec, tokens, teller: see `spectra`.
    """
    begun = time.process_time()
    copied, problem = measured_problem(probe, model, spec, tokens)
    everything = whole(blocks_of(copied))
    product, rows = Hessian(problem, [everything], KEPT).product(everything), []
    for name, update in updates.items():
        teller.begin(name)
        v = as_vector(everything, update, copied)
        plain = directional_sharpness(product, v)
        of_clipped = directional_sharpness(product, as_vector(everything, clipped(update, probe.clip), copied))
        rows.append(
            {
                "update_of": name,
                "sharpness": plain.value,
                "clipped": of_clipped.value,
                **{f"top_{100 * share:g}%": plain.share(share) for share in SHARES},
                "loss_along": loss_along(problem, everything, v)["loss"].tolist(),
            }
        )
    return Measured(pd.DataFrame(rows), problem.mean_loss(), time.process_time() - begun)
