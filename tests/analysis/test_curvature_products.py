"""Products with Hessian and Gauss-Newton matrices against dense ones, another library and central differences."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from algoprogress.analysis.curvature.problem import Block, Piece, Problem, grouped, named, whole
from algoprogress.analysis.curvature.products import GaussNewton, Hessian
from algoprogress.analysis.curvature.quadrature import quadrature, spectrum
from algoprogress.analysis.curvature.sharpness import directional_sharpness, loss_along


def net(dtype=torch.float64) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).to(dtype)


def batches(n: int, dtype=torch.float64) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    drawn = [(torch.randn(6, 3, generator=generator), torch.randint(3, (6,), generator=generator)) for _ in range(n)]
    return [(x.to(dtype), y) for x, y in drawn]


def problem(model: nn.Module, data) -> Problem:
    return Problem(data, lambda batch: model(batch[0]), lambda z, batch: F.cross_entropy(z, batch[1]))


def blocks_of(model: nn.Module) -> list[Block]:
    return [Block(name, name.split(".")[1], (Piece(p),)) for name, p in model.named_parameters()]


def dense(model: nn.Module, data) -> torch.Tensor:
    names, shapes = zip(*((name, p.shape) for name, p in model.named_parameters()), strict=True)
    sizes = [s.numel() for s in shapes]

    def loss(w):
        parts = {n: v.view(s) for n, v, s in zip(names, w.split(sizes), shapes, strict=True)}
        each = [F.cross_entropy(torch.func.functional_call(model, parts, (x,)), y) for x, y in data]
        return torch.stack(each).mean()

    return torch.func.hessian(loss)(torch.cat([p.detach().flatten() for p in model.parameters()]))


def columns(curvature, block, together=False) -> torch.Tensor:
    return curvature.product(block, together)(torch.eye(block.n, dtype=torch.float64))


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("kept", [None, 0, 1])
def test_products_over_any_number_of_batches_are_those_with_the_dense_mean_hessian(together, kept):
    model, data = net(), batches(3)
    blocks = blocks_of(model)
    H = dense(model, data)
    hessian = Hessian(problem(model, data), blocks, kept)
    torch.testing.assert_close(columns(hessian, whole(blocks), together), H, rtol=0, atol=1e-10)
    at = 0
    for block in blocks:
        part = H[at : at + block.n, at : at + block.n]
        torch.testing.assert_close(columns(hessian, block, together), part, rtol=0, atol=1e-10)
        at += block.n


def test_repeating_a_batch_changes_nothing_since_batches_are_averaged_and_not_added():
    model, data = net(), batches(1)
    blocks = blocks_of(model)
    one, four = (columns(Hessian(problem(model, data * k), blocks), whole(blocks)) for k in (1, 4))
    torch.testing.assert_close(one, four, rtol=0, atol=1e-14)


def test_graphs_are_built_once_and_anew_after_a_step():
    model, data = net(), batches(2)
    calls = []
    p = problem(model, data)
    counted = Problem(data, lambda batch: (calls.append(1), p.outputs(batch))[1], p.loss)
    blocks = blocks_of(model)
    hessian = Hessian(counted, blocks)
    columns(hessian, whole(blocks))
    columns(hessian, blocks[0])
    assert len(calls) == 2
    with torch.no_grad():
        model[0].weight += 0.5
    torch.testing.assert_close(columns(hessian, whole(blocks)), dense(model, data), rtol=0, atol=1e-10)
    assert len(calls) == 4


@pytest.mark.parametrize("together", [False, True])
def test_rows_of_a_fused_weight_are_blocks_of_their_own(together):
    model, data = net(), batches(2)
    blocks = blocks_of(model)
    weight = model[0].weight
    upper, lower = Block("upper", "u", (Piece(weight, 0, 2),)), Block("lower", "l", (Piece(weight, 2, 4),))
    H = dense(model, data)
    hessian = Hessian(problem(model, data), blocks)
    torch.testing.assert_close(columns(hessian, upper, together), H[:6, :6], rtol=0, atol=1e-10)
    torch.testing.assert_close(columns(hessian, lower, together), H[6:12, 6:12], rtol=0, atol=1e-10)
    crossed = whole([lower, upper])  # the pieces in their own order
    order = [*range(6, 12), *range(6)]
    torch.testing.assert_close(columns(hessian, crossed, together), H[order][:, order], rtol=0, atol=1e-10)


@pytest.mark.parametrize("together", [False, True])
def test_gauss_newton_is_the_jacobians_around_the_hessian_of_the_loss_in_the_outputs(together):
    model, data = net(), batches(2)
    blocks = blocks_of(model)
    names, shapes = zip(*((name, p.shape) for name, p in model.named_parameters()), strict=True)
    w = torch.cat([p.detach().flatten() for p in model.parameters()])
    G = torch.zeros(len(w), len(w), dtype=torch.float64)
    for x, y in data:

        def outputs(w, x=x):
            parts = {n: v.view(s) for n, v, s in zip(names, w.split([s.numel() for s in shapes]), shapes, strict=True)}
            return torch.func.functional_call(model, parts, (x,))

        J = torch.func.jacrev(outputs)(w).flatten(0, 1)
        middle = torch.func.hessian(lambda z, y=y: F.cross_entropy(z, y))(outputs(w)).reshape(18, 18)
        G += J.T @ middle @ J / len(data)
    found = columns(GaussNewton(problem(model, data), blocks), whole(blocks), together)
    torch.testing.assert_close(found, G, rtol=0, atol=1e-10)
    assert torch.linalg.eigvalsh(found).min() > -1e-12


def test_gauss_newton_of_a_linear_model_is_its_hessian():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3)).double()
    blocks, data = [Block(n, n, (Piece(p),)) for n, p in model.named_parameters()], batches(2)
    one, other = (columns(kind(problem(model, data), blocks), whole(blocks)) for kind in (Hessian, GaussNewton))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_are_those_of_hessian_eigenthings(dtype):
    eigenthings = pytest.importorskip("hessian_eigenthings")
    model, data = net(dtype), batches(3, dtype)
    blocks = blocks_of(model)
    peer = eigenthings.HessianOperator(model, data, lambda m, batch: F.cross_entropy(m(batch[0]), batch[1]))
    v = torch.randn(whole(blocks).n, dtype=dtype, generator=torch.Generator().manual_seed(2))
    ours = Hessian(problem(model, data), blocks).product(whole(blocks))(v[None].double())[0]
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    torch.testing.assert_close(ours, peer.matvec(v).double(), rtol=tolerance, atol=tolerance)


def test_spectrum_of_a_tiny_network_is_that_of_its_dense_hessian():
    model, data = net(), batches(2)
    blocks = blocks_of(model)
    hessian = Hessian(problem(model, data), blocks)
    exact = torch.linalg.eigvalsh(dense(model, data))
    found = spectrum(hessian, whole(blocks), probes=2, steps=200)
    assert found.largest.value == pytest.approx(float(exact[-1]), abs=1e-10)
    assert found.smallest.value == pytest.approx(float(exact[0]), abs=1e-10)


def test_blocks_of_a_block_diagonal_quadratic_have_its_eigenvalues():
    spectra = [[1.0, 2.0, 3.0], [99.0, 100.0, 101.0]]
    rng = np.random.default_rng(0)
    parameters, pieces = [], []
    for eigenvalues in spectra:
        Q = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        pieces.append(torch.from_numpy(Q @ np.diag(eigenvalues) @ Q.T))
        parameters.append(torch.ones(3, dtype=torch.float64, requires_grad=True))
    quadratic = Problem(
        [None],
        lambda _: torch.cat(parameters),
        lambda w, _: sum(w[3 * i : 3 * i + 3] @ A @ w[3 * i : 3 * i + 3] / 2 for i, A in enumerate(pieces)),
    )
    blocks = [Block(f"b{i}", "b", (Piece(p),)) for i, p in enumerate(parameters)]
    hessian = Hessian(quadratic, blocks)
    for block, eigenvalues in zip(blocks, spectra, strict=True):
        found = spectrum(hessian, block, probes=3, steps=10)
        for nodes in found.nodes:
            np.testing.assert_allclose(nodes, eigenvalues, rtol=1e-10)


def test_a_parameter_on_which_the_gradient_does_not_depend_has_a_zero_block():
    w, unused = (torch.ones(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    flat = Problem([None], lambda _: w, lambda z, _: z.sum())
    blocks = [Block("w", "w", (Piece(w),)), Block("unused", "unused", (Piece(unused),))]
    hessian = Hessian(flat, blocks)
    for together in (False, True):
        assert columns(hessian, whole(blocks), together).abs().max() == 0
    assert spectrum(hessian, blocks[0], probes=2, steps=5).largest_magnitude == 0


def test_what_cannot_be_measured_says_why():
    model, data = net(), batches(1)
    blocks = blocks_of(model)
    with pytest.raises(ValueError, match="no batch"):
        Hessian(problem(model, []), blocks)
    with pytest.raises(ValueError, match="there is no block 'q'; the groups are weight, bias"):
        named(blocks, ["q"])
    assert [b.name for b in named(blocks, ["bias"])] == ["0.bias", "2.bias"]
    assert [b.n for b in grouped(blocks)] == [24, 7]
    nan = Problem(data, lambda batch: model(batch[0]), lambda z, batch: F.cross_entropy(z, batch[1]) * float("nan"))
    for kind in (Hessian, GaussNewton):
        with pytest.raises(ValueError, match="loss of batch 0 is nan"):
            columns(kind(nan, blocks), blocks[0])
    with pytest.raises(ValueError, match="at least 1 probe, not 0"):
        spectrum(Hessian(problem(model, data), blocks), blocks[0], probes=0)


class OnceOnly(torch.autograd.Function):
    """x^2, as a kernel has it whose backward pass nobody can differentiate."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * g * ctx.saved_tensors[0]


@pytest.mark.parametrize("kind", [Hessian, GaussNewton])
@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda w: w.argmax().double(), "an argmax, rounding or detach"),
        (lambda w: w.detach() * 2, "an argmax, rounding or detach"),
        (OnceOnly.apply, "cannot be differentiated twice"),
    ],
)
def test_a_model_without_derivatives_is_refused_with_what_cuts_them_off(kind, outputs, message):
    w = torch.randn(4, dtype=torch.float64, requires_grad=True)
    block = Block("w", "w", (Piece(w),))
    cut = Problem([None], lambda _: outputs(w), lambda z, _: z.square().sum())
    with pytest.raises(ValueError, match=message):
        kind(cut, [block]).product(block)(torch.ones(1, 4, dtype=torch.float64))


def test_fused_attention_is_refused_with_what_to_do():
    q = torch.randn(1, 1, 8, 4, requires_grad=True)
    fused = Problem(
        [None],
        lambda _: F.scaled_dot_product_attention(q, q, q, is_causal=True),
        lambda z, _: z.square().sum(),
    )
    block = Block("q", "q", (Piece(q),))
    with pytest.raises(ValueError, match=r"cannot be differentiated twice.*without fused attention"):
        Hessian(fused, [block]).product(block)(torch.ones(1, block.n, dtype=torch.float64))


def test_sharpness_is_the_second_difference_of_the_loss():
    model, data = net(), batches(2)
    blocks = blocks_of(model)
    everything, p = whole(blocks), problem(model, data)
    product = Hessian(p, blocks).product(everything)
    v = torch.randn(everything.n, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    found = directional_sharpness(product, v)
    h = 1e-4
    losses = loss_along(p, everything, v / v.norm(), [-h, 0.0, h])["loss"]
    assert found.value == pytest.approx((losses[0] - 2 * losses[1] + losses[2]) / h**2, rel=1e-4)
    assert directional_sharpness(product, -7 * v).value == pytest.approx(found.value, rel=1e-12)
    eigenvalues, vectors = torch.linalg.eigh(dense(model, data))
    assert eigenvalues[0] <= found.value <= eigenvalues[-1]
    assert directional_sharpness(product, vectors[:, -1]).value == pytest.approx(float(eigenvalues[-1]), abs=1e-10)


def test_looking_along_a_direction_leaves_the_parameters_as_they_were():
    model, data = net(), batches(1)
    before = [p.detach().clone() for p in model.parameters()]
    everything = whole(blocks_of(model))
    curve = loss_along(problem(model, data), everything, torch.ones(everything.n, dtype=torch.float64))
    assert curve["loss"].nunique() == len(curve)
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def test_shares_of_sharpness_follow_the_size_of_coordinates():
    h, v = torch.tensor([1.0, 4.0, 2.0, 8.0]).double(), torch.tensor([0.1, 3.0, -2.0, 1.0]).double()
    found = directional_sharpness(lambda V: V * h, v)
    assert found.value == pytest.approx(float((h * v**2).sum() / (v**2).sum()))
    total = float((h * v**2).sum())
    assert found.share(0.25) == pytest.approx(36 / total)
    assert found.share(0.5) == pytest.approx((36 + 8) / total)
    assert found.share(1.0) == pytest.approx(1)
    with pytest.raises(ValueError, match="squared length 0"):
        directional_sharpness(lambda V: V * h, 0 * v)


def test_quadrature_moments_of_a_network_are_those_of_its_dense_hessian():
    model, data = net(), batches(2)
    blocks = blocks_of(model)
    everything = whole(blocks)
    v = torch.randn(1, everything.n, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found = quadrature(Hessian(problem(model, data), blocks).product(everything), v, 4)
    H, unit = dense(model, data), (v / v.norm())[0]
    for k in range(8):
        assert found.moment(k).value == pytest.approx(float(unit @ torch.linalg.matrix_power(H, k) @ unit), abs=1e-10)
