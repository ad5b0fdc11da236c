"""The best learning rate of a size from a sweep, and how it moves with size: vertices of parabolas, and a power law.

At each size loss is taken to be a parabola in log rate near its minimum. Through the vertices of the sizes that were
swept goes ln rate = ln G + b ln n_params, which gives the rate of the larger sizes. A vertex weighs by its own error
and by how far the sizes scatter about the line beyond their errors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from algoprogress.ablations.config import Config, Whole

SEED_NOISE = 0.007  # nats/token, of one run's loss: Gundlach et al. 2025; used where a sweep says no better
NEAR = 2  # rates on either side of the best that a parabola is drawn through: farther off, loss is none
Z95 = 1.96  # standard errors to either side of a 95 % interval
DIGITS = 2  # of a tuned rate: finer than any sweep can tell, coarse enough to be the same on every machine


class Tuning(Config):
    """How the rate of each arm is found before its main runs, the same for every arm.

    Where the best rate is the lowest or highest tried at a size, the sweep goes one `factor` further, up to
    `extensions` times. So it does where the law gives a main run a rate that is not inside what was swept at the
    nearest size. An arm whose rates are not inside even then has no main runs.

    Where an arm is swept at several momenta, each has a sweep and a law of its own, and the main runs have the momentum
    whose lowest losses are the lower ones on average over the sizes.
    """

    factor: float = Field(2.0, gt=1)
    extensions: Whole = Field(8, ge=0)


class Optimum(Config):
    """Of one size: what was swept, and where the parabola has its vertex. Losses that diverged are None."""

    compute_budget: float | None
    n_params: Whole
    rates: tuple[float, ...]
    losses: tuple[float | None, ...]
    vertex: float
    low: float
    high: float
    at_edge: bool


class Chosen(Config):
    """The rate of a main run's size."""

    compute_budget: float | None
    n_params: Whole
    learning_rate: float
    inside: bool = Field(True, description="strictly within what was swept at the nearest size, or that had one rate")


class Rejected(Config):
    """A momentum that was swept as widely as the best one, and was not as good."""

    momentum: float
    sweep: tuple[Optimum, ...]


class TunedArm(Config):
    """The sweep of an arm, the power law through it, and what came of it."""

    sweep: tuple[Optimum, ...]
    coefficient: float = Field(description="G: the rate of a model of one parameter")
    exponent: float = Field(description="b in rate = G n_params^b; 0 where one size was swept")
    smallest: Whole = Field(description="n_params of the smallest size swept; smaller models have its rate")
    chosen: tuple[Chosen, ...] = Field((), description="none while a best rate is at an edge of its sweep")
    momentum: float | None = Field(None, description="the best, where several were swept; of the sweep and main runs")
    rejected: tuple[Rejected, ...] = ()

    def stored(self) -> dict[str, Any]:
        """As the store keeps it; of momenta only where they were swept."""
        return self.model_dump(mode="json", exclude=None if self.rejected else {"momentum", "rejected"})

    @property
    def loss(self) -> float:
        """Lowest loss of each size, their mean; nats/token."""
        return sum(min(loss for loss in o.losses if loss is not None) for o in self.sweep) / len(self.sweep)

    @property
    def at_edge(self) -> bool:
        return any(optimum.at_edge for optimum in self.sweep)

    @property
    def beyond(self) -> tuple[Chosen, ...]:
        """The rates that do not lie inside the sweep of the nearest size."""
        return tuple(chosen for chosen in self.chosen if not chosen.inside)

    def choose(self, compute_budget: float | None, n_params: int) -> Chosen:
        """The rate of a size by the law; a size swept at one rate has no inside to be out of."""
        rate, swept = rate_for(self, n_params), self.sweep[self.nearest(n_params, compute_budget)].rates
        inside = len(swept) == 1 or swept[0] < rate < swept[-1]
        return Chosen(compute_budget=compute_budget, n_params=n_params, learning_rate=rate, inside=inside)

    def doubt(self) -> str:
        """Why the arm can have no main runs yet, or nothing."""
        if self.at_edge:
            sizes = ", ".join(f"{o.n_params:,}" for o in self.sweep if o.at_edge)
            return f"the best learning rate is still at an edge of its sweep at {sizes} parameters"
        rates = ", ".join(f"{c.learning_rate:g} at {c.n_params:,} parameters" for c in self.beyond)
        return f"the law gives learning rates that are not inside the sweep of the nearest size, {rates}" * bool(rates)

    def nearest(self, n_params: int, compute_budget: float | None = None) -> int:
        """Index of the size swept that is nearest in log; of two equal ones, that of the nearer budget."""

        def off(size: Optimum) -> tuple[float, float]:
            budgets = (size.compute_budget or 1.0, compute_budget or 1.0)
            return abs(math.log(size.n_params / n_params)), abs(math.log(budgets[0] / budgets[1]))

        return min(range(len(self.sweep)), key=lambda k: off(self.sweep[k]))


def parabola(rates: Sequence[float], losses: Sequence[float]) -> tuple[float, float, float]:
    """(ln vertex, its standard error for a loss error of 1 nat, sum of squared residuals over degrees of freedom or 0).

    Least squares through the best rate and two to either side; through three points where the vertex would lie beyond
    the best rate's neighbours. At an edge, or beside a diverged run, it is the best rate itself, with an infinite
    error: no parabola says more.
    """
    x, y = np.log(rates), np.asarray(losses, float)
    best = int(np.nanargmin(np.where(np.isfinite(y), y, np.inf)))
    if not 0 < best < len(x) - 1 or not np.isfinite(y[best - 1 : best + 2]).all():
        return float(x[best]), math.inf, 0.0
    for reach in (NEAR, 1):
        near = slice(max(0, best - reach), best + reach + 1)
        kept = np.isfinite(y[near])
        x_n, y_n = x[near][kept] - x[best], y[near][kept]
        X = np.vander(x_n, 3)
        (a, b, _), _, _, _ = np.linalg.lstsq(X, y_n, rcond=None)
        if a > 0 and x[best - 1] < x[best] - b / (2 * a) < x[best + 1]:
            break
    if a <= 0:  # three equal losses
        return float(x[best]), math.inf, 0.0
    slope = np.array([b / (2 * a * a), -1 / (2 * a), 0.0])  # of the vertex in (a, b, c)
    stderr = float(np.sqrt(slope @ np.linalg.inv(X.T @ X) @ slope))
    freedom = len(x_n) - 3
    residual = float(((y_n - X @ np.linalg.lstsq(X, y_n, rcond=None)[0]) ** 2).sum())
    return float(x[best] - b / (2 * a)), stderr, residual / freedom if freedom else 0.0


def tuned_arm(swept: Sequence[tuple[float | None, int, Mapping[float, float]]]) -> TunedArm:
    """The law of an arm's best rate.

    Args:
        swept: (compute_budget, n_params, {rate: loss}) of each size; a diverged run has an infinite loss.

    Raises:
        ValueError: nothing was swept, or at some size every rate diverged.
    """
    if not swept:
        raise ValueError("no size was swept: give the arm at least one size with rates to try")
    found = []
    for budget, n_params, losses in swept:
        rates = sorted(losses)
        y = [losses[rate] for rate in rates]
        if not any(map(math.isfinite, y)):
            raise ValueError(f"every rate from {rates[0]:g} to {rates[-1]:g} diverged at {n_params:,} parameters")
        best = min(range(len(y)), key=y.__getitem__)
        found.append((budget, n_params, rates, y, *parabola(rates, y), len(rates) > 1 and best in (0, len(y) - 1)))
    noise = max(SEED_NOISE, math.sqrt(max(residual for *_, residual, _ in found)))
    optima = []
    for budget, n_params, rates, y, at, stderr, _, at_edge in found:
        # known to one step where there is no parabola, and never to less than what was swept
        step = math.log(rates[1] / rates[0]) if len(rates) > 1 else math.log(2)
        half = min(Z95 * noise * stderr, len(rates) * step) if math.isfinite(stderr) else step
        optima.append(
            Optimum(
                compute_budget=budget,
                n_params=n_params,
                rates=tuple(rates),
                losses=tuple(loss if math.isfinite(loss) else None for loss in y),
                vertex=math.exp(at),
                low=math.exp(at - half),
                high=math.exp(at + half),
                at_edge=at_edge,
            )
        )
    log_n = np.log([o.n_params for o in optima])
    log_rate = np.log([o.vertex for o in optima])
    b = 0.0
    if np.ptp(log_n) > 1e-9:
        widths = np.log([o.high / o.low for o in optima])  # of 95 % intervals
        tau = math.sqrt(between_sizes(log_n, log_rate, widths / (2 * Z95)))
        errors = np.hypot(widths, 2 * Z95 * tau)
        b = float(np.polyfit(log_n, log_rate, 1, w=1 / errors)[0])
        log_g = float(np.average(log_rate - b * log_n, weights=errors**-2.0))
    else:
        log_g = float(log_rate.mean())
    return TunedArm(
        sweep=tuple(optima), coefficient=math.exp(log_g), exponent=b, smallest=min(o.n_params for o in optima)
    )


def between_sizes(log_n: np.ndarray, log_rate: np.ndarray, stderr: np.ndarray) -> float:
    """tau^2 = max(0, (Q - (k - 2)) / tr P): variance of k vertices about their line beyond that of their own errors.

    Q is the sum of squared residuals over variances about the line weighted by W = diag(1 / stderr^2), of which
    k - 2 are expected of the errors alone, and P = W - W X (X' W X)^-1 X' W. The method of moments of DerSimonian and
    Laird 1986 for a mean, with a line in its place (Raudenbush 1994). Of two sizes nothing is left to be seen.

    Args:
        log_n: ln n_params of each size.
        log_rate: ln of the vertices.
        stderr: their own standard errors.
    """
    freedom = len(log_n) - 2
    if freedom < 1 or np.ptp(log_n) < 1e-9:
        return 0.0
    X, W = np.vander(log_n - log_n.mean(), 2), np.diag(stderr**-2.0)
    P = W - W @ X @ np.linalg.solve(X.T @ W @ X, X.T @ W)
    return max(0.0, float((log_rate @ P @ log_rate - freedom) / np.trace(P)))


def rate_for(arm: TunedArm, n_params: int) -> float:
    """G n_params^b, to two digits.

    A law that rises without end towards small models would soon make them diverge: below the sizes swept it is level.
    """
    return float(f"{arm.coefficient * max(n_params, arm.smallest) ** arm.exponent:.{DIGITS}g}")
