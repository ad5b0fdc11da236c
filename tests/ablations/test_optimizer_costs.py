"""An optimizer step costs what it is said to: state against state, matrix products against the count of torch."""

import math

import pytest
import torch
from model_cases import data_of, shape_of
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from algoprogress.ablations import accounting
from algoprogress.ablations.architectures import architectures
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.optimizers import newton_schulz as ns
from algoprogress.ablations.optimizers import optimizers
from algoprogress.ablations.optimizers.__main__ import rows
from algoprogress.ablations.optimizers.adam import Adam
from algoprogress.ablations.optimizers.adamw import AdamW
from algoprogress.ablations.optimizers.clipping import NormClipping, clipped, norm_clipped
from algoprogress.ablations.optimizers.costs import eigen, orthonormal, singular
from algoprogress.ablations.optimizers.muon import Muon
from algoprogress.ablations.optimizers.scion import Scion
from algoprogress.ablations.optimizers.sgd import SGD
from algoprogress.ablations.optimizers.shampoo import Shampoo
from algoprogress.ablations.optimizers.soap import SOAP
from algoprogress.ablations.optimizers.steepest import SteepestDescent
from algoprogress.ablations.spec import RunSpec

every = pytest.mark.parametrize("name", list(optimizers))
UNTIED = Transformer(width=16, tied=False, bias=True, norm="layernorm", position="learned")


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scalar, self.empty = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.empty(3, 0))
        self.cube = nn.Parameter(torch.randn(2, 3, 2))
        self.table, self.conv, self.linear = nn.Embedding(7, 4), nn.Conv2d(2, 3, 3), nn.Linear(4, 5)
        self.frozen = nn.Parameter(torch.zeros(100), requires_grad=False)


def stepped(config, model: nn.Module, steps: int) -> torch.optim.Optimizer:
    optimizer = config.build(model, 0.01)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        for p in model.parameters():
            if p.requires_grad:
                p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()
    return optimizer


def kept(optimizer: torch.optim.Optimizer) -> int:
    return sum(
        value.numel()
        for state in optimizer.state.values()
        for key, value in state.items()
        if isinstance(value, Tensor) and key != "step"
    )


VARIANTS = {
    **{name: optimizers[name]() for name in optimizers},
    "shampoo-blocks": Shampoo(block_size=5),
    "shampoo-without-momentum": Shampoo(beta1=0.0),
    "soap-one-sided": SOAP(largest=13),
    "muon-without-momentum": Muon(momentum=0.0),
    "scion-without-momentum": Scion(beta=0.0),
    "rmsprop-momentum": optimizers["rmsprop"](momentum=0.5),
    "prodigy-without-momentum": optimizers["prodigy"](beta1=0.0),
}


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())
def test_the_state_is_as_large_as_it_is_said_to_be(config):
    torch.manual_seed(0)
    for model in (UNTIED.build(13, 6), Odd()):
        assert kept(stepped(config, model, 2)) == config.total_cost(model).state
        assert config.state_bytes(model) == 4 * config.total_cost(model).state
        assert config.state_bytes(model.double()) == 8 * config.total_cost(model).state


# no factorization, or one whose products are counted apart by `factorizations`
PRODUCTS = {
    "muon": Muon(),
    "muon-cubic": Muon(orthogonalization="cubic"),
    "scion": Scion(),
    "steepest": SteepestDescent(embedding="spectral", head="rms_to_rms"),
    "shampoo": Shampoo(every=1),
    "shampoo-blocks": Shampoo(every=1, block_size=8),
    "soap": SOAP(every=1),
    "adamw": AdamW(),
}


@pytest.mark.parametrize("config", PRODUCTS.values(), ids=PRODUCTS.keys())
@pytest.mark.parametrize("make", [lambda: UNTIED.build(40, 6), Odd], ids=["transformer", "odd"])
def test_matrix_products_are_those_that_torch_counts(config, make):
    torch.manual_seed(0)
    model = make()
    optimizer = stepped(config, model, 2)  # the first step of some is another
    with FlopCounterMode(display=False) as counter:
        optimizer.step()
    cost = config.total_cost(model)
    roots = 0.0
    if isinstance(config, Shampoo):  # two products with n x n for each root
        sides = [s for p in model.parameters() if p.ndim > 1 and p.numel() for s in blocks(p, config.block_size)]
        roots = sum(2.0 * n**3 for n in sides)
    assert counter.get_total_flops() == pytest.approx(cost.products + roots, rel=1e-12)


def blocks(p: Tensor, largest: int) -> list[int]:
    from algoprogress.ablations.optimizers.shampoo import Blocks

    n, *sides = Blocks(tuple(p.shape), largest).stack
    return n * sides


@pytest.mark.parametrize(("m", "n"), [(8, 8), (8, 24), (24, 8), (16, 100)])
@pytest.mark.parametrize("form", [(ns.QUINTIC, 5), (ns.CUBIC, 24), (ns.CUBIC, 4)], ids=["quintic", "cubic", "few"])
def test_an_iteration_takes_the_fewer_flop_of_its_two_forms(m, n, form):
    with FlopCounterMode(display=False) as counter:
        ns.newton_schulz(torch.randn(m, n), *form)
    assert counter.get_total_flops() == ns.flop(m, n, *form)
    if form[1] <= ns.QUINTIC_STEPS:
        assert ns.flop(m, n, *form) == min(
            ns._plain_flop(*sorted((m, n)), *form), ns._gram_flop(*sorted((m, n)), *form)
        )


def test_elements_by_hand():
    layer = nn.Linear(10, 7)  # 70 and 7
    assert SGD().total_cost(layer) == (0, 2 * 77, 0, 0)
    assert SGD(weight_decay=0.1).flop_per_step(layer) == 2 * 77 + 2 * 70  # decay times W, added
    assert Adam().total_cost(layer) == (2 * 77, 13 * 77, 0, 0)
    assert AdamW(weight_decay=0.1).flop_per_step(layer) == 13 * 77 + 70  # W times a number
    assert norm_clipped(SGD()).flop_per_step(layer) == (2 + NormClipping.flop_per_element) * 77
    assert clipped(SGD(), 0.1).flop_per_step(layer) > norm_clipped(SGD()).flop_per_step(layer)


def test_factorizations_by_hand():
    assert eigen(10) == 9000
    assert singular(10, 20) == singular(20, 10) == 6 * 20 * 100 + 20 * 1000
    assert orthonormal(3) == pytest.approx(72)
    square = nn.Linear(10, 10, bias=False)
    every_step, every_tenth = (Shampoo(every=k).total_cost(square).factorizations for k in (1, 10))
    assert every_step == 10 * every_tenth == 2 * (2 * 1000 + 9000)


@every
@pytest.mark.parametrize("architecture", list(architectures))
def test_a_run_may_count_its_optimizer(name, architecture):
    config = architectures[architecture](width=32)

    def spec(**fields) -> RunSpec:
        return RunSpec(architecture=config, learning_rate=0.01, **data_of(config) | {"optimizer": name} | fields)

    one, shape = spec(), shape_of(config)
    model = config.build(*shape)
    per_step = one.optimizer.flop_per_step(model)
    assert accounting.optimizer_cost(one.optimizer, config, *shape) == one.optimizer.total_cost(model)
    for convention in accounting.CONVENTIONS:
        assert one.flop(convention, optimizer=True) - one.flop(convention) == pytest.approx(2 * per_step, rel=1e-6)
    assert one.compute == one.flop()  # not counted unless asked
    assert spec(batch_tokens=1024).flop(optimizer=True) > one.flop(optimizer=True)  # more steps on as many tokens
    assert one.optimizer_bytes == one.optimizer.state_bytes(model)
    assert spec(dtype="float64").optimizer_bytes == 2 * one.optimizer_bytes


def test_muon_costs_more_than_adamw_and_less_than_its_exact_form():
    model = Transformer(width=64).build(257, 128)
    costs = [c.flop_per_step(model) for c in (AdamW(), Muon(), Muon(orthogonalization="svd"))]
    assert costs == sorted(costs)
    assert math.isfinite(costs[-1])


def test_the_table_of_costs_has_every_optimizer():
    header, *body = rows()
    assert {line[0].strip("`") for line in body} == set(optimizers)
    assert all(len(line) == len(header) and all(line) for line in body)
