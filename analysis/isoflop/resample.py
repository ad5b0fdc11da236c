"""How far would the minima move if every run were trained again?  Minima of noisy copies of the measured losses."""

from dataclasses import dataclass, replace

import numpy as np

from algoprogress.analysis.isoflop.minima import Curves, Estimator
from algoprogress.analysis.isoflop.noise import Noise
from algoprogress.analysis.isoflop.surface import Surface
from algoprogress.analysis.laws.isoflop import IsoFLOPSurface


@dataclass(frozen=True)
class Resamples:
    """B copies of K minima.

    Attributes:
        log_n_BK, log_d_BK: ln of the best n_params and of its tokens; infinite where a copy has its minimum at an edge.
        loss_BK: nats/token.
        sd_n_K, sd_d_K: standard errors of ln n_params and ln tokens: larger, the more copies have no minimum.
        outside_K: share of the copies with their minimum at an edge.
    """

    log_n_BK: np.ndarray
    log_d_BK: np.ndarray
    loss_BK: np.ndarray
    sd_n_K: np.ndarray
    sd_d_K: np.ndarray
    outside_K: np.ndarray


def resample(
    found: Estimator,
    curves: Curves,
    loss: np.ndarray,
    log_d: np.ndarray,
    noise: Noise,
    n_resamples: int,
    seed: int,
    resolution: float,
) -> Resamples:
    """Minima of copies of the losses with noise added; arguments as of `isoflop`."""
    noise = _with_misfit(noise, found, curves, loss)
    drawn = loss + noise.draw(curves, n_resamples, np.random.default_rng(seed))
    drawn = np.maximum(drawn, loss / 2)  # half the loss keeps ln L finite where hardly anything is known of the noise
    copies = found.minima(curves, np.concatenate([loss[None], drawn]))
    log_n, edge = copies.log_n_BK[1:], copies.edge_BK[1:]
    # the minimum of an interpolant is too low by noise, and a copy's by as much again: taken off twice, as of frontiers
    curse = np.minimum(copies.loss_BK[1:].mean(0) - copies.loss_BK[0], 0.0)
    inside = np.ones_like(edge, bool) if isinstance(found, Surface) else edge == 0
    kept = inside.mean(0)
    log_d_BK = log_tokens(curves, log_d, log_n)
    least = resolution * found.spacing(curves)
    sd_n, sd_d = (np.maximum(_sd(v, inside), least) / kept.clip(1e-12) for v in (log_n, log_d_BK))
    beyond = np.where(edge < 0, -np.inf, np.inf)
    return Resamples(
        np.where(inside, log_n, beyond),
        np.where(inside, log_d_BK, -beyond),
        copies.loss_BK[1:] - 2 * curse,
        sd_n,
        sd_d,
        1 - kept,
    )


def between(values_BK: np.ndarray, level: float) -> np.ndarray:
    """The two ends (2, K) of the central share `level` of resamples, which may be infinite."""
    tail = (1 - level) / 2
    return np.quantile(values_BK, [tail, 1 - tail], axis=0, method="inverted_cdf")


def log_tokens(curves: Curves, log_d: np.ndarray, log_n_BK: np.ndarray) -> np.ndarray:
    """ln D at ln N of each budget, along straight lines between the runs and on along the last beyond them."""
    result = np.empty_like(log_n_BK)
    for k, s in enumerate(curves.slices):
        x, y = curves.log_n[s], log_d[s]
        i = np.clip(np.searchsorted(x, log_n_BK[:, k]), 1, len(x) - 1)
        result[:, k] = y[i - 1] + (y[i] - y[i - 1]) * (log_n_BK[:, k] - x[i - 1]) / (x[i] - x[i - 1])
    return result


def _with_misfit(noise: Noise, found: Estimator, curves: Curves, loss: np.ndarray) -> Noise:
    """Noise large enough for the residuals of a surface, which is stiffer than the curves may be."""
    if not isinstance(found, Surface):
        return noise
    residual = (found.lines(curves, loss, curves) - loss) / np.maximum(noise.by_point(curves), 1e-12)
    scale = np.sqrt(np.sum(residual**2) / max(len(loss) - len(IsoFLOPSurface.parameters), 1))
    return replace(noise, sd_K=noise.sd_K * max(1.0, float(scale)))


def _sd(values_BK: np.ndarray, inside_BK: np.ndarray) -> np.ndarray:
    count = np.maximum(inside_BK.sum(0), 1)
    mean = np.where(inside_BK, values_BK, 0).sum(0) / count
    return np.sqrt((np.where(inside_BK, values_BK - mean, 0) ** 2).sum(0) / count)
