"""Products with the Hessian and the Gauss-Newton matrix of a loss, none of which is ever formed.

The graph of the gradient is built once for each batch and differentiated again for each product (Pearlmutter 1994), and
for a diagonal block only through that block's own gradient. Shapes: K vectors, n coordinates of a block.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from algoprogress.analysis.curvature.problem import Block, Problem

if TYPE_CHECKING:
    from torch import Tensor

_TWICE = (
    "this loss cannot be differentiated twice ({}): build it of plain operations, without fused attention and without "
    "kernels that have no second derivative"
)
Product = Callable[["Tensor"], "Tensor"]  # (K, n) float64 -> (K, n) float64


@dataclass(frozen=True, eq=False)
class Graph:
    """What is differentiated again: the gradient of each parameter, and what else a matrix needs."""

    gradients: dict[int, Tensor]  # by id of the parameter
    outputs: Tensor | None = None
    dummy: Tensor | None = None
    free_outputs: Tensor | None = None
    output_gradient: Tensor | None = None


class Curvature:
    """A symmetric matrix of second derivatives, averaged over the batches of a problem.

    Args:
        problem: the loss.
        blocks: whose products will be asked for.
        kept: batches whose graphs stay in memory; the others' are built again for each product. None: all stay.
    """

    def __init__(self, problem: Problem, blocks: Sequence[Block], kept: int | None = None) -> None:
        if not problem.batches:
            raise ValueError("there is no batch to average over: give at least one")
        self.problem, self.blocks = problem, list(blocks)
        self.kept = len(problem.batches) if kept is None else kept
        self._graphs: dict[int, Graph] = {}
        self._versions: list[int] = []
        self._together: dict[int, bool] = {}

    def product(self, block: Block, together: bool = False) -> Product:
        """v -> M v with the block's diagonal block M, for each row of a (K, n) tensor.

        Args:
            block: one of `blocks`, or of parameters that they have.
            together: all K in one batched pass, which is faster where a batch has few tokens.

        Raises:
            ValueError: (by the product) the loss is not finite or cannot be differentiated twice.
        """

        def times(V_Kn: Tensor) -> Tensor:
            vectors = block.spread(V_Kn)
            total: Tensor | None = None
            for i in range(len(self.problem.batches)):
                with twice_differentiable():
                    graph = self._graph(i, block)
                    if together:
                        found = block.gather(self._times(graph, block, vectors, batched=True))
                    else:
                        import torch

                        each = [self._times(graph, block, [v[k] for v in vectors], False) for k in range(len(V_Kn))]
                        found = torch.cat([block.gather([part[None] for part in parts]) for parts in each])
                total = found if total is None else total + found
            assert total is not None
            return total / len(self.problem.batches)

        return times

    def faster_together(self, block: Block, n_vectors: int) -> bool:
        """Whether K products are faster in one batched pass: measured once, in CPU time, on the first block."""
        if n_vectors not in self._together:
            self._together[n_vectors] = n_vectors > 1 and self._measure(block, n_vectors)
        return self._together[n_vectors]

    def _measure(self, block: Block, n_vectors: int) -> bool:
        import torch

        V_Kn = torch.ones(n_vectors, block.n, dtype=torch.float64, device=block.pieces[0].parameter.device)
        one_by_one, together = self.product(block), self.product(block, together=True)
        one_by_one(V_Kn[:1])  # builds the graphs
        begun = time.process_time()
        one_by_one(V_Kn[:1])
        between = time.process_time()
        try:
            together(V_Kn)
        except RuntimeError:  # some operations have no batched derivative
            return False
        return time.process_time() - between < n_vectors * (between - begun)

    def _graph(self, i: int, block: Block) -> Graph:
        if i >= self.kept:
            return self._build(i, block.parameters())
        parameters = list({id(p): p for b in self.blocks for p in b.parameters()}.values())
        versions = [p._version for p in parameters]
        if versions != self._versions:  # a step has been taken since
            self._graphs, self._versions = {}, versions
        if i not in self._graphs:
            self._graphs[i] = self._build(i, parameters)
        return self._graphs[i]

    def _build(self, i: int, parameters: list[Tensor]) -> Graph:
        raise NotImplementedError

    def _times(self, graph: Graph, block: Block, vectors: list[Tensor], batched: bool) -> list[Tensor]:
        raise NotImplementedError


class Hessian(Curvature):
    """H = d^2 L / dw^2."""

    def _build(self, i: int, parameters: list[Tensor]) -> Graph:
        import torch

        from algoprogress.analysis.curvature.operations import RememberedDerivatives

        with RememberedDerivatives():
            loss = self.problem.batch_loss(i)
        gradients = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
        refuse_dead_ends(gradients)
        return Graph(
            {id(p): torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)}
        )

    def _times(self, graph: Graph, block: Block, vectors: list[Tensor], batched: bool) -> list[Tensor]:
        return again([graph.gradients[id(p)] for p in block.parameters()], block.parameters(), vectors, batched)


class GaussNewton(Curvature):
    """G = J' (d^2 loss / d outputs^2) J, J = d outputs / dw: H without the curvature of the model itself.

    Positive semi-definite where the loss is convex in the outputs (Schraudolph 2002). J v is had from two reverse
    passes: J' u is linear in u, and its derivative along v is J v.
    """

    def _build(self, i: int, parameters: list[Tensor]) -> Graph:
        import torch

        from algoprogress.analysis.curvature.operations import RememberedDerivatives

        batch = self.problem.batches[i]
        self.problem.batch_loss(i)  # refuses one that is not finite
        with RememberedDerivatives():
            outputs = self.problem.outputs(batch)
        dummy = torch.zeros_like(outputs, requires_grad=True)
        pulled = torch.autograd.grad(outputs, parameters, dummy, create_graph=True, allow_unused=True)
        refuse_dead_ends(pulled)
        free = outputs.detach().requires_grad_()
        with RememberedDerivatives():
            loss = self.problem.loss(free, batch)
        (gradient,) = torch.autograd.grad(loss, free, create_graph=True)
        gradients = {id(p): torch.zeros_like(p) if g is None else g for p, g in zip(parameters, pulled, strict=True)}
        return Graph(gradients, outputs, dummy, free, gradient)

    def _times(self, graph: Graph, block: Block, vectors: list[Tensor], batched: bool) -> list[Tensor]:
        assert graph.dummy is not None
        assert graph.free_outputs is not None
        assert graph.output_gradient is not None
        parameters = block.parameters()
        Jv = again([graph.gradients[id(p)] for p in parameters], [graph.dummy], vectors, batched)
        HJv = again([graph.output_gradient], [graph.free_outputs], Jv, batched)
        assert graph.outputs is not None
        return again([graph.outputs], parameters, HJv, batched)


def again(outputs: list[Tensor], inputs: list[Tensor], vectors: list[Tensor], batched: bool) -> list[Tensor]:
    """(d outputs / d inputs)' vectors through a graph that stays; zero where nothing depends on an input."""
    import torch

    shape = vectors[0].shape[:1] if batched else ()
    pairs = [(y, v) for y, v in zip(outputs, vectors, strict=True) if y.requires_grad]
    found: Sequence[Any] = [None] * len(inputs)
    if pairs:
        found = torch.autograd.grad(
            [y for y, _ in pairs],
            inputs,
            [v for _, v in pairs],
            retain_graph=True,
            allow_unused=True,
            is_grads_batched=batched,
        )
    return [
        torch.zeros(*shape, *x.shape, dtype=x.dtype, device=x.device) if g is None else g
        for x, g in zip(inputs, found, strict=True)
    ]


def refuse_dead_ends(gradients: Sequence[Tensor | None]) -> None:
    """Raises where a gradient comes from an operation that says it can be differentiated once only.

    Torch takes what lies behind such an operation for a constant, so that products would be zero without a word.
    """
    todo: list[Any] = [g.grad_fn for g in gradients if g is not None]
    seen = set[Any]()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name() == "torch::autograd::Error":
            raise ValueError(_TWICE.format("an operation of it is marked as once_differentiable"))
        todo += [parent for parent, _ in node.next_functions]


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Makes torch's complaint about an operation without derivatives a sentence that says what to do."""
    try:
        yield
    except RuntimeError as error:
        if "does not require grad" in str(error):
            raise ValueError(
                "this loss does not depend on the parameters in a way that has a derivative: something on the way, "
                "such as an argmax, rounding or detach(), cuts it off"
            ) from error
        if not ("is not implemented" in str(error) or "once_differentiable" in str(error)):
            raise
        raise ValueError(_TWICE.format(error)) from error
