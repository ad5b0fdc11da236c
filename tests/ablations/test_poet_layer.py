"""One layer R W0 P: what it computes, what a merge keeps, and which elements a step changes."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algoprogress.ablations.reparameterizations.initialisation import INITIALISATIONS, normalized, uniform_spectrum
from algoprogress.ablations.reparameterizations.poet_bs import POETBlockStochastic
from algoprogress.ablations.reparameterizations.poet_fs import POETFullyStochastic
from algoprogress.ablations.reparameterizations.poet_linear import POETLinear

M, N = 24, 16
SAMPLINGS = {
    "bs4": POETBlockStochastic(block=4),
    "bs8": POETBlockStochastic(block=8),
    "fs1/4": POETFullyStochastic(fraction=0.25),
    "fs1": POETFullyStochastic(fraction=1.0),
}
samplings = pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
every_map = pytest.mark.parametrize("order", [1, 2, 3, 4, 5, None])
stacks = pytest.mark.parametrize("K", [1, 3])


def layer(sampling, order: int | None = 3, K: int = 1, size: float = 0.1, seed: int = 0) -> POETLinear:
    """In float64, with a bias, turned away from W0."""
    torch.manual_seed(seed)
    W = torch.randn(K, M, N, dtype=torch.float64)
    bias = nn.Parameter(torch.randn(K * M, dtype=torch.float64))
    made = POETLinear(W, bias, sampling.blocks(M), sampling.blocks(N), order, (seed, 0))
    push(made, size)
    return made


@torch.no_grad()
def push(made: POETLinear, size: float, sides: str = "RP") -> None:
    """A step that no loss made."""
    for side in sides:
        q = getattr(made, f"Q_{side}")
        q += size * torch.randn_like(q)


def inputs() -> Tensor:
    return torch.randn(5, N, dtype=torch.float64, generator=torch.Generator().manual_seed(9))


@samplings
@stacks
def test_without_rotation_the_layer_is_the_plain_one(sampling, K):
    made = layer(sampling, K=K, size=0.0)
    W = torch.randn(K, M, N, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain = F.linear(inputs(), W.flatten(0, 1), made.bias)
    torch.testing.assert_close(made(inputs()), plain, rtol=0, atol=1e-14)


@samplings
@every_map
@stacks
def test_the_weight_is_r_w0_p(sampling, order, K):
    made = layer(sampling, order, K)
    W0 = layer(sampling, order, K, size=0.0).weights()
    torch.testing.assert_close(made.weights(), made.R() @ W0 @ made.P(), rtol=0, atol=1e-12)
    assert (made.weights() - W0).norm() > 0.1


@samplings
@every_map
def test_a_merge_keeps_what_the_layer_computes(sampling, order):
    made = layer(sampling, order, K=2)
    for _ in range(4):
        push(made, 0.1)
        before, shuffled = made(inputs()), made.shuffle_R.clone()
        made.merge()
        torch.testing.assert_close(made(inputs()), before, rtol=0, atol=1e-12)
        assert not made.Q_R.any()
        assert not made.Q_P.any()
        assert not torch.equal(made.shuffle_R, shuffled)


@samplings
@every_map
@pytest.mark.parametrize("product", ["weight", "input"])
def test_the_gradient_is_autograds_through_r_w0_p(sampling, order, product):
    made = layer(sampling, order, K=2)
    made.product = product
    W0 = layer(sampling, order, K=2, size=0.0).weights()

    def dense(G_KNbb: Tensor, shuffle: Tensor, d: int) -> Tensor:
        """D^T Diag(G) D + (I - D^T D) written with selection matrices, one stacked weight after the other."""
        whole = []
        for k, blocks in enumerate(G_KNbb):
            D = torch.eye(d, dtype=torch.float64)[shuffle[k * d : (k + 1) * d] - k * d][
                : blocks.shape[0] * blocks.shape[1]
            ]
            whole.append(torch.eye(d) - D.T @ D + D.T @ torch.block_diag(*blocks) @ D)
        return torch.stack(whole)

    weigh = torch.randn(5, 2 * M, dtype=torch.float64)
    x = inputs().requires_grad_()
    (weigh * made(x)).sum().backward()
    found = [made.Q_R.grad, made.Q_P.grad, made.bias.grad, x.grad]
    G_R, G_P = made.rotations()
    W = dense(G_R, made.shuffle_R, M) @ W0 @ dense(G_P, made.shuffle_P, N)
    y = inputs().requires_grad_()
    value = (weigh * F.linear(y, W.flatten(0, 1), made.bias)).sum()
    expected = torch.autograd.grad(value, [made.Q_R, made.Q_P, made.bias, y])
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


@samplings
def test_the_layer_has_second_derivatives(sampling):
    # curvature needs them, and autograd functions of one's own may silently leave them out
    made = layer(sampling)
    q = made.Q_R.detach().clone().requires_grad_()

    def output(q: Tensor) -> Tensor:
        return torch.func.functional_call(made, {"Q_R": q}, inputs()[:1])[:, :3]

    assert torch.autograd.gradgradcheck(output, (q,))


@samplings
def test_the_input_centric_product_gives_the_same_output(sampling):
    # x P^T W0^T R^T, one after the other
    made = layer(sampling)
    W0 = layer(sampling, size=0.0).weights()[0]
    one_by_one = ((inputs() @ made.P()[0].T) @ W0.T) @ made.R()[0].T + made.bias
    for made.product in ("weight", "input"):
        torch.testing.assert_close(made(inputs()), one_by_one, rtol=0, atol=1e-12)


def test_few_inputs_are_rotated_themselves_and_many_through_the_weight():
    made = layer(POETBlockStochastic(block=4))
    turn = 2 * M * N / (M + N)  # blocks of one size on both sides
    assert made.shorter(int(turn) - 1) == "input"
    assert made.shorter(int(turn) + 1) == "weight"


@pytest.mark.parametrize("block", [2, 4, 8])
def test_block_sampling_changes_every_element_twice_in_every_step(block):
    made = layer(POETBlockStochastic(block=block), size=0.0)
    steps, changed = 12, torch.zeros(M, N, dtype=torch.int64)
    for _ in range(steps):
        for side in "RP":
            before = made.weights()[0]
            push(made, 0.1, side)
            changed += made.weights()[0] != before
        made.merge()
    assert (changed == 2 * steps).all()


def test_full_sampling_changes_an_element_as_often_as_its_row_and_column_are_drawn():
    made = layer(POETFullyStochastic(fraction=0.25), size=0.0)
    steps, changed = 400, torch.zeros(M, N, dtype=torch.int64)
    for _ in range(steps):
        before = made.weights()[0]
        push(made, 0.1, "R")
        changed += (made.weights()[0] - before).abs() > 1e-12
        between = made.weights()[0]
        push(made, 0.1, "P")
        changed += (made.weights()[0] - between).abs() > 1e-12
        made.merge()
    # two binomials of share 1/4: mean 2 * 400 / 4, standard deviation (2 * 400 * 3 / 16)^(1/2) = 12 for an element
    assert changed.double().mean() == pytest.approx(steps * 0.5, rel=1e-9)  # a quarter of the rows in every step
    assert changed.double().std() > 3
    assert (changed.double() - steps * 0.5).abs().max() < 5 * math.sqrt(2 * steps * 3 / 16)


@pytest.mark.parametrize("size", [0.02, 0.1])
def test_singular_values_stay_within_their_bound_after_any_number_of_merges(size):
    # each factor I - Q^4 has singular values 1 - t^4, so prod (1 - t^4)^2 <= s / s0 <= 1 with the largest t of each
    made = layer(POETBlockStochastic(block=8), order=3, size=0.0)
    first = torch.linalg.svdvals(made.weights()[0])
    bound = 1.0
    for merges in range(60):
        push(made, size)
        bound *= math.prod(1 - float(torch.linalg.matrix_norm(Q.detach(), 2).max()) ** 4 for Q in made.skew())
        made.merge()
        if merges in (0, 9, 59):
            ratio = torch.linalg.svdvals(made.weights()[0]) / first
            assert ratio.max() <= 1 + 1e-12
            assert ratio.min() >= bound - 1e-12
    assert 0 < bound < 1


@pytest.mark.parametrize(("order", "size", "drift"), [(None, 0.5, 1e-12), (3, 0.005, 1e-5), (4, 0.02, 1e-5)])
def test_the_exact_map_keeps_the_spectrum_and_the_series_does_for_small_q(order, size, drift):
    made = layer(POETBlockStochastic(block=8), order, size=0.0)
    first = torch.linalg.svdvals(made.weights()[0])
    for _ in range(40):
        push(made, size)
        made.merge()
    assert (torch.linalg.svdvals(made.weights()[0]) - first).abs().max() / first.max() < drift


def test_shuffles_follow_from_the_seed_the_layer_and_the_number_of_merges():
    def shuffles(seed: int, index: int, pushes: float) -> list[Tensor]:
        made = POETLinear(torch.randn(1, M, N), None, (6, 4), (4, 4), 3, (seed, index))
        torch.manual_seed(int(100 * pushes))  # what a training may do to the global generator
        drawn = []
        for _ in range(3):
            push(made, pushes)
            made.merge()
            drawn.append(torch.cat([made.shuffle_R, made.shuffle_P]))
        return drawn

    assert all(torch.equal(a, b) for a, b in zip(shuffles(1, 0, 0.1), shuffles(1, 0, 0.3), strict=True))
    different = [*shuffles(1, 0, 0.1), *shuffles(2, 0, 0.1), *shuffles(1, 1, 0.1)]
    assert len({tuple(s.tolist()) for s in different}) == 9


@samplings
def test_a_layer_that_is_put_back_merges_into_the_same_weight(sampling):
    made, other = layer(sampling, K=3, seed=1), layer(sampling, K=3, seed=2)
    made.merge()
    push(made, 0.1)
    other.load_state_dict(copy.deepcopy(made.state_dict()))
    for one in (made, other):
        one.merge()
        torch.manual_seed(3)
        push(one, 0.1)
    assert torch.equal(made(inputs()), other(inputs()))


def test_under_bfloat16_the_weight_is_formed_in_float32():
    made = layer(SAMPLINGS["bs8"]).float()
    made.product = "weight"
    x = inputs().float()
    with torch.autocast("cpu", torch.bfloat16):
        under = made(x)
    assert under.dtype == torch.bfloat16
    exact = F.linear(x.bfloat16(), made.weights()[0].bfloat16(), made.bias.bfloat16())
    torch.testing.assert_close(under, exact)


@pytest.mark.parametrize("shape", [(24, 16), (16, 24), (16, 16)])
def test_a_uniform_spectrum_has_all_singular_values_one(shape):
    s = torch.linalg.svdvals(uniform_spectrum(*shape, torch.float64))
    assert (s - 1).abs().max() < 1e-12
    assert len(s) == 16


def test_normalized_neurons_have_norm_one():
    norms = normalized(24, 16, torch.float64).norm(dim=1)
    assert (norms - 1).abs().max() < 1e-14


@pytest.mark.parametrize("name", INITIALISATIONS)
def test_initial_weights_have_the_spread_that_their_name_says(name):
    torch.manual_seed(0)
    m, n = 300, 200
    W = INITIALISATIONS[name](m, n, torch.float64)
    mean_square = {"standard": 0.02**2, "xavier": 2 / (m + n), "normalized": 1 / n, "uniform_spectrum": n / (m * n)}
    assert (W**2).mean().item() == pytest.approx(mean_square[name], rel=0.02)
    assert abs(W.mean().item()) < 4 * (mean_square[name] / (m * n)) ** 0.5
