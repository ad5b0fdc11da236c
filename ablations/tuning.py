"""The best learning rate of a size from a sweep, and how it moves with size: vertices of parabolas, and a power law.

At each size loss is taken to be a parabola in log rate near its minimum. Through the vertices of the sizes that were
swept goes ln rate = ln G + b ln n_params, which gives the rate of the larger sizes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

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
    `extensions` times; an arm whose best rate is at an edge even then has no main runs.
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


class TunedArm(Config):
    """The sweep of an arm, the power law through it, and what came of it."""

    sweep: tuple[Optimum, ...]
    coefficient: float = Field(description="G: the rate of a model of one parameter")
    exponent: float = Field(description="b in rate = G n_params^b; 0 where one size was swept")
    smallest: Whole = Field(description="n_params of the smallest size swept; smaller models have its rate")
    chosen: tuple[Chosen, ...] = Field((), description="none while a best rate is at an edge of its sweep")

    @property
    def at_edge(self) -> bool:
        return any(optimum.at_edge for optimum in self.sweep)


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
        errors = np.log([o.high / o.low for o in optima])
        b = float(np.polyfit(log_n, log_rate, 1, w=1 / errors)[0])
        log_g = float(np.average(log_rate - b * log_n, weights=errors**-2.0))
    else:
        log_g = float(log_rate.mean())
    return TunedArm(
        sweep=tuple(optima), coefficient=math.exp(log_g), exponent=b, smallest=min(o.n_params for o in optima)
    )


def rate_for(arm: TunedArm, n_params: int) -> float:
    """G n_params^b, to two digits.

    A law that rises without end towards small models would soon make them diverge: below the sizes swept it is level.
    """
    return float(f"{arm.coefficient * max(n_params, arm.smallest) ** arm.exponent:.{DIGITS}g}")
