"""Which size is best at each compute?  Minima of isoFLOP curves, and N*(C) and D*(C) through them (approach 2)."""

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from algoprogress.analysis.formatting import flop_text
from algoprogress.analysis.isoflop.bias import law_for, minimum_bias
from algoprogress.analysis.isoflop.estimators import estimator_named
from algoprogress.analysis.isoflop.minima import Curves, Estimator, Minima
from algoprogress.analysis.isoflop.noise import Noise, given_noise, local_noise
from algoprogress.analysis.isoflop.points import isoflop_points, moved_to_budget, windowed
from algoprogress.analysis.isoflop.powers import power
from algoprogress.analysis.isoflop.resample import Resamples, between, log_tokens, resample
from algoprogress.analysis.isoflop.result import IsoFLOP, curves_of
from algoprogress.analysis.laws.base import Law
from algoprogress.analysis.warnings import LawsDisagree, NotIdentified

EDGES = {-1: "<", 0: "", 1: ">"}
FALLS = {"<": "the loss still falls at the smallest size", ">": "the loss still falls at the largest size", "": ""}
WINDOW = 10.0  # an order of magnitude; with more, parabolas of published runs move their exponents by up to .08
MISFIT = 3.0  # times the noise: a curve that is wrong by more is said to be; ours
TOLERATED = 1e-3  # nats/token: below, a difference in loss is of no interest
NO_NOISE = "no budget has four sizes, so that the noise is not known: no interval"


def isoflop(
    runs: pd.DataFrame,
    estimator: str = "parabola",
    budgets: Sequence[float] | None = None,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
    noise: float | Sequence[float] | np.ndarray | None = None,
    resolution: float = 0.0,
    window: float = WINDOW,
    law: Law | None = None,
    scatter: bool = True,
    medians: bool = False,
) -> IsoFLOP:
    """The best size at each compute budget, and N*(C) = G C^a, D*(C) = H C^b through the minima.

    Args:
        runs: rows of one arm with n_params, tokens, loss; see `isoflop_points`.
        estimator: "parabola" or "robust_parabola" (of loss in ln N), "akima" (an interpolant), "akima_grid" (its least
            value on a grid), each by budget; "surface" (one curve for all budgets).
        budgets: FLOP, where the runs do not say theirs.
        level, n_resamples, seed: of the intervals. Each resample adds noise to every loss and estimates again.
        noise: standard deviation of a loss in nats/token, one for all budgets or one for each, or the noise of each
            resample itself (n_resamples, points by budget and size); by default from the points (`local_noise`).
        resolution: least standard error of ln N* in the power laws, as a share of the mean step of the sizes in ln.
        window: only sizes within this factor of the best one tried at their budget; infinite for all. The farther off,
            the less a size says of where the minimum is, and the more it bends a parabola.
        law: fitted, in n_params and tokens, for the bias and for runs off their budget; by default Hoffmann's law of
            the runs.
        scatter: let the power laws allow for scatter of the minima beyond their errors; without, errors alone weigh.
        medians: draw the power laws through the medians of the resampled minima in place of the minima themselves.

    With "akima_grid", noise 0.002, resolution 0.33, an infinite window, medians and no scatter this is the method of
    Porian et al. 2024.

    Returns:
        `.minima` [compute, n_params, n_params_low, n_params_high, tokens, tokens_low, tokens_high, loss, loss_low,
        loss_high, n_sizes, n_runs, at_edge, noise, misfit, bias, estimator, note]. at_edge is "<" where the best size
        lies below those tried, ">" above; such a minimum is no more than a bound and is left out of the power laws.
        misfit (nats/token) is how far the losses lie from the curve that the minimum was found on. bias is ln of the
        estimate over the true minimum on losses of `law` without noise.
        `.exponents` [quantity, exponent, low, high, stderr, coefficient, r2, scatter, bias, n_budgets, n_runs,
        estimator, level, note]: least squares weighted by the errors of the minima and their scatter (`power`).

    Raises:
        ValueError: see `isoflop_points`; or there is no such estimator.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is a share between 0 and 1, not {level}.")
    if not window > 1:
        raise ValueError(f"window is a factor above 1 in n_params, not {window}.")
    if not resolution >= 0:
        raise ValueError(f"resolution is a share of the distance between sizes, 0 or more, not {resolution}.")
    found = estimator_named(estimator)
    law = law_for(runs) if law is None else law
    points, moved = moved_to_budget(isoflop_points(runs, budgets), law)
    everyone = len(points)
    points = windowed(points, window)
    said = [moved, f"{everyone - len(points)} sizes beyond a factor of {window:g} left out" * (len(points) < everyone)]
    curves = curves_of(points)
    loss, log_d = points["loss"].to_numpy(float), np.log(points["tokens"].to_numpy(float))
    estimate = found.minima(curves, loss[None])
    known = local_noise(curves, loss) if noise is None else given_noise(noise, curves)
    resamples = None
    if known is not None and n_resamples > 1:
        resamples = resample(found, curves, loss, log_d, known, n_resamples, seed, resolution)
    minima = _minima(points, curves, estimate, np.exp(log_tokens(curves, log_d, estimate.log_n_BK)[0]), known)
    minima["misfit"] = _misfit(found, curves, loss)
    minima["bias"] = np.nan if law is None else minimum_bias(points, law, estimator)["bias"].to_numpy()
    minima["estimator"] = estimator
    _add_intervals(minima, resamples, level)
    minima["note"] = _notes(minima, resamples, [*said, NO_NOISE * (known is None and n_resamples > 1)])
    used = minima["at_edge"].eq("").to_numpy()
    if not used.all():
        where = ", ".join(flop_text(c) for c in minima["compute"][~used])
        warnings.warn(f"The best size lies beyond those tried at {where} FLOP.", NotIdentified, stacklevel=2)
    _warn_of_misfit(minima, estimator)
    powers = {}
    if used.sum() > 1:
        unknown = np.full(len(used), np.nan)
        sd = (unknown, unknown) if resamples is None else (resamples.sd_n_K, resamples.sd_d_K)
        for quantity, error in zip(("n_params", "tokens"), sd, strict=True):
            y = np.log(minima[quantity].to_numpy(float))
            if medians and resamples is not None:
                y = _medians(resamples.log_n_BK if quantity == "n_params" else resamples.log_d_BK)
            powers[quantity] = power(curves.budgets[used], y[used], error[used], scatter)
    fit = IsoFLOP(estimator, points, minima, pd.DataFrame(), powers, resamples, level)
    return replace(fit, exponents=_exponents(fit))


def _medians(values_BK: np.ndarray) -> np.ndarray:
    """Of the copies that have their minimum inside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no copy has one: not a number, and no power law
        return np.asarray(np.nanmedian(np.where(np.isfinite(values_BK), values_BK, np.nan), axis=0))


def _minima(
    points: pd.DataFrame, curves: Curves, estimate: Minima, tokens: np.ndarray, noise: Noise | None
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "compute": points["budget"].iloc[[s.start for s in curves.slices]].to_numpy(),
            "n_params": np.exp(estimate.log_n_BK[0]),
            "tokens": tokens,
            "loss": estimate.loss_BK[0],
            "n_sizes": [s.stop - s.start for s in curves.slices],
            "n_runs": [int(points["n_runs"].iloc[s].sum()) for s in curves.slices],
            "at_edge": [EDGES[e] for e in estimate.edge_BK[0]],
            "noise": np.nan if noise is None else noise.sd_K,
        }
    )


def _misfit(found: Estimator, curves: Curves, loss: np.ndarray) -> np.ndarray:
    """Root mean square of how far the losses lie from the curves that minima were found on, nats/token."""
    squared = (found.lines(curves, loss, curves) - loss) ** 2
    return np.array([np.sqrt(squared[s].mean()) for s in curves.slices])


def _warn_of_misfit(minima: pd.DataFrame, estimator: str) -> None:
    far = minima["misfit"] > np.maximum(MISFIT * minima["noise"], TOLERATED)
    if far.any():
        worst = minima.loc[minima["misfit"].where(far).idxmax()]
        warnings.warn(
            f"The losses lie up to {worst['misfit']:.3f} nats/token (root mean square) from the curves of {estimator} "
            f"where their noise is {worst['noise']:.3f}: narrow the window, or interpolate with akima.",
            LawsDisagree,
            stacklevel=3,
        )


def _add_intervals(minima: pd.DataFrame, resamples: Resamples | None, level: float) -> None:
    ends = dict.fromkeys(("n_params", "tokens", "loss"), np.full((2, len(minima)), np.nan))
    if resamples is not None:
        with np.errstate(over="ignore"):
            ends = {
                "n_params": np.exp(between(resamples.log_n_BK, level)),
                "tokens": np.exp(between(resamples.log_d_BK, level)),
                "loss": between(resamples.loss_BK, level),
            }
        ends["loss"] = np.array([np.fmin(ends["loss"][0], minima["loss"]), np.fmax(ends["loss"][1], minima["loss"])])
    for quantity, (low, high) in ends.items():
        at = list(minima.columns).index(quantity) + 1
        minima.insert(at, f"{quantity}_low", low)
        minima.insert(at + 1, f"{quantity}_high", high)


def _notes(minima: pd.DataFrame, resamples: Resamples | None, general: list[str]) -> list[str]:
    notes = []
    for k, edge in enumerate(minima["at_edge"]):
        outside = 0.0 if resamples is None or edge else resamples.outside_K[k]
        said = [FALLS[edge], f"at an edge in {outside:.0%} of the resamples" if outside else "", *general]
        notes.append("; ".join(s for s in said if s))
    return notes


def _exponents(fit: IsoFLOP) -> pd.DataFrame:
    used = fit.minima["at_edge"].eq("")
    log_c, bias = np.log(fit.minima["compute"][used].to_numpy(float)), fit.minima["bias"][used].to_numpy(float)
    rows = []
    for quantity, sign in (("n_params", 1), ("tokens", -1)):  # at one compute, ln D falls as ln N rises
        row = dict.fromkeys(("exponent", "low", "high", "stderr", "coefficient", "r2", "scatter", "bias"), np.nan)
        note = "a power law needs two budgets with their best size between sizes tried"
        if fit.powers:
            law = fit.powers[quantity]
            row |= {"exponent": law.exponent, "stderr": law.stderr, "coefficient": np.exp(law.log_coefficient)}
            row |= {"r2": law.r2, "scatter": law.tau, "bias": sign * float(law.refit(log_c, bias[None])[0][0])}
            row["low"], row["high"], note = _interval(fit, quantity, int(used.sum()))
        rows.append({"quantity": quantity, **row, "n_budgets": int(used.sum()), "note": note})
    table = pd.DataFrame(rows)
    told = {"n_runs": int(fit.minima["n_runs"][used].sum()), "estimator": fit.estimator, "level": fit.level}
    return table.assign(**told)[[*[c for c in table if c != "note"], *told, "note"]]


def _interval(fit: IsoFLOP, quantity: str, n: int) -> tuple[float, float, str]:
    law = fit.powers[quantity]
    if fit.resamples is not None:
        slopes = fit.refits(quantity)[0]
        low, high = between(slopes[np.isfinite(slopes)], fit.level)
        return float(low), float(high), ""
    if n < 3:
        return np.nan, np.nan, "no interval: two budgets, and the noise is not known"
    half = float(student_t.ppf((1 + fit.level) / 2, n - 2)) * law.stderr
    return law.exponent - half, law.exponent + half, "interval from the scatter about the line alone"
