"""Do all isoFLOP curves have one shape?  L(N, C) = E + K C^-gamma m(ln N - ln G C^a), with C = 6 N D."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from algoprogress.analysis.laws.base import Law
from algoprogress.analysis.objective import Points

E, K, GAMMA, G, A, P, S = range(7)
E_SHARES = (0.0, 0.3, 0.6, 0.85)  # of the lowest loss: starts for E
LOPSIDED = (1.0, 0.4)  # starts for p / s
STEEPEST = 20.0  # bound of p and s, and 1/1000 the least; alpha and beta of published laws are .2 to .8
SPAN = 30.0  # the reducible loss, and the best size, may be exp(±30) of their means in the data
FARTHEST = 300.0  # exponents beyond are as good as infinite, and would overflow


class IsoFLOPSurface(Law):
    """L = E + K C^-gamma m(u), u = ln N - ln(G C^a), m(u) = (s e^(-p u) + p e^(s u)) / (p + s), C = 6 N D.

    The curve of loss against size is the same at every compute, moved along ln N and scaled in L - E. Its minimum is
    m(0) = 1, so that N* = G C^a and L* = E + K C^-gamma exactly, whatever the sides of the curve. Hoffmann's law is the
    case a = s / (p + s) and gamma = p s / (p + s), with p = alpha and s = beta: there the sides say where the minima
    go, here the minima speak for themselves, and two degrees of freedom test whether they agree.

    Working parameters: E as a share of the mean loss, ln of the reducible loss and of the best size at the centre of
    the data, the exponents as they are.
    """

    name = "isoflop"
    inputs = ("n_params", "tokens")
    parameters: tuple[str, ...] = ("E", "K", "gamma", "G", "a", "p", "s")
    units = ("nats/token", "nats/token FLOP^gamma", "", "n_params FLOP^-a", "", "", "")
    shareable: tuple[str, ...] = ("E", "gamma", "a", "p", "s")
    rescaled = ("K",)
    logarithmic = ("K", "G")
    coefficients = ("K",)
    point_name = "pairs of size and data"
    default_huber = 1e-3  # as `chinchilla`, so that the two can be compared

    @classmethod
    def formula(cls, parameters: Mapping[str, float], *inputs: np.ndarray) -> np.ndarray:
        v, (N, D) = parameters, inputs
        C, p, s = 6 * N * D, parameters["p"], parameters["s"]
        u = np.log(N / (v["G"] * C ** v["a"]))
        return v["E"] + v["K"] * C ** -v["gamma"] * (s * np.exp(-p * u) + p * np.exp(s * u)) / (p + s)

    @classmethod
    def example(cls) -> tuple[pd.DataFrame, dict[str, float]]:
        parameters = {"E": 1.7, "K": 900.0, "gamma": 0.155, "G": 0.3, "a": 0.48, "p": 0.36, "s": 0.28}
        C, off = (g.ravel() for g in np.meshgrid(np.geomspace(1e18, 1e21, 6), np.geomspace(0.2, 5, 9)))
        N = off * parameters["G"] * C ** parameters["a"]
        return pd.DataFrame({"n_params": N, "tokens": C / 6 / N}), parameters

    def log_loss(self, w_Bk: np.ndarray, *x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        L, share, c, h, _ = self._parts(w_Bk, *x)
        slope = [share, -c * share, -h["u"] * share, -c * h["u"] * share, h["p"] * share, h["s"] * share]
        return np.log(L), np.stack([1 / L, *slope], -1)

    def curvature(self, w_Bk: np.ndarray, q_Bn: np.ndarray, *x: np.ndarray) -> np.ndarray:
        """d² ln L = share (d²f + df df') - d ln L d ln L', f the log of the reducible loss."""
        L, share, c, h, hh = self._parts(w_Bk, *x)
        one = np.ones_like(share)
        df = np.stack([0 * one, one, -c * one, -h["u"], -c * h["u"], h["p"], h["s"]], -1)
        J = df * share[:, :, None]
        J[:, :, E] = 1 / L
        q_share = q_Bn * share
        found = np.swapaxes(df * q_share[:, :, None], 1, 2) @ df - np.swapaxes(J * q_Bn[:, :, None], 1, 2) @ J
        second = {
            (G, G): hh["uu"],
            (G, A): c * hh["uu"],
            (A, A): c**2 * hh["uu"],
            (G, P): -hh["up"],
            (G, S): -hh["us"],
            (A, P): -c * hh["up"],
            (A, S): -c * hh["us"],
            (P, P): hh["pp"],
            (P, S): hh["ps"],
            (S, S): hh["ss"],
        }
        for (i, j), value in second.items():
            total = (q_share * value).sum(1)
            found[:, i, j] += total
            if i != j:
                found[:, j, i] += total
        return found

    @staticmethod
    def _parts(
        w_Bk: np.ndarray, x: np.ndarray, z: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
        """L / L0, its reducible share, centred ln C, and the first and second derivatives of ln m in u, p and s."""
        e, k, gamma, g, a, p, s = (w_Bk[:, j, None] for j in range(7))
        c = x + z
        u = x - g - a * c
        left, right = np.exp(np.clip(-p * u, -FARTHEST, FARTHEST)), np.exp(np.clip(s * u, -FARTHEST, FARTHEST))
        T = s * left + p * right
        t = {"u": p * s * (right - left) / T, "p": (right - u * s * left) / T, "s": (left + u * p * right) / T}
        tt = {
            "uu": p * s * (s * right + p * left) / T,
            "up": s * (right - left + p * u * left) / T,
            "us": p * (right - left + s * u * right) / T,
            "pp": u**2 * s * left / T,
            "ps": u * (right - left) / T,
            "ss": u**2 * p * right / T,
        }
        reducible = np.exp(np.clip(k - gamma * c + np.log(T / (p + s)), -FARTHEST, FARTHEST))
        L = e + reducible
        of_both = 1 / (p + s)
        first = {"u": t["u"], "p": t["p"] - of_both, "s": t["s"] - of_both}
        second = {ij: value - t[ij[0]] * t[ij[1]] + of_both**2 * ("u" not in ij) for ij, value in tt.items()}
        return L, reducible / L, c, first, second

    def bounds(self, points: Points) -> tuple[np.ndarray, np.ndarray]:
        low, high = points.y.min(-1), points.y.max(-1)
        one = np.ones_like(low)
        lower = [0 * one, low - SPAN, 1e-4 * one, -SPAN * one, -2 * one, *[STEEPEST / 1e3 * one] * 2]
        upper = [np.exp(high), high + SPAN, 5 * one, SPAN * one, 3 * one, *[STEEPEST * one] * 2]
        return np.stack(lower, -1), np.stack(upper, -1)

    def starts(self, points: Points, lowest: float) -> np.ndarray:
        """From a quadratic in ln N and ln C through ln (L - E), for some values of E."""
        x, c = points.x[0], points.x[0] + points.x[1]
        X = np.stack([np.ones_like(x), c, x, x**2, x * c, c**2], 1)
        fixed = self.fixed.get("E")
        shares = [s * lowest for s in E_SHARES] if fixed is None else [self.to_working("E", fixed)]
        starts = []
        for e in shares:
            reducible = np.log(np.maximum(np.exp(points.y) - e, 1e-3 * lowest))
            level, by_c, by_x, by_xx, by_xc, _ = np.linalg.lstsq(X, reducible, rcond=None)[0]
            bend = max(by_xx, 0.02)  # hollow data bend the wrong way: start from nearly straight sides
            a = float(np.clip(-by_xc / (2 * bend), 0.1, 1.0))
            g = float(np.clip(-by_x / (2 * bend), x.min(), x.max()))
            gamma = float(np.clip(-by_c + 2 * bend * g * a, 0.02, 1.0))
            q = float(np.sqrt(2 * bend))
            starts += [[e, level - bend * g**2, gamma, g, a, q * r, q / r] for r in LOPSIDED]
            starts.append([e, reducible.mean(), gamma, 0.0, 0.5, q, q])
        return np.array(starts)

    def natural(self, w: np.ndarray) -> np.ndarray:
        e, k, gamma, g, a, p, s = np.moveaxis(w, -1, 0)
        scale, log_c0 = np.exp(self.log_l0_), self.log_c0()
        size = np.exp(g + self.center_[0] - a * log_c0)
        return np.stack([e * scale, np.exp(k + gamma * log_c0) * scale, gamma, size, a, p, s], -1)

    def constraint(self, parameter: str, value: float) -> tuple[np.ndarray, float, str]:
        c = np.array([name == parameter for name in self.parameters], float)
        if parameter == "K":
            c[GAMMA] = self.log_c0()
            return c, float(np.log(value) - self.log_l0_), parameter
        if parameter == "G":
            c[A] = -self.log_c0()
            return c, float(np.log(value) - self.center_[0]), parameter
        return c, self.to_working(parameter, value), parameter

    def allocate(self, w: np.ndarray, log_c: np.ndarray) -> tuple[np.ndarray, ...]:
        x = w[:, G, None] + w[:, A, None] * log_c
        return x, log_c - x

    def invert(self, w: np.ndarray, y: np.ndarray) -> np.ndarray:
        reducible = np.exp(y) - w[:, E, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            found = (w[:, K, None] - np.log(reducible)) / w[:, GAMMA, None]
        return np.where(reducible > 0, found, np.inf)  # at or below E: no compute is enough

    def log_multiplier(self, w: np.ndarray, reference: np.ndarray) -> np.ndarray:
        return (reference[..., K] - w[..., K]) / w[..., GAMMA]
