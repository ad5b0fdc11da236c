"""Clipping does what it says, jointly over all parameters, and composes with every optimizer in its three places."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from algoprogress.ablations.optimizers import optimizers
from algoprogress.ablations.optimizers.adam import Adam
from algoprogress.ablations.optimizers.adamw import AdamW
from algoprogress.ablations.optimizers.clipping import CoordinateClipping, NormClipping, clipped, norm_clipped
from algoprogress.ablations.optimizers.sgd import SGD
from algoprogress.ablations.spec import Data, RunSpec

every = pytest.mark.parametrize("name", list(optimizers))
places = pytest.mark.parametrize("of", ["gradient", "momentum", "update"])


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 6)
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 9, bias=False)


def make() -> nn.Module:
    torch.manual_seed(0)
    return Net().double()


def gradients(model: nn.Module, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64) ** 3  # some are large
    return [p.grad.clone() for p in model.parameters()]


def run(config, steps: int = 4, rate: float = 0.01, clip=None) -> list[Tensor]:
    """Weights after a few steps; `clip`, if any, is done to the gradients by hand before each."""
    model = make()
    optimizer = config.build(model, rate)
    for seed in range(steps):
        grads = gradients(model, seed)
        if clip is not None:
            for p, g in zip(model.parameters(), clip(grads), strict=True):
                p.grad = g
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def tensors(seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=generator, dtype=torch.float64) for s in [(5, 7), (11,), (), (2, 3, 4)]]


def flat(parts: list[Tensor]) -> Tensor:
    return torch.cat([p.flatten() for p in parts])


@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.1, 0.5, 0.9, 1.0])
def test_exactly_the_share_asked_for_ends_at_the_threshold(fraction):
    before = tensors()
    after = flat(CoordinateClipping(fraction=fraction)(before))
    n = math.floor(fraction * after.numel())
    top = after.abs().max()
    if n:
        assert (after.abs() == top).sum() == n
        assert top == flat(before).abs().sort(descending=True).values[n - 1]
    assert torch.equal(after.sign(), flat(before).sign())
    small = flat(before).abs() < top
    assert torch.equal(after[small], flat(before)[small])


def test_a_share_of_nothing_changes_nothing():
    before = tensors()
    assert all(a is b for a, b in zip(CoordinateClipping(fraction=0)(before), before, strict=True))
    # less than one coordinate in all
    assert torch.equal(flat(CoordinateClipping(fraction=0.01)(before)), flat(before))


def test_a_share_of_all_leaves_the_signs_times_the_least():
    before = tensors()
    after = flat(CoordinateClipping(fraction=1)(before))
    assert torch.equal(after, flat(before).sign() * flat(before).abs().min())


def test_the_threshold_is_one_for_all_tensors():
    large, small = torch.full((10,), 5.0), torch.full((10,), 1.0)
    large[0] = 7.0
    assert [t.max().item() for t in CoordinateClipping(fraction=0.05)([large, small])] == [7.0, 1.0]
    assert [t.max().item() for t in CoordinateClipping(fraction=0.1)([large, small])] == [5.0, 1.0]
    assert [t.max().item() for t in CoordinateClipping(fraction=0.6)([large, small])] == [1.0, 1.0]


def test_the_joint_norm_is_bounded_and_a_small_one_is_left():
    before = tensors()
    size = flat(before).norm()
    after = NormClipping(max_norm=0.5)(before)
    torch.testing.assert_close(flat(after), flat(before) * 0.5 / size)
    assert all(a is b for a, b in zip(NormClipping(max_norm=2 * size.item())(before), before, strict=True))


@pytest.mark.parametrize("clip", [CoordinateClipping(fraction=0.3), NormClipping(max_norm=1e-3)], ids=lambda c: c.name)
def test_clipping_leaves_what_it_is_given_as_it_was(clip):
    before, copies = tensors(), tensors()
    clip(before)
    assert all(torch.equal(a, b) for a, b in zip(before, copies, strict=True))


@every
@places
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_composes_with_every_optimizer(name, of, dtype):
    for config in (clipped(optimizers[name](), 0.3, of), norm_clipped(optimizers[name](), 1e-2, of)):
        model = make().to(dtype)
        before = [p.detach().clone() for p in model.parameters()]
        optimizer = config.build(model, 1.0)  # large: the first steps of Prodigy are 1e-6 of it
        for seed in range(4):
            for p, g in zip(model.parameters(), gradients(make(), seed), strict=True):
                p.grad = g.to(dtype)
            optimizer.step()
        assert all(p.isfinite().all() for p in model.parameters())
        assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@every
def test_a_clipped_optimizer_is_not_the_unclipped_one(name):
    """Clipping of the update always shows; of the gradient, wherever its size or its spread counts."""
    plain = run(optimizers[name]())
    assert not all(
        torch.equal(a, b) for a, b in zip(run(clipped(optimizers[name](), 0.5, "update")), plain, strict=True)
    ) or name in ("sign", "signum", "lion")  # whose coordinates are all of one size already
    by_gradient = run(clipped(optimizers[name](), 0.5))
    assert not all(torch.equal(a, b) for a, b in zip(by_gradient, plain, strict=True)) or name == "sign"


@every
def test_clipping_the_gradient_is_clipping_it_before_the_step(name):
    config = optimizers[name]()
    clip = CoordinateClipping(fraction=0.3)
    for a, b in zip(run(clipped(config, 0.3)), run(config, clip=clip), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    if name == "soap":
        return  # rounding, which the norm takes in another order, chooses its first basis of what has no gradient yet
    norm = NormClipping(max_norm=0.1)
    for a, b in zip(run(norm_clipped(config, 0.1)), run(config, clip=norm), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@every
@places
def test_a_threshold_that_nothing_reaches_changes_nothing(name, of):
    config = optimizers[name]()
    for other in (clipped(config, 0.0, of), norm_clipped(config, 1e12, of)):
        for a, b in zip(run(other), run(config), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_of_momentum_adams_second_moment_sees_the_gradient_whole():
    b1, b2, eps, rate, clip = 0.8, 0.9, 1e-3, 0.01, CoordinateClipping(fraction=0.2)
    model = make()
    optimizer = clipped(Adam(beta1=b1, beta2=b2, eps=eps), 0.2, "momentum").build(model, rate)
    expected = [p.detach().clone() for p in model.parameters()]
    m, v = ([torch.zeros_like(w) for w in expected] for _ in range(2))
    for t in range(1, 5):
        g = gradients(model, t)
        optimizer.step()
        m = [b1 * a + (1 - b1) * d for a, d in zip(m, clip(g), strict=True)]
        v = [b2 * a + (1 - b2) * d**2 for a, d in zip(v, g, strict=True)]
        expected = [
            w - rate * (a / (1 - b1**t)) / ((b / (1 - b2**t)).sqrt() + eps)
            for w, a, b in zip(expected, m, v, strict=True)
        ]
    for a, b in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(a.detach(), b, rtol=1e-10, atol=1e-10)


def test_of_an_update_the_decay_is_not_clipped():
    model, rate = make(), 0.01
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = clipped(AdamW(weight_decay=0.5), 0.2, "update").build(model, rate)
    twin = copy.deepcopy(model)
    plain = AdamW(weight_decay=0.0).build(twin, rate)
    for each, steps in ((model, optimizer), (twin, plain)):
        for seed in range(1):
            gradients(each, seed)
            steps.step()
    updates = [(a - b.detach()) / rate for a, b in zip(before, twin.parameters(), strict=True)]
    updates = CoordinateClipping(fraction=0.2)(updates)
    matrices = [False, True, False, True]
    for a, w, u, decays in zip(model.parameters(), before, updates, matrices, strict=True):
        torch.testing.assert_close(a.detach(), w - rate * 0.5 * w * decays - rate * u, rtol=1e-10, atol=1e-10)


def test_of_sgd_the_gradient_the_momentum_and_the_update_are_one():
    first, *others = (run(clipped(SGD(), 0.3, of), rate=0.1) for of in ("gradient", "momentum", "update"))
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_adams_first_update_cannot_be_clipped_for_it_is_all_of_one_size():
    config = Adam(eps=1e-30)
    for a, b in zip(run(clipped(config, 0.5, "update"), steps=1), run(config, steps=1), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_clipping_is_part_of_a_runs_identity():
    def run_id(optimizer) -> str:
        data = Data(corpus_sha256="ab" * 32)
        return RunSpec(
            architecture={"name": "lstm"}, tokens=2048, learning_rate=0.1, data=data, optimizer=optimizer
        ).run_id

    configs = [
        SGD(),
        clipped(SGD(), 0.1),
        clipped(SGD(), 0.2),
        clipped(SGD(), 0.1, "update"),
        norm_clipped(SGD()),
        norm_clipped(SGD(), 2.0),
        {"name": "sgd", "clipping": {"name": "coordinate", "fraction": 0.3}},
    ]
    assert len({run_id(c) for c in configs}) == len(configs)
    assert run_id({"name": "sgd", "clipping": {"name": "coordinate", "fraction": 0.1}}) == run_id(configs[1])


@pytest.mark.parametrize(
    ("clipping", "message"),
    [
        ({"name": "coordinate", "fraction": 1.1}, "fraction"),
        ({"name": "coordinate", "fraction": -0.1}, "fraction"),
        ({"name": "norm", "max_norm": 0}, "max_norm"),
        ({"name": "norm", "of": "weights"}, "'gradient', 'momentum' or 'update'"),
        ({"name": "value"}, "'coordinate', 'norm'"),
    ],
)
def test_clipping_that_is_none_is_refused(clipping, message):
    with pytest.raises(ValueError, match=message):
        SGD(clipping=clipping)
