"""How does the loss depend on size and on data?  L(N, D) = E + A N^-alpha + B D^-beta (Hoffmann et al. 2022)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from algoprogress.analysis import loghuber, seeding
from algoprogress.analysis.laws.base import Law
from algoprogress.analysis.loghuber import ALPHA, BETA, E, Points, a, b

DELTA = 1e-3  # Huber threshold in log loss of Hoffmann et al. 2022; nearly least absolute deviations
EXPONENTS = (1e-4, 5.0)  # bounds of alpha and beta: hold any law of learning
SPAN = 30.0  # a term may be exp(±30) of the loss at the centre of the data: beyond that it is absent or everything


class Chinchilla(Law):
    """L(N, D) = E + A N^-alpha + B D^-beta: approach 3 of Hoffmann et al. 2022.

    With C = 6 N D the best N is G (C/6)^a_opt, a_opt = beta / (alpha + beta), G = (alpha A / beta B)^(1 / (alpha +
    beta)), and L - E falls as C^-(alpha beta / (alpha + beta)).

    Working parameters: E as a share of the mean loss, the logs a and b of the two terms at the centre of the data,
    alpha, beta. E may exceed the lowest loss: Huber's function forgives a point below it.
    """

    name = "chinchilla"
    inputs: ClassVar[tuple[str, ...]] = ("n_params", "tokens")
    parameters: tuple[str, ...] = ("E", "A", "B", "alpha", "beta")
    units: tuple[str, ...] = ("nats/token", "nats/token n_params^alpha", "nats/token tokens^beta", "", "")
    derived = ("a_opt",)
    shareable: tuple[str, ...] = ("E", "alpha", "beta")
    rescaled = ("A", "B")
    logarithmic: tuple[str, ...] = ("A", "B")
    coefficients = ("A", "B")
    point_name = "pairs of size and data"
    default_huber = DELTA

    @classmethod
    def formula(cls, parameters: Mapping[str, float], *inputs: np.ndarray) -> np.ndarray:
        p, (N, D) = parameters, inputs
        return p["E"] + p["A"] * N ** -p["alpha"] + p["B"] * D ** -p["beta"]

    @classmethod
    def example(cls) -> tuple[pd.DataFrame, dict[str, float]]:
        N, D = (g.ravel() for g in np.meshgrid(np.geomspace(1e7, 1e10, 6), np.geomspace(1e9, 1e12, 6)))
        design = pd.DataFrame({"n_params": N, "tokens": D})
        return design, {"E": 1.7, "A": 400.0, "B": 410.0, "alpha": 0.34, "beta": 0.28}

    def points(self, x: tuple[np.ndarray, ...], y: np.ndarray) -> Any:
        return Points.of(x[0], x[1], y)

    def log_loss(self, w_Bk: np.ndarray, *x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return loghuber.log_loss(w_Bk, *x)

    def sums(self, points: Any, weight: np.ndarray, w: np.ndarray, delta: float, members: np.ndarray) -> Any:
        """The same sums without forming a Jacobian (see `loghuber`)."""
        return loghuber.derivatives(points, weight, w, delta, members)

    def bounds(self, points: Any) -> tuple[np.ndarray, np.ndarray]:
        low, high = points.y.min(-1), points.y.max(-1)
        none = np.zeros_like(low)
        lower = np.stack([none, low - SPAN, low - SPAN, none + EXPONENTS[0], none + EXPONENTS[0]], -1)
        return lower, np.stack([np.exp(high), high + SPAN, high + SPAN, none + EXPONENTS[1], none + EXPONENTS[1]], -1)

    def starts(self, points: Any, lowest: float) -> np.ndarray:
        """Variable projection: see `seeding`."""
        fixed = self.fixed.get("E")
        return seeding.starts(points, "beta" in self.tied, None if fixed is None else self.to_working("E", fixed))

    def natural(self, w: np.ndarray) -> np.ndarray:
        l0, alpha, beta = np.exp(self.log_l0_), w[..., ALPHA], w[..., BETA]
        A = np.exp(w[..., a] + alpha * self.center_[0] + self.log_l0_)
        B = np.exp(w[..., b] + beta * self.center_[1] + self.log_l0_)
        return np.stack([w[..., E] * l0, A, B, alpha, beta], -1)

    def derive(self, natural: np.ndarray) -> np.ndarray:
        return natural[..., [BETA]] / (natural[..., [ALPHA]] + natural[..., [BETA]])

    def constraint(self, parameter: str, value: float) -> tuple[np.ndarray, float, str]:
        c = np.array([p == parameter for p in self.parameters], float)
        if parameter == "a_opt":
            c[ALPHA], c[BETA] = -value, 1 - value
            return c, 0.0, "beta"
        if parameter in ("A", "B"):
            c[ALPHA if parameter == "A" else BETA] = self.center_[0 if parameter == "A" else 1]
            return c, float(np.log(value) - self.log_l0_), parameter
        return c, self.to_working(parameter, value), parameter

    def allocate(self, w: np.ndarray, log_c: np.ndarray) -> tuple[np.ndarray, ...]:
        """alpha A N^-alpha = beta B D^-beta at the best N, D = C / 6N."""
        _, a_, b_, alpha, beta = (w[:, j, None] for j in range(5))
        x = (np.log(alpha / beta) + a_ - b_ + beta * log_c) / (alpha + beta)
        return x, log_c - x

    def invert(self, w: np.ndarray, y: np.ndarray) -> np.ndarray:
        _, a_, _, alpha, beta = (w[:, j, None] for j in range(5))
        x = self.allocate(w, np.zeros(1))[0]
        at_centre = a_ - alpha * x + np.log1p(alpha / beta)  # ln of both terms at the best N and D of mean compute
        reducible = np.exp(y) - w[:, E, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            found = (at_centre - np.log(reducible)) * (1 / alpha + 1 / beta)
        return np.where(reducible > 0, found, np.inf)  # at or below E: no compute is enough

    def log_multiplier(self, w: np.ndarray, reference: np.ndarray) -> np.ndarray:
        return (reference[..., a] - w[..., a]) * (1 / w[..., ALPHA] + 1 / w[..., BETA])

    @property
    def a_opt_(self) -> float:
        """The exponent of the best N in compute, of a fit to one arm."""
        self._arm(None)
        return float(self.summary.set_index("parameter").loc["a_opt", "estimate"])
