"""The tables that the commands print: spectra of blocks, their heterogeneity, and the sharpness of updates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import nn

from algoprogress.ablations.optimizers import optimizers
from algoprogress.ablations.spec import RunSpec
from algoprogress.analysis.curvature import heterogeneity
from algoprogress.analysis.curvature.problem import Block, grouped, named, whole
from algoprogress.analysis.curvature.products import Curvature, GaussNewton, Hessian
from algoprogress.analysis.curvature.quadrature import Quadrature, spectrum
from algoprogress.analysis.curvature.sharpness import SHARES, directional_sharpness, loss_along
from algoprogress.analysis.curvature.trace import hutch
from algoprogress.pipeline.curvature.blocks import blocks_of
from algoprogress.pipeline.curvature.subject import BatchNorm, Dtype, batches_of, moments, problem_of
from algoprogress.pipeline.curvature.updates import Follower, as_vector, clipped
from algoprogress.pipeline.data import Tokens
from algoprogress.pipeline.policy import Policy

SMOOTH = 400  # points at which a density is kept for a figure
TRACE_PRODUCTS = 30  # of Hutch++: less than the spectrum takes, and its error falls as their number


@dataclass(frozen=True)
class How:
    """How curvature is measured: on how many tokens, with how many probes and steps of Lanczos."""

    probes: int
    steps: int
    n_batches: int
    batch_tokens: int
    dtype: Dtype
    seed: int
    gauss_newton: bool = False
    batch_norm: BatchNorm = "eval"

    def curvature(self, model: nn.Module, spec: RunSpec, tokens: Tokens) -> tuple[Curvature, list[Block], nn.Module]:
        """The matrix, its blocks, and the model that they are of."""
        batches = batches_of(spec, tokens, self.n_batches, self.batch_tokens)
        copied, problem = problem_of(model, batches, self.dtype, self.batch_norm)
        blocks = blocks_of(copied)
        return (GaussNewton if self.gauss_newton else Hessian)(problem, blocks), blocks, copied

    def spectra(
        self, curvature: Curvature, blocks: Sequence[Block], say: Callable[[str], None]
    ) -> dict[str, Quadrature]:
        """The spectrum of each block, by name."""
        found = {}
        for i, block in enumerate(blocks):
            say(f"{i + 1}/{len(blocks)} {block.name}")
            found[block.name] = spectrum(curvature, block, self.probes, self.steps, self.seed)
        return found


def spectrum_table(
    at: Sequence[str | int],
    spec: RunSpec,
    tokens: Tokens,
    policy: Policy,
    how: How,
    by: str,
    only: Sequence[str],
    say: Callable[[str], None],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row for each step and block, and densities for a figure.

    Args:
        at: steps.
        spec: the run.
        tokens: of its corpus.
        policy: of the training.
        how: of the measurement.
        by: full, tensor or group.
        only: blocks or groups; all where there is none.
        say: is told of each block.

    Returns:
        [at, block, group, n, smallest, largest, trace, rms, and the standard errors `_se`]; the trace by Hutch++. And
        [at, block, group, largest_magnitude, eigenvalue, density].
    """
    rows, curves = [], []
    for step, wanted, model in moments(spec, tokens, list(at), policy):
        if not wanted:
            continue
        curvature, blocks, _ = how.curvature(model, spec, tokens)
        chosen = named(blocks, only) if only else blocks
        chosen = {"full": lambda b: [whole(b)], "group": grouped, "tensor": list}[by](chosen)
        spectra = how.spectra(curvature, chosen, say)
        for block in chosen:
            q = spectra[block.name]
            trace = hutch(curvature.product(block), block.n, TRACE_PRODUCTS, how.seed)
            rows.append(
                {
                    "at": step,
                    "block": block.name,
                    "group": block.group,
                    "n": block.n,
                    "smallest": q.smallest.value,
                    "smallest_se": q.smallest.standard_error,
                    "largest": q.largest.value,
                    "largest_se": q.largest.standard_error,
                    "trace": trace.value,
                    "trace_se": trace.standard_error,
                    "rms": float(np.sqrt(q.moment(2).value)),
                }
            )
            reach = max(q.largest_magnitude, np.finfo(float).tiny)
            grid = np.linspace(-1.1 * reach, 1.1 * reach, SMOOTH)
            density, _ = q.density(grid, sigma=0.01 * reach)  # what can be told apart on a page
            curve = pd.DataFrame({"eigenvalue": grid, "density": density})
            curves.append(curve.assign(at=step, block=block.name, group=block.group, largest_magnitude=reach))
    return pd.DataFrame(rows), pd.concat(curves, ignore_index=True)


def heterogeneity_table(
    at: Sequence[str | int],
    spec: RunSpec,
    tokens: Tokens,
    policy: Policy,
    how: How,
    sigma: float,
    points: int,
    say: Callable[[str], None],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Heterogeneity at each step, and the distance of each pair of matrices; see `analysis.curvature.heterogeneity`.

    Norms and biases are left out, as the literature does.
    """
    tables, pairs = [], []
    for step, wanted, model in moments(spec, tokens, list(at), policy):
        if not wanted:
            continue
        curvature, blocks, _ = how.curvature(model, spec, tokens)
        matrices = [block for block in blocks if block.group not in heterogeneity.VECTORS]
        spectra = how.spectra(curvature, matrices, say)
        groups = {block.name: block.group for block in matrices}
        kernel = {"sigma": sigma, "points": points}
        tables.append(heterogeneity.heterogeneity(spectra, groups, **kernel).assign(at=step))  # type: ignore[arg-type]
        pairs.append(heterogeneity.pair_distances(spectra, **kernel).assign(at=step))  # type: ignore[arg-type]
    return tuple(pd.concat(t, ignore_index=True).set_index("at").reset_index() for t in (tables, pairs))  # type: ignore[return-value]


def sharpness_table(
    at: Sequence[str | int],
    spec: RunSpec,
    tokens: Tokens,
    policy: Policy,
    how: How,
    names: Sequence[str],
    fraction: float,
    say: Callable[[str], None],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sharpness of the update that each optimizer would take, from one trajectory, and the loss along it.

    Args:
        at, spec, tokens, policy, how, say: see `spectrum_table`.
        names: optimizers; the first is what ratios are to.
        fraction: of the coordinates that `clipped` clips.

    Returns:
        [at, optimizer, loss, sharpness, ratio, clipped, clipped_ratio, top_0.1%, ...]: ratios to the absolute sharpness
        of the first optimizer's plain update; `top_x%` the share of the sharpness in the x % largest coordinates of the
        update. And [at, optimizer, length, loss] along the update.
    """
    for name in names:
        optimizers[name]  # an unknown one is refused before anything is trained
    rows, curves, followers = [], [], dict[str, Follower]()
    for step, wanted, model in moments(spec, tokens, list(at), policy):
        followers = followers or {name: Follower(name, model) for name in names}
        updates = {name: follower.update(model) for name, follower in followers.items()}
        if not wanted:
            continue
        curvature, blocks, copied = how.curvature(model, spec, tokens)
        everything = whole(blocks)
        product, loss, unit = curvature.product(everything), curvature.problem.mean_loss(), float("nan")
        for name, update in updates.items():
            say(f"step {step} {name}")
            v = as_vector(everything, update, copied)
            plain = directional_sharpness(product, v)
            of_clipped = directional_sharpness(product, as_vector(everything, clipped(update, fraction), copied))
            unit = abs(plain.value) if name == names[0] else unit
            rows.append(
                {
                    "at": step,
                    "optimizer": name,
                    "loss": loss,
                    "sharpness": plain.value,
                    "ratio": plain.value / unit,
                    "clipped": of_clipped.value,
                    "clipped_ratio": of_clipped.value / unit,
                    **{f"top_{100 * share:g}%": plain.share(share) for share in SHARES},
                }
            )
            curves.append(loss_along(curvature.problem, everything, v).assign(at=step, optimizer=name))
    return pd.DataFrame(rows), pd.concat(curves, ignore_index=True)
