"""Gains of our own runs as entries of an account: the laws fitted to a study, with the resamples behind them."""

import numpy as np

from algoprogress.analysis.gain_curves import LawPair, MeasuredCurve, PowerSum
from algoprogress.analysis.gains import gains_of
from algoprogress.analysis.joint import JointFit
from algoprogress.analysis.laws.power import PowerLaw


def fitted_pair(fit: JointFit, arm: str, baseline: str | None = None) -> LawPair:
    """The gain of an arm over another by their joint power laws: both of one resample are drawn together.

    Args:
        fit: from `fit_jointly`; the first of its laws that is a power law.
        arm: the new algorithm.
        baseline: the old one; default: that of the fit.
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
    return LawPair(law(base, theta), law(arm, theta), law(base, drawn), law(arm, drawn), measured)


def measured_curve(fit: JointFit, arm: str) -> MeasuredCurve:
    """The gain of an arm over the baseline where it was measured, and nothing beyond: at rungs where it is no bound."""
    table = gains_of(fit, method="interpolated")
    rows = np.flatnonzero((table["arm"] == arm) & (table["censored"] == "") & table["ceg"].notna())
    if not len(rows):
        raise ValueError(f"No gain of {arm} over {fit.baseline} was measured: it is a bound at every compute.")
    log_c, log_ceg = np.log(table["compute"].to_numpy()[rows]), np.log(table["ceg"].to_numpy()[rows])
    drawn = table.attrs["resamples"].log_ceg_BR[:, rows]
    drawn = drawn[np.isfinite(drawn).all(1)]
    return MeasuredCurve(log_c, log_ceg, drawn if len(drawn) else None)
