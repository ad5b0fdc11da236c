"""Do the runs determine E and the exponents? Profile of E, sandwich errors and the doubts worth a warning."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.analysis.fit import CONVERGED, FLOOR
from algoprogress.analysis.loghuber import NEAR, E, Points, derivatives, log_loss, minimise

CHI2_95 = 3.841458820694124  # 95 % point of chi-squared with one degree of freedom
N_PROFILE = 24  # values of E from 0 to the lowest loss, besides as many near the estimate
STEPS = 30  # at each value of E and threshold: values so far off that this is too few are far outside the interval
TOO_MANY = 20_000  # runs beyond which the profile of so exact an estimate is its quadratic approximation
CONDITION = 1e10  # of the Hessian with unit diagonal: beyond, rounding of the data moves the estimate


@dataclass(frozen=True)
class Profile:
    """The lowest objective at each E, and where it is found."""

    points: Points
    value: np.ndarray
    objective: np.ndarray
    theta_BP: np.ndarray
    delta: float
    tie: np.ndarray | None

    def polish(
        self, objective: float, theta: np.ndarray, offset: float, at_bound: np.ndarray
    ) -> tuple[np.ndarray, float, float, np.ndarray]:
        """From the best value of E on: E free, then a finer and finer grid of E. Keeps what it has unless lower."""
        k = int(self.objective.argmin())
        start, width = self.theta_BP[k], float(np.diff(self.value).max())
        for _ in range(4):
            values = np.clip(start[E] + width * np.linspace(-1, 1, 17), 0, None)
            near = np.tile(start, (len(values), 1))
            near[:, E] = values
            held = minimise(self.points, near, self.delta, anneal=(), tie_PF=self.tie, hold=(E,))
            start, width = held.theta_BP[held.objective_B.argmin()], width / 6
        free = minimise(self.points, start[None], self.delta, anneal=(), tie_PF=self.tie)
        if free.objective_B[0] >= objective:
            return theta, objective, offset, at_bound
        return free.theta_BP[0], float(free.objective_B[0]), float(free.offset_B[0]), free.at_bound_BP[0]


def profile_E(points: Points, theta: np.ndarray, delta: float, tie: np.ndarray | None) -> Profile:
    """min over the other parameters of the objective, at values of E from 0 to the lowest loss."""
    least = float(np.exp(points.y.min()))
    values = np.array([theta[E]])
    if len(points.y) <= TOO_MANY:
        values = np.unique(np.concatenate([np.linspace(0, max(least, 1.1 * theta[E]), N_PROFILE), values]))
    start = np.tile(theta, (len(values), 1))
    # what E takes or leaves is shared by the other two terms
    rest = np.exp(theta[1:3])
    change = np.maximum((rest.sum() + theta[E] - values) / rest.sum(), 1e-3)
    start[:, 1:3] += np.log(change)[:, None]
    start[:, E] = values
    found = minimise(points, start, delta, tie_PF=tie, hold=(E,), at_rest=NEAR, most=STEPS)
    return Profile(points, values, found.objective_B, found.theta_BP, delta, tie)


def wald_or_profile(
    points: Points, profile: Profile, theta: np.ndarray, objective: float, delta: float, n_free: int
) -> tuple[float, float]:
    """95 % interval of E: where 2 (F(E) - F) mean(rho'') / mean(psi²) stays below the quantile of chi-squared.

    For least squares that is the likelihood ratio; for Huber's function the likelihood-ratio-type test of an
    M-estimator (Heritier and Ronchetti 1994). The profile is interpolated along straight lines in sqrt(F(E) - F).
    """
    residual = log_loss(theta[None], points.x, points.z)[0][0] - points.y
    n = len(residual)
    inside = max(float((np.abs(residual) <= delta).mean()), 1 / n)
    allowed = CHI2_95 * float((np.clip(residual, -delta, delta) ** 2).mean()) / (2 * inside)
    allowed = allowed * n / max(n - n_free, 1) + n * FLOOR
    if len(profile.value) == 1:
        covariance, _ = sandwich(points, theta, delta, profile.tie, np.zeros(5, bool))
        half = float(np.sqrt(CHI2_95 * covariance[E, E]))
        return max(theta[E] - half, 0.0), float(theta[E] + half)
    value, rise = profile.value, np.sqrt(np.maximum(profile.objective - objective, 0.0))
    here = np.searchsorted(value, theta[E])
    value, rise = np.insert(value, here, theta[E]), np.insert(rise, here, 0.0)
    limit = np.sqrt(allowed)
    ends = []
    for side in (slice(here, None, -1), slice(here, None)):
        v, r = value[side], rise[side]
        over = np.flatnonzero(r > limit)
        if not len(over):
            ends.append(float(v[-1]))
            continue
        k = int(over[0])
        ends.append(float(v[k - 1] + (limit - r[k - 1]) / (r[k] - r[k - 1]) * (v[k] - v[k - 1])))
    return ends[0], ends[1]


def sandwich(
    points: Points, theta: np.ndarray, delta: float, tie: np.ndarray | None, at_bound: np.ndarray
) -> tuple[np.ndarray, float]:
    """H^-1 (sum psi² grad grad') H^-1 n / (n - P) of the working parameters (P, P), and the condition number of H.

    Parameters at a bound are held there. Near least absolute deviations (a small delta) few points carry H: resample in
    place of trusting it.
    """
    tie = np.eye(5) if tie is None else tie
    free = ~np.array([bool(at_bound[tie[:, f] > 0].any()) for f in range(tie.shape[1])])
    T = tie[:, free]
    _, _, H = derivatives(points, np.ones((1, len(points.y))), theta[None], delta)
    y, J = log_loss(theta[None], points.x, points.z)
    psi = np.clip(y[0] - points.y, -delta, delta)
    J = J[0] @ T
    H = T.T @ H[0] @ T
    scale = np.sqrt(np.maximum(np.abs(np.diag(H)), 1e-300))
    H = H / np.outer(scale, scale)
    eigenvalues = np.linalg.eigvalsh(H)
    condition = float(eigenvalues[-1] / eigenvalues[0]) if eigenvalues[0] > 0 else float("inf")
    inverse = np.linalg.pinv(H, hermitian=True) / np.outer(scale, scale)
    n = len(psi)
    V = inverse @ ((J * psi[:, None] ** 2).T @ J) @ inverse * n / max(n - T.shape[1], 1)
    return T @ V @ T.T, condition


def doubts_of(diagnostics: dict[str, Any], runs: pd.DataFrame, points: Points) -> list[str]:
    """What makes a fit doubtful, as parts of a sentence."""
    said = []
    low, high = diagnostics["E_interval"]
    if low <= 0:
        said.append(f"E is not identified: every value from 0 to {high:.2f} nats/token fits as well")
    elif high - low > 0.5 * np.exp(points.y.min()):
        said.append(f"E is not identified: every value from {low:.2f} to {high:.2f} nats/token fits as well")
    if diagnostics["gradient_norm"] > CONVERGED:
        said.append(f"the minimum is a flat valley (relative offset {diagnostics['gradient_norm']:.1e})")
    if diagnostics["starts_agree"] < 0.5:
        share = diagnostics["starts_agree"]
        said.append(f"{f'only {share:.0%}' if share else 'none'} of the starts found the best minimum")
    if diagnostics["at_bound"]:
        said.append(f"{', '.join(diagnostics['at_bound'])} at a bound")
    if diagnostics["condition"] > CONDITION:
        said.append(f"the Hessian is nearly singular (condition {diagnostics['condition']:.0e})")
    for column in ("n_params", "tokens"):
        if (k := runs[column].nunique()) < 3:
            said.append(f"{k} values of {column} can not give its coefficient and exponent and E")
    correlation = np.corrcoef(points.x, points.z)[0, 1]
    if correlation > 0.99:
        said.append("size and data grow together, so that their terms can hardly be told apart")
    return said
