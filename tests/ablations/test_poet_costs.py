"""What POET costs in trained parameters, memory and FLOP, against the paper's table and torch's counter."""

import pytest
import torch
import torch.nn.functional as F
from poet_cases import MODEL, RETRO, T, V, build, every, samplings, spec
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from algoprogress.ablations.accounting import flop_per_token, linear_shapes, optimizer_cost
from algoprogress.ablations.allocation import isoflop
from algoprogress.ablations.optimizers import optimizers
from algoprogress.ablations.optimizers.adamw import AdamW
from algoprogress.ablations.reparameterizations import Shapes, reparameterizations
from algoprogress.ablations.reparameterizations.poet import poet_layers
from algoprogress.ablations.reparameterizations.poet_bs import POETBlockStochastic
from algoprogress.ablations.reparameterizations.poet_fs import POETFullyStochastic
from algoprogress.ablations.study_file import load


def loss(model: nn.Module) -> torch.Tensor:
    x, y = torch.randint(V, (2, 4, T), generator=torch.Generator().manual_seed(1))
    return F.cross_entropy(model(x)[0].flatten(0, 1), y.flatten())


# Qiu et al. 2025, beside the perplexities on C4: trained parameters. Fully stochastic sampling and AdamW use the
# feed-forward widths of GaLore. The paper's list has 5461 for 1.3B, which no eighth divides; 5464 gives its counts.
WIDTHS = {"60M": (512, 1280, 1376, 8), "130M": (768, 2048, 2048, 12), "350M": (1024, 2816, 2736, 24)}
WIDTHS["1.3B"] = (2048, 5376, 5464, 24)
PUBLISHED = {
    "AdamW": ("25.30M", "84.93M", "302.38M", "1.21B"),
    "LoRA 64": ("4.85M", "11.21M", "30.28M", "59.38M"),
    "BS 64": ("2.39M", "5.52M", "14.90M", "29.22M"),
    "BS 128": ("4.81M", "11.12M", "30.04M", "58.91M"),
    "BS 256": ("9.66M", "22.33M", "60.32M", None),  # 118.26 is published and 118.29 is what the formula gives
    "FS 1/8": ("0.53M", "1.78M", "6.34M", "25.39M"),
    "FS 1/4": ("2.13M", "7.13M", "25.44M", "101.66M"),
    "FS 1/2": ("8.54M", "28.56M", "101.86M", "406.88M"),
}
CELLS = [
    (row, size, cell)
    for row, cells in PUBLISHED.items()
    for size, cell in zip(WIDTHS, cells, strict=True)
    if cell is not None
]


def llama(width: int, ff_width: int, n_layers: int) -> Shapes:
    square, wide, tall = (width, width, 1), (ff_width, width, 1), (width, ff_width, 1)
    layer = {"q": square, "k": square, "v": square, "o": square, "gate": wide, "up": wide, "down": tall}
    return {f"{i}.{name}": shape for i in range(n_layers) for name, shape in layer.items()}


def counted(row: str, size: str) -> int:
    width, of_poet_bs, of_galore, n_layers = WIDTHS[size]
    kind, _, value = row.partition(" ")
    if kind == "FS":
        return POETFullyStochastic(fraction=1 / int(value[2:])).n_trained(llama(width, of_galore, n_layers))
    if kind == "BS":
        return POETBlockStochastic(block=int(value)).n_trained(llama(width, of_poet_bs, n_layers))
    if kind == "LoRA":
        return sum(int(value) * (m + n) for m, n, _ in llama(width, of_poet_bs, n_layers).values())
    return sum(m * n for m, n, _ in llama(width, of_galore, n_layers).values())


@pytest.mark.parametrize(("row", "size", "cell"), CELLS)
def test_trained_parameters_are_those_that_the_paper_publishes(row, size, cell):
    n = counted(row, size)
    assert (f"{n / 1e9:.2f}B" if n >= 1e9 else f"{n / 1e6:.2f}M") == cell


def test_there_are_no_fewer_than_29_published_cells():
    assert len(CELLS) >= 29


@every
def test_a_run_knows_how_many_parameters_it_trains(name):
    one = spec(reparameterization=name, architecture=RETRO)
    model = build(one.reparameterization, RETRO.model_copy(update={"position": "rotary"}))
    assert linear_shapes(RETRO, V, T)["blocks.0.attention.qkv"] == (16, 16, 3)
    expected = sum(p.numel() for p in model.parameters() if p.requires_grad) + (257 - V) * 16
    assert one.n_params_trained == expected
    assert (
        one.n_params_trained
        < one.n_params_total
        == one.model_copy(update={"reparameterization": None}).n_params_trained
    )
    assert one.n_params == spec(architecture=RETRO).n_params


def test_memory_is_that_of_the_papers_table_1():
    one = {"w": (64, 32, 1)}
    assert POETBlockStochastic(block=8).n_kept_with_adam(one) == 64 * 32 + 1.5 * (64 + 32) * (8 - 1)
    assert POETFullyStochastic(fraction=0.5).n_kept_with_adam({"w": (64, 64, 1)}) == 64 * 64 + 3 * 32 * (32 - 1)


@samplings
@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_memory_is_what_a_model_and_its_optimizer_keep(sampling, rate):
    poet = sampling.model_copy(update={"rate": rate})
    model = build(poet)
    optimizer = AdamW().build(model, 0.01)
    loss(model).backward()
    optimizer.step()
    kept = 0
    for layer in poet_layers(model).values():
        kept += sum(t.numel() for t in layer.state_dict().values() if t.is_floating_point())
        kept += sum(t.numel() for q in (layer.Q_R, layer.Q_P) for t in optimizer.state[q].values() if t.ndim)
    assert kept == poet.n_kept_with_adam(linear_shapes(MODEL, V, T))


@samplings
@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_the_flop_of_forming_the_weights_are_those_that_torch_counts(sampling, order):
    poet = sampling.model_copy(update={"order": order, "merge_every": 10**9})

    def counted(model: nn.Module) -> int:
        with FlopCounterMode(display=False) as counter:
            loss(model).backward()
        return counter.get_total_flops()

    extra = counted(build(poet)) - counted(build(None))
    assert poet.flop_per_step(linear_shapes(MODEL, V, T)) == pytest.approx(extra, rel=1e-6)


def test_a_merge_costs_a_forward_pass_of_the_weights():
    poet = POETFullyStochastic(fraction=0.5, order=3, merge_every=1)
    layer = next(iter(poet_layers(build(poet)).values()))
    with FlopCounterMode(display=False) as counter:
        layer.merge()
    shapes = {"one": linear_shapes(MODEL, V, T)["blocks.0.attention.qkv"]}
    never = poet.model_copy(update={"merge_every": 10**12})
    share = poet.flop_per_step(shapes) - never.flop_per_step(shapes)
    assert share == pytest.approx(counter.get_total_flops(), rel=1e-6)


def test_the_standard_convention_counts_them_once_a_step_and_the_others_do_not():
    plain, turned = spec(), spec(reparameterization="poet_bs")
    extra = turned.reparameterization.flop_per_step(linear_shapes(MODEL, 257, 128))
    assert turned.compute == pytest.approx(plain.compute + turned.steps * extra)
    assert turned.flop_per_token() > plain.flop_per_token() == flop_per_token(MODEL, 257, 128)
    for convention in ("6n", "6n_total"):
        assert turned.flop(convention) == plain.flop(convention)


@samplings
@pytest.mark.parametrize("optimizer", list(optimizers))
def test_the_optimizer_of_a_reparameterized_run_is_counted_on_what_it_trains(sampling, optimizer):
    for architecture in (MODEL, RETRO):
        config = optimizers[optimizer](name=optimizer)
        counted = optimizer_cost(config, architecture, V, T, sampling)
        assert counted == config.total_cost(build(sampling, architecture))
        assert counted != optimizer_cost(config, architecture, V, T)


def test_a_budget_in_a_study_file_is_that_of_the_reparameterized_run(tmp_path):
    path = tmp_path / "turned.yaml"
    path.write_text(
        """
name: turned
question: Does a file's budget count what a reparameterization costs?
baseline: plain
common:
  architecture: {preset: modern, width: 32, ff_ratio: 3}
  learning_rate: 0.01
  batch_tokens: 256
arms:
  plain: {compute: [3.0e+10]}
  turned: {compute: [3.0e+10], reparameterization: {name: poet_bs, block: 32, merge_every: 100}}
"""
    )
    ((plain,), (turned,)) = load(path).arms.values()
    assert turned.spec.reparameterization == POETBlockStochastic(block=32, merge_every=100)
    assert turned.spec.tokens < 0.95 * plain.spec.tokens
    assert plain.spec.compute == pytest.approx(3e10, rel=0.01)
    assert turned.spec.compute == pytest.approx(3e10, rel=0.01)


@every
def test_a_budget_buys_a_reparameterized_model_fewer_tokens(name):
    config = reparameterizations[name]()
    (plain,), (turned,) = (isoflop(1e9, [MODEL], 257, 128, 256, reparameterization=r) for r in (None, config))
    assert turned.tokens < plain.tokens
    whole = spec(reparameterization=name, tokens=turned.tokens, batch_tokens=256)
    assert whole.compute == pytest.approx(turned.compute)
    assert turned.compute == pytest.approx(1e9, rel=0.05)
