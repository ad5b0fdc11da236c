"""How far do the points of a frontier scatter about a law, and is that more than seeds explain?

Rungs scatter about any law for more reasons than seeds: the best size or rate lies between those tried, runs of one
batch have a fault in common. Repeats with another seed do not show it; the residuals of the law do. Where they are
clearly larger than seed noise, what is missing is added as noise of each point, with the degrees of freedom of the
residuals; else both estimate one variance and are pooled (the "sometimes pool" rule; Bancroft 1964).
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import f

from algoprogress.analysis.bootstrap import FrontierResamples, SeedDraws
from algoprogress.analysis.identifiability import gradients, residuals
from algoprogress.analysis.laws.law import LossLaw

POOLED = 0.25  # level of the preliminary test: below it, variances are not pooled (Bancroft 1964, Bozivich et al. 1956)


@dataclass(frozen=True)
class Scatter:
    """What noise the points have, seeds and rungs together.

    Attributes:
        factor: by which the sd of the seed noise is scaled.
        added: variance of the log loss of each point beyond that of seeds.
        dof: degrees of freedom with which the sum is known.
        sd: of the log loss of a point, on average (root mean square).
    """

    factor: float
    added: float
    dof: float
    sd: float

    def resample(self, draws: SeedDraws) -> FrontierResamples:
        """Frontiers with this noise, wide as Student's t with `dof` degrees of freedom."""
        rng, (B, n) = draws.generator(1), (draws.n_resamples, len(draws.points))
        t = np.sqrt(self.dof / rng.chisquare(self.dof, B))[:, None]
        z = rng.standard_normal((B, n))
        return draws.frontiers(np.broadcast_to(self.factor * t, (B, n)), np.sqrt(self.added) * t * z)


def scatter_about(law: LossLaw, draws: SeedDraws) -> Scatter | None:
    """The noise of frontier points from the residuals of a law fitted to them and from the repeats; None without any.

    With H the hat matrix of the fit, M = I - H and V the variances that seeds explain, the sum of squared residuals is
    about tr(MV) chi2_nu / nu, nu = tr(MV)² / tr(MVMV) (Satterthwaite 1946).

    Args:
        law: fitted to points of the frontier.
        draws: of the seeds of that frontier.
    """
    Q, R = np.linalg.qr(gradients(law))
    size = np.abs(np.diag(R))
    Q = Q[:, size > 1e-10 * max(size.max(), 1e-300)] if size.size else Q
    n, r = len(law.y_), residuals(law)
    M, n_left = np.eye(n) - Q @ Q.T, n - law.sharing_.n_free
    if n_left < 1:
        return None
    squares = float(r @ r)
    if draws.noise is None:
        return Scatter(0.0, squares / n_left, float(n_left), float(np.sqrt(squares / n_left)))
    variance = draws.variance()[draws.columns_of(law.runs_)]
    MV = M * (variance * (1 - draws.noise.shared))
    expected, dof = float(np.trace(MV)), float(np.trace(MV) ** 2 / np.trace(MV @ MV))
    of_seeds = draws.noise.total_dof
    if f.sf(squares / expected, dof, of_seeds) > POOLED:
        ratio = (dof * squares / expected + of_seeds) / (dof + of_seeds)
        return Scatter(float(np.sqrt(ratio)), 0.0, dof + of_seeds, float(np.sqrt(ratio * variance.mean())))
    added = (squares - expected) / n_left
    MV = MV + M * added
    sd = float(np.sqrt(added + variance.mean()))
    return Scatter(1.0, added, float(np.trace(MV) ** 2 / np.trace(MV @ MV)), sd)
