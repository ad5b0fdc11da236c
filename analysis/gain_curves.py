"""What gain does an innovation give at a compute? A multiplier, a pair of laws, or a measured curve, each with draws.

All three answer in ln CEG. Shapes: m computes, B draws of what is not known exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

Reference = Literal["new", "old"]
LOG_C_MAX = 200.0  # ln FLOP, 1e87: a law that does not reach a loss by then never does
MOST_STEPS = 100  # of Newton's method, which doubles its digits with each: ten are many
ROUNDING = 4e-16  # relative: two units in the last place of a double


class Gain(Protocol):
    """ln CEG at ln compute, and the same for B draws of its uncertainty."""

    @property
    def measured(self) -> tuple[float, float] | None:
        """FLOP between which it was measured; None where compute plays no part."""

    @property
    def uncertain(self) -> bool:
        """Whether draws differ."""
        ...

    def log_gain(self, log_c: np.ndarray, reference: Reference) -> np.ndarray:
        """ln CEG (m,) at ln compute (m,) in FLOP, of the new or of the old algorithm."""

    def draws(self, log_c: np.ndarray, reference: Reference, n: int, rng: np.random.Generator) -> np.ndarray:
        """ln CEG (n, m)."""


@dataclass(frozen=True)
class Multiplier:
    """One number at every compute, lognormal within its interval.

    Args:
        value: the gain, above 0.
        low, high: its interval, or None where none was published.
        level: of the interval.
    """

    value: float
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    measured: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.value) and self.value > 0):
            raise ValueError(f"A multiplier is a number above 0, not {self.value}; 1 is no gain.")
        if not 0 < self.level < 1:
            raise ValueError(f"The level of an interval is a share between 0 and 1, such as 0.95, not {self.level:g}.")
        if (self.low is None) != (self.high is None):
            raise ValueError("An interval has two ends: give both low and high, or neither.")
        if self.low is not None and self.high is not None and not 0 < self.low <= self.value <= self.high:
            raise ValueError(
                f"The interval [{self.low}, {self.high}] does not hold its multiplier {self.value}, or goes below 0."
            )

    @property
    def uncertain(self) -> bool:
        return self.low is not None and self.low < (self.high or 0)

    def log_gain(self, log_c: np.ndarray, reference: Reference) -> np.ndarray:
        return np.full(len(log_c), np.log(self.value))

    def draws(self, log_c: np.ndarray, reference: Reference, n: int, rng: np.random.Generator) -> np.ndarray:
        from scipy.stats import norm

        z = rng.standard_normal(n)
        log_value = np.full(n, np.log(self.value))
        if self.low is not None and self.high is not None:  # each side its own width: intervals are often lopsided
            quantile = norm.ppf((1 + self.level) / 2)
            below, above = np.log(self.value / self.low) / quantile, np.log(self.high / self.value) / quantile
            log_value = log_value + z * np.where(z < 0, below, above)
        return np.repeat(log_value[:, None], len(log_c), 1)


@dataclass(frozen=True)
class PowerSum:
    """L(C) = E + sum_i A_i C^-a_i in nats/token, C in FLOP; with draws where E, A, a have a leading axis B."""

    E: np.ndarray | float
    A: np.ndarray | Sequence[float]
    a: np.ndarray | Sequence[float]

    def __post_init__(self) -> None:
        A, a, E = (np.asarray(v, float) for v in (self.A, self.a, self.E))
        if A.shape != a.shape or A.ndim == 0:
            raise ValueError(f"A law has as many coefficients as exponents, not {A.shape} and {a.shape}.")
        if not ((A > 0).all() and (a > 0).all() and (E >= 0).all()):
            raise ValueError(
                f"L = E + A C^-a needs A > 0, a > 0 and E >= 0, not E = {self.E}, A = {self.A}, a = {self.a}."
            )

    def loss(self, log_c: np.ndarray) -> np.ndarray:
        """(..., m) at ln compute (..., m)."""
        A, a, E = (np.asarray(v, float) for v in (self.A, self.a, self.E))
        terms = np.exp(np.log(A)[..., None, :] - a[..., None, :] * log_c[..., None])
        return E[..., None] + terms.sum(-1)

    def log_c_for(self, loss: np.ndarray) -> np.ndarray:
        """ln compute at which a loss (..., m) is reached; infinite where it never is.

        ln(L - E) is convex and falls with ln C, so Newton's method from where one term alone is the whole rises to the
        root without passing it; with one term it begins there.
        """
        A, a, E = (np.asarray(v, float) for v in (self.A, self.a, self.E))
        with np.errstate(divide="ignore", invalid="ignore"):
            target = np.log(loss - E[..., None])
            x = ((np.log(A)[..., None, :] - target[..., None]) / a[..., None, :]).max(-1)
            x = np.clip(x, -LOG_C_MAX, LOG_C_MAX)
            for _ in range(MOST_STEPS):
                terms = np.exp(np.log(A)[..., None, :] - a[..., None, :] * x[..., None])
                total = terms.sum(-1)
                step = (np.log(total) - target) * total / (terms * a[..., None, :]).sum(-1)
                x = np.clip(x + step, -LOG_C_MAX, LOG_C_MAX)
                if not (np.abs(step) > ROUNDING * np.maximum(np.abs(x), 1)).any():
                    break
        never = ~(self.loss(np.full(loss.shape, LOG_C_MAX)) <= loss)
        return np.where(never, np.inf, np.where(np.isnan(x), LOG_C_MAX, x))


@dataclass(frozen=True)
class LawPair:
    """CEG of a new law over an old one: C_old(L_new(C)) / C at the new one's compute, C / C_new(L_old(C)) at the old's.

    Args:
        old, new: the laws.
        old_draws, new_draws: the same with a leading axis B, drawn jointly; None where the laws are taken as exact.
        measured: FLOP between which both were measured.
    """

    old: PowerSum
    new: PowerSum
    old_draws: PowerSum | None = None
    new_draws: PowerSum | None = None
    measured: tuple[float, float] | None = None

    @property
    def uncertain(self) -> bool:
        return self.old_draws is not None and self.new_draws is not None

    def log_gain(self, log_c: np.ndarray, reference: Reference) -> np.ndarray:
        return _between(self.old, self.new, log_c, reference)

    def draws(self, log_c: np.ndarray, reference: Reference, n: int, rng: np.random.Generator) -> np.ndarray:
        if self.old_draws is None or self.new_draws is None:
            return np.tile(self.log_gain(log_c, reference), (n, 1))
        chosen = np.arange(n) % len(np.asarray(self.old_draws.E))  # in order: pairs of one fit are drawn jointly
        old, new = (
            PowerSum(*(np.asarray(v)[chosen] for v in (law.E, law.A, law.a)))
            for law in (self.old_draws, self.new_draws)
        )
        return _between(old, new, np.tile(log_c, (n, 1)), reference)


def _between(old: PowerSum, new: PowerSum, log_c: np.ndarray, reference: Reference) -> np.ndarray:
    if reference == "new":
        return old.log_c_for(new.loss(log_c)) - log_c
    return log_c - new.log_c_for(old.loss(log_c))


@dataclass(frozen=True)
class MeasuredCurve:
    """ln CEG at the computes where it was measured, straight lines in between and nothing beyond.

    Args:
        log_c: ln FLOP (m,), ascending.
        log_ceg: (m,); `draws_Bm` its resamples, or None.
        reference: whose compute log_c is.
    """

    log_c: np.ndarray
    log_ceg: np.ndarray
    draws_Bm: np.ndarray | None = None
    reference: Reference = "new"
    measured: tuple[float, float] | None = field(init=False)

    def __post_init__(self) -> None:
        if len(self.log_c) < 1 or (np.diff(self.log_c) <= 0).any():
            raise ValueError("A measured curve has one row per compute, in ascending order.")
        object.__setattr__(self, "measured", (float(np.exp(self.log_c[0])), float(np.exp(self.log_c[-1]))))

    @property
    def uncertain(self) -> bool:
        return self.draws_Bm is not None

    def log_gain(self, log_c: np.ndarray, reference: Reference) -> np.ndarray:
        return self._at(self.log_ceg[None], log_c, reference)[0]

    def draws(self, log_c: np.ndarray, reference: Reference, n: int, rng: np.random.Generator) -> np.ndarray:
        if self.draws_Bm is None:
            return np.tile(self.log_gain(log_c, reference), (n, 1))
        return self._at(self.draws_Bm[np.arange(n) % len(self.draws_Bm)], log_c, reference)

    def _at(self, log_ceg_Bm: np.ndarray, log_c: np.ndarray, reference: Reference) -> np.ndarray:
        """Read along the compute that is asked for: a gain at the new compute C is one at the old compute CEG C."""
        found = np.empty((len(log_ceg_Bm), len(log_c)))
        for k, row in enumerate(log_ceg_Bm):
            x = self.log_c
            if reference != self.reference:
                x = x + row if self.reference == "new" else x - row
            order = np.argsort(x)
            found[k] = np.interp(log_c, x[order], row[order], left=np.nan, right=np.nan)
        return found


@dataclass(frozen=True)
class Held:
    """A gain that beyond its measured range stays what it was at the edge: what was measured, and not extrapolated."""

    gain: Gain
    measured: tuple[float, float] | None = None

    @property
    def uncertain(self) -> bool:
        return self.gain.uncertain

    def log_gain(self, log_c: np.ndarray, reference: Reference) -> np.ndarray:
        return self.gain.log_gain(self._within(log_c), reference)

    def draws(self, log_c: np.ndarray, reference: Reference, n: int, rng: np.random.Generator) -> np.ndarray:
        return self.gain.draws(self._within(log_c), reference, n, rng)

    def _within(self, log_c: np.ndarray) -> np.ndarray:
        return log_c if self.gain.measured is None else np.clip(log_c, *np.log(self.gain.measured))


def decades_beyond(gain: Gain, log_c: float) -> float:
    """Decades of compute between a compute and the measured range; 0 inside, and where compute plays no part."""
    if gain.measured is None:
        return 0.0
    low, high = np.log10(gain.measured)
    return float(max(low - log_c / np.log(10), log_c / np.log(10) - high, 0.0))
