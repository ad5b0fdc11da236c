"""Does the loss bend, even in log-log?  The broken neural scaling law of Caballero et al. 2023, in compute."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from algoprogress.analysis.laws.law import LossLaw
from algoprogress.analysis.objective import Points

FRACTIONS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.97)  # of the lowest loss: starts for E
PLACES = (0.15, 0.3, 0.5, 0.7, 0.85)  # quantiles of log compute: starts for a break
SHARPNESS = (0.3, 1.0)  # starts for f
SLOPES = (1e-4, 5.0)  # of ln(L - E) on both sides of a break: hold any law of learning, and keep the loss falling
WIDTHS = (0.05, 20.0)  # f: a break over exp(f) in compute; narrower than any ladder's step, wider than any ladder
SPAN = 50.0  # L - E at the break may be exp(±50) of the mean loss
N_STARTS = 16


class BrokenNeuralScalingLaw(LossLaw):
    """L(C) = E + b C^-c0 prod_i (1 + (C / d_i)^(1 / f_i))^(-c_i f_i) (Caballero et al. 2023, equation 1, a = E).

    ln(L - E) falls with slope c0 before the first break, c0 + c1 after it, and so on; break i lies at compute d_i and
    is about f_i wide in ln C. All slopes are taken to be positive: the loss falls with compute.

    Working parameters: E, ln of b C^-c0 at the first break, the slopes, and for each break ln d_i and ln f_i.

    Args:
        breaks: number of breaks, each with three parameters more.
        huber, fixed: see `Law`.
    """

    name = "bnsl"
    parameters: tuple[str, ...] = ("E", "b", "c0", "c1", "d1", "f1")
    units: tuple[str, ...] = ("nats/token", "nats/token FLOP^c0", "", "", "FLOP", "")
    shareable: tuple[str, ...] = ("E", "c0", "f1")
    rescaled: tuple[str, ...] = ("d1",)
    logarithmic: tuple[str, ...] = ("b", "d1", "f1")
    coefficients = ("b",)

    def __init__(self, huber: float | None = None, fixed: Mapping[str, float] | None = None, breaks: int = 1) -> None:
        if breaks < 1:
            raise ValueError(f"breaks is 1 or more, not {breaks}; without a break the law is `power`.")
        self.breaks = breaks
        each = range(1, breaks + 1)
        self.parameters = ("E", "b", "c0", *(f"{p}{i}" for i in each for p in "cdf"))
        self.units = ("nats/token", "nats/token FLOP^c0", "", *(u for _ in each for u in ("", "FLOP", "")))
        self.shareable = ("E", "c0", *(f"f{i}" for i in each))
        self.rescaled = tuple(f"d{i}" for i in each)
        self.logarithmic = ("b", *(f"{p}{i}" for i in each for p in "df"))
        super().__init__(huber, fixed)

    @classmethod
    def formula(cls, parameters: Mapping[str, float], *inputs: np.ndarray) -> np.ndarray:
        p, C = parameters, inputs[0]
        reducible = p["b"] * C ** -p["c0"]
        for i in range(1, (len(p) - 3) // 3 + 1):
            reducible = reducible * (1 + (C / p[f"d{i}"]) ** (1 / p[f"f{i}"])) ** (-p[f"c{i}"] * p[f"f{i}"])
        return p["E"] + reducible

    @classmethod
    def example(cls) -> tuple[pd.DataFrame, dict[str, float]]:
        design = pd.DataFrame({"compute": np.geomspace(1e14, 1e22, 25)})
        return design, {"E": 1.7, "b": 300.0, "c0": 0.12, "c1": 0.16, "d1": 1e18, "f1": 0.8}

    def _reducible(self, w: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ln(L - E) and its Jacobian (B, n, k)."""
        b, before, first = (w[:, j, None] for j in (1, 2, 4))
        log_r = b - before * (x - first)
        J = np.zeros((*log_r.shape, w.shape[1]))
        J[..., 1], J[..., 2], J[..., 4] = 1.0, -(x - first), before
        for j in range(3, w.shape[1], 3):
            after, place, width = w[:, j, None], w[:, j + 1, None], np.exp(w[:, j + 2, None])
            v = (x - place) / width
            soft, step = np.logaddexp(0.0, v), np.exp(-np.logaddexp(0.0, -v))
            change, previous = after - before, 2 if j == 3 else j - 3
            log_r = log_r - change * width * soft
            J[..., j] -= width * soft
            J[..., previous] += width * soft
            J[..., j + 1] += change * step
            J[..., j + 2] -= change * width * (soft - v * step)
            before = after
        return log_r, J

    def log_loss(self, w_Bk: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[override]
        log_r, J = self._reducible(w_Bk, x)
        reducible = np.exp(log_r)
        inverse = 1 / (w_Bk[:, 0, None] + reducible)
        J *= (reducible * inverse)[..., None]
        J[..., 0] = inverse
        return -np.log(inverse), J

    def bounds(self, points: Points) -> tuple[np.ndarray, np.ndarray]:
        """Breaks lie within the measured compute: elsewhere nothing is known of them."""
        highest, x = np.exp(points.y).max(-1), points.x[0]
        none, first, last = np.zeros_like(highest), x.min(-1), x.max(-1)
        lower, upper = [none, none - SPAN, none + SLOPES[0]], [highest, none + SPAN, none + SLOPES[1]]
        for _ in range(self.breaks):
            lower += [none + SLOPES[0], none + first, none + np.log(WIDTHS[0])]
            upper += [none + SLOPES[1], none + last, none + np.log(WIDTHS[1])]
        return np.stack(lower, -1), np.stack(upper, -1)

    def starts(self, points: Points, lowest: float) -> np.ndarray:
        """Given E, the breaks and their widths, ln(L - E) is linear in the rest."""
        x, y = points.x[0], points.y
        fixed, found = self.fixed.get("E"), []
        for E in lowest * np.array(FRACTIONS) if fixed is None else [self.to_working("E", fixed)]:
            target = np.log(np.maximum(np.exp(y) - E, 1e-9))
            weight = np.maximum(np.exp(y) - E, 1e-9) / np.exp(y)  # residuals of ln(L - E) as they count in ln L
            for first in PLACES:
                places = np.quantile(x, np.clip(first + 0.3 * np.arange(self.breaks), 0, 0.95))
                for width in SHARPNESS:
                    soft = [width * np.logaddexp(0.0, (x - p) / width) for p in places]
                    # slopes s0, s1, ... enter as -s0 (x - d1 - soft1) - s1 (soft1 - soft2) - ...
                    columns = [x - places[0] - soft[0], *(s - n for s, n in zip(soft, [*soft[1:], 0.0], strict=True))]
                    Z = np.stack([np.ones_like(x), *(-c for c in columns)], 1)
                    coefficients = np.linalg.lstsq(Z * weight[:, None], target * weight, rcond=None)[0]
                    slopes = np.clip(coefficients[1:], 1e-3, 4.0)
                    residual = np.abs((Z @ np.concatenate([coefficients[:1], slopes]) - target) * weight).sum()
                    w = [E, coefficients[0], slopes[0]]
                    for s, p in zip(slopes[1:], places, strict=True):
                        w += [s, p, np.log(width)]
                    found.append((float(residual), w))
        return np.array([w for _, w in sorted(found, key=lambda pair: pair[0])[:N_STARTS]])

    def natural(self, w: np.ndarray) -> np.ndarray:
        E, at_break, c0, first = w[..., 0], w[..., 1], w[..., 2], w[..., 4]
        b = np.exp(at_break + c0 * (first + self.center_[0]) + self.log_l0_)
        parts, before = [E * np.exp(self.log_l0_), b, c0], c0
        for j in range(3, w.shape[-1], 3):
            parts += [w[..., j] - before, np.exp(w[..., j + 1] + self.center_[0]), np.exp(w[..., j + 2])]
            before = w[..., j]
        return np.stack(parts, -1)

    def doubts(self) -> list[str]:
        """A break whose change of slope lies within two standard errors of none need not be there."""
        rows = self.summary[self.summary["parameter"].str.fullmatch(r"c[1-9]\d*")]
        return [
            f"the change of slope {row.parameter} could be none ({row.estimate:.2g}, standard error {row.stderr:.2g}),"
            " so that neither the place nor the width of the break is known"
            for row in rows.itertuples()
            if abs(row.estimate) < 2 * row.stderr
        ]

    def to_working(self, parameter: str, value: float) -> float:
        return float(np.log(value)) if parameter.startswith("f") else super().to_working(parameter, value)

    def constraint(self, parameter: str, value: float) -> tuple[np.ndarray, float, str]:
        c = np.array([p == parameter for p in self.parameters], float)
        if parameter == "b":
            raise ValueError("b has no profile: it is a product of the slope and the place of the break.")
        if parameter[0] == "c" and parameter != "c0":
            j = self.parameters.index(parameter)
            c[2 if j == 3 else j - 3] = -1.0
            return c, value, parameter
        if parameter.startswith("d"):
            return c, float(np.log(value)) - self.center_[0], parameter
        return c, self.to_working(parameter, value), parameter

    def invert(self, w: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Newton's method within a bracket that the largest and the smallest slope give."""
        rest = np.exp(y) - w[:, 0, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            target = np.log(rest) + np.zeros((len(w), 1))
        first = w[:, 4, None] + np.zeros_like(target)
        slopes = w[:, [2, *range(3, w.shape[1], 3)]]
        gap = self._reducible(w, first)[0] - target
        ends = np.stack([first + gap / slopes.max(1)[:, None], first + gap / slopes.min(1)[:, None]])
        low, high = ends.min(0), ends.max(0)
        x = np.clip(first, low, high)
        with np.errstate(invalid="ignore"):
            for _ in range(200):  # a halving at the least: enough for any bracket of doubles
                value, J = self._reducible(w, x)
                slope = -(J[..., 4] + sum(J[..., j] for j in range(7, w.shape[1], 3)))  # moving x and all breaks is nil
                low, high = np.where(value > target, x, low), np.where(value > target, high, x)
                newton = x - (value - target) / slope
                new = np.where((newton > low) & (newton < high), newton, 0.5 * (low + high))
                if not (np.abs(new - x) > 1e-13 * (1 + np.abs(x))).any():
                    break
                x = new
        return np.where(rest > 0, x, np.inf)  # at or below E: no compute is enough

    def log_multiplier(self, w: np.ndarray, reference: np.ndarray) -> np.ndarray:
        return reference[..., 4] - w[..., 4]
