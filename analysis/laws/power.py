"""How does the loss of the best configuration fall with compute?  L(C) = E + A C^-alpha."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from algoprogress.analysis.laws.law import LossLaw
from algoprogress.analysis.objective import POINTS_AT_ONCE, Points, huber, of_members

START_FRACTIONS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.97)  # of the lowest loss: starts for E, dense where the curve bends
EXPONENTS = (1e-4, 5.0)  # hold any law of learning
SPAN = 50.0  # the term may be exp(±50) of the mean loss at the mean compute


class PowerLaw(LossLaw):
    """L(C) = E + A C^-alpha, with E >= 0 and alpha > 0 (Henighan et al. 2020; Kaplan et al. 2020 without E).

    The form worked with is ln L = ln(E + exp(b - alpha x)), x = ln(C / C0) with C0 the geometric mean of the measured
    compute and b = ln A - alpha ln C0, so that b and alpha are nearly uncorrelated. E may exceed the lowest of
    many noisy losses.
    """

    name = "power"
    parameters = ("E", "A", "alpha")
    units = ("nats/token", "nats/token FLOP^alpha", "")
    shareable = ("E", "alpha")
    rescaled = ("A",)
    logarithmic = ("A",)
    coefficients = ("A",)

    @classmethod
    def formula(cls, parameters: Mapping[str, float], *inputs: np.ndarray) -> np.ndarray:
        return parameters["E"] + parameters["A"] * inputs[0] ** -parameters["alpha"]

    @classmethod
    def example(cls) -> tuple[pd.DataFrame, dict[str, float]]:
        return pd.DataFrame({"compute": np.geomspace(1e11, 1e15, 9)}), {"E": 1.7, "A": 400.0, "alpha": 0.21}

    def log_loss(self, w_Bk: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[override]
        E, b, alpha = (w_Bk[:, j, None] for j in range(3))
        reducible = np.exp(b - alpha * x)
        inverse = 1 / (E + reducible)
        share = reducible * inverse
        return -np.log(inverse), np.stack([np.broadcast_to(inverse, share.shape), share, -x * share], -1)

    def sums(
        self, points: Points, weight: np.ndarray, w: np.ndarray, delta: float, members: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same sums entry by entry: a few points an arm are too few for products of matrices.

        With s the reducible share of the loss, ln L has the gradient J = (1 / L, s, -s x), and its second derivative is
        s z z' - J J', z = (0, 1, -x).
        """
        F, G, H = np.empty(len(w)), np.empty((len(w), 3)), np.empty((len(w), 3, 3))
        size = max(1, POINTS_AT_ONCE // points.y.shape[-1])
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # as in `objective.derivatives`
            for first in range(0, len(w), size):
                part = slice(first, first + size)
                x, y, count = (of_members(values, members[part]) for values in (points.x[0], points.y, weight))
                E, b, alpha = (w[part, j, None] for j in range(3))
                reducible = np.exp(b - alpha * x)
                inverse = 1 / (E + reducible)
                share = reducible * inverse
                r = -np.log(inverse) - y
                rho, psi = huber(r, delta)
                q = psi * count
                u, q_share, steep = (psi == r) * count - q, q * share, share * x
                u_share = u * share
                F[part] = _dot(rho, count)
                G[part, 0], G[part, 1], G[part, 2] = _dot(q, inverse), q_share.sum(1), -_dot(q_share, x)
                H[part, 0, 0] = _dot(u * inverse, inverse)
                H[part, 0, 1] = H[part, 1, 0] = _dot(u_share, inverse)
                H[part, 0, 2] = H[part, 2, 0] = -_dot(u * inverse, steep)
                H[part, 1, 1] = _dot(u_share, share) + G[part, 1]
                H[part, 1, 2] = H[part, 2, 1] = G[part, 2] - _dot(u_share, steep)
                H[part, 2, 2] = _dot(u * steep, steep) + _dot(q_share * x, x)
        return F, G, H

    def bounds(self, points: Points) -> tuple[np.ndarray, np.ndarray]:
        highest = np.exp(points.y).max(-1)
        none = np.zeros_like(highest)
        lower = np.stack([none, none - SPAN, none + EXPONENTS[0]], -1)
        return lower, np.stack([highest, none + SPAN, none + EXPONENTS[1]], -1)

    def starts(self, points: Points, lowest: float) -> np.ndarray:
        x, y = points.x[0], points.y
        fixed = self.fixed.get("E")
        E = lowest * np.array(START_FRACTIONS) if fixed is None else np.array([self.to_working("E", fixed)])
        reducible = np.log(np.maximum(np.exp(y) - E[:, None], 1e-9))
        spread = ((x - x.mean()) ** 2).sum()
        slope = (reducible * (x - x.mean())).sum(1) / max(spread, 1e-12)
        alpha = np.clip(-slope, 1e-3, 4.0)
        return np.stack([E, reducible.mean(1) + alpha * x.mean(), alpha], 1)

    def natural(self, w: np.ndarray) -> np.ndarray:
        E, b, alpha = np.moveaxis(w, -1, 0)
        return np.stack([E * np.exp(self.log_l0_), np.exp(b + alpha * self.center_[0] + self.log_l0_), alpha], -1)

    def constraint(self, parameter: str, value: float) -> tuple[np.ndarray, float, str]:
        if parameter == "A":
            return np.array([0.0, 1.0, self.center_[0]]), float(np.log(value) - self.log_l0_), "A"
        c = np.array([p == parameter for p in self.parameters], float)
        return c, self.to_working(parameter, value), parameter

    def invert(self, w: np.ndarray, y: np.ndarray) -> np.ndarray:
        E, b, alpha = (w[:, j, None] for j in range(3))
        reducible = np.exp(y) - E
        with np.errstate(invalid="ignore", divide="ignore"):
            x = (b - np.log(reducible)) / alpha
        return np.where(reducible > 0, x, np.inf)  # at or below E: no compute is enough

    def log_multiplier(self, w: np.ndarray, reference: np.ndarray) -> np.ndarray:
        return (reference[..., 1] - w[..., 1]) / w[..., 2]


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """sum_i a_i b_i (B,) of rows (B, n), or of one row that serves all."""
    found: np.ndarray = np.einsum("...n,...n->...", a, b)
    return found
