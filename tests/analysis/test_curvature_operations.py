"""Operations that remember their derivatives are torch's own, up to the second derivative, batched or not."""

import pytest
import torch
import torch.nn.functional as F

from algoprogress.analysis.curvature.operations import RememberedDerivatives

GENERATOR = torch.Generator().manual_seed(0)
TARGETS = torch.tensor([2, 0, -100, 1, 1])

FUNCTIONS = {
    "gelu": lambda x: F.gelu(x).square().sum(),
    "silu": lambda x: (F.silu(x) * x.cos()).sum(),
    "cross_entropy": lambda x: F.cross_entropy(x * 3, TARGETS.clamp_min(0)),
    "cross_entropy_of_some": lambda x: F.cross_entropy(x * 3, TARGETS, ignore_index=-100) ** 2,
    "gelu_by_tanh": lambda x: F.gelu(x, approximate="tanh").square().sum(),  # left to torch
    "smoothed": lambda x: F.cross_entropy(x, TARGETS, label_smoothing=0.1),  # likewise
}


def derivatives(f, x, V, batched, remembered):
    """f, its gradient, and products of its second derivative with each of V, twice through one graph."""
    if remembered:
        with RememberedDerivatives():
            y = f(x)
    else:
        y = f(x)
    (g,) = torch.autograd.grad(y, x, create_graph=True)
    for _ in range(2):
        if batched:
            (products,) = torch.autograd.grad(g, x, V, retain_graph=True, is_grads_batched=True)
        else:
            products = torch.stack([torch.autograd.grad(g, x, v, retain_graph=True)[0] for v in V])
    return y.detach(), g.detach(), products


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_gradients_and_second_derivatives_are_torchs(name, batched):
    x = torch.randn(5, 3, dtype=torch.float64, generator=GENERATOR, requires_grad=True)
    V = torch.randn(4, 5, 3, dtype=torch.float64, generator=GENERATOR)
    ours = derivatives(FUNCTIONS[name], x, V, batched, remembered=True)
    theirs = derivatives(FUNCTIONS[name], x, V, batched, remembered=False)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["gelu", "silu", "cross_entropy", "cross_entropy_of_some"])
def test_nothing_of_the_second_derivative_is_left_to_torch(name):
    x = torch.randn(5, 3, dtype=torch.float64, generator=GENERATOR, requires_grad=True)
    with RememberedDerivatives():
        y = FUNCTIONS[name](x)
    seen, todo = set(), [y.grad_fn]
    while todo:
        node = todo.pop()
        seen.add(type(node).__name__)
        todo += [parent for parent, _ in node.next_functions if parent is not None]
    assert not seen & {"GeluBackward0", "SiluBackward0", "LogSoftmaxBackward0", "NllLossBackward0"}
    assert seen & {"_ActivationBackward", "_CrossEntropyBackward"}
