"""Gains of our own runs as entries of an account: laws fitted to a study, curves, and fitted effects that interact."""

import warnings
import zlib
from dataclasses import dataclass, replace

import numpy as np

from algoprogress.analysis.accounting import Account, Unfitted
from algoprogress.analysis.gain_curves import LawPair, MeasuredCurve, PowerSum, Reference
from algoprogress.analysis.gains import gains_of
from algoprogress.analysis.interactions import InteractionModel
from algoprogress.analysis.joint import JointFit
from algoprogress.analysis.laws.power import PowerLaw


def fitted_pair(fit: JointFit, arm: str, baseline: str | None = None, study: str = "") -> LawPair:
    """The gain of an arm over another by their joint power laws: both of one resample are drawn together.

    Args:
        fit: from `fit_jointly`; the first of its laws that is a power law.
        arm: the new algorithm.
        baseline: the old one; default: that of the fit.
        study: of the fit: gains of one study are drawn together, and those of another apart (`_order`).
    """
    base = fit.baseline if baseline is None else baseline
    of = next((f for f in fit.fits if isinstance(f.law, PowerLaw)), None)
    if of is None or of.law is None:
        raise ValueError(f"No power law is fitted: {fit.first.note or 'none was asked for'}.")
    fitted = of.law
    if unknown := [a for a in (arm, base) if a not in of.arms]:
        raise ValueError(f"There is no law of {', '.join(unknown)}; there are laws of {', '.join(of.arms)}.")
    names = list(fitted.parameters)
    at = [names.index(p) for p in ("E", "A", "alpha")]

    def law(name: str, theta: np.ndarray) -> PowerSum:
        E, A, alpha = np.moveaxis(fitted.quantities(list(fitted.arms_).index(name), theta)[..., at], -1, 0)
        return PowerSum(E, A[..., None], alpha[..., None])

    low = max(of.measured[a][0] for a in (arm, base))
    high = min(of.measured[a][1] for a in (arm, base))
    measured = (low, high) if low < high else None
    theta, drawn = fitted.theta_, of.theta_BP
    if drawn is None:
        return LawPair(law(base, theta), law(arm, theta), measured=measured)
    drawn = drawn[_order(len(drawn), study)]
    return LawPair(law(base, theta), law(arm, theta), law(base, drawn), law(arm, drawn), measured)


def measured_curve(fit: JointFit, arm: str, study: str = "") -> MeasuredCurve:
    """The gain of an arm over the baseline where it was measured, and nothing beyond: at rungs where it is no bound.

    A resample without a gain somewhere has another in its place, so that the k-th of every arm are of one resample.
    """
    table = gains_of(fit, method="interpolated")
    rows = np.flatnonzero((table["arm"] == arm) & (table["censored"] == "") & table["ceg"].notna())
    if not len(rows):
        raise ValueError(f"No gain of {arm} over {fit.baseline} was measured: it is a bound at every compute.")
    log_c, log_ceg = np.log(table["compute"].to_numpy()[rows]), np.log(table["ceg"].to_numpy()[rows])
    drawn = table.attrs["resamples"].log_ceg_BR[:, rows]
    whole = np.isfinite(drawn).all(1)
    if not whole.any():
        return MeasuredCurve(log_c, log_ceg, None)
    at = np.arange(len(drawn))
    at[~whole] = np.resize(np.flatnonzero(whole), (~whole).sum())
    return MeasuredCurve(log_c, log_ceg, drawn[at][_order(len(drawn), study)])


def _order(n: int, study: str) -> np.ndarray:
    """An order of resamples, one for each study.

    Resamples of two studies of one design begin from the same random numbers: in their own order the noise of one would
    be that of the other, and their gains would rise and fall together.
    """
    return np.random.default_rng(zlib.crc32(study.encode())).permutation(n) if study else np.arange(n)


@dataclass(frozen=True)
class FittedEffect:
    """What one more innovation gains, by the fitted interaction model: the same at every compute.

    Args:
        added: the innovation.
        present: those that are there already; None for its main effect alone, averaged over the others.
    """

    model: InteractionModel
    added: str
    present: tuple[str, ...] | None

    uncertain = True

    @property
    def measured(self) -> tuple[float, float]:
        return self.model.measured

    def log_gain(self, log_c: np.ndarray, reference: Reference) -> np.ndarray:
        return np.full(len(log_c), float(self._weights() @ self.model.b))

    def draws(self, log_c: np.ndarray, reference: Reference, n: int, rng: np.random.Generator) -> np.ndarray:
        b, share = self.model.draws(n)  # the model's own, so that entries are drawn jointly
        return np.repeat((self._weights(share) * b).sum(1)[:, None], len(log_c), 1)

    def alone(self) -> "FittedEffect":
        """The main effect, as the rule "none" multiplies it."""
        return replace(self, present=None)

    def _weights(self, share: np.ndarray | None = None) -> np.ndarray:
        if self.present is None:
            return np.array([float(e == self.added) for e in self.model.effects])
        return self.model.step(self.added, self.present, share)


def with_fitted_interactions(account: Account, model: InteractionModel) -> Account:
    """The account with the rule "fitted": every entry that interacts gains what the model says it adds.

    Entries are added in the order of adoption, to a recipe that has none of the model's innovations, so that together
    they gain the model's ln CEG of all of them over none of them: main effects and two-way terms.

    Raises:
        ValueError: no entry that interacts is a factor of the model.
    """
    order = sorted((e for e in account.entries if e.interacts and e.counted), key=lambda e: e.year)
    known = [e.key for e in order if e.key in model.factors]
    if not known:
        raise ValueError(
            f"No entry of {account.name} that interacts is a factor of the fitted model: give entries of these keys "
            f"interacts = true: {', '.join(model.factors)}."
        )
    if unknown := [e.key for e in order if e.key not in model.factors]:
        warnings.warn(
            f"{account.name}: {', '.join(unknown)} is in no fitted interaction model and multiplies by its own gain.",
            Unfitted,
            stacklevel=2,
        )
    gains = {key: FittedEffect(model, key, tuple(known[:k])) for k, key in enumerate(known)}
    spare = [e.key for e in account.entries if not e.counted and e.key in model.factors]  # for bases: after all others
    gains |= {key: FittedEffect(model, key, tuple(k for k in known if k != key)) for key in spare}
    entries = tuple(replace(e, gain=gains[e.key]) if e.interacts and e.key in gains else e for e in account.entries)
    return replace(account, entries=entries, interaction="fitted")


def without_interactions(account: Account) -> Account:
    """The account with the rule "none": gains multiply, a fitted one by its main effect."""
    entries = tuple(replace(e, gain=e.gain.alone()) if isinstance(e.gain, FittedEffect) else e for e in account.entries)
    return replace(account, entries=entries, interaction="none")
