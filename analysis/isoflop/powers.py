"""A power law through estimates that are each known with an error: weighted least squares in log-log."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Power:
    """ln y = log_coefficient + exponent x.

    Attributes:
        stderr: of the exponent, from the errors of the points and their scatter.
        tau: scatter in ln y about the line beyond the errors of the points.
        r2: weighted share of variance explained.
        weights: of the points, for refits to resamples.
    """

    exponent: float
    log_coefficient: float
    stderr: float
    tau: float
    r2: float
    weights: np.ndarray

    def refit(self, x: np.ndarray, y_Bn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Exponents and log coefficients (B,) of resampled y with the same weights; nan in y leaves a point out."""
        w = np.where(np.isfinite(y_Bn), self.weights, 0.0)
        y = np.where(np.isfinite(y_Bn), y_Bn, 0.0)
        total = np.maximum(w.sum(1), 1e-300)
        mean_x, mean_y = (w * x).sum(1) / total, (w * y).sum(1) / total
        centred = x - mean_x[:, None]
        spread = (w * centred**2).sum(1)
        usable = (w > 0).sum(1) >= 2
        slope = np.where(usable, (w * centred * y).sum(1) / np.maximum(spread, 1e-300), np.nan)
        return slope, mean_y - slope * mean_x


def power(x: np.ndarray, y: np.ndarray, sd: np.ndarray, scatter: bool = True) -> Power:
    """min sum w (y - c - a x)², w = 1 / (sd² + tau²).

    tau² is the moment estimate of what the points scatter beyond their errors (DerSimonian and Laird 1986, with a
    regressor): an interpolated minimum may be off by more than the noise of the losses makes it.

    Args:
        x, y: logarithms, (n,), n >= 2.
        sd: standard errors of y; zero or nan where they are not known, and then all weights are equal.
        scatter: False takes tau for zero.
    """
    known = bool((np.isfinite(sd) & (sd > 0)).all())
    variance = sd**2 if known else np.ones_like(y)
    X = np.stack([np.ones_like(x), x - x.mean()], 1)
    tau2 = _excess(X, y, 1 / variance) if known and scatter and len(x) > 2 else 0.0
    w = 1 / (variance + tau2)
    information = np.linalg.inv((X.T * w) @ X)
    c = information @ (X.T * w) @ y
    residual, total = y - X @ c, y - np.average(y, weights=w)
    scale = 1.0 if known else float(residual @ residual) / (len(x) - 2) if len(x) > 2 else np.nan
    explained = 1 - float(w @ residual**2) / max(float(w @ total**2), 1e-300)
    stderr = float(np.sqrt(information[1, 1] * scale))
    return Power(float(c[1]), float(c[0] - c[1] * x.mean()), stderr, float(np.sqrt(tau2)), explained, w / w.sum())


def _excess(X: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    information = np.linalg.inv((X.T * w) @ X)
    residual = y - X @ (information @ (X.T * w) @ y)
    free = w.sum() - np.trace(information @ (X.T * w**2) @ X)
    return max(0.0, (float(w @ residual**2) - (len(y) - X.shape[1])) / float(free))
