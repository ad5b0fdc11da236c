"""How much do the losses of one configuration differ between seeds, and how much of that do arms have in common?

The noise of an arm is known from the configurations that it repeated. An arm's variance is moderated towards that of
all arms, as if that were worth PRIOR_DOF degrees of freedom (Smyth 2004): an arm with few repeats borrows from the
others, one with many stands alone. Noise often falls with compute; where there are enough repeats its exponent is
estimated. Where arms were run with the same seeds, part of the noise may be common to them (one order of the data, one
set of evaluation tokens): it cancels in a gain, and is estimated from the repeats that have a seed and a rung in common.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from algoprogress.analysis.runs import usable_runs

PRIOR_DOF = 4  # how much the other arms' noise says of an arm's own; ours: as much as one repeat at each of four rungs
SCALE_DOF = 6  # fewer than this in all, and noise is taken to be the same at every compute
MAX_EXPONENT = 0.5  # sd falls at most as C^-1/2: as the mean over a number of tokens that grows with C would


@dataclass(frozen=True)
class Noise:
    """Seed noise: its standard deviation by arm, and how well it is known.

    Attributes:
        scale: arm -> moderated standard deviation in nats/token at the compute `exp(log_c0)`.
        dof: arm -> degrees of freedom of that variance, those borrowed included.
        total_dof: degrees of freedom of all repeats.
        exponent: k in sd ~ C^-k.
        log_c0: ln of the compute at which the scale holds.
        shared: share of the variance that arms have in common at the same rung and seed.
    """

    scale: dict[str, float]
    dof: dict[str, int]
    total_dof: int
    exponent: float
    log_c0: float
    shared: float

    def sd(self, arm: str, compute: float | np.ndarray) -> np.ndarray:
        """Standard deviation between seeds in nats/token at compute in FLOP."""
        return self.scale[arm] * np.exp(-self.exponent * (np.log(compute) - self.log_c0))


def seed_noise(runs: pd.DataFrame, max_epochs: float = 1.0) -> Noise | None:
    """The noise between seeds, from configurations run with two seeds or more; None when there are none."""
    kept = usable_runs(runs, max_epochs)
    groups = kept.groupby(["arm", "configuration"], sort=False)["loss"]
    n = groups.transform("size")
    residual = ((kept["loss"] - groups.transform("mean")) * np.sqrt(n / (n - 1).clip(lower=1)))[n > 1]
    if residual.empty:
        return None
    about = [c for c in ("arm", "configuration", "compute", "rung", "seed") if c in kept]
    repeated = kept.loc[n > 1, about].assign(residual=residual, weight=(n - 1) / n)
    log_c = np.log(repeated["compute"].to_numpy(float))
    log_c0 = float(np.log(kept["compute"]).mean())
    exponent = _noise_exponent(log_c - log_c0, repeated)
    repeated["residual"] *= np.exp(exponent * (log_c - log_c0))
    by_arm = dict(iter(repeated.groupby("arm", sort=False)))
    own_dof = {arm: len(part) - part["configuration"].nunique() for arm, part in by_arm.items()}
    total = sum(own_dof.values())
    # residuals are scaled so that each squared one estimates the variance; weights are their degrees of freedom
    of_all = float((repeated["residual"] ** 2 * repeated["weight"]).sum() / total)
    scale, moderated = {}, {}
    for arm in pd.unique(kept["arm"]):
        own = own_dof.get(arm, 0)
        borrowed = min(PRIOR_DOF, total - own)
        of_own = float((by_arm[arm]["residual"] ** 2 * by_arm[arm]["weight"]).sum() / own) if own else 0.0
        scale[arm] = float(np.sqrt((own * of_own + borrowed * of_all) / (own + borrowed)))
        moderated[arm] = own + borrowed
    return Noise(scale, moderated, total, exponent, log_c0, _shared(repeated, scale))


def _noise_exponent(x: np.ndarray, repeated: pd.DataFrame) -> float:
    """k that maximises the likelihood of residuals ~ N(0, sd_arm² exp(-2 k x)), 0 <= k <= MAX_EXPONENT."""
    dof = len(repeated) - repeated.groupby(["arm", "configuration"]).ngroups
    if dof < SCALE_DOF or np.ptp(x) < np.log(2):
        return 0.0
    squared = repeated["residual"].to_numpy(float) ** 2
    weight = repeated["weight"].to_numpy(float)  # degrees of freedom of each residual: (n - 1) / n
    arm = repeated.groupby("arm").ngroup().to_numpy()
    grid = np.linspace(0, MAX_EXPONENT, 51)
    fit = []
    for k in grid:
        scaled = squared * weight * np.exp(2 * k * x)
        total, freedom = np.bincount(arm, scaled), np.bincount(arm, weight)
        fit.append(-0.5 * (freedom * np.log(total / freedom + 1e-300)).sum() + k * (weight * x).sum())
    return float(grid[int(np.argmax(fit))])


def _shared(repeated: pd.DataFrame, scale: dict[str, float]) -> float:
    """Mean correlation of the seeds' residuals between arms that have a rung and seeds in common, shrunk towards 0.

    Its variance under independence is about 1 / k for k products. It counts where r sqrt(k) > 1.64 (one-sided 5 %), and
    less the 1 / (k r²) of it that chance would give: too large a share makes intervals of gains too short, too small a
    one only makes them long.
    """
    if "seed" not in repeated or repeated["arm"].nunique() < 2:
        return 0.0
    total, k = 0.0, 0.0
    unit = repeated["residual"] / repeated["arm"].map(scale).clip(lower=1e-300)
    for _, rung in repeated.assign(unit=unit).groupby("rung", sort=False):
        seeds = rung.pivot_table(index="seed", columns="arm", values="unit", aggfunc="mean")
        for one, two in combinations(seeds.columns, 2):
            pair = seeds[[one, two]].dropna().to_numpy()
            if len(pair) < 2:
                continue
            pair = pair - pair.mean(0)
            total += float((pair[:, 0] * pair[:, 1]).sum() * (len(pair) - 1) / len(pair))
            k += len(pair) - 1
    if not k:
        return 0.0
    r = min(total / k, 1.0)
    return r * (1 - 1 / (k * r * r)) if r * np.sqrt(k) > 1.645 else 0.0
