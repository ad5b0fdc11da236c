"""Loss as a function of compute, and back, from measured points alone: no law, only straight lines in log compute."""

from dataclasses import dataclass

import numpy as np

MARGIN = np.log(1.1)  # a rung's runs lie within a few percent of its budget: the end segments go on for 10 % of compute


@dataclass(frozen=True)
class Interpolant:
    """Piecewise linear loss in ln C through the envelope of the measured points (the best loss so far, never rising).

    Leading axes, if any, are resamples: what is asked of one line is asked of all at once.

    Args:
        log_c: ln of compute in FLOP (..., rungs), ascending.
        loss: nats/token (..., rungs).
    """

    log_c: np.ndarray
    loss: np.ndarray

    @classmethod
    def through(cls, log_c: np.ndarray, loss: np.ndarray) -> "Interpolant":
        log_c, loss = np.asarray(log_c, float), np.asarray(loss, float)
        order = np.argsort(log_c, axis=-1, kind="stable")
        sorted_loss = np.take_along_axis(loss, order, -1)
        return cls(np.take_along_axis(log_c, order, -1), np.minimum.accumulate(sorted_loss, -1))

    @property
    def first(self) -> np.ndarray:
        return self.log_c[..., 0]

    @property
    def last(self) -> np.ndarray:
        return self.log_c[..., -1]

    @property
    def flat(self) -> bool:
        """Whether several computes were measured and all have one loss."""
        return self.loss.shape[-1] > 1 and bool(np.all(self.loss[..., 0] == self.loss[..., -1]))

    def inside(self, log_c: float) -> np.ndarray:
        """Whether a compute was measured, give or take `MARGIN`."""
        return (self.first - MARGIN <= log_c) & (log_c <= self.last + MARGIN)

    def loss_at(self, log_c: float | np.ndarray) -> np.ndarray:
        """Loss (...) at ln C; beyond the ends along the end segments."""
        n = self.loss.shape[-1]
        if n == 1:
            return self.loss[..., 0]
        x = np.asarray(log_c, float)
        k = np.clip((self.log_c < x[..., None]).sum(-1), 1, n - 1)
        (c0, c1), (l0, l1) = _ends(self.log_c, k - 1), _ends(self.loss, k - 1)
        return l0 + (x - c0) / np.maximum(c1 - c0, 1e-12) * (l1 - l0)

    def log_c_for(self, loss: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The smallest ln C that reaches a loss, and "" inside, ">" when even the largest compute does not reach it,
        "<" when the smallest already does better. Beyond the ends the value goes on along the end segment (infinite if
        that is flat); what is known without it is `last` or `first`.
        """
        y, n = np.asarray(loss, float), self.loss.shape[-1]
        if n == 1:
            only = self.loss[..., 0]
            near = np.abs(y - only) <= 1e-12 * np.abs(y)
            beyond, flag = np.where(y < only, np.inf, -np.inf), np.where(y < only, ">", "<")
            return np.where(near, self.first, beyond)[()], np.where(near, "", flag)[()]
        reached = self.loss <= y[..., None]
        which = np.where(reached.any(-1), reached.argmax(-1), n)  # the first point at this loss or below
        (c0, c1), (l0, l1) = (_ends(a, np.clip(which - 1, 0, n - 2)) for a in (self.log_c, self.loss))
        drop = l0 - l1
        with np.errstate(divide="ignore", invalid="ignore"):
            log_c = np.where(drop > 0, c0 + (l0 - y) / drop * (c1 - c0), np.where(y < l0, np.inf, -np.inf))
        log_c = np.where((which == 0) & (y == self.loss[..., 0]), self.first, log_c)
        never = (which == n) & ~(log_c <= self.last + MARGIN)
        sooner = (which == 0) & ~(log_c >= self.first - MARGIN)
        return log_c[()], np.where(never, ">", np.where(sooner, "<", ""))[()]


def _ends(values: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """values[k] and values[k + 1] along the last axis, for each member."""
    wide = np.broadcast_to(values, (*k.shape, values.shape[-1])) if k.ndim >= values.ndim else values
    at = np.asarray(k)[..., None]
    return np.take_along_axis(wide, at, -1)[..., 0], np.take_along_axis(wide, at + 1, -1)[..., 0]
