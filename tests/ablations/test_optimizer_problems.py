"""Every optimizer goes down: a bowl, Rosenbrock's valley, a matrix factorisation, a tiny language model."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.optimizers import OptimizerConfig, optimizers

every = pytest.mark.parametrize("name", list(optimizers))
V, T = 13, 6


class Bowl(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 4)
        self.target = torch.randn(4, 6)
        self.scales = torch.linspace(0.5, 2, 6)

    def forward(self) -> Tensor:
        off = self.linear.weight - self.target
        return 0.5 * (self.scales * off).square().sum() + 0.5 * (self.linear.bias - 1).square().sum()


class Rosenbrock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.x, self.y = nn.Parameter(torch.tensor(-1.0)), nn.Parameter(torch.tensor(1.5))

    def forward(self) -> Tensor:
        return (1 - self.x) ** 2 + 100 * (self.y - self.x**2) ** 2


class Factorisation(nn.Module):
    """A rank-3 matrix as a product, from a small start: not convex."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 10, bias=False), nn.Linear(8, 3, bias=False)
        self.target = torch.randn(10, 3) @ torch.randn(3, 8) / 3
        for layer in (self.left, self.right):
            nn.init.normal_(layer.weight, std=0.1)

    def forward(self) -> Tensor:
        return (self.left.weight @ self.right.weight - self.target).square().mean()


class Language(nn.Module):
    """Sequences that count upwards, on which guessing costs ln 13 nats/token."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Transformer(width=16, n_layers=1, init="xavier", init_std=0.1).build(V, T)
        self.generator = torch.Generator().manual_seed(1)

    def forward(self) -> Tensor:
        start, by = torch.randint(1, V, (2, 16, 1), generator=self.generator)
        tokens = (start + by % 4 * torch.arange(T + 1)) % V
        logits, _ = self.model(tokens[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def trained(config: OptimizerConfig, problem: type[nn.Module], steps: int, rate: float) -> float:
    """Mean of the last five losses, as a share of the first."""
    torch.manual_seed(0)
    module = problem()
    optimizer = config.build(module, rate)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = module()
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    return sum(losses[-5:]) / 5 / losses[0]


@every
@pytest.mark.parametrize(
    ("problem", "steps", "share"),
    [(Bowl, 60, 0.12), (Rosenbrock, 200, 0.2), (Factorisation, 100, 0.3)],  # 0.2: down into Rosenbrock's valley
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_it_goes_down(name, problem, steps, share):
    config = optimizers[name](weight_decay=0.0)
    assert any(trained(config, problem, steps, rate) < share for rate in (0.1, 0.01, 1.0, 0.001, 30.0))


@every
def test_a_hundred_steps_of_a_tiny_language_model_learn_its_language(name):
    config = optimizers[name]()
    _, middle, high = config.rates
    assert any(trained(config, Language, 100, rate) < 0.7 for rate in (high, middle, 8 * high))
