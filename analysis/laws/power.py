"""How does the loss of the best configuration fall with compute?  L(C) = E + A C^-alpha."""

import numpy as np

from algoprogress.analysis.laws.law import LossLaw

START_FRACTIONS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.97)  # of the lowest loss: starts for E, dense where the curve bends


class PowerLaw(LossLaw):
    """L(C) = E + A C^-alpha, with 0 <= E < min L and alpha > 0 (Henighan et al. 2020; Kaplan et al. 2020 without E).

    The form worked with is ln L = ln(E + exp(b - alpha x)), x = ln(C / C0) with C0 the geometric mean of the measured
    compute and b = ln A - alpha ln C0, so that b and alpha are nearly uncorrelated.
    """

    name = "power"
    parameters = ("E", "A", "alpha")
    units = ("nats/token", "nats/token FLOP^alpha", "")
    shareable = ("E", "alpha")

    def log_loss(self, w_nk: np.ndarray, x_n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        E, b, alpha = np.moveaxis(w_nk, -1, 0)
        reducible = np.exp(np.clip(b - alpha * x_n, -500, 500))
        loss = E + reducible
        jacobian = np.stack([1 / loss, reducible / loss, -x_n * reducible / loss], -1)
        return np.log(loss), jacobian

    def bounds(self, y_n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        lowest = np.exp(y_n).min(-1)
        none = np.zeros_like(lowest)
        lower = np.stack(
            [none, none - 50, none + 1e-4], -1
        )  # exp(±50) nats and alpha 1e-4 to 5 hold any law of learning
        upper = np.stack([lowest * (1 - 1e-9), none + 50, none + 5], -1)
        return lower, upper

    def starts(self, x_n: np.ndarray, y_n: np.ndarray, lowest: float) -> np.ndarray:
        E = np.array(START_FRACTIONS if "E" not in self.fixed else [self.fixed["E"] / lowest]) * lowest
        reducible = np.log(np.maximum(np.exp(y_n) - E[:, None], 1e-9))
        spread = ((x_n - x_n.mean()) ** 2).sum()
        slope = (reducible * (x_n - x_n.mean())).sum(1) / max(spread, 1e-12)
        alpha = np.clip(-slope, 1e-3, 4.0)
        return np.stack([E, reducible.mean(1) + alpha * x_n.mean(), alpha], 1)

    def natural(self, w_k: np.ndarray, log_c0: float) -> np.ndarray:
        E, b, alpha = np.moveaxis(w_k, -1, 0)
        return np.stack([E, np.exp(b + alpha * log_c0), alpha], -1)

    def invert(self, w_k: np.ndarray, log_loss: np.ndarray) -> np.ndarray:
        E, b, alpha = np.moveaxis(w_k, -1, 0)
        reducible = np.exp(log_loss) - E[..., None]
        with np.errstate(invalid="ignore", divide="ignore"):
            x = (b[..., None] - np.log(reducible)) / alpha[..., None]
        return np.where(reducible > 0, x, np.inf)  # at or below E: no compute is enough
