"""How large is the noise of frontier points?  What repeats say and what the residuals of a law say, together.

Three kinds of noise: of a seed, own to a run or common to the runs of one seed at one rung; and of a rung, in which
points scatter about any law for reasons that no repeat shows (the best size or rate lies between those tried, runs of
one batch have a fault in common). The covariance of the log losses of frontier points is

    s² V,   V = (1 - rho) D + rho D^1/2 K D^1/2 + g mean(D) I,   D ~ C^-2k

with D what the repeats' own scale gives, K the seeds (or clusters) that two points share, g the part of rungs.
Residuals of the law see V through M = I - H, repeats see rho, k and s. Given rho, g and k, s² is scaled inverse
chi-squared (restricted likelihood); these three are weighed on a grid, with a prior that puts some weight on 0 (none of
its own for rho where clusters are named: who names them says that they have noise in common) and is otherwise uniform
in rho, in k and in g / (1 + g) (the uniform shrinkage prior; Daniels 1999). Each resample has an s, rho, g and k of its
own, so that what is not known of the noise widens the intervals, as Student's t does.
"""

from dataclasses import dataclass

import numpy as np

from algoprogress.analysis.bootstrap import FrontierResamples, SeedDraws
from algoprogress.analysis.fit import FLOOR
from algoprogress.analysis.identifiability import gradients, residuals
from algoprogress.analysis.laws.law import LossLaw

SHARED = np.linspace(0.0, 0.95, 20)  # rho
SHRINKAGE = np.linspace(0.0, 0.975, 40)  # g / (1 + g)
# Probabilities beforehand that seeds have nothing in common, and that rungs have no noise of their own. Ours: of those
# tried, the ones whose intervals cover best on the designs of `coverage`, thin ones and noisy rungs included.
NOT_SHARED, NO_RUNGS = 0.9, 0.25


@dataclass(frozen=True)
class Scatter:
    """The noise of frontier points in each of B resamples.

    Attributes:
        scale_B: s, by which the seed noise of the repeats is scaled.
        shared_B: rho.
        faster_B: k less the exponent of the repeats.
        rung_B: standard deviation of the log loss of a point beyond seeds.
        sd_B: that of the log loss of a point on the whole (root mean square).
        dof: degrees of freedom of s.
    """

    scale_B: np.ndarray
    shared_B: np.ndarray
    faster_B: np.ndarray
    rung_B: np.ndarray
    sd_B: np.ndarray
    dof: int

    def resample(self, draws: SeedDraws) -> FrontierResamples:
        """Frontiers with this noise."""
        z = draws.generator(1).standard_normal((draws.n_resamples, len(draws.points)))
        if draws.noise is None:  # all noise is that of points, and part of it may be common to some
            rho = self.shared_B[:, None]
            z = np.sqrt(1 - rho) * z + np.sqrt(rho) * draws.common_Bn()
        return draws.frontiers(self.scale_B, self.shared_B, self.rung_B[:, None] * z, self.faster_B)


def scatter_about(law: LossLaw | None, draws: SeedDraws) -> Scatter | None:
    """The noise of frontier points from repeats and from the residuals of a law fitted to them; None without either.

    Args:
        law: fitted to points of the frontier; with None, or no point to spare, the repeats alone say how large seed
            noise is, and nothing is known of rungs.
        draws: of the seeds of that frontier.
    """
    r, Q = _residuals(law)
    noise = draws.noise
    if noise is None and not len(r):
        return None
    columns = np.arange(len(draws.points)) if law is None else draws.columns_of(law.runs_)
    D = np.maximum(draws.variance()[columns], FLOOR) if noise is not None else np.ones(len(columns))
    K = draws.common_nn[np.ix_(columns, columns)]
    u, G, k, x_u = np.empty(0), np.empty((0, 0)), np.zeros(1), np.empty(0)
    if noise is not None:
        u, G, x_u = noise.contrasts, noise.together_mm, noise.log_c - noise.log_c0
        k = noise.exponents() - noise.exponent  # what the noise falls faster with compute than it seems to
    x = np.log(draws.points["compute"].to_numpy(float)[columns]) - (0.0 if noise is None else noise.log_c0)
    comparable = any(np.abs(A - np.diag(np.diag(A))).max(initial=0) > 1e-9 for A in (G, K if len(r) else G))
    rho = SHARED if comparable else np.zeros(1)
    g = SHRINKAGE / (1 - SHRINKAGE) if noise is not None and len(r) else np.zeros(1)
    of_seeds = 1 / len(rho) if draws.clustered else NOT_SHARED
    prior = np.einsum("k,g,r->kgr", np.full(len(k), 1 / len(k)), _prior(len(g), NO_RUNGS), _prior(len(rho), of_seeds))
    squares, log_det = np.zeros((2, *prior.shape))
    if not len(r):
        r, Q = np.zeros(len(columns)), np.empty((len(columns), 0))
    mean_D = np.empty(len(k))
    variance_u, axes = np.linalg.eigh(G)
    for i, faster in enumerate(k):
        D_k = D * np.exp(-2 * faster * x)
        root, mean_D[i] = np.sqrt(D_k), D_k.mean()
        repeats = (axes.T @ (u * np.exp(faster * x_u))) ** 2, np.maximum(variance_u, 0.0)
        log_det[i] -= 2 * faster * x_u.sum()
        for j, share in enumerate(rho):  # one decomposition serves every g
            points = _along_axes(Q.T @ ((1 - share) * np.diag(D_k) + share * root[:, None] * K * root) @ Q, Q.T @ r)
            for (squared, variance), added in (
                ((repeats[0], 1 - share + share * repeats[1]), 0 * g),
                (points, g * mean_D[i]),
            ):
                total = np.maximum(variance + added[:, None], 1e-12 * variance.max(initial=1e-300))
                squares[i, :, j] += (squared / total).sum(1)
                log_det[i, :, j] += np.log(total).sum(1)
    squares, log_det, prior = squares.ravel(), log_det.ravel(), prior.ravel()
    mean_D = np.repeat(mean_D, len(g) * len(rho))
    at_k, at_g, at_rho = (v.ravel() for v in np.meshgrid(k, g, rho, indexing="ij"))
    dof = len(u) + Q.shape[1]
    squares = np.maximum(squares, 1e-300)
    log_p = -0.5 * log_det - 0.5 * dof * np.log(squares)
    p = prior * np.exp(log_p - log_p.max())
    rng = draws.generator(2)
    chosen = rng.choice(len(p), draws.n_resamples, p=p / p.sum())
    s = np.sqrt(squares[chosen] / rng.chisquare(dof, draws.n_resamples))
    k_B, g_B, rho_B, mean_B = (v[chosen] for v in (at_k, at_g, at_rho, mean_D))
    if noise is None:
        return Scatter(np.zeros_like(s), rho_B, k_B, s, s, dof)
    return Scatter(s, rho_B, k_B, s * np.sqrt(g_B * mean_B), s * np.sqrt((1 + g_B) * mean_B), dof)


def _prior(n: int, of_first: float) -> np.ndarray:
    """Probabilities (n,): that of the first value, and the rest alike."""
    return np.where(np.arange(n) == 0, of_first, (1 - of_first) / max(n - 1, 1)) if n > 1 else np.ones(1)


def _residuals(law: LossLaw | None) -> tuple[np.ndarray, np.ndarray]:
    """Residuals in log loss (n,), and an orthonormal basis (n, n - P) of the space that the law leaves them."""
    if law is None or len(law.y_) - law.sharing_.n_free < 1:
        return np.empty(0), np.empty((0, 0))
    U, size, _ = np.linalg.svd(gradients(law), full_matrices=True)
    rank = law.sharing_.n_free if size.size == 0 else max(int((size > 1e-10 * size.max()).sum()), law.sharing_.n_free)
    return residuals(law), U[:, rank:]


def _along_axes(V: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squares of x along the principal axes of a covariance, and the variances there."""
    variance, axes = np.linalg.eigh(V)
    return (axes.T @ x) ** 2, np.maximum(variance, 0.0)
