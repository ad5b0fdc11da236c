"""Loss as a function of compute, and back, from measured points alone: no law, only straight lines in log compute."""

from dataclasses import dataclass

import numpy as np

MARGIN = np.log(1.1)  # a rung's runs lie within a few percent of its budget: the end segments go on for 10 % of compute


@dataclass(frozen=True)
class Interpolant:
    """Piecewise linear loss in ln C through the envelope of the measured points (the best loss so far, never rising).

    Args:
        log_c: ln of compute in FLOP, one per rung.
        loss: nats/token.
    """

    log_c: np.ndarray
    loss: np.ndarray

    @classmethod
    def through(cls, log_c: np.ndarray, loss: np.ndarray) -> "Interpolant":
        order = np.argsort(log_c, kind="stable")
        return cls(np.asarray(log_c, float)[order], np.minimum.accumulate(np.asarray(loss, float)[order]))

    @property
    def first(self) -> float:
        return float(self.log_c[0])

    @property
    def last(self) -> float:
        return float(self.log_c[-1])

    def inside(self, log_c: float) -> bool:
        """Whether a compute was measured, give or take `MARGIN`."""
        return self.first - MARGIN <= log_c <= self.last + MARGIN

    def loss_at(self, log_c: float) -> float:
        """Loss at ln C; beyond the ends along the end segments."""
        if len(self.log_c) == 1:
            return float(self.loss[0])
        k = int(np.clip(np.searchsorted(self.log_c, log_c), 1, len(self.log_c) - 1))
        share = (log_c - self.log_c[k - 1]) / max(self.log_c[k] - self.log_c[k - 1], 1e-12)
        return float(self.loss[k - 1] + share * (self.loss[k] - self.loss[k - 1]))

    def log_c_for(self, loss: float) -> tuple[float, str]:
        """The smallest ln C that reaches a loss, and "" inside, ">" when even the largest compute does not reach it,
        "<" when the smallest already does better. Beyond the ends the value goes on along the end segment (infinite if
        that is flat); what is known without it is `last` or `first`.
        """
        reached = np.flatnonzero(self.loss <= loss)
        if len(self.loss) == 1:
            near = abs(loss - self.loss[0]) <= 1e-12 * abs(loss)
            return (self.first, "") if near else (float("inf"), ">") if loss < self.loss[0] else (float("-inf"), "<")
        if not reached.size:
            log_c = self._along(len(self.loss) - 2, loss)
            return log_c, "" if log_c <= self.last + MARGIN else ">"
        if reached[0] == 0:
            if loss == self.loss[0]:
                return self.first, ""
            log_c = self._along(0, loss)
            return log_c, "" if log_c >= self.first - MARGIN else "<"
        return self._along(int(reached[0]) - 1, loss), ""

    def _along(self, k: int, loss: float) -> float:
        """ln C at which the line through points k and k + 1 has a loss."""
        drop = self.loss[k] - self.loss[k + 1]
        if drop <= 0:
            return float("inf") if loss < self.loss[k] else float("-inf")
        return float(self.log_c[k] + (self.loss[k] - loss) / drop * (self.log_c[k + 1] - self.log_c[k]))
