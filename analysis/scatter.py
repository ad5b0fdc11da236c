"""How far do the points of a frontier scatter about a law, and is that more than seeds explain?

Rungs scatter about any law for more reasons than seeds: the best size or rate lies between those tried, runs of one
batch have a fault in common. Repeats with another seed do not show it; the residuals of the law do. Where they are
clearly larger than seed noise, what is missing is added as noise of each point, with the degrees of freedom of the
residuals; else both estimate one variance and are pooled (the "sometimes pool" rule; Bancroft 1964).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import f

from algoprogress.analysis.bootstrap import FrontierResamples, SeedDraws
from algoprogress.analysis.laws.law import LossLaw

POOLED = 0.25  # level of the preliminary test: below it, variances are not pooled (Bancroft 1964, Bozivich et al. 1956)
STEP = 1e-5  # of central differences in working parameters


@dataclass(frozen=True)
class Scatter:
    """What noise the points have, seeds and rungs together.

    Attributes:
        factor: by which the sd of the seed noise is scaled.
        added: variance of the log loss of each point beyond that of seeds.
        dof: degrees of freedom with which the sum is known.
        seeds_dof: of the repeats alone.
    """

    factor: float
    added: float
    dof: float
    seeds_dof: int

    def resample(self, draws: SeedDraws) -> FrontierResamples:
        """Frontiers with this noise, wide as Student's t with `dof` degrees of freedom."""
        B, n = draws.n_resamples, len(draws.points)
        t = np.sqrt(self.dof / draws.rng.chisquare(self.dof, B))[:, None]
        z = draws.rng.standard_normal((B, n))
        return draws.frontiers(np.broadcast_to(self.factor * t, (B, n)), np.sqrt(self.added) * t * z)


def scatter_about(law: LossLaw, points: pd.DataFrame, draws: SeedDraws) -> Scatter | None:
    """The noise of frontier points from the residuals of a law fitted to them and from the repeats, or None without.

    With H the hat matrix of the fit, M = I - H and V the variances that seeds explain, the sum of squared residuals is
    about tr(MV) chi2_nu / nu, nu = tr(MV)² / tr(MVMV) (Satterthwaite 1946).

    Args:
        law: fitted to `points`.
        points: [arm, compute, loss], rows of the frontier.
        draws: whose points are a superset.
    """
    J, residual = _jacobian(law, points)
    Q, R = np.linalg.qr(J)
    kept = np.abs(np.diag(R)) > 1e-10 * np.abs(np.diag(R)).max()
    M = np.eye(len(points)) - Q[:, kept] @ Q[:, kept].T
    squares, n_left = float(residual @ residual), float(len(points) - law.n_free_)
    if n_left < 1:
        return None
    noise = draws.noise
    if noise is None:
        return Scatter(0.0, squares / n_left, n_left, 0)
    own = draws.points.merge(points[["arm", "rung"]], how="right", on=["arm", "rung"], validate="one_to_one")
    of = {(a, r): v for a, r, v in zip(draws.points["arm"], draws.points["rung"], draws.variance(), strict=True)}
    v = np.array([of[a, r] for a, r in zip(own["arm"], own["rung"], strict=True)]) * (1 - noise.shared)
    MV = M * v
    expected, dof = float(np.trace(MV)), float(np.trace(MV) ** 2 / np.trace(MV @ MV))
    ratio = squares / expected
    if f.sf(ratio, dof, noise.total_dof) > POOLED:
        pooled = (dof * ratio + noise.total_dof) / (dof + noise.total_dof)
        return Scatter(float(np.sqrt(pooled)), 0.0, dof + noise.total_dof, noise.total_dof)
    added = (squares - expected) / n_left
    MV = M * (v + added)
    return Scatter(1.0, added, float(np.trace(MV) ** 2 / np.trace(MV @ MV)), noise.total_dof)


def _jacobian(law: LossLaw, points: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """d ln L / d theta (n, P) at the points, and residuals in log loss (n,)."""
    theta = law.theta_
    h = STEP * np.maximum(1.0, np.abs(theta))
    both = np.concatenate([theta + np.diag(h), theta - np.diag(h)])
    J, residual = np.empty((len(points), len(theta))), np.empty(len(points))
    for arm in law.arms_:
        rows = np.flatnonzero(points["arm"] == arm)
        compute, loss = (points[c].to_numpy(float)[rows] for c in ("compute", "loss"))
        moved = np.log(law.predict(compute, arm, both))
        J[rows] = ((moved[: len(theta)] - moved[len(theta) :]) / (2 * h[:, None])).T
        residual[rows] = np.log(loss / law.predict(compute, arm))
    free = [c for c in range(len(theta)) if c not in law._fixed_columns]
    return J[:, free], residual
