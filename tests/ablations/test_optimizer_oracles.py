"""Twenty steps of ours are twenty of torch's, of prodigyopt's and of pytorch_optimizer's, where they mean the same.

Where a definition differs, the test says in what, and gives the oracle's meaning by our fields.
"""

import math
import warnings
from collections.abc import Callable, Iterable

import prodigyopt
import pytest
import pytorch_optimizer as po
import torch
from pytorch_optimizer.optimizer.scion import LMONorm
from torch import Tensor, nn

from algoprogress.ablations.optimizers import OptimizerConfig, norms, parameter_groups
from algoprogress.ablations.optimizers import newton_schulz as ns
from algoprogress.ablations.optimizers.adafactor import Adafactor
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
from algoprogress.ablations.optimizers.scion import Scion
from algoprogress.ablations.optimizers.sgd import SGD
from algoprogress.ablations.optimizers.shampoo import Shampoo
from algoprogress.ablations.optimizers.sign import Sign
from algoprogress.ablations.optimizers.soap import SOAP
from algoprogress.ablations.optimizers.steepest import SteepestDescent

STEPS = 20
precisions = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-12)], ids=["float32", "float64"]
)
Oracle = Callable[[list[dict]], torch.optim.Optimizer]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(7, 12)
        self.norm = nn.LayerNorm(12)
        self.second = nn.Linear(12, 7)
        self.second_too = nn.Linear(12, 7, bias=False)
        self.last = nn.Linear(7, 3)


class Matrices(nn.Module):
    """All of them hidden: what Muon orthogonalizes."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(2, 2)  # so that the last layer is no head
        self.layers = nn.ModuleList([nn.Linear(a, b, bias=False) for a, b in ((6, 9), (9, 6), (6, 6), (6, 9))])
        self.table.weight.requires_grad_(False)


def make(kind: type[nn.Module], dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    return kind().to(dtype)


def gradients(model: nn.Module, seed: int) -> None:
    """Noise on what stays the same from step to step."""
    noise, drift = torch.Generator().manual_seed(1 + seed), torch.Generator().manual_seed(0)
    for p in model.parameters():
        if p.requires_grad:
            same, new = (torch.randn(p.shape, generator=g, dtype=torch.float64) for g in (drift, noise))
            p.grad = (same + 0.5 * new).to(p.dtype)


def paths(
    config: OptimizerConfig, oracle: Oracle, kind: type[nn.Module], dtype: torch.dtype, rate: float
) -> Iterable[tuple[Tensor, Tensor]]:
    """Weights of ours and of the oracle after each step, under the same gradients and the same groups."""
    ours, theirs = make(kind, dtype), make(kind, dtype)
    optimizer, peer = config.build(ours, rate), oracle(parameter_groups(theirs, config.weight_decay))
    for seed in range(STEPS):
        for model, each in ((ours, optimizer), (theirs, peer)):
            gradients(model, seed)
            each.step()
        yield from zip(ours.parameters(), theirs.parameters(), strict=True)


def agree(config: OptimizerConfig, oracle: Oracle, dtype: torch.dtype, tolerance: float, rate: float, kind=Net) -> None:
    start = [p.detach().clone() for p in make(kind, dtype).parameters()]
    n = len(start)
    for i, (a, b) in enumerate(paths(config, oracle, kind, dtype, rate)):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, msg=lambda m, i=i: f"step {i // n + 1}: {m}")
    assert any(not torch.equal(a, p) for a, p in zip(start, [a], strict=False))


TORCH = {
    "adam": (Adam(weight_decay=0.1), lambda g: torch.optim.Adam(g, lr=0.01, betas=(0.9, 0.95)), 0.01),
    "adamw": (AdamW(weight_decay=0.1), lambda g: torch.optim.AdamW(g, lr=0.01, betas=(0.9, 0.95)), 0.01),
    "sgd": (SGD(weight_decay=0.1), lambda g: torch.optim.SGD(g, lr=0.1), 0.1),
    "momentum": (Momentum(weight_decay=0.1), lambda g: torch.optim.SGD(g, lr=0.1, momentum=0.9), 0.1),
    "nesterov": (
        Nesterov(weight_decay=0.1),
        lambda g: torch.optim.SGD(g, lr=0.1, momentum=0.9, nesterov=True),
        0.1,
    ),
    "rmsprop": (RMSprop(weight_decay=0.1), lambda g: torch.optim.RMSprop(g, lr=0.01, alpha=0.99), 0.01),
    "rmsprop-momentum": (
        RMSprop(momentum=0.5),
        lambda g: torch.optim.RMSprop(g, lr=0.01, alpha=0.99, momentum=0.5),
        0.01,
    ),
    "adagrad": (Adagrad(weight_decay=0.1), lambda g: torch.optim.Adagrad(g, lr=0.1), 0.1),
    "adafactor": (Adafactor(weight_decay=0.1), lambda g: torch.optim.Adafactor(g, lr=0.05), 0.05),
}


@precisions
@pytest.mark.parametrize("name", TORCH)
def test_it_is_torchs(name, dtype, tolerance):
    config, oracle, rate = TORCH[name]
    agree(config, oracle, dtype, tolerance, rate)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nadamw_is_torchs_but_for_the_precision_of_the_product_of_its_momenta(dtype):
    # torch keeps that product in float32 whatever the weights
    agree(
        NAdamW(weight_decay=0.1),
        lambda g: torch.optim.NAdam(g, lr=0.01, betas=(0.9, 0.95), decoupled_weight_decay=True),
        dtype,
        1e-7 if dtype == torch.float64 else 2e-6,
        0.01,
    )


@precisions
@pytest.mark.parametrize("config", [Adam(weight_decay=0.1), AdamW(weight_decay=0.1)], ids=lambda c: c.name)
def test_adams_equations_are_adams_kernel(config, dtype, tolerance, monkeypatch):
    # the path that clipping takes; the other is torch's kernel
    monkeypatch.setattr("algoprogress.ablations.optimizers.adam.adam_fused", lambda *_: False)
    agree(config, TORCH[config.name][1], dtype, tolerance, 0.01)


def test_adams_kernel_is_torchs_bit_for_bit():
    for a, b in paths(AdamW(), lambda g: torch.optim.AdamW(g, 0.01, (0.9, 0.95), fused=True), Net, torch.float32, 0.01):
        assert torch.equal(a, b)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_muon_is_torchs_but_for_the_precision_of_the_iteration(nesterov, adjust, monkeypatch):
    # torch iterates in bfloat16 whatever the weights; ours, in the precision of the weights, agrees to bfloat16's 2^-8
    # of 20 steps with entries of up to 0.02 x 1.2, and to rounding where torch is made to iterate in float64
    config = Muon(nesterov=nesterov, adjust=adjust, weight_decay=0.1)

    def oracle(groups: list[dict]) -> torch.optim.Optimizer:
        return torch.optim.Muon(groups, lr=0.02, momentum=0.95, nesterov=nesterov, adjust_lr_fn=adjust)

    agree(config, oracle, torch.float32, 0.02, 0.02, Matrices)
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.clone())
    agree(config, oracle, torch.float64, 1e-9, 0.02, Matrices)


def test_muon_in_bfloat16_is_torchs():
    config = Muon(precision="bfloat16")
    agree(config, lambda g: torch.optim.Muon(g, lr=0.02, weight_decay=0.0), torch.float32, 5e-3, 0.02, Matrices)


@precisions
@pytest.mark.parametrize("correct", [False, True])
def test_prodigy_is_prodigyopts(correct, dtype, tolerance):
    # d grows on itself, and with it the rounding of W_0 - W, which is coarse beside the usual d0 of 1e-6 in float32
    config = Prodigy(weight_decay=0.1, bias_correction=correct, d0=1e-4, d_coef=0.5, beta2=0.95)

    def oracle(groups: list[dict]) -> torch.optim.Optimizer:
        return prodigyopt.Prodigy(groups, lr=1.0, betas=(0.9, 0.95), use_bias_correction=correct, d0=1e-4, d_coef=0.5)

    agree(config, oracle, dtype, 100 * tolerance, 1.0)


@precisions
def test_prodigy_without_momentum_takes_the_next_d_in_prodigyopt(dtype, tolerance):
    # prodigyopt changes the index of d where beta1 is 0; ours is a field
    def oracle(groups: list[dict]) -> torch.optim.Optimizer:
        return prodigyopt.Prodigy(groups, lr=1.0, betas=(0.0, 0.99), d0=1e-5)

    agree(Prodigy(beta1=0.0, beta2=0.99, d0=1e-5, index="next"), oracle, dtype, 100 * tolerance, 1.0)
    with pytest.raises(AssertionError):
        agree(Prodigy(beta1=0.0, beta2=0.99, d0=1e-5, index="current"), oracle, dtype, 100 * tolerance, 1.0)


@precisions
def test_lion_is_pytorch_optimizers(dtype, tolerance):
    agree(Lion(weight_decay=0.1), lambda g: po.Lion(g, lr=0.01, betas=(0.9, 0.99)), dtype, tolerance, 0.01)


@precisions
def test_sign_descent_is_pytorch_optimizers(dtype, tolerance):
    agree(Sign(), lambda g: po.SignSGD(g, lr=0.01, momentum=0.0), dtype, tolerance, 0.01)


@precisions
def test_schedule_free_adamw_is_pytorch_optimizers(dtype, tolerance):
    def oracle(groups: list[dict]) -> torch.optim.Optimizer:
        return po.ScheduleFreeAdamW(groups, lr=0.01, betas=(0.9, 0.95))

    agree(ScheduleFreeAdamW(weight_decay=0.1), oracle, dtype, tolerance, 0.01)


# the oracle's decay, as the authors', comes after the step, and not with the first gradient; ours is AdamW's: none here
def soap(**fields) -> Oracle:
    return lambda groups: po.SOAP(groups, lr=0.01, betas=(0.95, 0.95), shampoo_beta=0.95, **fields)


def test_soap_is_pytorch_optimizers_between_two_turns_of_the_basis():
    config = SOAP(weight_decay=0.0, every=100)
    agree(config, soap(precondition_frequency=100), torch.float64, 1e-10, 0.01)


def test_soap_is_pytorch_optimizers_over_turns_of_the_basis_but_for_the_precision_of_qr():
    # the oracle's QR is in float32 whatever the weights
    config = SOAP(weight_decay=0.0, every=5)
    agree(config, soap(precondition_frequency=5), torch.float64, 1e-5, 0.01, Matrices)


def test_shampoo_of_sums_is_pytorch_optimizers():
    # sums that begin at 1e-6 I, roots at every step, no momentum, and matrices alone: of a vector the oracle keeps a
    # full matrix, ours a diagonal; its momentum is of what has been preconditioned, ours of the gradient
    config = Shampoo(beta1=0.0, beta2=1.0, eps=1e-6, every=1)
    agree(config, lambda g: po.Shampoo(g, lr=0.1, matrix_eps=1e-6), torch.float64, 1e-9, 0.1, Matrices)


def test_scion_is_pytorch_optimizers_but_for_the_precision_of_the_iteration(monkeypatch):
    groups = [
        (LMONorm.SPECTRAL, {}, ("first.weight", "second.weight", "second_too.weight"), 50.0),
        (LMONorm.BIAS, {}, ("first.bias", "norm.weight", "norm.bias", "second.bias", "last.bias"), 50.0),
        (LMONorm.SIGN, {"normalize": True}, ("last.weight",), 3000.0),
    ]
    original = po.optimizer.scion.zero_power_via_newton_schulz_5
    monkeypatch.setattr(
        po.optimizer.scion,
        "zero_power_via_newton_schulz_5",
        lambda g, steps: original(g, steps, dtype=torch.float64),
    )
    for constrained in (False, True):
        ours, theirs = make(Net, torch.float64), make(Net, torch.float64)
        named = dict(theirs.named_parameters())
        peer = po.SCION(
            [
                {"params": [named[n] for n in names], "norm_type": kind, "norm_kwargs": extra, "scale": scale}
                for kind, extra, names, scale in groups
            ],
            lr=1e-3,
            momentum=0.1,
            constraint=constrained,
        )
        optimizer = Scion(constrained=constrained).build(ours, 1e-3)
        for seed in range(STEPS):
            for model, each in ((ours, optimizer), (theirs, peer)):
                gradients(model, seed)
                each.step()
        for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            # its norms have 1e-8 added
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")


def test_the_oracles_iteration_is_ours():
    X = torch.randn(3, 8, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    peer = po.optimizer.scion.zero_power_via_newton_schulz_5(X, 5, dtype=torch.float64)
    torch.testing.assert_close(ns.newton_schulz(X), peer, rtol=1e-9, atol=1e-9)


def test_rows_and_columns_are_pytorch_optimizers():
    G = torch.randn(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scion = po.optimizer.scion
    for name, peer in (
        ("l1_to_rms", scion.Col()),
        ("row", scion.Row(normalized=False)),
        ("rms_to_linf", scion.Row(normalized=True)),
        ("scaled_sign", scion.Sign(normalize=True)),
        ("sign", scion.Sign(normalize=False)),
    ):
        torch.testing.assert_close(norms.duality_map(name, G), peer.lmo(G), rtol=1e-7, atol=1e-7)


def test_muon_is_steepest_descent_on_hidden_matrices():
    same = {"beta": 0.95, "nesterov": True, "orthogonalization": "quintic"}
    ours, theirs = make(Matrices, torch.float64), make(Matrices, torch.float64)
    muon = Muon(adjust="match_rms_adamw").build(ours, 0.02)
    steepest = SteepestDescent(linear="spectral", **same).build(theirs, 0.02)
    for group in steepest.param_groups:  # 0.2 sqrt(max(out, in)) is no radius of a role: 9 x 6 and 6 x 6 differ
        assert {max(p.shape) for p in group["params"]} == {6, 9}
        group["lr"] = 0.02 * 0.2 * math.sqrt(9)
    for seed in range(3):
        gradients(ours, seed)
        gradients(theirs, seed)
        muon.step()
        steepest.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        if max(a.shape) == 9:
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
