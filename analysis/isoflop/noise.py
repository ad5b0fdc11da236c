"""How large is the noise of a loss?  From the points of isoFLOP curves alone, where no run was repeated."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from algoprogress.analysis.isoflop.minima import Curves
from algoprogress.analysis.noise import MAX_EXPONENT, SCALE_DOF

LOCAL = 4  # neighbouring sizes: three make a parabola, the fourth departs from it by noise


@dataclass(frozen=True)
class Noise:
    """Standard deviation of the loss at each budget, and the residuals that say so.

    Attributes:
        sd_K: nats/token.
        pool: residuals scaled to variance 1; empty where the noise was given, and is then normal.
        dof: degrees of freedom of its size; infinite where the noise was given.
        drawn: the noise of each resample itself (B, n), where it was given.
    """

    sd_K: np.ndarray
    pool: np.ndarray
    dof: float
    drawn: np.ndarray | None = None

    def by_point(self, curves: Curves) -> np.ndarray:
        """Standard deviation of each point, (n,)."""
        return np.repeat(self.sd_K, [s.stop - s.start for s in curves.slices])

    def draw(self, curves: Curves, n_resamples: int, rng: np.random.Generator) -> np.ndarray:
        """Noise (B, n) in nats/token. Its size differs between resamples by what is not known of it."""
        if self.drawn is not None:
            return self.drawn
        n, sd_n = len(curves.log_n), self.by_point(curves)
        if not self.pool.size:
            return sd_n * rng.standard_normal((n_resamples, n))
        unit = self.pool[rng.integers(0, len(self.pool), (n_resamples, n))] * rng.choice([-1, 1], (n_resamples, n))
        return sd_n * unit * np.sqrt(self.dof / rng.chisquare(self.dof, (n_resamples, 1)))


def given_noise(noise: float | Sequence[float] | np.ndarray, curves: Curves) -> Noise:
    """Normal noise of a known standard deviation in nats/token, one for all budgets or one for each; or as drawn."""
    sd = np.asarray(noise, float)
    if sd.ndim == 2 and sd.shape[1] == len(curves.log_n) and np.isfinite(sd).all():
        each = np.array([sd[:, s].std() for s in curves.slices])
        return Noise(each, np.empty(0), float("inf"), drawn=sd)
    if sd.ndim > 1 or (sd.ndim == 1 and len(sd) != len(curves.slices)) or not (np.isfinite(sd) & (sd >= 0)).all():
        n = len(curves.slices)
        raise ValueError(
            f"noise is a standard deviation in nats/token, or one for each of {n} budgets, "
            f"or the noise (resamples, {len(curves.log_n)} points) itself; not {noise}."
        )
    return Noise(np.broadcast_to(sd, len(curves.slices)).astype(float), np.empty(0), float("inf"))


def local_noise(curves: Curves, loss: np.ndarray) -> Noise | None:
    """Noise from how far four neighbouring sizes depart from a parabola; None where no budget has four sizes.

    The combination of four losses that any parabola in ln N leaves at zero, scaled to the variance of one loss, is a
    residual (a difference-based estimate, after Gasser, Sroka and Jennen-Steinmetz 1986). Neighbours only: the curve as
    a whole need not be a parabola. The standard deviation falls as C^-k, with k of the largest likelihood in 0..1/2.
    """
    residuals, at = [], []
    for k, s in enumerate(curves.slices):
        x, y = curves.log_n[s], loss[s]
        for i in range(len(x) - LOCAL + 1):
            near = x[i : i + LOCAL]
            apart = near[:, None] - near + np.eye(LOCAL)
            weight = 1 / apart.prod(1)  # a divided difference of the third order
            residuals.append(float(weight @ y[i : i + LOCAL] / np.linalg.norm(weight)))
            at.append(k)
    if not residuals:
        return None
    d, where = np.array(residuals), np.array(at)
    x_K = curves.budgets - curves.budgets.mean()
    x = x_K[where]
    grid = np.linspace(0, MAX_EXPONENT, 51) if len(d) >= SCALE_DOF and np.ptp(x) > np.log(2) else np.zeros(1)
    variance = np.array([np.mean(d**2 * np.exp(2 * k * x)) for k in grid])
    best = int(np.argmax(-0.5 * len(d) * np.log(variance + 1e-300) + grid * x.sum()))
    sd_K = np.sqrt(variance[best]) * np.exp(-grid[best] * x_K)
    return Noise(sd_K, d / np.maximum(sd_K[where], 1e-300), float(len(d)))
