"""What is text worth that was seen before?  `chinchilla` in effective size and data (Muennighoff et al. 2023)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.analysis import seeding
from algoprogress.analysis.laws.base import Law
from algoprogress.analysis.laws.chinchilla import Chinchilla
from algoprogress.analysis.loghuber import ALPHA, BETA, E, a, b
from algoprogress.analysis.loghuber import Points as Sums
from algoprogress.analysis.objective import Points

R_D, R_N = 5, 6
STARTS_R_D, START_R_N = (3.0, 15.0, 60.0), 5.0  # around the 15.4 and 5.3 of Muennighoff et al. 2023
N_STARTS = 5  # for each of these
LOG_R = (np.log(1e-2), np.log(1e5))  # of R*: below, a second epoch is worth nothing; above, as much as new text
REPEATED = 1.01  # epochs: less is not counted as repeating
GOLDEN = 0.5 * (np.sqrt(5.0) - 1)
REACH = 12.0  # in ln N, around the best size with unlimited data, over which the best with U tokens is sought


class RepeatedData(Chinchilla):
    """L = E + A N'^-alpha + B D'^-beta with effective size N' and data D' (Muennighoff et al. 2023, equations 5, 6).

    Of D tokens U_D = min(D, unique_tokens) are new, and R_D' = D / U_D - 1 epochs repeat them:
    D' = U_D + U_D R_D (1 - exp(-R_D' / R_D)). Of N parameters U_N = min(N, the best N for U_D tokens) are as good as
    U_D allows, and R_N' = N / U_N - 1 are in excess: N' = U_N + U_N R_N (1 - exp(-R_N' / R_N)). The parameters R_D and
    R_N are the R* of the paper: how many epochs, or times the best size, are worth having.

    Without `unique_tokens` the frontier is that of unlimited data, one epoch, where N' = N and D' = D.
    """

    name = "repeated_data"
    inputs = ("n_params", "tokens", "unique_tokens")
    parameters = ("E", "A", "B", "alpha", "beta", "R_D", "R_N")
    units = ("nats/token", "nats/token n_params^alpha", "nats/token tokens^beta", "", "", "epochs", "")
    shareable = ("E", "alpha", "beta", "R_D", "R_N")
    logarithmic = ("A", "B", "R_D", "R_N")
    may_be_constant = ("unique_tokens",)
    point_name = "triples of size, data and unique data"

    @classmethod
    def formula(cls, parameters: Mapping[str, float], *inputs: np.ndarray) -> np.ndarray:
        p, (N, D, unique) = parameters, inputs
        U_D = np.minimum(D, unique)
        best = (p["alpha"] * p["A"] / (p["beta"] * p["B"]) * U_D ** p["beta"]) ** (1 / p["alpha"])
        U_N = np.minimum(N, best)
        data = U_D * (1 + p["R_D"] * (1 - np.exp(-(D / U_D - 1) / p["R_D"])))
        size = U_N * (1 + p["R_N"] * (1 - np.exp(-(N / U_N - 1) / p["R_N"])))
        return p["E"] + p["A"] * size ** -p["alpha"] + p["B"] * data ** -p["beta"]

    @classmethod
    def example(cls) -> tuple[pd.DataFrame, dict[str, float]]:
        """The constants of Muennighoff et al. 2023 for C4, on 1 to 40 epochs over 0.1 to 100 billion tokens."""
        axes = np.geomspace(5e7, 8e9, 5), np.geomspace(1e8, 1e11, 5), np.array([1.0, 3.0, 10.0, 40.0])
        N, U, epochs = (g.ravel() for g in np.meshgrid(*axes))
        design = pd.DataFrame({"n_params": N, "tokens": epochs * U, "unique_tokens": U})
        known = {"E": 1.87, "A": 521.0, "B": 1488.0, "alpha": 0.353, "beta": 0.353, "R_D": 15.4, "R_N": 5.3}
        return design, known

    def check_runs(self, frame: pd.DataFrame) -> None:
        epochs = frame["tokens"].astype(float) / frame["unique_tokens"].astype(float)
        if not (epochs > REPEATED).any() and "R_D" not in self.fixed:
            raise ValueError(
                f"No run repeats its data (tokens is at most {epochs.max():.3g} times unique_tokens): R_D can not be "
                "determined. Fit chinchilla, fix R_D, or add runs of several epochs."
            )

    def doubts(self) -> list[str]:
        if "R_N" in self.fixed:
            return []
        for number, points in enumerate(self.points_):
            x, z, v = points.x
            best = best_size(self.sharing_.working(self.theta_, number)[None], np.minimum(z, v))
            if (x > best[0]).any():
                return []
        return ["no run is larger than the best size for its unique data, so that R_N is not identified"]

    def centers(self, logs: list[np.ndarray]) -> list[float]:
        """Unique tokens count from where tokens do."""
        return [float(logs[0].mean()), float(logs[1].mean()), float(logs[1].mean())]

    points = Law.points
    sums = Law.sums

    # ---- the law ------------------------------------------------------------------------------------------------

    def log_loss(self, w_Bk: np.ndarray, *x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts = _Parts(w_Bk, *x)
        J = parts.s[..., None] * parts.log_p_by + parts.t[..., None] * parts.log_q_by
        J[..., E] = parts.inverse
        return -np.log(parts.inverse), J

    def curvature(self, w_Bk: np.ndarray, q_Bn: np.ndarray, *x: np.ndarray) -> np.ndarray:
        """sum_i q_i (s (P'' + P' P'^T) + t (Q'' + Q' Q'^T) - J J^T): see `_Parts`."""
        parts = _Parts(w_Bk, *x)
        J = parts.s[..., None] * parts.log_p_by + parts.t[..., None] * parts.log_q_by
        J[..., E] = parts.inverse
        found = parts.second(q_Bn)
        for weight, first in ((q_Bn * parts.s, parts.log_p_by), (q_Bn * parts.t, parts.log_q_by), (-q_Bn, J)):
            found += np.swapaxes(first * weight[..., None], 1, 2) @ first
        return found

    def bounds(self, points: Points) -> tuple[np.ndarray, np.ndarray]:
        lower, upper = super().bounds(points)
        more = np.ones((*lower.shape[:-1], 2))
        return np.concatenate([lower, more * LOG_R[0]], -1), np.concatenate([upper, more * LOG_R[1]], -1)

    def starts(self, points: Points, lowest: float) -> np.ndarray:
        """Variable projection as for `chinchilla`, on the effective data of a few values of R_D."""
        fixed = self.fixed.get("E")
        x, z, v = points.x
        u, found = np.minimum(z, v), []
        for r in STARTS_R_D:
            data = u + Saturated(z - u, np.array(np.log(r))).value
            w = seeding.starts(
                Sums.of(x, data, points.y), False, None if fixed is None else self.to_working("E", fixed)
            )
            found.append(np.concatenate([w[:N_STARTS], np.tile(np.log([r, START_R_N]), (len(w[:N_STARTS]), 1))], 1))
        return np.concatenate(found)

    def natural(self, w: np.ndarray) -> np.ndarray:
        return np.concatenate([super().natural(w), np.exp(w[..., [R_D, R_N]])], -1)

    def to_working(self, parameter: str, value: float) -> float:
        return float(np.log(value)) if parameter in ("R_D", "R_N") else super().to_working(parameter, value)

    # ---- the frontier -------------------------------------------------------------------------------------------

    def allocate(self, w: np.ndarray, log_c: np.ndarray) -> tuple[np.ndarray, ...]:
        """As for `chinchilla`, every token new."""
        x, z = super().allocate(w, log_c)
        return x, z, z

    def best_loss(
        self, compute: Any, arm: str | None = None, theta: np.ndarray | None = None, unique_tokens: float | None = None
    ) -> np.ndarray:
        """As for every law; with `unique_tokens` the best allocation of that many, repeated as need be."""
        if unique_tokens is None:
            return super().best_loss(compute, arm, theta)
        w, at = self._w(arm, theta), np.asarray(compute, float)
        y = self._constrained(np.atleast_2d(w), np.log(at).ravel() - self.log_c0(), self._unique(unique_tokens))[1]
        return np.exp(y + self.log_l0_).reshape((*w.shape[:-1], *at.shape))

    def compute_for(
        self, loss: Any, arm: str | None = None, theta: np.ndarray | None = None, unique_tokens: float | None = None
    ) -> np.ndarray:
        """As for every law; with `unique_tokens` infinite also where no number of epochs reaches the loss."""
        free = super().compute_for(loss, arm, theta)
        if unique_tokens is None:
            return free
        w, at = np.atleast_2d(self._w(arm, theta)), np.asarray(loss, float)
        y, unique = np.log(at).ravel() - self.log_l0_, self._unique(unique_tokens)
        with np.errstate(divide="ignore"):
            low = np.log(free).reshape(len(w), -1) - self.log_c0()  # repeating is never better than new text
        high = np.full_like(low, max(2 * unique, 0.0) + 60.0)
        never = ~np.isfinite(low) | (self._constrained(w, high, unique)[1] > y)
        low = np.where(never, 0.0, low)
        for _ in range(60):  # to a part in 1e16 of the bracket
            middle = 0.5 * (low + high)
            enough = self._constrained(w, middle, unique)[1] <= y
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        return np.where(never, np.inf, np.exp(high + self.log_c0())).reshape(free.shape)

    def frontier(self, compute: Any, arm: str | None = None, unique_tokens: float | None = None) -> pd.DataFrame:
        """[compute, n_params, tokens, unique_tokens, loss]: one epoch of unlimited data, or so many unique tokens."""
        if unique_tokens is None:
            return super().frontier(compute, arm)
        at = np.atleast_1d(np.asarray(compute, float))
        log_c = np.log(at) - self.log_c0()
        x, y = self._constrained(self._w(arm, None)[None], log_c, self._unique(unique_tokens))
        N = np.exp(x[0] + self.center_[0])
        columns = {"compute": at, "n_params": N, "tokens": at / 6 / N, "unique_tokens": float(unique_tokens)}
        return pd.DataFrame(columns | {"loss": np.exp(y[0] + self.log_l0_)})

    def _unique(self, unique_tokens: float) -> float:
        if not (np.isfinite(unique_tokens) and unique_tokens > 0):
            raise ValueError(f"unique_tokens is a positive number of tokens, not {unique_tokens}.")
        return float(np.log(unique_tokens)) - self.center_[1]

    def _constrained(self, w: np.ndarray, log_c: np.ndarray, unique: float) -> tuple[np.ndarray, np.ndarray]:
        """Best centred ln N and ln(L / L0) (B, m) at log compute with so many unique tokens, by golden section."""
        log_c = np.broadcast_to(log_c, (len(w), log_c.shape[-1]))
        middle = super().allocate(w, log_c)[0]
        low, high = middle - REACH, middle + REACH

        def loss(x: np.ndarray) -> np.ndarray:
            return self.log_loss(w, x, log_c - x, np.array(unique))[0]

        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        at_left, at_right = loss(left), loss(right)
        for _ in range(70):  # to 1e-14 of the reach
            lower = at_left < at_right
            low, high = np.where(lower, low, left), np.where(lower, right, high)
            middle = np.where(lower, left, right)
            other = low + high - middle
            at_middle, at_other = np.where(lower, at_left, at_right), loss(other)
            first = middle < other
            left, right = np.where(first, middle, other), np.where(first, other, middle)
            at_left, at_right = np.where(first, at_middle, at_other), np.where(first, at_other, at_middle)
        best = 0.5 * (low + high)
        return best, loss(best)


def best_size(w: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Centred ln N of the best size for u unique tokens: alpha A N^-alpha = beta B U^-beta."""
    alpha, beta = w[:, ALPHA, None], w[:, BETA, None]
    return (np.log(alpha / beta) + w[:, a, None] - w[:, b, None] + beta * u) / alpha


class Saturated:
    """g = ln(1 + R* (1 - exp(-R / R*))), R = exp(l) - 1, with derivatives by l and by r = ln R*."""

    def __init__(self, log_ratio: np.ndarray, log_r: np.ndarray) -> None:
        ratio, r = np.exp(np.minimum(log_ratio, 300.0)), np.exp(log_r)
        q = (ratio - 1) / r
        left = np.exp(-q)
        gained = -r * np.expm1(-q)
        total = 1 + gained
        self.value = np.log(total)
        self.by_l, self.by_r = ratio * left / total, (gained - (ratio - 1) * left) / total
        self.by_ll = self.by_l * (1 - ratio / r) - self.by_l**2
        self.by_lr = self.by_l * (q - self.by_r)
        self.by_rr = (gained - (ratio - 1) * left * (1 + q)) / total - self.by_r**2


class _Parts:
    """The two terms, exp(P) = A N'^-alpha and exp(Q) = B D'^-beta, with the derivatives of P and Q.

    Attributes:
        s, t, inverse: exp(P) / L, exp(Q) / L, 1 / L (B, n).
        log_p_by, log_q_by: first derivatives (B, n, k) of P and Q.
    """

    def __init__(self, w: np.ndarray, n: np.ndarray, d: np.ndarray, unique: np.ndarray) -> None:
        self.alpha, self.beta = w[:, ALPHA, None], w[:, BETA, None]
        self.u = np.minimum(d, unique)
        best = best_size(w, self.u)
        self.excess = best < n
        base = np.where(self.excess, best, n)
        self.data, self.size = Saturated(d - self.u, w[:, R_D, None]), Saturated(n - base, w[:, R_N, None])
        data, size = self.data.value + self.u, self.size.value + base
        p, q = np.exp(w[:, a, None] - self.alpha * size), np.exp(w[:, b, None] - self.beta * data)
        self.inverse = 1 / (w[:, E, None] + p + q)
        self.s, self.t = p * self.inverse, q * self.inverse
        shape = (*self.s.shape, w.shape[1])
        # ln N' follows the best size m, which a, b, alpha and beta set; nothing where N is no more than that
        self.size_by_best = np.where(self.excess, 1 - self.size.by_l, 0.0)
        self.best_by = np.zeros(shape)
        self.best_by[..., a], self.best_by[..., b] = 1 / self.alpha, -1 / self.alpha
        self.best_by[..., ALPHA] = (1 / self.alpha - best) / self.alpha
        self.best_by[..., BETA] = (self.u - 1 / self.beta) / self.alpha
        self.size_by = self.size_by_best[..., None] * self.best_by
        self.size_by[..., R_N] = self.size.by_r
        self.log_p_by = -self.alpha[..., None] * self.size_by
        self.log_p_by[..., a] += 1
        self.log_p_by[..., ALPHA] -= size
        self.log_q_by = np.zeros(shape)
        self.log_q_by[..., b], self.log_q_by[..., BETA] = 1, -data
        self.log_q_by[..., R_D] = -self.beta * self.data.by_r

    def second(self, q_Bn: np.ndarray) -> np.ndarray:
        """sum_i q_i (s P'' + t Q'') (B, k, k)."""
        alpha, beta, m_by = self.alpha, self.beta, self.best_by
        found = np.zeros((len(alpha), m_by.shape[2], m_by.shape[2]))
        q, q_data = q_Bn * self.s, q_Bn * self.t
        # -alpha d² ln N' / d m² m_x m_y
        bend = q * np.where(self.excess, -alpha * (self.size.by_ll), 0.0)
        found += np.swapaxes(m_by * bend[..., None], 1, 2) @ m_by
        along = q * -alpha * self.size_by_best  # times m_xy
        half = {
            (a, ALPHA): -along / alpha**2,
            (b, ALPHA): along / alpha**2,
            (ALPHA, BETA): -along * m_by[..., BETA] / alpha,
            (ALPHA, ALPHA): 0.5 * along * (-1 / alpha**3 - 2 * m_by[..., ALPHA] / alpha),
            (BETA, BETA): 0.5 * along / (alpha * beta**2),
            (R_N, R_N): -0.5 * q * alpha * self.size.by_rr,
            (BETA, R_D): -q_data * self.data.by_r,
            (R_D, R_D): -0.5 * q_data * beta * self.data.by_rr,
        }
        for j in (a, b, ALPHA, BETA):
            mixed = np.where(self.excess, alpha * self.size.by_lr * m_by[..., j], 0.0)
            half[j, R_N] = q * mixed
        for (i, j), value in half.items():
            total = value.sum(1)
            found[:, i, j] += total
            found[:, j, i] += total
        from_alpha = -(q[..., None] * self.size_by).sum(1)  # P = a - alpha ln N' by alpha, then by anything
        found[:, ALPHA, :] += from_alpha
        found[:, :, ALPHA] += from_alpha
        return found
