"""Which values of one parameter fit nearly as well as the best?  The profile of the objective, and its interval.

A value v is inside the interval of a level where 2 (F(v) - F) mean(rho'') / mean(psi²), corrected for the degrees of
freedom used, is at most the quantile of F(1, n - P). For least squares that is the F test of nested fits; for Huber's
function the likelihood-ratio-type test of an M-estimator (Heritier and Ronchetti 1994).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from algoprogress.analysis.fit import FLOOR, NEAR, minimise
from algoprogress.analysis.objective import HuberSum

if TYPE_CHECKING:
    from algoprogress.analysis.laws.base import Law

N_PROFILE = 24  # values of E from 0 to the lowest loss, besides as many near the estimate
STEPS = 30  # at each value of E and threshold: values so far off that this is too few are far outside the interval
TOO_MANY = 20_000  # points beyond which the profile of so exact an estimate is its quadratic approximation
DOUBLINGS = 40  # of the step outward from the estimate, before the interval counts as open on that side
BISECTIONS = 30
Best = tuple[np.ndarray, float, float, np.ndarray]  # theta, objective, relative offset, at_bound


@dataclass(frozen=True)
class ColumnProfile:
    """The lowest objective at values of one free parameter (m,), and where it is found (m, P)."""

    column: int
    value: np.ndarray
    objective: np.ndarray
    theta_mP: np.ndarray


def columns_of(law: "Law", parameter: str) -> list[int]:
    """Columns of theta that are a parameter, of any arm; none where it is fixed or the law has none."""
    if parameter not in law.parameters:
        return []
    return [int(c) for c in np.unique(law.sharing_.column_ak[:, law.parameters.index(parameter)]) if c >= 0]


def of_column(law: "Law", column: int, theta: np.ndarray) -> ColumnProfile:
    """min over the rest of the objective with E of one or several arms held, from 0 to the lowest loss.

    What E takes or leaves is shared out among the other terms before they are fitted.
    """
    own = (law.sharing_.column_ak == column).any(1)
    y = np.concatenate([law.points_[a].y for a in np.flatnonzero(own)])
    least, mean, here = float(np.exp(y.min())), float(np.exp(y.mean())), float(theta[column])
    values = np.array([here])
    if len(law.y_) <= TOO_MANY:
        top = min(max(least, 1.1 * here), float(law.upper_[column]))
        values = np.unique(np.concatenate([np.linspace(0, top, N_PROFILE), values]))
    start = np.tile(theta, (len(values), 1))
    start[:, column] = values
    change = np.log(np.maximum((mean - values) / max(mean - here, 1e-9), 1e-3))
    terms = [c for p in law.coefficients for c in columns_of(law, p)]
    for c in terms:
        if own[(law.sharing_.column_ak == c).any(1)].all():
            start[:, c] += change
    hold = np.arange(len(theta)) == column
    found = minimise(
        law.huber_sum_.in_blocks,
        start,
        law.lower_,
        law.upper_,
        len(law.y_),
        law.huber,
        hold_P=hold,
        at_rest=NEAR,
        most=STEPS,
    )
    return ColumnProfile(column, values, found.objective_B, found.theta_BP)


def polish(law: "Law", profile: ColumnProfile, best: Best) -> Best:
    """From the best value of E on: E free, then a finer and finer grid of E. Keeps what it has unless lower."""
    k, c, n = int(profile.objective.argmin()), profile.column, len(law.y_)
    start = profile.theta_mP[k]
    width = float(np.diff(profile.value).max()) if len(profile.value) > 1 else 0.0
    hold = np.arange(len(start)) == c
    for _ in range(4):
        values = np.clip(start[c] + width * np.linspace(-1, 1, 17), law.lower_[c], law.upper_[c])
        near = np.tile(start, (len(values), 1))
        near[:, c] = values
        held = minimise(law.huber_sum_.in_blocks, near, law.lower_, law.upper_, n, law.huber, anneal=(), hold_P=hold)
        start, width = held.theta_BP[held.objective_B.argmin()], width / 6
    free = minimise(law.huber_sum_.in_blocks, start[None], law.lower_, law.upper_, n, law.huber, anneal=())
    if free.objective_B[0] >= best[1]:
        return best
    return free.theta_BP[0], float(free.objective_B[0]), float(free.offset_B[0]), free.at_bound_BP[0]


def allowed_rise(law: "Law", residual: np.ndarray, level: float) -> float:
    """How far the objective may rise above its minimum inside an interval; infinite without degrees of freedom."""
    from scipy.stats import f

    n, n_left = len(residual), len(residual) - law.sharing_.n_free
    if n_left < 1:
        return float("inf")
    inside = max(float((np.abs(residual) <= law.huber).mean()), 1 / n)
    square = float((np.clip(residual, -law.huber, law.huber) ** 2).mean())
    return float(f.ppf(level, 1, n_left)) * square * n / (2 * inside * n_left) + n * FLOOR


def column_interval(law: "Law", profile: ColumnProfile, theta: np.ndarray, objective: float, rise: float) -> tuple:
    """The values whose objective rises by at most `rise`, along straight lines in sqrt(F(v) - F) between them."""
    value, height = profile.value, np.sqrt(np.maximum(profile.objective - objective, 0.0))
    here = int(np.searchsorted(value, theta[profile.column]))
    value, height = np.insert(value, here, theta[profile.column]), np.insert(height, here, 0.0)
    limit = np.sqrt(rise)
    ends = []
    for side in (slice(here, None, -1), slice(here, None)):
        v, r = value[side], height[side]
        over = np.flatnonzero(r > limit)
        if not len(over):
            ends.append(float(v[-1]))
            continue
        k = int(over[0])
        ends.append(float(v[k - 1] + (limit - r[k - 1]) / (r[k] - r[k - 1]) * (v[k] - v[k - 1])))
    return ends[0], ends[1]


class Held:
    """The objective with a parameter, or derived quantity, of one arm held at a value; the rest is fitted again."""

    def __init__(self, law: "Law", parameter: str, a: int) -> None:
        if parameter not in (*law.parameters, *law.derived):
            known = ", ".join((*law.parameters, *law.derived))
            raise ValueError(f"{law.name} has no parameter {parameter!r} to profile; it has {known}.")
        self.law, self.parameter, self.a = law, parameter, a
        self.k = law.quantity_names.index(parameter)
        self.estimate = float(law.quantities(a, law.theta_)[self.k])
        self.near = {self.estimate: law.theta_}
        self._map(self.estimate)  # refuses what does not depend on the free parameters

    def _map(self, value: float) -> tuple[np.ndarray, np.ndarray, int]:
        """theta = S phi + s0 on the plane where the parameter has the value, and the column that phi lacks."""
        sharing = self.law.sharing_
        c, c0, pivot = self.law.constraint(self.parameter, value)
        c_P = c @ sharing.map_akP[self.a]
        column = sharing.column_ak[self.a, self.law.parameters.index(pivot)]
        if (
            column < 0
            or abs(c_P[column]) < 1e-12
            or (self.law.tied and np.count_nonzero(c) > 1 and pivot in self.law.tied)
        ):
            raise ValueError(f"{self.parameter} is fixed in this fit of {self.law.name}: it has no profile.")
        S = np.delete(np.eye(sharing.n_free), column, axis=1)
        S[column] = -np.delete(c_P, column) / c_P[column]
        s0 = np.zeros(sharing.n_free)
        s0[column] = (c0 - c @ sharing.offset_ak[self.a]) / c_P[column]
        return S, s0, int(column)

    def objective(self, value: float) -> float:
        """F at the value, from the nearest one known and from the estimate."""
        law, sharing = self.law, self.law.sharing_
        S, s0, column = self._map(value)
        evaluate = HuberSum(
            law.sums, law.points_, sharing.map_akP @ S, sharing.offset_ak + sharing.map_akP @ s0, law.rows_
        )
        nearest = min(self.near, key=lambda v: abs(v - value))
        start = np.delete(np.stack([self.near[nearest], law.theta_]), column, axis=1)
        bounds = (np.delete(law.lower_, column), np.delete(law.upper_, column))
        if not start.shape[1]:
            return float(evaluate(start[:1], np.zeros(1, int), law.huber)[0][0])
        found = minimise(evaluate, start, *bounds, len(law.y_), law.huber, at_rest=1e-4)
        best = int(found.objective_B.argmin())
        self.near[value] = S @ found.theta_BP[best] + s0
        return float(found.objective_B[best])

    def limits(self) -> tuple[float, float]:
        """Values the parameter may take."""
        j = self.law.parameters.index(self.parameter) if self.parameter in self.law.parameters else -1
        if self.parameter in self.law.logarithmic:
            return 1e-300, 1e300
        if j < 0:
            return 1e-9, 1 - 1e-9  # derived quantities are shares
        c = int(self.law.sharing_.column_ak[self.a, j])
        unit = np.exp(self.law.log_l0_) if self.parameter == "E" else 1.0
        return float(self.law.lower_[c] * unit), float(self.law.upper_[c] * unit)


def interval(law: "Law", parameter: str, a: int, level: float) -> tuple[float, float]:
    """The interval of one parameter by its profile: steps outward that double, then bisection of the crossing."""
    from algoprogress.analysis.identifiability import residuals

    held = Held(law, parameter, a)
    rise = allowed_rise(law, residuals(law), level)
    low, high = held.limits()
    if not np.isfinite(rise):
        return low, high
    top = law.diagnostics_["objective"] + rise
    row = law.summary[(law.summary["arm"] == law.arms_[a]) & (law.summary["parameter"] == parameter)].iloc[0]
    in_log = parameter in law.logarithmic
    width = row["stderr"] / (held.estimate if in_log else 1.0)
    width = width if np.isfinite(width) and width > 0 else 0.05 * (1.0 if in_log else max(abs(held.estimate), 1e-3))

    def at(distance: float) -> float:
        value = held.estimate * np.exp(distance) if in_log else held.estimate + distance
        return float(np.clip(value, low, high))

    ends = []
    for sign in (-1, 1):
        inner, outer = 0.0, sign * width
        for _ in range(DOUBLINGS):
            if held.objective(at(outer)) > top:
                break
            inner, outer = outer, 2 * outer
            if at(inner) in (low, high):
                break
        if at(inner) in (low, high):
            ends.append(at(inner))
            continue
        for _ in range(BISECTIONS):
            middle = (inner + outer) / 2
            inner, outer = (middle, outer) if held.objective(at(middle)) <= top else (inner, middle)
            if abs(outer - inner) < 1e-4 * abs(outer):
                break
        ends.append(at((inner + outer) / 2))
    return ends[0], ends[1]


def profile(law: "Law", parameter: str, a: int, n_grid: int, level: float) -> pd.DataFrame:
    """See `Law.profile`: a grid over one and a half times the interval of the level."""
    from scipy.stats import f

    from algoprogress.analysis.identifiability import residuals

    if n_grid < 2 or not 0 < level < 1:
        raise ValueError(f"n_grid is 2 or more and level between 0 and 1, not {n_grid} and {level}.")
    held = Held(law, parameter, a)
    low, high = interval(law, parameter, a, level)
    in_log, best = parameter in law.logarithmic, held.estimate
    limits = held.limits()
    ends = [best * (end / best) ** 1.5 if in_log else best + 1.5 * (end - best) for end in (low, high)]
    first, last = (float(end) for end in np.clip(ends, *limits))
    grid = np.geomspace(first, last, n_grid) if in_log else np.linspace(first, last, n_grid)
    order = np.argsort(np.abs(grid - best), kind="stable")  # outward, each from its neighbour
    objective = np.empty(n_grid)
    for i in order:
        objective[i] = held.objective(float(grid[i]))
    n_left = len(law.y_) - law.sharing_.n_free
    threshold = float(f.ppf(level, 1, n_left)) if n_left > 0 else float("nan")
    rise = allowed_rise(law, residuals(law), level)
    least = law.diagnostics_["objective"]
    return pd.DataFrame(
        {
            "arm": law.arms_[a],
            "parameter": parameter,
            "value": grid,
            "objective": objective,
            "statistic": np.maximum(objective - least, 0.0) / rise * threshold,
            "threshold": threshold,
            "estimate": best,
        }
    )
