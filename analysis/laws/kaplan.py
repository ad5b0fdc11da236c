"""What if loss goes to zero with size and data?  L(N, D) = [(N_c / N)^(alpha_N / alpha_D) + D_c / D]^alpha_D."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from algoprogress.analysis.laws.base import Law
from algoprogress.analysis.objective import Points

DELTA = 1e-3  # Huber threshold in log loss, as for the law of Hoffmann et al. 2022, so that the two can be compared
EXPONENTS = (5e-3, 5.0)  # published ones are near .1; below 5e-3 the scales N_c and D_c leave the range of floats
SPAN = 3.0  # a limit of size or data at the centre of the data is within exp(±3) of the losses
GRID_D, GRID_RATIO = np.geomspace(0.02, 2.0, 16), np.geomspace(0.1, 10.0, 15)  # starts: alpha_D, alpha_N / alpha_D
N_STARTS = 12


class Kaplan(Law):
    """L(N, D) = [(N_c / N)^(alpha_N / alpha_D) + D_c / D]^alpha_D (Kaplan et al. 2020, equation 1.5).

    Infinite data leave (N_c / N)^alpha_N, an infinite model (D_c / D)^alpha_D. There is no irreducible loss, and the
    loss enters the scales N_c and D_c in its own units. The best N at C = 6 N D grows as C^a_opt, a_opt = alpha_D /
    (alpha_N + alpha_D).

    Working parameters: the logs a and b of the two limits at the centre of the data, alpha_N, alpha_D, so that ln L is
    alpha_D ln(exp((a - alpha_N x) / alpha_D) + exp((b - alpha_D z) / alpha_D)).
    """

    name = "kaplan"
    inputs = ("n_params", "tokens")
    parameters = ("N_c", "D_c", "alpha_N", "alpha_D")
    units = ("n_params", "tokens", "", "")
    derived = ("a_opt",)
    shareable = ("alpha_N", "alpha_D")
    rescaled = ("N_c", "D_c")
    logarithmic = ("N_c", "D_c")
    point_name = "pairs of size and data"
    default_huber = DELTA

    @classmethod
    def formula(cls, parameters: Mapping[str, float], *inputs: np.ndarray) -> np.ndarray:
        p, (N, D) = parameters, inputs
        return ((p["N_c"] / N) ** (p["alpha_N"] / p["alpha_D"]) + p["D_c"] / D) ** p["alpha_D"]

    @classmethod
    def example(cls) -> tuple[pd.DataFrame, dict[str, float]]:
        """The constants of Kaplan et al. 2020, table 2, on sizes and data like theirs."""
        N, D = (g.ravel() for g in np.meshgrid(np.geomspace(1e6, 1e9, 6), np.geomspace(2e7, 2e10, 6)))
        design = pd.DataFrame({"n_params": N, "tokens": D})
        return design, {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103}

    def log_loss(self, w_Bk: np.ndarray, *x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, b, alpha_n, alpha_d = (w_Bk[:, j, None] for j in range(4))
        p, q = (a - alpha_n * x[0]) / alpha_d, b / alpha_d - x[1]
        total = np.logaddexp(p, q)
        s, t = np.exp(p - total), np.exp(q - total)
        return alpha_d * total, np.stack([s, t, -x[0] * s, total - s * p - t * (q + x[1])], -1)

    def bounds(self, points: Points) -> tuple[np.ndarray, np.ndarray]:
        low, high = points.y.min(-1) - SPAN, points.y.max(-1) + SPAN
        none = np.zeros_like(low)
        lower = np.stack([low, low, none + EXPONENTS[0], none + EXPONENTS[0]], -1)
        return lower, np.stack([high, high, none + EXPONENTS[1], none + EXPONENTS[1]], -1)

    def starts(self, points: Points, lowest: float) -> np.ndarray:
        """Given alpha_D and the ratio of exponents, L^(1 / alpha_D) is linear in two positive coefficients."""
        found = []
        for alpha in GRID_D:
            weight = np.exp(-points.y / alpha)
            q = np.exp(-points.x[1]) * weight
            for ratio in GRID_RATIO:
                p = np.exp(-ratio * points.x[0]) * weight
                pp, qq, pq, det = p @ p, q @ q, p @ q, (p @ p) * (q @ q) - (p @ q) ** 2
                A, B = qq * p.sum() - pq * q.sum(), pp * q.sum() - pq * p.sum()
                if det > 1e-12 * pp * qq and A > 0 and B > 0:
                    A, B = A / det, B / det
                    residual = alpha * np.log(A * p + B * q)
                    w = [alpha * np.log(A), alpha * np.log(B), alpha * ratio, alpha]
                    found.append((float(np.abs(residual).sum()), w))
        if not found:  # loss rises with size or data
            half = float(points.y.mean())
            return np.array([[half, half, alpha, alpha] for alpha in GRID_D])
        return np.array([w for _, w in sorted(found, key=lambda pair: pair[0])[:N_STARTS]])

    def natural(self, w: np.ndarray) -> np.ndarray:
        a, b, alpha_n, alpha_d = np.moveaxis(w, -1, 0)
        N_c = np.exp((a + self.log_l0_) / alpha_n + self.center_[0])
        return np.stack([N_c, np.exp((b + self.log_l0_) / alpha_d + self.center_[1]), alpha_n, alpha_d], -1)

    def derive(self, natural: np.ndarray) -> np.ndarray:
        return natural[..., [3]] / (natural[..., [2]] + natural[..., [3]])

    def constraint(self, parameter: str, value: float) -> tuple[np.ndarray, float, str]:
        c = np.array([p == parameter for p in self.parameters], float)
        if parameter == "a_opt":
            c[2], c[3] = -value, 1 - value
            return c, 0.0, "alpha_D"
        if parameter in ("N_c", "D_c"):  # ln limit = alpha (ln scale - ln input)
            j = self.parameters.index(parameter)
            c[2 + j] = self.center_[j] - np.log(value)
            return c, -self.log_l0_, parameter
        return c, value, parameter

    def allocate(self, w: np.ndarray, log_c: np.ndarray) -> tuple[np.ndarray, ...]:
        """alpha_N (N_c / N)^(alpha_N / alpha_D) = alpha_D D_c / D at the best N, D = C / 6N."""
        a, b, alpha_n, alpha_d = (w[:, j, None] for j in range(4))
        ratio = alpha_n / alpha_d
        x = (np.log(ratio) + (a - b) / alpha_d + log_c) / (1 + ratio)
        return x, log_c - x

    def invert(self, w: np.ndarray, y: np.ndarray) -> np.ndarray:
        a, b, alpha_n, alpha_d = (w[:, j, None] for j in range(4))
        ratio = alpha_n / alpha_d
        x = (a - y + alpha_d * np.log1p(ratio)) / alpha_n
        return x * (1 + ratio) - np.log(ratio) - (a - b) / alpha_d

    def log_multiplier(self, w: np.ndarray, reference: np.ndarray) -> np.ndarray:
        return (reference[..., 0] - w[..., 0]) * (1 / w[..., 2] + 1 / w[..., 3])
