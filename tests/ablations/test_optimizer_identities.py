"""Each optimizer is its equations, and the identities that the papers state between them hold in float64."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.optimizers.adagrad import Adagrad
from algoprogress.ablations.optimizers.adam import Adam
from algoprogress.ablations.optimizers.adamw import AdamW
from algoprogress.ablations.optimizers.lion import Lion
from algoprogress.ablations.optimizers.momentum import Momentum
from algoprogress.ablations.optimizers.muon import Muon
from algoprogress.ablations.optimizers.nadamw import NAdamW
from algoprogress.ablations.optimizers.nesterov import Nesterov
from algoprogress.ablations.optimizers.prodigy import Prodigy
from algoprogress.ablations.optimizers.rmsprop import RMSprop
from algoprogress.ablations.optimizers.schedule_free import ScheduleFreeAdamW
from algoprogress.ablations.optimizers.sgd import SGD
from algoprogress.ablations.optimizers.shampoo import Shampoo, inverse_root
from algoprogress.ablations.optimizers.sign import Sign
from algoprogress.ablations.optimizers.signum import Signum
from algoprogress.ablations.optimizers.soap import SOAP
from algoprogress.ablations.optimizers.sophia import SophiaEF


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Transformer(width=16, bias=True, norm="layernorm", position="learned").build(13, 6).double()


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def gradients(model: nn.Module, seed: int) -> list[Tensor]:
    """Reproducible gradients that no loss made."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return [p.grad.clone() for p in model.parameters()]


def step(config, model: nn.Module, rate: float, steps: int = 1) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """(weights before each step and after the last, gradients of each step)."""
    optimizer = config.build(model, rate)
    path, slopes = [weights(model)], []
    for i in range(steps):
        slopes.append(gradients(model, i))
        optimizer.step()
        path.append(weights(model))
    return path, slopes


def agree(found: list[Tensor], expected: list[Tensor], rtol: float = 1e-12) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol)


def matrices(model: nn.Module) -> list[bool]:
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    linear = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    return [id(p) in linear - tables for p in model.parameters()]


def test_sgd_is_a_step_against_the_gradient(model):
    (before, after), (g,) = step(SGD(), model, 0.1)
    agree(after, [w - 0.1 * d for w, d in zip(before, g, strict=True)])


@pytest.mark.parametrize("config", [Adam(eps=1e-30), AdamW(eps=1e-30, weight_decay=0.0)], ids=lambda c: c.name)
@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.95), (0.3, 0.999), (0.99, 0.1)])
def test_the_first_step_of_adam_is_sign_descent_whatever_the_averaging(config, beta1, beta2, model):
    # with bias correction m = g and v = g^2, so the step is lr g / (|g| + eps): Kingma and Ba 2015, section 2.1
    config = config.model_copy(update={"beta1": beta1, "beta2": beta2})
    (before, after), (g,) = step(config, model, 1.0)
    agree(after, [w - d.sign() for w, d in zip(before, g, strict=True)], rtol=2e-15)


def test_adam_without_averaging_is_sign_descent_at_every_step(model):
    twin = copy.deepcopy(model)
    path, _ = step(Adam(beta1=0.0, beta2=0.0, eps=1e-30), model, 0.01, steps=3)
    signs, _ = step(Sign(), twin, 0.01, steps=3)
    for a, b in zip(path, signs, strict=True):
        agree(a, b, rtol=2e-17)


def test_adam_is_its_equations(model):
    b1, b2, eps, rate = 0.8, 0.9, 1e-3, 0.01
    path, slopes = step(Adam(beta1=b1, beta2=b2, eps=eps), model, rate, steps=4)
    m, v = ([torch.zeros_like(w) for w in path[0]] for _ in range(2))
    for t, (before, after, g) in enumerate(zip(path, path[1:], slopes, strict=False), start=1):
        m = [b1 * a + (1 - b1) * d for a, d in zip(m, g, strict=True)]
        v = [b2 * a + (1 - b2) * d**2 for a, d in zip(v, g, strict=True)]
        moved = [
            w - rate * (a / (1 - b1**t)) / ((b / (1 - b2**t)).sqrt() + eps)
            for w, a, b in zip(before, m, v, strict=True)
        ]
        agree(after, moved, rtol=1e-10)


def test_adamw_is_adam_on_weights_that_shrink(model):
    twin = copy.deepcopy(model)
    (before, after), _ = step(AdamW(weight_decay=0.1), model, 0.01)
    (_, plain), _ = step(AdamW(weight_decay=0.0), twin, 0.01)
    agree(after, [p - 0.01 * 0.1 * w * m for p, w, m in zip(plain, before, matrices(model), strict=True)])


def test_adam_adds_its_decay_to_the_gradient(model):
    (before, after), (g,) = step(Adam(weight_decay=0.5, eps=1e-30), model, 0.01)
    agree(after, [w - 0.01 * (d + 0.5 * w * m).sign() for w, d, m in zip(before, g, matrices(model), strict=True)])


def test_momentum_without_momentum_is_sgd(model):
    twin = copy.deepcopy(model)
    agree(step(Momentum(momentum=0.0), model, 0.1, 3)[0][-1], step(SGD(), twin, 0.1, 3)[0][-1])


@pytest.mark.parametrize("config", [Momentum(momentum=0.7), Nesterov(momentum=0.7)], ids=lambda c: c.name)
def test_momentum_is_its_equations(config, model):
    path, slopes = step(config, model, 0.1, steps=4)
    m = [torch.zeros_like(w) for w in path[0]]
    for before, after, g in zip(path, path[1:], slopes, strict=False):
        m = [0.7 * a + d for a, d in zip(m, g, strict=True)]
        used = [d + 0.7 * a for a, d in zip(m, g, strict=True)] if config.nesterov else m
        agree(after, [w - 0.1 * d for w, d in zip(before, used, strict=True)])


def test_nesterov_is_momentum_that_looks_ahead(model):
    twin = copy.deepcopy(model)
    path, _ = step(Nesterov(weight_decay=0.1), model, 0.1, 3)
    other, _ = step(Momentum(nesterov=True, weight_decay=0.1), twin, 0.1, 3)
    assert all(torch.equal(a, b) for a, b in zip(path[-1], other[-1], strict=True))


def test_rmsprop_is_its_equations(model):
    path, slopes = step(RMSprop(alpha=0.9, eps=1e-3), model, 0.01, steps=4)
    v = [torch.zeros_like(w) for w in path[0]]
    for before, after, g in zip(path, path[1:], slopes, strict=False):
        v = [0.9 * a + 0.1 * d**2 for a, d in zip(v, g, strict=True)]
        agree(after, [w - 0.01 * d / (a.sqrt() + 1e-3) for w, a, d in zip(before, v, g, strict=True)], rtol=1e-10)


def test_the_first_step_of_adagrad_is_sign_descent(model):
    (before, after), (g,) = step(Adagrad(eps=1e-30), model, 0.1)
    agree(after, [w - 0.1 * d.sign() for w, d in zip(before, g, strict=True)])


def test_signum_without_momentum_is_sign_descent(model):
    twin = copy.deepcopy(model)
    path, _ = step(Signum(beta=0.0), model, 0.1, 3)
    signs, _ = step(Sign(), twin, 0.1, 3)
    assert all(torch.equal(a, b) for a, b in zip(path[-1], signs[-1], strict=True))


def test_lion_with_one_mean_is_signum(model):
    twin = copy.deepcopy(model)
    path, _ = step(Lion(beta1=0.8, beta2=0.8), model, 0.1, 3)
    other, _ = step(Signum(beta=0.8), twin, 0.1, 3)
    agree(path[-1], other[-1])


def test_sophia_is_sign_descent_where_it_clips_and_newton_where_it_does_not(model):
    twin = copy.deepcopy(model)
    (before, after), (g,) = step(SophiaEF(beta1=0.0, beta2=0.0, gamma=1e-30, weight_decay=0.0), model, 0.1)
    agree(after, [w - 0.1 * d.sign() for w, d in zip(before, g, strict=True)])
    (before, after), (g,) = step(SophiaEF(beta1=0.0, beta2=0.0, gamma=1e9, eps=1e-30, weight_decay=0.0), twin, 0.1)
    agree(after, [w - 0.1 * (d / (1e9 * d * d)).clamp(-1, 1) for w, d in zip(before, g, strict=True)], rtol=1e-15)


# Shampoo, Muon and SOAP on one matrix


def line(out: int, in_: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(in_, out, bias=False).double()


def polar(G: Tensor, rank: int | None = None) -> Tensor:
    U, _, Vh = torch.linalg.svd(G, full_matrices=False)
    return U[:, :rank] @ Vh[:rank]


def move(config, layer: nn.Module, gradient: Tensor) -> Tensor:
    """What one step of rate 1 takes from the weights."""
    before = layer.weight.detach().clone()
    layer.weight.grad = gradient
    config.build(layer, 1.0).step()
    return before - layer.weight.detach()


SIZES = [(5, 9), (9, 5), (6, 6)]
sizes = pytest.mark.parametrize("size", SIZES, ids=str)


@sizes
def test_shampoo_without_accumulation_is_the_polar_factor(size):
    G = torch.randn(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = move(Shampoo(beta1=0.0, beta2=0.0), line(*size), G)
    torch.testing.assert_close(found, polar(G), rtol=0, atol=1e-13)


def test_shampoo_without_accumulation_on_well_conditioned_gradients_is_exact():
    generator = torch.Generator().manual_seed(1)
    U, V = (torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64)).Q for _ in range(2))
    G = U @ torch.diag(torch.linspace(1, 2, 6, dtype=torch.float64)) @ V
    torch.testing.assert_close(move(Shampoo(beta1=0.0, beta2=0.0), line(6, 6), G), U @ V, rtol=0, atol=2e-15)


@pytest.mark.parametrize("rank", [1, 3])
def test_a_rank_deficient_gradient_has_the_pseudo_inverse(rank):
    generator = torch.Generator().manual_seed(1)
    G = torch.randn(7, rank, generator=generator, dtype=torch.float64) @ torch.randn(
        rank, 5, generator=generator, dtype=torch.float64
    )
    exact = Muon(momentum=0.0, nesterov=False, orthogonalization="svd", adjust="original")
    for config, scale in ((Shampoo(beta1=0.0, beta2=0.0), 1.0), (exact, math.sqrt(7 / 5))):
        torch.testing.assert_close(move(config, line(7, 5), G), scale * polar(G, rank), rtol=0, atol=1e-12)


@sizes
def test_the_first_step_of_shampoo_is_the_polar_factor_whatever_the_averaging(size):
    G = torch.randn(size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for config in (Shampoo(), Shampoo(beta2=1.0), Shampoo(beta1=0.5, beta2=0.3)):
        torch.testing.assert_close(move(config, line(*size), G), polar(G), rtol=0, atol=1e-12)


@sizes
def test_exact_muon_without_momentum_is_shampoos_first_step(size):
    G = torch.randn(size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    muon = move(Muon(momentum=0.0, orthogonalization="svd"), line(*size), G)
    scale = math.sqrt(max(1.0, size[0] / size[1]))
    torch.testing.assert_close(muon, scale * move(Shampoo(), line(*size), G), rtol=0, atol=1e-12)


def test_muons_update_has_the_size_of_adams_where_it_is_asked_to():
    G = torch.randn(48, 32, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = move(Muon(orthogonalization="svd", adjust="match_rms_adamw"), line(48, 32), G)
    assert found.square().mean().sqrt().item() == pytest.approx(0.2, rel=1e-9)


def test_shampoos_sums_grow_and_its_means_do_not():
    G = torch.randn(5, 9, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    def last_of(steps: int, beta2: float) -> Tensor:
        layer = line(5, 9)
        optimizer = Shampoo(beta1=0.0, beta2=beta2, every=1).build(layer, 1.0)
        for _ in range(steps):
            before, layer.weight.grad = layer.weight.detach().clone(), G
            optimizer.step()
        return before - layer.weight.detach()

    torch.testing.assert_close(last_of(4, 0.9), polar(G), rtol=0, atol=1e-12)
    torch.testing.assert_close(last_of(4, 1.0), polar(G) / 2, rtol=0, atol=1e-12)  # (4 G G^T)^-1/4 twice


@pytest.mark.parametrize(("size", "block"), [((8, 12), 4), ((7, 11), 4), ((3, 10), 4), ((5, 6), 1)], ids=str)
def test_a_block_is_stepped_as_if_it_were_alone(size, block):
    generator = torch.Generator().manual_seed(5)
    G = torch.randn(size, generator=generator, dtype=torch.float64)
    found = move(Shampoo(beta1=0.0, beta2=0.0, block_size=block), line(*size), G)
    rows, columns = (math.ceil(s / math.ceil(s / block)) for s in size)
    for i in range(0, size[0], rows):
        for j in range(0, size[1], columns):
            part = (slice(i, i + rows), slice(j, j + columns))
            torch.testing.assert_close(found[part], polar(G[part]), rtol=0, atol=1e-12)


def test_an_inverse_root_undoes_its_power():
    A = torch.randn(6, 8, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    A = A @ A.mT
    root = inverse_root(A, 0.25)
    torch.testing.assert_close(root @ root @ A @ root @ root, torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-12)
    assert inverse_root(A * torch.nan, 0.25).isnan().all()
    assert torch.equal(inverse_root(torch.zeros(3, 3), 0.25), torch.zeros(3, 3))


def test_soap_is_adam_where_the_gradients_are_diagonal():
    # Q is then a permutation of the axes, and Adam does not mind the order of axes
    layer, twin = line(6, 6), line(6, 6)
    soap = SOAP(beta1=0.9, beta2=0.95, weight_decay=0.0, every=3).build(layer, 0.01)
    adam = Adam(beta1=0.9, beta2=0.95).build(twin, 0.01)
    generator = torch.Generator().manual_seed(7)
    for i in range(12):
        g = torch.diag(torch.rand(6, generator=generator, dtype=torch.float64) + torch.arange(1, 7))
        layer.weight.grad, twin.weight.grad = g, g.clone()
        soap.step()
        if i:  # SOAP's first gradient fills its state alone
            adam.step()
    torch.testing.assert_close(layer.weight, twin.weight, rtol=0, atol=2e-8)  # eps enters at different places


def test_soap_turns_with_its_problem():
    generator = torch.Generator().manual_seed(8)
    U, V = (torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q for n in (6, 6))
    layer, turned = line(6, 6), line(6, 6)
    with torch.no_grad():
        turned.weight.copy_(U @ layer.weight @ V)
    optimizers = [SOAP(weight_decay=0.0, every=3).build(each, 0.01) for each in (layer, turned)]
    for _ in range(10):
        layer.weight.grad = torch.randn(6, 6, generator=generator, dtype=torch.float64)
        turned.weight.grad = U @ layer.weight.grad @ V
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(turned.weight, U @ layer.weight @ V, rtol=0, atol=1e-9)


# Prodigy's own rate


def growth(steps: int, **fields) -> list[float]:
    """Lengths of the steps under a constant gradient, in d0."""
    d0 = 1e-6
    point = nn.Linear(1, 1, bias=False).double()
    optimizer = Prodigy(d0=d0, **({"beta1": 0.0, "beta2": 0.0, "beta3": 0.0} | fields)).build(point, 1.0)
    sizes = []
    for _ in range(steps):
        before, point.weight.grad = point.weight.item(), torch.ones(1, 1, dtype=torch.float64)
        optimizer.step()
        sizes.append((before - point.weight.item()) / d0)
    return sizes


def test_prodigy_grows_as_fibonacci_with_the_rate_known_before_a_step():
    assert growth(9) == pytest.approx([1, 1, 1, 2, 3, 5, 8, 13, 21], rel=1e-6)


def test_prodigy_doubles_with_the_rate_known_after_its_gradient():
    assert growth(8, index="next") == pytest.approx([1, 1, 2, 4, 8, 16, 32, 64], rel=1e-6)


def test_prodigy_without_averaging_is_sign_descent_by_the_escape_velocity(model):
    config = Prodigy(beta1=0.0, beta2=0.0, beta3=0.0, d0=1e-3, eps=1e-30)
    path, slopes = step(config, model, 1.0, steps=6)
    eta = 1e-3
    for before, after, g in zip(path, path[1:], slopes, strict=False):
        agree(after, [w - eta * d.sign() for w, d in zip(before, g, strict=True)])
        away = [s - w for s, w in zip(path[0], before, strict=True)]
        one = sum(d.abs().sum() for d in g)
        escape = float(sum((d * a).sum() for d, a in zip(g, away, strict=True)) / one)
        assert escape <= max(a.abs().max() for a in away)  # Hoelder
        eta = max(eta, escape)


def test_prodigy_finds_the_distance_to_the_solution():
    point = nn.Linear(1, 1, bias=False).double()
    start = point.weight.item()
    optimizer = Prodigy().build(point, 1.0)
    for _ in range(400):
        optimizer.zero_grad()
        (point.weight - start - 3.0).abs().sum().backward()
        optimizer.step()
    assert 0.5 < optimizer.state[point.weight]["d"] <= 3.0  # a lower bound of the distance, and not far below it
    assert point.weight.item() == pytest.approx(start + 3.0, abs=1.0)


# NAdamW and schedule-free


def test_nadamw_without_momentum_is_adam_without_momentum(model):
    twin = copy.deepcopy(model)
    path, _ = step(NAdamW(beta1=0.0, weight_decay=0.0), model, 0.01, 3)
    other, _ = step(Adam(beta1=0.0), twin, 0.01, 3)
    agree(path[-1], other[-1], rtol=1e-10)


def test_schedule_free_holds_y_while_it_trains_and_shows_the_average_when_it_is_evaluated():
    torch.manual_seed(0)
    model = nn.Linear(3, 2, bias=False).double()
    rate, beta1 = 0.1, 0.8
    optimizer = ScheduleFreeAdamW(beta1=beta1, beta2=0.0, eps=1e-30, weight_decay=0.0).build(model, rate)
    x = z = model.weight.detach().clone()
    for t in range(1, 6):
        torch.testing.assert_close(model.weight.detach(), (1 - beta1) * z + beta1 * x, rtol=0, atol=1e-14)
        (g,) = gradients(model, t)
        optimizer.step()
        z = z - rate * g.sign()
        x = (1 - 1 / t) * x + z / t
    inputs = torch.eye(3, dtype=torch.float64)
    y = model.weight.detach().clone()
    with torch.no_grad():
        torch.testing.assert_close(model(inputs), y.mT, rtol=0, atol=1e-15)
        model.eval()
        torch.testing.assert_close(model(inputs), x.mT, rtol=0, atol=1e-14)
        assert torch.equal(model.weight, y)  # put back bit for bit
        with pytest.raises(RuntimeError):
            model(torch.eye(4, dtype=torch.float64))
        assert torch.equal(model.weight, y)  # also after a forward pass that failed
