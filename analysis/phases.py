"""When does a learned rotation leave its start, settle on a cone around it, and come to rest? Three phases, dated.

Qiu et al. 2025 follow cos(v, R v) for random v through a training without resampling and find: a search
in which it falls from 1 (I), a long stretch on a cone, where R still turns but v keeps its angle to R v (II), and a
final adjustment, where R hardly turns (III). They read the dates off a figure; the two rules here are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

# The two rules. Both compare a rate with an earlier one of the same run, so that neither depends on the learning rate.
FLAT = 0.25  # on the cone a radian of turning changes the cosine by less than this part of what it did before
AT_REST = 0.5  # in phase III a step turns R by less than this part of what it did on the cone


@dataclass(frozen=True)
class Phases:
    """First steps of phases II and III, and the cosine of the cone that phase II is on."""

    settled: int
    at_rest: int
    cone: float


def phases(steps: ArrayLike, cosine: ArrayLike, turn: ArrayLike) -> Phases:
    """Dates the three phases of one training.

    Phase I ends at the knot of the two joined straight lines that fit the cosine best as a function of the angle that R
    has turned so far, in least squares, given that the second is at most `FLAT` times as steep as the first. Phase III
    begins at the first step from then on from which the turning stays below `AT_REST` times its median between the end
    of phase I and there.

    Args:
        steps: rising, the first one 0.
        cosine: cos(v, R v) at each step, mean over v and over matrices.
        turn: angle per step that R v has moved since the step before, radians.

    Raises:
        ValueError: fewer than 8 steps, nothing has turned, or no second or no third phase before the end.
    """
    steps, cosine, turn = (np.asarray(x, dtype=float) for x in (steps, cosine, turn))
    if not (len(steps) == len(cosine) == len(turn) >= 8):
        raise ValueError(f"8 or more steps with a cosine and a turn each are wanted, not {len(steps)}: look more often")
    if not all(np.isfinite(x).all() for x in (steps, cosine, turn)) or (np.diff(steps) <= 0).any():
        raise ValueError("steps must rise, and every cosine and turn must be finite")
    if not (turn[1:] > 0).any():
        raise ValueError("nothing has turned, so there are no phases: train the rotations")
    turned = np.concatenate([[0.0], np.cumsum(turn[1:] * np.diff(steps))])
    settled, first, second = _knot(turned, cosine)
    if first >= 0 or second < FLAT * first:
        raise ValueError(
            f"the cosine changes by {second:.3g} a radian at the end and by {first:.3g} at the start: there is no cone "
            "to settle on yet; train longer or at a higher rate"
        )
    for rest in range(settled + 2, len(steps)):
        level = float(np.median(turn[settled + 1 : rest]))
        if (turn[rest:] < AT_REST * level).all():
            return Phases(int(steps[settled]), int(steps[rest]), float(cosine[settled:rest].mean()))
    raise ValueError(f"the rotation still turns at step {steps[-1]:g}: let the rate decay to see a third phase")


def _knot(x: np.ndarray, y: np.ndarray) -> tuple[int, float, float]:
    """Place of the knot of the best two joined lines, and their slopes."""
    best = (np.inf, 0, 0.0, 0.0)
    for j in range(2, len(x) - 2):
        basis = np.stack([np.ones_like(x), x, np.maximum(x - x[j], 0)], axis=1)
        coefficients = np.linalg.lstsq(basis, y, rcond=None)[0]
        squares = float(((basis @ coefficients - y) ** 2).sum())
        if squares < best[0]:
            best = (squares, j, float(coefficients[1]), float(coefficients[1] + coefficients[2]))
    return best[1:]
