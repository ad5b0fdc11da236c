"""How fast is the spectrum of every block, beside a straightforward Lanczos and beside hessian-eigenthings?

Equal work: the same model, tokens, blocks, probes and Lanczos steps, to a density on the same grid. The straightforward
peer is written here after the published method (Zhang et al. 2024, arXiv 2402.16788): for each product a forward pass,
the gradient of all parameters with its graph, and a second backward pass to the block. It does not reorthogonalise,
which ours and hessian-eigenthings do. Blocks are whole tensors, since neither peer knows parts of one.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algoprogress.ablations import ops
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.analysis.curvature.lanczos import Tridiagonal
from algoprogress.analysis.curvature.problem import Block, Piece
from algoprogress.analysis.curvature.products import Hessian
from algoprogress.analysis.curvature.quadrature import SIGMA, spectrum
from algoprogress.pipeline.curvature.subject import problem_of

# The model that the speed of published code was first measured on: its blocks are weights of 64 x 64 to 64 x 512
MODEL = {"width": 64, "n_layers": 4, "activation": "gelu", "norm": "layernorm", "position": "learned", "ff_ratio": 4.0}
VOCAB_SIZE, CONTEXT = 512, 64
PROBES, STEPS, POINTS = 4, 20, 20_000  # a fifth of the steps that the literature takes, and half of its probes
EVERY = 6  # of the matrices, so that a round takes seconds: embedding, qkv, up
ROUNDS = 3
NO_FASTER = 0.85  # of linear: medians of three works of a second scatter by a tenth on a busy machine


class Case:
    """A model, a batch of so many sequences, and every so many-th of its matrices as blocks."""

    def __init__(self, sequences: int) -> None:
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(VOCAB_SIZE, (sequences, CONTEXT + 1), generator=generator)
        self.batch = (tokens[:, :-1], tokens[:, 1:])
        torch.manual_seed(0)
        model = Transformer(**MODEL).build(VOCAB_SIZE, CONTEXT)  # type: ignore[arg-type]
        self.model, self.problem = problem_of(model, [self.batch], "float32")
        self.names = {id(p): name for name, p in self.model.named_parameters()}
        matrices = [p for p in self.model.parameters() if p.ndim == 2][::EVERY]
        self.blocks = [Block(self.names[id(p)], "tensor", (Piece(p),)) for p in matrices]

    def __str__(self) -> str:
        return f"{len(self.blocks)} blocks, {self.batch[0].numel()} tokens, {PROBES} probes of {STEPS} steps"


Work = Callable[[], list[float]]  # the largest eigenvalue of each block


def ours(case: Case, probes: int = PROBES, steps: int = STEPS) -> Work:
    """Graphs built anew at each call, as each spectrum of a user begins."""

    def work() -> list[float]:
        hessian, largest = Hessian(case.problem, case.blocks), []
        for block in case.blocks:
            found = spectrum(hessian, block, probes, steps)
            found.density(found.grid(POINTS))
            largest.append(found.largest.value)
        return largest

    return work


def straightforward(case: Case) -> Work:
    """Per block, probe and step: forward, backward, backward again; three-term Lanczos; a kernel at every point."""

    def product(block: Block, v_n: Tensor) -> Tensor:
        with ops.math_attention():
            loss = case.problem.batch_loss(0)
        everything, own = list(case.model.parameters()), block.parameters()
        gradients = dict(
            zip(map(id, everything), torch.autograd.grad(loss, everything, create_graph=True), strict=True)
        )
        vectors = [v[0] for v in block.spread(v_n[None])]
        second = torch.autograd.grad([gradients[id(p)] for p in own], own, vectors)
        return block.gather([h[None] for h in second])[0]

    def work() -> list[float]:
        generator, largest = torch.Generator().manual_seed(0), []
        for block in case.blocks:
            found = []
            for _ in range(PROBES):
                q, before, beta = torch.randn(block.n, generator=generator, dtype=torch.float64), 0.0, 0.0
                q = q / q.norm()
                alphas, betas = [], []
                for _ in range(STEPS):
                    w = product(block, q) - beta * before
                    alphas.append(float(w @ q))
                    w = w - alphas[-1] * q
                    beta = float(w.norm())
                    betas.append(beta)
                    before, q = q, w / beta
                found.append(Tridiagonal(np.array(alphas), np.array(betas[:-1])).nodes_and_weights())
            sampled(found)
            largest.append(max(float(theta.max()) for theta, _ in found))
        return largest

    return work


def eigenthings(case: Case) -> Work:
    """hessian-eigenthings: an operator for each block, its own Lanczos and density."""
    from hessian_eigenthings import HessianOperator, match_names, spectral_density

    def loss(model: nn.Module, batch: Any) -> Tensor:
        with ops.math_attention():
            return F.cross_entropy(model(batch[0])[0].flatten(0, 1), batch[1].flatten())

    def work() -> list[float]:
        largest = []
        for block in case.blocks:
            operator = HessianOperator(case.model, [case.batch], loss, param_filter=match_names(block.name))
            options = {"num_runs": PROBES, "lanczos_steps": STEPS, "num_grid_points": POINTS, "sigma": SIGMA}
            largest.append(float(spectral_density(operator, **options).raw_eigenvalues.nan_to_num(-torch.inf).max()))
        return largest

    return work


def sampled(probes: list[tuple[Any, Any]]) -> Any:
    """The density of some probes' nodes, a kernel at every point of the grid."""
    nodes = np.concatenate([theta for theta, _ in probes])
    grid = np.linspace(nodes.min() - 1, nodes.max() + 1, POINTS)
    each = [np.exp(-(((grid[:, None] - t) / SIGMA) ** 2) / 2) @ w for t, w in probes]
    return np.mean(each, 0) / SIGMA / np.sqrt(2 * np.pi)


def versus(case: str, mine: Callable[[], object], peer: Callable[[], object], target: float) -> dict[str, Any]:
    """As `bench.compare`, with as many rounds as works of seconds allow."""
    times: list[tuple[float, ...]] = []
    for _ in range(ROUNDS):
        pair = []
        for work in (mine, peer):
            begun = time.process_time()
            work()
            pair.append(time.process_time() - begun)
        times.append(tuple(pair))
    a, b = (float(np.median(side)) for side in zip(*times, strict=True))
    row = {"case": case, "ours": a, "peer": b, "ratio": b / a, "unit": "CPU s", "target": target}
    return row | {"holds": b / a >= target}


def repeated(work: Work, times: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(times):
            work()

    return run


def rows() -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    usual, few = Case(8), Case(1)
    found = []
    for case, target in ((usual, 2.0), (few, 2.5)):
        found.append(versus(f"{case}; straightforward Lanczos", ours(case), straightforward(case), target))
    if importlib.util.find_spec("hessian_eigenthings"):
        found.append(versus(f"{usual}; hessian-eigenthings", ours(usual), eigenthings(usual), 1.5))
    more = {
        "probes": ours(few, probes=2 * PROBES),
        "steps": ours(few, steps=2 * STEPS),
        "tokens": ours(Case(2)),
    }
    for what, work in more.items():
        found.append(versus(f"{few}, twice the {what}; twice the spectrum", work, repeated(ours(few), 2), NO_FASTER))
    return found
