"""Steepest descent steps where its norms say, as far as its length says, and is what other optimizers are called."""

import math

import pytest
import torch
from torch import Tensor, nn

from algoprogress.ablations.optimizers.norms import NORMS, dual_norm, duality_map, norm
from algoprogress.ablations.optimizers.roles import ROLES
from algoprogress.ablations.optimizers.scion import Scion
from algoprogress.ablations.optimizers.shampoo import Shampoo
from algoprogress.ablations.optimizers.sign import Sign
from algoprogress.ablations.optimizers.signum import Signum
from algoprogress.ablations.optimizers.steepest import Geometry, SteepestDescent, as_matrix, as_parameter


class Net(nn.Module):
    """One tensor or more of each role."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 6)
        self.conv = nn.Conv2d(3, 4, 2)
        self.first = nn.Linear(6, 8)
        self.head = nn.Linear(8, 9, bias=False)
        self.scale = nn.Parameter(torch.tensor(2.0))


ROLE = {
    "table.weight": "embedding",
    "conv.weight": "convolution",
    "conv.bias": "vector",
    "first.weight": "linear",
    "first.bias": "vector",
    "head.weight": "head",
    "scale": "vector",
}
EXACT = {"beta": 0.0, "orthogonalization": "svd"}


def make() -> nn.Module:
    torch.manual_seed(0)
    return Net().double()


def gradients(model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64)
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def moved(config, rate: float = 1.0, steps: int = 1) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(what the last step took from the weights, its gradients)."""
    model = make()
    optimizer = config.build(model, rate)
    for seed in range(steps):
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        grads = gradients(model, seed)
        optimizer.step()
    return {name: before[name] - p.detach() for name, p in model.named_parameters()}, grads


def everywhere(name: str, **fields) -> SteepestDescent:
    return SteepestDescent(**dict.fromkeys(ROLES, name), **EXACT, **fields)


def size(name: str, tensor: Tensor, role: str) -> float:
    """The norm of a parameter: of a convolution, the number of taps times the largest over them."""
    matrices = as_matrix(tensor, role)
    found = norm(name, matrices)
    return float(found.max() * len(matrices)) if role == "convolution" else float(found)


@pytest.mark.parametrize("name", NORMS)
def test_a_unit_step_has_the_length_of_the_rate_in_each_norm(name):
    steps, grads = moved(everywhere(name), rate=0.25)
    for parameter, role in ROLE.items():
        assert size(name, steps[parameter], role) == pytest.approx(0.25, rel=1e-12), parameter
        assert (steps[parameter] * grads[parameter]).sum() > 0


@pytest.mark.parametrize("name", NORMS)
def test_no_step_of_that_length_goes_down_further(name):
    steps, grads = moved(everywhere(name))
    generator = torch.Generator().manual_seed(5)
    for parameter, role in ROLE.items():
        best = (steps[parameter] * grads[parameter]).sum()
        for _ in range(100):
            other = torch.randn(steps[parameter].shape, generator=generator, dtype=torch.float64)
            assert (other / size(name, other, role) * grads[parameter]).sum() <= best * (1 + 1e-12), parameter


def test_the_matrix_of_a_parameter_is_the_map_that_it_is():
    table, kernel = torch.randn(9, 6), torch.randn(4, 3, 2, 5)
    assert as_matrix(table, "embedding").shape == (6, 9)  # tokens are columns
    assert as_matrix(kernel, "convolution").shape == (10, 4, 3)
    assert torch.equal(as_matrix(kernel, "convolution")[7], kernel[:, :, 1, 2])
    assert as_matrix(torch.tensor(1.0), "vector").shape == (1, 1)
    for tensor, role in ((table, "embedding"), (table, "linear"), (kernel, "convolution"), (kernel, "vector")):
        assert torch.equal(as_parameter(as_matrix(tensor, role), tensor, role), tensor)


def test_the_table_of_bernstein_and_newhouse():
    steps, grads = moved(SteepestDescent(**EXACT))
    U, _, Vh = torch.linalg.svd(grads["first.weight"], full_matrices=False)
    torch.testing.assert_close(steps["first.weight"], math.sqrt(8 / 6) * U @ Vh)
    rows = grads["table.weight"]
    torch.testing.assert_close(steps["table.weight"], rows / rows.square().mean(1, keepdim=True).sqrt())
    rows = grads["head.weight"]
    torch.testing.assert_close(steps["head.weight"], rows / rows.norm(dim=1, keepdim=True) / math.sqrt(8))
    torch.testing.assert_close(steps["first.bias"], grads["first.bias"] / grads["first.bias"].square().mean().sqrt())
    torch.testing.assert_close(steps["scale"], grads["scale"].sign())
    for i, j in ((0, 0), (1, 0)):
        U, _, Vh = torch.linalg.svd(grads["conv.weight"][:, :, i, j], full_matrices=False)
        torch.testing.assert_close(steps["conv.weight"][:, :, i, j], math.sqrt(4 / 3) / 4 * U @ Vh)


@pytest.mark.parametrize("name", NORMS)
def test_a_dual_step_minimises_the_quadratic_bound(name):
    """dW = argmin <G, dW> + ||dW||^2 / (2 lr): no multiple of it, and nothing near it, does better."""
    rate = 0.3
    steps, grads = moved(everywhere(name, length="dual"), rate)
    generator = torch.Generator().manual_seed(5)
    for parameter, role in ROLE.items():

        def bound(dW: Tensor, parameter=parameter, role=role) -> float:
            return float((grads[parameter] * dW).sum() + size(name, dW, role) ** 2 / (2 * rate))

        dW = -steps[parameter]
        best = bound(dW)
        slack = 1e-12 * abs(best)
        assert all(best <= bound(dW * factor) + slack for factor in (0.0, 0.5, 0.9, 1.1, 2.0))
        for _ in range(50):
            other = torch.randn(dW.shape, generator=generator, dtype=torch.float64)
            assert best <= bound(dW + 0.1 * other) + slack


def test_a_dual_step_in_the_frobenius_norm_is_gradient_descent():
    steps, grads = moved(everywhere("frobenius", length="dual"), rate=0.3)
    for name, role in ROLE.items():
        if role != "convolution":  # whose norm is the largest over taps
            torch.testing.assert_close(steps[name], 0.3 * grads[name])


def test_a_modular_step_is_one_global_length_from_the_sum_of_duals():
    radii = {"linear": 2.0, "embedding": 0.5, "head": 3.0, "vector": 1.5, "convolution": 0.25}
    default = SteepestDescent()
    geometry = {role: Geometry(norm=getattr(default, role).norm, radius=r) for role, r in radii.items()}
    steps, grads = moved(SteepestDescent(**geometry, **EXACT, length="modular"), rate=0.1)
    total = 0.0
    for name, role in ROLE.items():
        G = as_matrix(grads[name], role)
        taps = len(G) if role == "convolution" else 1
        total += radii[role] * float(dual_norm(geometry[role].norm, G).sum()) / taps
    sizes = [size(geometry[role].norm, steps[name], role) / radii[role] for name, role in ROLE.items()]
    assert sizes == pytest.approx([0.1 * total] * len(sizes), rel=1e-10)


def test_the_length_scales_with_the_gradient_unless_it_is_unit():
    for length, power in (("unit", 0), ("dual", 1), ("modular", 1)):
        steps = []
        for factor in (1.0, 10.0):
            model = make()
            optimizer = SteepestDescent(length=length, **EXACT).build(model, 1.0)
            before = model.first.weight.detach().clone()
            gradients(model)
            for p in model.parameters():
                p.grad *= factor
            optimizer.step()
            steps.append(before - model.first.weight.detach())
        torch.testing.assert_close(steps[1], 10**power * steps[0], rtol=1e-10, atol=1e-12)


def test_under_the_sign_norm_it_is_sign_descent_and_signum():
    signs = {role: "sign" for role in ROLES if role != "convolution"} | {
        "convolution": Geometry(norm="sign", radius=4.0)  # four taps
    }
    for beta, other in ((0.0, Sign()), (0.8, Signum(beta=0.8))):
        ours, _ = moved(SteepestDescent(**signs, beta=beta), steps=3)
        theirs, _ = moved(other, steps=3)
        for name in ROLE:
            torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-15)


def test_under_the_spectral_norm_it_is_shampoo_without_accumulation():
    ours, _ = moved(everywhere("spectral"))
    theirs, _ = moved(Shampoo(beta1=0.0, beta2=0.0))
    for name in ("first.weight", "head.weight", "table.weight"):
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-12)


def test_scion_is_steepest_descent_of_unit_length_with_its_radii():
    scion = Scion(orthogonalization="svd")
    same = {role: getattr(scion, role) for role in ROLES}
    ours, _ = moved(SteepestDescent(**same, beta=0.9, orthogonalization="svd"), rate=1e-3, steps=3)
    theirs, _ = moved(scion, rate=1e-3, steps=3)
    for name in ROLE:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0)


def test_constrained_scion_stays_in_its_ball():
    config = Scion(constrained=True, orthogonalization="svd")
    model = make()
    with torch.no_grad():
        for name, p in model.named_parameters():  # start on the edge
            of = getattr(config, ROLE[name])
            p.mul_(of.radius / size(of.norm, p, ROLE[name]))
    optimizer = config.build(model, 0.3)
    for seed in range(20):
        gradients(model, seed)
        optimizer.step()
    for name, p in model.named_parameters():
        of = getattr(config, ROLE[name])
        assert size(of.norm, p.detach(), ROLE[name]) <= of.radius * (1 + 1e-12), name


def test_looking_ahead_mixes_the_gradient_in():
    model = make()
    optimizer = SteepestDescent(beta=0.8, nesterov=True, orthogonalization="svd").build(model, 1.0)
    mean = torch.zeros(8, 6, dtype=torch.float64)
    for seed in range(3):
        before = model.first.weight.detach().clone()
        g = gradients(model, seed)["first.weight"]
        optimizer.step()
        mean = 0.8 * mean + 0.2 * g
        expected = duality_map("rms_to_rms", 0.2 * g + 0.8 * mean)
        torch.testing.assert_close(before - model.first.weight.detach(), expected, rtol=1e-10, atol=1e-12)


def test_a_norm_can_be_given_by_name_or_with_a_radius():
    config = SteepestDescent(linear="sign", head={"norm": "row", "radius": 2})
    assert (config.linear, config.head) == (Geometry(norm="sign"), Geometry(norm="row", radius=2.0))
    with pytest.raises(ValueError, match="'sign', 'scaled_sign'"):
        SteepestDescent(linear="nuclear")
    with pytest.raises(ValueError, match="radius"):
        SteepestDescent(linear={"norm": "sign", "radius": 0})
