"""Frontiers, one joint law and one set of resamples: what every gain, slope, table and figure of a study shares."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from algoprogress.analysis.bootstrap import NO_SEEDS, FrontierResamples, resample_frontier
from algoprogress.analysis.frontier import frontier
from algoprogress.analysis.laws import laws
from algoprogress.analysis.laws.law import LossLaw
from algoprogress.analysis.runs import check_runs
from algoprogress.analysis.warnings import ConvergenceError, FewSeeds, NotIdentified

Share = Mapping[str, str | Sequence[str]]
SHARED_E: Share = {
    "E": "all"
}  # same text and tokenizer, so the same entropy; a separate E per arm needs many more rungs


@dataclass(frozen=True)
class JointFit:
    """Frontiers of all arms with what was fitted to them.

    Attributes:
        front: `frontier(runs)`.
        law: the joint fit, or None; `law_note` then says why.
        resamples: resampled frontiers, or None when nothing was repeated or no interval was asked for.
        theta_BP: the law refitted to each resample, or None.
        law_arms: arms in the law (those measured at two computes or more).
    """

    front: pd.DataFrame
    baseline: str
    law: LossLaw | None
    law_name: str
    law_note: str
    law_arms: list[str]
    resamples: FrontierResamples | None
    theta_BP: np.ndarray | None
    interval_note: str
    seed: int = field(default=0, repr=False)

    @property
    def arms(self) -> list[str]:
        return list(pd.unique(self.front["arm"]))

    @property
    def rungs(self) -> list[float]:
        """Computes of the ladder in FLOP, ascending."""
        return sorted(self.front["rung"].unique())

    def points(self, arm: str) -> pd.DataFrame:
        return self.front[self.front["arm"] == arm]

    def n_runs(self, *arms: str) -> int:
        return int(self.front.loc[self.front["arm"].isin(arms), "n_runs"].sum())

    def equal_exponents(self, arm: str) -> float:
        """p of the F test that an arm and the baseline share alpha, the other arms free (nested least squares)."""
        from scipy.stats import f

        law = self.law
        if law is None or arm not in self.law_arms or self.baseline not in self.law_arms:
            return float("nan")
        n_left = law.diagnostics_["n"] - law.n_free_
        if n_left < 1:
            return float("nan")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotIdentified)
            data = self.front[self.front["arm"].isin(self.law_arms)]
            equal = type(law)(huber=law.huber, fixed=law.fixed).fit(data, {**law.share, "alpha": [self.baseline, arm]})
        n_restrictions = law.n_free_ - equal.n_free_
        rise = max(equal.diagnostics_["objective"] - law.diagnostics_["objective"], 0.0)
        return float(
            f.sf(rise / n_restrictions / max(law.diagnostics_["objective"] / n_left, 1e-300), n_restrictions, n_left)
        )


def fit_jointly(
    runs: pd.DataFrame,
    baseline: str,
    law: str | LossLaw | None = "power",
    share: Share | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
    max_epochs: float = 1.0,
    strict: bool = False,
) -> JointFit:
    """Frontiers, the joint law over all arms, and both again for each resample of the seeds.

    Args:
        runs: as for `frontier`.
        baseline: the arm that gains are measured over.
        law: its name or an unfitted law; None fits none.
        share: parameters shared between arms; by default E over all arms.
        n_resamples: 0 for no intervals.
        strict: raise when the law can not be fitted, in place of a note.
    """
    check_runs(runs)
    known = list(pd.unique(runs["arm"]))
    if baseline not in known:
        raise ValueError(f"There is no arm {baseline!r} to be the baseline; the arms are {', '.join(map(str, known))}.")
    front = frontier(runs, max_epochs)
    if baseline not in set(front["arm"]):
        raise ValueError(f"The baseline {baseline!r} has no run that can be used: all diverged or repeated their data.")
    resamples = resample_frontier(runs, n_resamples, seed, max_epochs) if n_resamples else None
    interval_note = "" if resamples is not None or not n_resamples else NO_SEEDS
    _warn_few_seeds(resamples, interval_note)
    fit = JointFit(front, baseline, None, "", "", [], resamples, None, interval_note, seed)
    if law is None:
        return fit
    unfitted = laws[law]() if isinstance(law, str) else law
    if not isinstance(unfitted, LossLaw):
        raise ValueError(
            f"A gain needs a law in compute, and {unfitted.name} is one in {' and '.join(unfitted.inputs)}; there are "
            f"{', '.join(name for name in laws if issubclass(laws[name], LossLaw))}."
        )
    n_rungs = front.groupby("arm", sort=False).size()
    law_arms = [a for a in fit.arms if n_rungs[a] >= 2]
    data = front[front["arm"].isin(law_arms)]
    name = unfitted.name + "".join(f", {p} = {v:g}" for p, v in unfitted.fixed.items())
    share = share if share is not None else {p: a for p, a in SHARED_E.items() if p not in unfitted.fixed}
    try:
        if data.empty:
            raise ValueError("no arm was measured at two computes or more")
        fitted = unfitted.fit(data, share)
    except (ValueError, ConvergenceError) as error:
        if strict:
            raise
        return replace(fit, law_name=name, law_note=f"no law: {error}")
    fit = replace(fit, law=fitted, law_name=name, law_arms=law_arms)
    return replace(fit, theta_BP=_refit(fit)) if resamples is not None else fit


def _refit(fit: JointFit) -> np.ndarray:
    """The law fitted to each resample, with the scatter about the law that seed noise does not explain.

    Rungs scatter about any law for more reasons than seeds (the best size or rate lies between those tried). Where the
    variance of the residuals is larger than that of the resamples by an F test at 5 %, the excess is added to each
    resample as normal noise; below that it is as likely the noise of the variance.
    """
    from scipy.stats import f

    law, resamples = fit.law, fit.resamples
    assert law is not None and resamples is not None
    columns = np.flatnonzero(resamples.points["arm"].isin(fit.law_arms))
    y = np.log(resamples.loss_Bn[:, columns])
    n_left = len(columns) - law.n_free_
    if n_left > 0:
        low, high = np.quantile(
            y, [0.1587, 0.8413], axis=0
        )  # half of this spread is one sd, and heavy tails do not matter
        by_seeds = float(np.mean(((high - low) / 2) ** 2))
        if law.sigma_**2 > by_seeds * f.ppf(0.95, n_left, min(resamples.noise.dof.values())):
            y = y + np.sqrt(law.sigma_**2 - by_seeds) * np.random.default_rng(fit.seed + 1).standard_normal(y.shape)
    return law.refit(y_Bn=y, log_compute_Bn=resamples.log_compute_Bn[:, columns])


def _warn_few_seeds(resamples: FrontierResamples | None, interval_note: str) -> None:
    if interval_note:
        warnings.warn(
            f"{interval_note[0].upper()}{interval_note[1:]}. Run some configurations with two seeds or more.",
            FewSeeds,
            stacklevel=4,
        )
    elif resamples is not None and min(resamples.noise.dof.values()) < 3:
        warnings.warn(
            f"The noise between seeds is known from {min(resamples.noise.dof.values())} degree(s) of freedom only; the "
            "intervals are wide for it. Repeat more configurations with another seed.",
            FewSeeds,
            stacklevel=4,
        )
