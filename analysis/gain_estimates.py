"""One gain with its interval and its note: between interpolated frontiers, or by a law."""

import numpy as np

from algoprogress.analysis.formatting import flop_text
from algoprogress.analysis.interpolation import MARGIN, Interpolant
from algoprogress.analysis.joint import JointFit
from algoprogress.analysis.lawfit import LawFit

# A row of the gain table, the resampled ln CEG (B,) and ln compute (B,), None where there are none.
Found = tuple[dict, np.ndarray | None, np.ndarray | None]


class Lines:
    """Each arm's interpolated frontier, measured and resampled, made once."""

    def __init__(self, fit: JointFit) -> None:
        self.fit = fit
        self.again: dict[str, Interpolant] = {}

    def measured(self, arm: str) -> Interpolant:
        points = self.fit.points(arm)
        return Interpolant.through(np.log(points["compute"].to_numpy(float)), points["loss"].to_numpy(float))

    def resampled(self, arm: str) -> Interpolant:
        if arm not in self.again:
            assert self.fit.resamples is not None
            self.again[arm] = Interpolant.through(*self.fit.resamples.of(arm))
        return self.again[arm]


def interpolated(fit: JointFit, lines: Lines, arm: str, target: float, at: str, reference: str, level: float) -> Found:
    """The gain between the measured points of two arms at one compute or loss."""
    base, own = lines.measured(fit.baseline), lines.measured(arm)
    row: dict = {"law": "", "ceg_low": np.nan, "ceg_high": np.nan, "censored": "", "note": ""}
    if at == "compute":
        of, whose = (own, arm) if reference == "new" else (base, fit.baseline)
        if not of.inside(np.log(target)):
            span = f"{flop_text(np.exp(of.first))} to {flop_text(np.exp(of.last))}"
            note = f"outside the measured compute of {whose} ({span} FLOP)"
            return {**row, "compute": target, "loss": np.nan, "ceg": np.nan, "note": note}, None, None
    if flat := [a for a, line in ((arm, own), (fit.baseline, base)) if line.flat]:
        note = f"the losses of {' and '.join(flat)} do not fall with compute: any compute reaches them"
        nothing = {"compute": target if at == "compute" else np.nan, "loss": np.nan, "ceg": np.nan}
        return {**row, **nothing, "note": note}, None, None
    log_compute, loss, log_ceg, bound, flag = _gain_between(base, own, target, at, reference)
    censored = str(flag)
    value = float(bound if censored else log_ceg)
    row |= {
        "compute": target if at == "compute" else float(np.exp(log_compute)),
        "loss": float(loss),
        "ceg": float(np.exp(value)),
        "censored": censored,
    }
    if np.isnan(value):
        row["compute"] = target if at == "compute" else np.nan
        return {**row, "note": f"neither {arm} nor {fit.baseline} was measured near this loss"}, None, None
    row["note"] = "; ".join(filter(None, [_censored_note(fit.baseline, censored), fit.interval_note]))
    if fit.resamples is None:
        return row, None, None
    again = _gain_between(lines.resampled(fit.baseline), lines.resampled(arm), target, at, reference)
    log_c, log_g, bounds, flags = again[0], again[2], again[3], again[4]
    # what a censored resample leaves open is open in the interval too
    low = np.where(flags == ">", bounds, np.where(flags == "<", -np.inf, log_g))
    high = np.where(flags == "<", bounds, np.where(flags == ">", np.inf, log_g))
    row["ceg_low"], row["ceg_high"] = interval(low, high, value, level, censored)
    return row, log_g, log_c


def _gain_between(
    base: Interpolant, own: Interpolant, target: float, at: str, reference: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """ln compute, loss, ln CEG (along the end segments if need be), ln of what the points prove, how censored."""
    shape = base.first.shape
    loss = np.full(shape, target)
    log_target, inside = np.full(shape, np.log(target)), np.full(shape, "")
    if at == "loss":
        log_base, flag_base = base.log_c_for(loss)
        log_own, flag_own = own.log_c_for(loss)
    elif reference == "new":
        log_own, flag_own = log_target, inside
        loss = own.loss_at(log_own)
        log_base, flag_base = base.log_c_for(loss)
    else:
        log_base, flag_base = log_target, inside
        loss = base.loss_at(log_base)
        log_own, flag_own = own.log_c_for(loss)
    known_base = np.select([flag_base == ">", flag_base == "<"], [base.last, base.first], log_base)
    known_own = np.select([flag_own == ">", flag_own == "<"], [own.last, own.first], log_own)
    neither = (flag_base != "") & (flag_base == flag_own)
    with np.errstate(invalid="ignore"):
        log_ceg = np.where(neither, np.nan, log_base - log_own)
        bound = np.where(neither, np.nan, known_base - known_own)
    turned = np.select([flag_own == ">", flag_own == "<"], ["<", ">"], "")
    flag = np.where(neither, "", np.where(flag_base != "", flag_base, turned))
    return known_own if reference == "new" else known_base, loss, log_ceg, bound, flag


def by_law(fit: JointFit, of: LawFit, arm: str, target: float, at: str, reference: str, level: float) -> Found:
    """The gain between two arms of a joint fit, each at the law's own best allocation."""
    base = fit.baseline
    row: dict = {"law": of.name, "ceg_low": np.nan, "ceg_high": np.nan, "censored": "", "note": of.note}
    at_once = {"compute": target, "loss": np.nan} if at == "compute" else {"compute": np.nan, "loss": target}
    if of.law is None or arm not in of.arms or base not in of.arms:
        note = of.note or f"{arm} or {base} was measured at one compute only: no law"
        return {**row, **at_once, "ceg": np.nan, "note": note}, None, None

    def solve(theta: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        first, second = (arm, base) if reference == "new" else (base, arm)
        if at == "loss":
            loss = np.full(1 if theta is None else len(theta), target)
            c_first, c_second = (of.compute_for([target], a, theta).reshape(-1) for a in (first, second))
        else:
            loss = of.best_loss([target], first, theta).reshape(-1)
            c_first = np.full(len(loss), target)
            c_second = of.compute_for(loss, second) if theta is None else of.compute_for_each(loss, second, theta)
        ratio = c_second / c_first if reference == "new" else c_first / c_second
        return c_first, loss, np.log(ratio)

    with np.errstate(divide="ignore", invalid="ignore"):
        compute, loss, log_ceg = (float(x[0]) for x in solve(None))
    row |= {"compute": compute, "loss": loss, "ceg": float(np.exp(log_ceg)) if np.isfinite(log_ceg) else np.nan}
    if not np.isfinite(log_ceg):
        return {**row, **at_once, "note": "the law of one arm never reaches this loss"}, None, None
    own_c, base_c = (compute, compute * row["ceg"]) if reference == "new" else (compute / row["ceg"], compute)
    notes = [beyond(of, arm, own_c), beyond(of, base, base_c), of.note, of.interval_note]
    if fit.interval_note and of.from_frontier and of.theta_BP is not None and fit.resamples is not None:
        notes.append(fit.interval_note)
    elif fit.interval_note and of.from_frontier and of.theta_BP is None and not of.interval_note:
        notes.append("no interval")
    row["note"] = "; ".join(filter(None, notes))
    if of.theta_BP is None:
        return row, None, None
    with np.errstate(divide="ignore", invalid="ignore"):
        compute_B, _, log_ceg_B = solve(of.theta_BP)
        row["ceg_low"], row["ceg_high"] = interval(log_ceg_B, log_ceg_B, log_ceg, level)
        return row, log_ceg_B, np.log(compute_B)


def interval(
    low_B: np.ndarray, high_B: np.ndarray, value: float, level: float, censored: str = ""
) -> tuple[float, float]:
    """Quantiles of resampled ln CEG as gains, around the estimate; open on the side that censoring leaves open.

    A resample without a gain (neither arm near the loss) says nothing: it is open on both sides.
    """
    tail = (1 - level) / 2
    low = min(float(np.quantile(np.where(np.isnan(low_B), -np.inf, low_B), tail, method="lower")), value)
    high = max(float(np.quantile(np.where(np.isnan(high_B), np.inf, high_B), 1 - tail, method="higher")), value)
    with np.errstate(over="ignore"):
        return 0.0 if censored == "<" else float(np.exp(low)), float("inf") if censored == ">" else float(np.exp(high))


def _censored_note(baseline: str, censored: str) -> str:
    if censored == ">":
        return f"{baseline} does not reach this loss at any compute measured"
    return f"{baseline} already does better at its smallest compute measured" if censored == "<" else ""


def beyond(of: LawFit, arm: str, compute: float) -> str:
    """A note where a law is asked about compute at which the arm was not measured."""
    least, most = of.measured[arm]
    if least * np.exp(-MARGIN) <= compute <= most * np.exp(MARGIN):
        return ""
    return f"extrapolated: {arm} at {flop_text(compute)} FLOP, measured from {flop_text(least)} to {flop_text(most)}"
