"""Frontiers, joint laws and one set of resamples: what every gain, slope, table and figure of a study shares."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd

from algoprogress.analysis.bootstrap import FrontierResamples, SeedDraws, draw_seeds
from algoprogress.analysis.frontier import frontier
from algoprogress.analysis.lawfit import (
    UNITS,
    LawFit,
    Share,
    Unit,
    fit_frontier,
    fit_runs,
    quietly,
    resample_frontiers,
    resample_runs,
    unfitted,
)
from algoprogress.analysis.laws.base import Law
from algoprogress.analysis.laws.law import LossLaw
from algoprogress.analysis.laws.power import PowerLaw
from algoprogress.analysis.runs import check_runs
from algoprogress.analysis.scatter import scatter_about
from algoprogress.analysis.warnings import FewSeeds

NO_SEEDS = "no configuration was repeated with another seed"
FEW_DOF = 3  # degrees of freedom of the noise below which Student's t is so wide that more seeds are worth their cost


@dataclass(frozen=True)
class JointFit:
    """Frontiers of all arms with what was fitted to them.

    Attributes:
        front: `frontier(runs)`.
        fits: the joint fit of each law that was asked for.
        resamples: resampled frontiers, or None where no interval was asked for or nothing tells of the noise.
        interval_note: why there is no interval, or what it rests on in place of repeated seeds.
    """

    front: pd.DataFrame
    baseline: str
    fits: tuple[LawFit, ...]
    resamples: FrontierResamples | None
    interval_note: str = ""

    @property
    def arms(self) -> list[str]:
        return list(pd.unique(self.front["arm"]))

    @property
    def rungs(self) -> list[float]:
        """Computes of the ladder in FLOP, ascending."""
        return sorted(self.front["rung"].unique())

    @property
    def first(self) -> LawFit:
        """The first of the laws; an empty one where none was asked for."""
        return self.fits[0] if self.fits else LawFit(None, "")

    def equal_exponents(self, arm: str, law: str) -> float:
        """p of the test that an arm and the baseline share the exponents of a law, named as in the gain table."""
        of = next((f for f in self.fits if f.name == law), LawFit(None, law))
        return of.equal_exponents(self.baseline, arm)

    def points(self, arm: str) -> pd.DataFrame:
        """The frontier of one arm; empty for an unknown one."""
        return self._points.get(arm, self.front.iloc[:0])

    @cached_property
    def _points(self) -> dict[str, pd.DataFrame]:
        return {str(arm): part for arm, part in self.front.groupby("arm", sort=False)}

    def n_runs(self, *arms: str) -> int:
        return sum(self._n_runs.get(arm, 0) for arm in set(arms))

    @cached_property
    def _n_runs(self) -> dict[str, int]:
        return {str(arm): int(n) for arm, n in self.front.groupby("arm", sort=False)["n_runs"].sum().items()}


def fit_jointly(
    runs: pd.DataFrame,
    baseline: str,
    law: str | Law | Sequence[str | Law] | None = "power",
    share: Share | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
    max_epochs: float = 1.0,
    strict: bool = False,
    cluster: str | None = None,
    unit: Unit = "seeds",
) -> JointFit:
    """Frontiers, the joint laws over all arms, and all again for each resample.

    Args:
        runs: as for `frontier`; laws in size and data also need n_params and tokens.
        baseline: the arm that gains are measured over.
        law: a name or an unfitted law, or several; None fits none.
        share: parameters shared between arms; by default E over all arms for laws in compute, and nothing for others.
        n_resamples: 0 for no intervals.
        seed: of the resampling.
        strict: raise when a law can not be fitted, in place of a note.
        cluster: runs that have noise in common: a column, or "compute_bin". They are resampled together for laws in
            size and data (by default configurations are), and points of the frontiers may be correlated by it (by
            default those of one seed at one rung).
        unit: what is resampled of frontiers: see `lawfit.resample_frontiers`. Interpolation needs every rung: with
            "rungs" the interpolated gains have no interval.
    """
    check_runs(runs)
    known = list(pd.unique(runs["arm"]))
    if baseline not in known:
        raise ValueError(f"There is no arm {baseline!r} to be the baseline; the arms are {', '.join(map(str, known))}.")
    if unit not in UNITS:
        raise ValueError(f"unit is one of {', '.join(UNITS)}, not {unit!r}.")
    if n_resamples < 0:
        raise ValueError(f"n_resamples is 0 (no intervals) or more, not {n_resamples}.")
    front = frontier(runs, max_epochs)
    if baseline not in set(front["arm"]):
        raise ValueError(f"The baseline {baseline!r} has no run that can be used: all diverged or repeated their data.")
    listed = [] if law is None else [law] if isinstance(law, str | Law) else list(law)
    fits = []
    for one in map(unfitted, listed):
        if isinstance(one, LossLaw):
            fits.append(fit_frontier(one, front, share, strict))
        else:
            fits.append(fit_runs(one, runs, share, max_epochs, strict))
    fit = JointFit(front, baseline, tuple(fits), None)
    if not n_resamples:
        return fit
    return resampled(fit, quietly(draw_seeds, runs, n_resamples, seed, max_epochs, cluster), unit, cluster)


def resampled(fit: JointFit, draws: SeedDraws, unit: Unit = "seeds", cluster: str | None = None) -> JointFit:
    """The frontiers and laws of a joint fit for each resample: arguments as for `fit_jointly`."""
    fits = tuple(
        resample_frontiers(f, draws, unit)
        if f.from_frontier
        else resample_runs(f, draws.n_resamples, draws.seed, cluster)
        for f in fit.fits
    )
    if unit == "configurations":
        resamples, note = draws.by_configurations(), ""
    elif unit == "rungs":
        resamples, note = None, "interpolation needs every rung: no interval"
    else:
        resamples, note = _by_seeds(fit, draws)
    return replace(fit, fits=fits, resamples=resamples, interval_note=note)


def _by_seeds(fit: JointFit, draws: SeedDraws) -> tuple[FrontierResamples | None, str]:
    """The frontiers of the interpolated gains: with the scatter about L = E + A C^-alpha, whatever the law."""
    known = next((f.law for f in fit.fits if isinstance(f.law, PowerLaw) and _is_plain(f.law)), None)
    law = known if known is not None else quietly(fit_frontier, PowerLaw(), fit.front).law
    noise = scatter_about(law if isinstance(law, LossLaw) else None, draws)
    _warn_few_seeds(draws, noise.dof if noise is not None else 0)
    if noise is None:
        return None, f"{NO_SEEDS}: no interval"
    if draws.noise is not None and draws.noise.repeated:
        return noise.resample(draws), ""
    return noise.resample(draws), f"{NO_SEEDS}: interval by the scatter about {_about(draws)}"


def _about(draws: SeedDraws) -> str:
    return "a law" if draws.noise is None else "a law and of neighbours about a quadratic"


def _is_plain(law: PowerLaw) -> bool:
    return not law.fixed and law.share == {"E": "all"} and law.huber == PowerLaw.default_huber


def _warn_few_seeds(draws: SeedDraws, dof: float) -> None:
    if draws.noise is None or not draws.noise.repeated:
        rests = f"the intervals rest on the scatter about {_about(draws)}" if dof else "there is no interval"
        said = f"No configuration was repeated with another seed: {rests}. Run some with two seeds or more."
    elif dof < FEW_DOF:
        said = (
            f"The noise of the losses is known from {dof:.0f} degree(s) of freedom only; the intervals are wide for "
            "it. Repeat more configurations with another seed."
        )
    else:
        return
    warnings.warn(said, FewSeeds, stacklevel=5)
