"""Which of several laws is best supported?  Information criteria from the likelihood that a fit makes largest.

Least squares in log loss is the maximum of a Gaussian likelihood. Huber's function with threshold delta is that of the
density exp(-rho_delta(r) / s²) / Z(s), Gaussian within delta and exponential beyond (Huber 1964), whatever its scale s:
so the criteria under Huber are those of that density with s at its own maximum. They compare laws fitted to the same
runs with the same threshold, and assume that runs are independent: checkpoints of one run are not.
"""

from typing import TYPE_CHECKING

import numpy as np

from algoprogress.analysis.fit import FLOOR

if TYPE_CHECKING:
    from algoprogress.analysis.laws.base import Law


def log_likelihood(objective: float, n: int, delta: float) -> float:
    """max over s of -F / s² - n ln Z(s), Z(s) = s sqrt(2 pi) erf(delta / s sqrt 2) + 2 s² / delta exp(-delta² / 2 s²).

    Args:
        objective: F, the Huber sum of the residuals in log loss.
        n: number of residuals.
        delta: threshold in log loss.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import erf

    F = max(objective, 0.5 * n * FLOOR)  # residuals of rounding alone: a fit can not be better supported than that

    def cost(log_s: float) -> float:
        s = np.exp(log_s)
        core = s * np.sqrt(2 * np.pi) * erf(delta / (s * np.sqrt(2)))
        tails = 2 * s**2 / delta * np.exp(-0.5 * (delta / s) ** 2)
        return F / s**2 + n * np.log(core + tails)

    middle = 0.5 * np.log(F / n)  # near the best scale both where the core and where the tails dominate
    found = minimize_scalar(cost, bounds=(middle - 3, middle + 3), method="bounded", options={"xatol": 1e-10})
    return -float(found.fun)


def criteria(law: "Law") -> dict[str, float]:
    """{log_likelihood, aic, aicc, bic} of a fit; the scale counts as a parameter."""
    law._fitted()
    n, k = law.diagnostics_["n"], law.sharing_.n_free + 1
    best = log_likelihood(law.diagnostics_["objective"], n, law.huber)
    aic = 2 * k - 2 * best
    small = 2 * k * (k + 1) / (n - k - 1) if n > k + 1 else float("inf")
    return {"log_likelihood": best, "aic": aic, "aicc": aic + small, "bic": k * float(np.log(n)) - 2 * best}
