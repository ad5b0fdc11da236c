"""How much worse is a small model trained for long?  L(C, M) = E + (a M^eta + b M^-eta) C^-eta (Gadre et al. 2024)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar, nnls

from algoprogress.analysis.runs import check_columns

ETAS = np.linspace(0.01, 1.0, 400)  # published exponents are .1 to .2; a finer search follows around the best


@dataclass(frozen=True)
class OvertrainingLaw:
    """E (nats/token) and a, b, eta, with C = 6 N D in FLOP and M = D / N tokens per parameter.

    In N and D it is Hoffmann's law with one exponent, alpha = beta = 2 eta, A = a 6^-eta and B = b 6^-eta. All M are
    equally steep in C: what training a model longer than is best costs is the same factor of L - E at every compute.
    """

    E: float
    a: float
    b: float
    eta: float

    def predict(self, n_params: Any, tokens: Any) -> np.ndarray:
        """Loss in nats/token."""
        N, D = np.asarray(n_params, float), np.asarray(tokens, float)
        return self.E + 6**-self.eta * (self.a * N ** (-2 * self.eta) + self.b * D ** (-2 * self.eta))


def fit_overtraining(runs: pd.DataFrame) -> OvertrainingLaw:
    """Least squares in nats/token as Gadre et al., E, a, b >= 0, by search over eta alone: the rest is linear given it.

    Args:
        runs: rows of one arm with n_params, tokens, loss (nats/token).
    """
    check_columns(runs, ("n_params", "tokens", "loss"), "the over-training law")
    log_n, log_d = (np.log(runs[c].to_numpy(float)) for c in ("n_params", "tokens"))
    loss, middle = runs["loss"].to_numpy(float), (log_n.mean(), log_d.mean())

    def solve(eta: float) -> tuple[np.ndarray, float]:
        terms = [np.exp(-2 * eta * (x - m)) for x, m in zip((log_n, log_d), middle, strict=True)]
        return nnls(np.stack([np.ones_like(loss), *terms], 1), loss)

    k = int(np.argmin([solve(eta)[1] for eta in ETAS]))
    around = (ETAS[max(k - 1, 0)], ETAS[min(k + 1, len(ETAS) - 1)])
    eta = minimize_scalar(lambda eta: solve(eta)[1] ** 2, bounds=around, method="bounded", options={"xatol": 1e-12}).x
    (E, A, B), _ = solve(eta)
    a, b = (c * np.exp(2 * eta * m + eta * np.log(6)) for c, m in zip((A, B), middle, strict=True))
    return OvertrainingLaw(float(E), float(a), float(b), float(eta))
