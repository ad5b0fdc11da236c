"""One surface through all isoFLOP curves: the same curve at each compute, moved along ln N and scaled in L - E."""

import numpy as np

from algoprogress.analysis.fit import Solutions, minimise
from algoprogress.analysis.isoflop.minima import Curves, EachBudget, Minima, parabola, parabola_line
from algoprogress.analysis.warnings import ConvergenceError

PARAMETERS = ("E", "log_K", "gamma", "log_G", "a", "p", "s")
SLOPES = (1e-3, 10.0)  # bounds of p and s; alpha and beta of language models are .2 to .8
E_SHARES = (0.0, 0.3, 0.6, 0.85)  # of the lowest loss: starts for E
SLOPE_STARTS = (0.2, 0.6)


class Surface:
    """L(N, C) = E + K C^-gamma (s e^(-p u) + p e^(s u)) / (p + s), u = ln N - ln(G C^a), by least squares in ln loss.

    The minima are N* = G C^a and L* = E + K C^-gamma exactly. Hoffmann's law is the case a = s / (p + s) and
    gamma = p s / (p + s) with p = alpha and s = beta: there the sides of the curves say where the minima go. Here the
    four are free, so that the minima speak for themselves; and being as lopsided as the data, the curves have no bias
    of a parabola's kind.
    """

    def minima(self, curves: Curves, loss_Bn: np.ndarray) -> Minima:
        """Minima of B sets of losses; raises a ConvergenceError when no start came to rest on the first."""
        theta_BP = self.fit(curves, loss_Bn)
        E, k, gamma, g, a = (theta_BP[:, i, None] for i in range(5))
        log_n = g + a * curves.budgets
        least, most = curves.ends
        edge = np.where(log_n < least, -1, np.where(log_n > most, 1, 0))
        return Minima(log_n, E + np.exp(k - gamma * curves.budgets), edge, theta_BP)

    def lines(self, curves: Curves, loss: np.ndarray, grid: Curves) -> np.ndarray:
        return np.exp(log_loss(self.fit(curves, loss[None]), grid.log_n, grid.log_c)[0][0])

    def fit(self, curves: Curves, loss_Bn: np.ndarray) -> np.ndarray:
        """Parameters (B, 7) as in `PARAMETERS`: from many starts on the first losses, from there on the others."""
        if len(curves.log_n) <= len(PARAMETERS) or len(curves.slices) < 3:
            raise ValueError(
                f"{len(curves.log_n)} points at {len(curves.slices)} budgets can not determine the {len(PARAMETERS)} "
                "parameters of an isoFLOP surface; measure more, or fit parabolas."
            )
        middle_n, middle_c = curves.log_n.mean(), curves.log_c.mean()
        x, z, y_Bn = curves.log_n - middle_n, curves.log_c - middle_c, np.log(loss_Bn)

        def solve(theta_BP: np.ndarray, y: np.ndarray) -> Solutions:
            lower, upper = _bounds(y)
            return minimise(lambda theta, _: log_loss(theta, x, z), y, theta_BP, lower, upper)

        starts = _starts(curves, loss_Bn[:1], middle_n, middle_c)
        tried = solve(starts, np.repeat(y_Bn[:1], len(starts), 0))
        best = int(np.where(tried.converged_B, tried.objective_B, np.inf).argmin())
        if not tried.converged_B[best]:
            raise ConvergenceError(f"None of {len(starts)} starts of the isoFLOP surface came to rest; fit parabolas.")
        theta_BP = tried.theta_BP[best][None]
        if len(y_Bn) > 1:
            theta_BP = np.concatenate([theta_BP, solve(np.repeat(theta_BP, len(y_Bn) - 1, 0), y_Bn[1:]).theta_BP])
        theta_BP[:, 1] += theta_BP[:, 2] * middle_c
        theta_BP[:, 3] += middle_n - theta_BP[:, 4] * middle_c
        return theta_BP


def log_loss(theta_BP: np.ndarray, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ln L (B, n) and its Jacobian (B, n, 7) at x = ln N and z = ln C, for theta in the order of `PARAMETERS`."""
    E, k, gamma, g, a, p, s = (theta_BP[:, i, None] for i in range(7))
    u = x - g - a * z
    left, right = np.exp(np.clip(-p * u, -300, 300)), np.exp(np.clip(s * u, -300, 300))
    total = s * left + p * right
    reducible = np.exp(np.clip(k - gamma * z + np.log(total / (p + s)), -300, 300))
    L = E + reducible
    share = reducible / L
    steep = share * p * s * (right - left) / total
    by_p = share * ((right - u * s * left) / total - 1 / (p + s))
    by_s = share * ((left + u * p * right) / total - 1 / (p + s))
    return np.log(L), np.stack([1 / L, share, -z * share, -steep, -z * steep, by_p, by_s], -1)


def _bounds(y_Bn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    lower = np.tile([0.0, -50, 1e-4, -50, -2, SLOPES[0], SLOPES[0]], (len(y_Bn), 1))
    upper = np.tile([0.0, 50, 5, 50, 3, SLOPES[1], SLOPES[1]], (len(y_Bn), 1))
    upper[:, 0] = np.exp(y_Bn).min(1) * (1 - 1e-9)
    return lower, upper


def _starts(curves: Curves, loss_1n: np.ndarray, middle_n: float, middle_c: float) -> np.ndarray:
    found = EachBudget(parabola, parabola_line).minima(curves, loss_1n)
    at, least, budget = found.log_n_BK[0] - middle_n, found.loss_BK[0], curves.budgets - middle_c
    spread = max(float((budget**2).sum()), 1e-12)
    a = float(np.clip((budget * at).sum() / spread, 0.2, 0.9))
    starts = []
    for share in E_SHARES:
        reducible = np.log(np.maximum(least - share * loss_1n.min(), 1e-3 * loss_1n.min()))
        gamma = max(-float((budget * reducible).sum() / spread), 0.01)
        starts += [[share * loss_1n.min(), reducible.mean(), gamma, at.mean(), a, q, q] for q in SLOPE_STARTS]
    return np.array(starts)
