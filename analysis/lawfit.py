"""One law fitted jointly to all arms, and again to each resample: the parametric side of a gain.

A law in compute is fitted to the frontier of each arm, and resampled with it. A law in size and data is fitted to all
runs of each arm, at its own best allocation, and reweighted by configuration or by any cluster of runs; clusters that
arms have in common, such as seeds, are drawn for all of them at once, so that arms stay paired.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from algoprogress.analysis import nested
from algoprogress.analysis.bootstrap import FrontierResamples, SeedDraws
from algoprogress.analysis.laws import laws
from algoprogress.analysis.laws.base import Law
from algoprogress.analysis.laws.law import LossLaw
from algoprogress.analysis.resampling import cluster_labels, fractional_resamples, resamples
from algoprogress.analysis.runs import usable_runs
from algoprogress.analysis.scatter import Scatter, scatter_about
from algoprogress.analysis.sharing import Share
from algoprogress.analysis.warnings import AnalysisWarning, ConvergenceError, FewSeeds

Result = TypeVar("Result")
Unit = Literal["seeds", "configurations", "rungs"]
UNITS = ("seeds", "configurations", "rungs")
# Same text and tokenizer, so the same entropy; a separate E per arm needs many more rungs than a ladder has.
SHARED_E: Share = {"E": "all"}
FEW_CLUSTERS = 10  # with fewer, an interval by resampling clusters is known to be too short (Cameron et al. 2008)
AT_ONCE = 20_000_000  # weights in memory at a time
SAME_FLOP = 0.01  # compute and 6 N D that differ by less, in ln, are one convention


@dataclass(frozen=True)
class LawFit:
    """A law of all arms with what it rests on.

    Attributes:
        law: the joint fit, or None; `note` then says why.
        name: with what was fixed, such as "power, E = 0".
        arms: in the law.
        measured: arm -> least and largest compute of its points, FLOP.
        n_runs: arm -> runs behind it.
        per_6nd: arm -> compute over 6 N D (geometric mean), by which a law in size and data is carried over to the FLOP
            of the runs; 1 for a law in compute.
        theta_BP: the law refitted to each resample, or None; `interval_note` then says why.
        from_frontier: whether it was fitted to frontiers, and resampled with them.
        scatter: noise of the frontier points, where it is known.
    """

    law: Law | None
    name: str
    note: str = ""
    arms: list[str] = field(default_factory=list)
    measured: dict[str, tuple[float, float]] = field(default_factory=dict)
    n_runs: dict[str, int] = field(default_factory=dict)
    per_6nd: dict[str, float] = field(default_factory=dict)
    theta_BP: np.ndarray | None = None
    interval_note: str = ""
    from_frontier: bool = False
    scatter: Scatter | None = None

    def runs_of(self, *arms: str) -> int:
        """Number of runs of some arms that the law rests on."""
        return sum(self.n_runs.get(a, 0) for a in arms)

    def best_loss(self, compute: ArrayLike, arm: str, theta: np.ndarray | None = None) -> np.ndarray:
        """Loss in nats/token of the arm's best allocation at compute in FLOP; (B, ...) with resampled theta."""
        assert self.law is not None
        return self.law.best_loss(np.asarray(compute, float) / self.per_6nd[arm], arm, theta)

    def compute_for(self, loss: ArrayLike, arm: str, theta: np.ndarray | None = None) -> np.ndarray:
        """The least compute in FLOP at which the arm reaches a loss; infinite where never."""
        assert self.law is not None
        return self.law.compute_for(loss, arm, theta) * self.per_6nd[arm]

    def compute_for_each(self, loss_B: np.ndarray, arm: str, theta_BP: np.ndarray) -> np.ndarray:
        """Compute (B,) in FLOP at which each resampled law reaches its own loss."""
        assert self.law is not None
        return self.law.compute_for_each(loss_B, arm, theta_BP) * self.per_6nd[arm]

    def equal_exponents(self, *arms: str) -> float:
        """p of the test that arms share their exponents, the others free: see `nested`."""
        if self.law is None or any(arm not in self.arms for arm in arms):
            return float("nan")
        return nested.equal_exponents(self.law, *arms)


def unfitted(law: str | Law) -> Law:
    """A law by its name, or as it is."""
    return laws[law]() if isinstance(law, str) else law


def name_of(law: Law) -> str:
    """The name of a law with what was fixed."""
    return law.name + "".join(f", {p} = {v:g}" for p, v in law.fixed.items())


def fit_frontier(law: LossLaw, front: pd.DataFrame, share: Share | None = None, strict: bool = False) -> LawFit:
    """A law in compute, fitted to the frontiers of the arms that were measured at two computes or more.

    Args:
        law: unfitted.
        front: `frontier(runs)`.
        share: by default one E for all arms.
        strict: raise when the law can not be fitted, in place of a note.
    """
    n_rungs = front.groupby("arm", sort=False).size()
    arms = [a for a in n_rungs.index if n_rungs[a] >= 2]
    data = front[front["arm"].isin(arms)]
    if share is None:
        share = {} if "E" in law.fixed else SHARED_E
    try:
        if data.empty:
            raise ValueError("no arm was measured at two computes or more")
        fitted = law.fit(data, share)
    except (ValueError, ConvergenceError) as error:
        if strict:
            raise
        return LawFit(None, name_of(law), note=f"no law: {error}", from_frontier=True)
    of = data.groupby("arm", sort=False)
    return LawFit(
        fitted,
        name_of(law),
        arms=arms,
        measured={a: (float(c.min()), float(c.max())) for a, c in of["compute"]},
        n_runs=of["n_runs"].sum().to_dict(),
        per_6nd=dict.fromkeys(arms, 1.0),
        from_frontier=True,
    )


def fit_runs(
    law: Law, runs: pd.DataFrame, share: Share | None = None, max_epochs: float = 1.0, strict: bool = False
) -> LawFit:
    """A law in size and data, fitted to all runs of each arm at their final loss.

    Args:
        law: unfitted.
        runs: one row per run with arm, compute, loss and the law's inputs.
        share: by default each arm has parameters of its own, as in the published fits.
        strict: raise when the law can not be fitted, in place of a note.
    """
    try:
        if missing := [c for c in law.inputs if c not in runs]:
            raise ValueError(f"{law.name} needs a column {', '.join(missing)}")
        kept = usable_runs(runs, max_epochs)
        fitted = law.fit(kept, share)
    except (ValueError, ConvergenceError) as error:
        if strict:
            raise
        return LawFit(None, name_of(law), note=f"no law: {error}")
    per_6nd, note = _conventions(kept)
    of = kept.groupby("arm", sort=False)
    return LawFit(
        fitted,
        name_of(law),
        note,
        list(fitted.arms_),
        {a: (float(c.min()), float(c.max())) for a, c in of["compute"]},
        of.size().to_dict(),
        per_6nd,
    )


def resample_frontiers(fit: LawFit, draws: SeedDraws, unit: Unit = "seeds") -> LawFit:
    """A law in compute, fitted again to each resample.

    Args:
        fit: from `fit_frontier`.
        draws: of the seeds of the same runs.
        unit: what is resampled: seeds (with the scatter about the law), configurations within each rung, or whole
            rungs, each drawn for all arms at once.
    """
    law = fit.law
    if not isinstance(law, LossLaw):
        return fit
    fit = replace(fit, scatter=scatter_about(law, draws))
    if unit == "rungs":
        return _by_rungs(fit, law, draws)
    if unit == "configurations":
        again: FrontierResamples | None = draws.by_configurations()
    else:
        again = fit.scatter.resample(draws) if fit.scatter is not None else None
    if again is None:
        return fit
    where = again.columns_of(law.runs_)
    theta = law.refit(y_Bn=np.log(again.loss_Bn[:, where]), log_compute_Bn=again.log_compute_Bn[:, where])
    return replace(fit, theta_BP=theta)


def _by_rungs(fit: LawFit, law: Law, draws: SeedDraws) -> LawFit:
    """Refits to rungs drawn with replacement; resamples that do not determine the law are left out."""
    rungs = np.unique(law.runs_["rung"].to_numpy(float), return_inverse=True)[1]
    weight = np.concatenate(list(resamples(law.rows_, rungs, draws.n_resamples, draws.seed, AT_ONCE)))
    each = np.stack([(weight[:, r] > 0).sum(1) for r in law.rows_], 1)
    enough = (each >= 2).all(1) & (each.sum(1) > law.sharing_.n_free)
    if enough.mean() < 0.5:
        return replace(fit, interval_note=f"{len(np.unique(rungs))} rungs are too few to be resampled: no interval")
    return replace(fit, theta_BP=law.refit(weight[enough]))


def resample_runs(fit: LawFit, n_resamples: int, seed: int = 0, cluster: str | None = None) -> LawFit:
    """A law in size and data, fitted again to clusters of runs with random weights (`fractional_resamples`).

    Args:
        fit: from `fit_runs`.
        n_resamples: number B of resamples.
        seed: of the resampling.
        cluster: what is drawn: a column, "compute_bin", or by default configurations (with all their seeds).
    """
    law = fit.law
    if law is None:
        return fit
    unit = "configuration" if cluster is None else cluster
    groups = np.unique(cluster_labels(law.runs_, unit), return_inverse=True)[1]
    few = min(len(np.unique(groups[r])) for r in law.rows_)
    if few < 2:
        return replace(fit, interval_note=f"all runs of an arm have one {unit}: no interval")
    if few < FEW_CLUSTERS:
        warnings.warn(
            f"An arm has {few} different values of {unit} only; intervals from resampling fewer than {FEW_CLUSTERS} "
            "are too short.",
            FewSeeds,
            stacklevel=4,
        )
    parts = [law.refit(w) for w in fractional_resamples(law.rows_, groups, n_resamples, seed, AT_ONCE)]
    return replace(fit, theta_BP=np.concatenate(parts))


def _conventions(runs: pd.DataFrame) -> tuple[dict[str, float], str]:
    """compute / 6 N D of each arm, and a note where it is not 1."""
    ratio = np.log(
        runs["compute"].astype(float) / (6.0 * runs["n_params"].astype(float) * runs["tokens"].astype(float))
    )
    mean = ratio.groupby(runs["arm"], sort=False).mean()
    per_6nd = {a: float(np.exp(v)) if abs(v) > SAME_FLOP else 1.0 for a, v in mean.items()}
    if all(v == 1.0 for v in per_6nd.values()):
        return per_6nd, ""
    said = ", ".join(f"{v:.2f} for {a}" for a, v in per_6nd.items())
    return per_6nd, f"compute is 6 N D times {said}"


def quietly(call: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
    """What a call returns, without what it warns of: the same was said before, or it is a means only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AnalysisWarning)
        return call(*arguments, **options)
