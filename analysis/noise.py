"""How much do the losses of one configuration differ between seeds?  The noise of each arm, from what it repeated.

Where nothing was repeated, sizes and rates that were tried side by side tell of it: see `surface`.

An arm's variance is moderated towards that of all arms, as if that were worth PRIOR_DOF degrees of freedom (Smyth
2004): an arm with few repeats borrows from the others, one with many stands alone. Noise often falls with compute;
where there are enough repeats its exponent is estimated. Whether arms that were run with the same seeds have part of
the noise in common, and how large it is on the whole, `scatter` asks of the repeats and of the frontier together.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from algoprogress.analysis.resampling import cluster_labels
from algoprogress.analysis.runs import usable_runs
from algoprogress.analysis.surface import departures

PRIOR_DOF = 4  # how much the other arms' noise says of an arm's own; ours: as much as one repeat at each of four rungs
SCALE_DOF = 6  # fewer than this in all, and noise is taken to be the same at every compute
MAX_EXPONENT = 0.5  # sd falls at most as C^-1/2: as the mean over a number of tokens that grows with C would
EXPONENTS = np.linspace(0.0, MAX_EXPONENT, 11)


@dataclass(frozen=True)
class Noise:
    """Seed noise: its standard deviation by arm, and how well it is known.

    Attributes:
        scale: arm -> moderated standard deviation in nats/token at the compute `exp(log_c0)`.
        dof: arm -> degrees of freedom of that variance, those borrowed included.
        exponent: k in sd ~ C^-k.
        log_c0: ln of the compute at which the scale holds.
        log_c: ln of the compute of each of the contrasts (m,).
        contrasts: differences (m,) between repeats, orthonormal within each configuration, in units of the arm's sd.
        together_mm: their covariance if all noise were common to the runs of one seed at one rung, or of one cluster.
        repeated: whether they are of runs that repeat one configuration, and not of neighbours that were run once.
    """

    scale: dict[str, float]
    dof: dict[str, int]
    exponent: float
    log_c0: float
    log_c: np.ndarray = field(repr=False)
    contrasts: np.ndarray = field(repr=False)
    together_mm: np.ndarray = field(repr=False)
    repeated: bool = True

    def sd(self, arm: str, compute: float | np.ndarray) -> np.ndarray:
        """Standard deviation between seeds in nats/token at compute in FLOP."""
        return self.scale[arm] * np.exp(-self.exponent * (np.log(compute) - self.log_c0))

    def exponents(self) -> np.ndarray:
        """Values that k may have: from 0 to MAX_EXPONENT where enough is known to estimate it."""
        return EXPONENTS if _tells_exponent(self.log_c) else np.zeros(1)


def common_keys(kept: pd.DataFrame, cluster: str | None) -> np.ndarray | None:
    """A number for each run, equal for runs that may have noise in common: of one seed at one rung, or one cluster."""
    if cluster is not None:
        return np.unique(cluster_labels(kept, cluster), return_inverse=True)[1]
    return kept.groupby(["rung", "seed"], sort=False).ngroup().to_numpy() if "seed" in kept else None


def seed_noise(runs: pd.DataFrame, max_epochs: float = 1.0, cluster: str | None = None) -> Noise | None:
    """The noise between seeds, from configurations run with two seeds or more, or else from neighbours; None without.

    Args:
        runs: as for `frontier`.
        cluster: runs that may have noise in common: a column, or by default those of one seed at one rung.
    """
    kept = usable_runs(runs, max_epochs)
    keys = common_keys(kept, cluster)
    n = kept.groupby(["arm", "configuration"], sort=False)["loss"].transform("size")
    whole = kept.assign(key=np.arange(len(kept)) if keys is None else keys)
    if (n > 1).any():
        repeated = whole[n > 1].sort_values(["arm", "configuration"], kind="stable")
        T = _contrasts(repeated.groupby(["arm", "configuration"], sort=False).size().to_numpy())
    else:
        repeated, T = departures(whole)
        if not len(T):
            return None
    # each contrast belongs to one configuration, and so to one arm and (but for a few percent) one compute
    of = np.abs(T).argmax(1)
    value, arm = T @ repeated["loss"].to_numpy(float), repeated["arm"].to_numpy()[of]
    log_c0 = float(np.log(kept["compute"]).mean())
    x = np.log(repeated["compute"].to_numpy(float))[of] - log_c0
    exponent = _exponent(x, value, arm)
    squared = (value * np.exp(exponent * x)) ** 2
    scale, moderated = {}, {}
    for name in pd.unique(kept["arm"]):
        own = arm == name
        n_own, borrowed = int(own.sum()), min(PRIOR_DOF, int((~own).sum()))
        variance = (squared[own].sum() + borrowed * squared.mean()) / (n_own + borrowed)
        scale[name], moderated[name] = float(np.sqrt(variance)), n_own + borrowed
    unit = value * np.exp(exponent * x) / np.maximum([scale[a] for a in arm], 1e-300)
    same = (repeated["key"].to_numpy()[:, None] == repeated["key"].to_numpy()).astype(float)
    return Noise(scale, moderated, exponent, log_c0, x + log_c0, unit, T @ same @ T.T, bool((n > 1).any()))


def _contrasts(sizes: np.ndarray) -> np.ndarray:
    """Orthonormal contrasts (sum(sizes - 1), sum(sizes)) within groups of consecutive runs (Helmert)."""
    T = np.zeros((int((sizes - 1).sum()), int(sizes.sum())))
    row = first = 0
    for size in sizes:
        for j in range(1, size):
            T[row, first : first + j], T[row, first + j] = 1.0, -j
            T[row] /= np.sqrt(j * (j + 1))
            row += 1
        first += size
    return T


def _tells_exponent(log_c: np.ndarray) -> bool:
    return len(log_c) >= SCALE_DOF and bool(np.ptp(log_c) >= np.log(2))


def _exponent(x: np.ndarray, value: np.ndarray, arm: np.ndarray) -> float:
    """k that maximises the likelihood of contrasts ~ N(0, sd_arm² exp(-2 k x)), 0 <= k <= MAX_EXPONENT."""
    if not _tells_exponent(x):
        return 0.0
    which = pd.factorize(arm)[0]
    freedom = np.bincount(which)
    grid = np.linspace(0, MAX_EXPONENT, 51)
    fit = []
    for k in grid:
        total = np.bincount(which, (value * np.exp(k * x)) ** 2)
        fit.append(-0.5 * (freedom * np.log(total / freedom + 1e-300)).sum() + k * x.sum())
    return float(grid[int(np.argmax(fit))])
