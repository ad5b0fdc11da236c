"""A law in compute alone: it is fitted to the frontier of each arm, and is its own frontier."""

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from algoprogress.analysis.laws.base import Law
from algoprogress.analysis.search import refitted

# Huber threshold in log loss: about two standard deviations of the noisiest small runs (.05 of 2 nats), so that
# ordinary noise is fitted by least squares and one failed rung cannot bend a curve. A choice of ours.
DELTA = 0.05


class LossLaw(Law):
    """L(C), with standard errors by Gauss-Newton: a frontier has too few points to learn its noise point by point."""

    inputs: ClassVar[tuple[str, ...]] = ("compute",)
    default_huber = DELTA
    stderr_method = "Gauss-Newton"

    @abstractmethod
    def log_loss(self, w_Bk: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[override]
        """ln(L / L0) (B, n) and its Jacobian (B, n, k) at x = ln(C / C0), (n,) or (B, n)."""

    def allocate(self, w: np.ndarray, log_c: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.broadcast_to(log_c, (len(w), log_c.shape[-1])),)

    def predict(  # type: ignore[override]
        self, compute: Any, arm: str | None = None, theta: np.ndarray | None = None
    ) -> np.ndarray:
        """L(C) in nats/token at compute in FLOP; with resampled `theta` (B, P) the result is (B, ...)."""
        return self.best_loss(compute, arm, theta)

    def refit(
        self,
        weight_Bn: np.ndarray | None = None,
        y_Bn: np.ndarray | None = None,
        log_compute_Bn: np.ndarray | None = None,
    ) -> np.ndarray:
        """As for every law; resamples may also have a log compute (FLOP) of their own."""
        if log_compute_Bn is None:
            return super().refit(weight_Bn, y_Bn)
        self._fitted()
        x = log_compute_Bn - self.center_[0]
        y = np.broadcast_to(self.y_, x.shape) if y_Bn is None else y_Bn - self.log_l0_
        return refitted(self, [self.points((x[:, r],), y[:, r]) for r in self.rows_], weight_Bn, len(x))
