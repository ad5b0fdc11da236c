"""How much more compute would the baseline need?  CEG(C) = C_baseline(L_arm(C)) / C, by points and by law."""

import warnings
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from algoprogress.analysis.formatting import flop_text
from algoprogress.analysis.interpolation import MARGIN, Interpolant
from algoprogress.analysis.joint import JointFit, Share, fit_jointly
from algoprogress.analysis.laws.law import LossLaw
from algoprogress.analysis.warnings import Extrapolation, LawsDisagree

Method = Literal["interpolated", "law", "both"]
Reference = Literal["new", "old"]
COLUMNS = [
    "arm",
    "compute",
    "loss",
    "ceg",
    "ceg_low",
    "ceg_high",
    "method",
    "law",
    "reference",
    "n_runs",
    "censored",
    "note",
]
APART = (
    1.5  # without intervals, two estimates of a gain that differ by more than this factor disagree: a choice of ours
)


class GainResamples(dict):  # type: ignore[type-arg]
    """The resampled gains behind a gain table, kept in its `attrs` for `scale_dependence`.

    An (empty) dict, because pandas writes `attrs` as JSON into Parquet files; shared and not copied between tables made
    from one another, because it never changes.

    Attributes:
        keys: [arm, method, compute, loss], one row per row of the gain table.
        log_ceg_BR, log_compute_BR: for each resample, nan where there is none; a censored gain goes on along the end
            segment.
        level: of the intervals.
        p_equal: arm -> p of the test of equal exponents, made when it is asked for.
    """

    def __init__(
        self,
        keys: pd.DataFrame,
        log_ceg_BR: np.ndarray,
        log_compute_BR: np.ndarray,
        level: float,
        p_equal: Callable[[str], float],
    ) -> None:
        super().__init__()
        self.keys_, self.log_ceg_BR, self.log_compute_BR = keys, log_ceg_BR, log_compute_BR
        self.level, self.p_equal = level, p_equal

    def __deepcopy__(self, memo: dict) -> "GainResamples":
        return self

    def __eq__(self, other: object) -> bool:
        return self is other


def compute_equivalent_gain(
    runs: pd.DataFrame,
    baseline: str,
    at_compute: float | Sequence[float] | None = None,
    at_loss: float | Sequence[float] | None = None,
    method: Method = "both",
    reference: Reference = "new",
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
    law: str | LossLaw = "power",
    share: Share | None = None,
) -> pd.DataFrame:
    """CEG(C) = C_baseline(L_arm(C)) / C at the arm's compute C (reference "new"), or C / C_arm(L_baseline(C)) ("old").

    Args:
        runs: one row per (arm, run) with arm, compute (FLOP), loss (nats/token); see `frontier`.
        baseline: the arm that the others are compared with; it has no rows of its own (its gain is 1).
        at_compute: FLOP; by default the rungs of the ladder that the arm was trained at.
        at_loss: nats/token, in place of at_compute: C_baseline(L) / C_arm(L).
        method: "interpolated" (lines in log compute between frontier points), "law", or both, one row each.
        level: of the intervals, by resampling of seeds (see `bootstrap`).
        law, share: the law and what its arms share; by default L = E + A C^-alpha with one E.

    Returns:
        [arm, compute, loss, ceg, ceg_low, ceg_high, method, law, reference, n_runs, censored, note]. Where the baseline
        never reaches the arm's loss, censored is ">" and ceg the largest gain the runs prove; "<" where the baseline's
        smallest compute already does better. n_runs counts the runs of the arm and of the baseline.

    Example:
        >>> import pandas as pd
        >>> runs = pd.DataFrame({"arm": ["old", "old", "new", "new"], "compute": [1e11, 1e12, 1e11, 1e12],
        ...                      "loss": [2.4, 1.8, 2.1, 1.7]})
        >>> gains = compute_equivalent_gain(runs, baseline="old", method="interpolated", n_resamples=0)
        >>> gains[["compute", "ceg", "censored"]].round(2).values.tolist()
        [[100000000000.0, 3.16, ''], [1000000000000.0, 1.0, '>']]
    """
    if at_compute is not None and at_loss is not None:
        raise ValueError("Give at_compute or at_loss, not both.")
    for name, value, allowed in (
        ("method", method, ("interpolated", "law", "both")),
        ("reference", reference, ("new", "old")),
    ):
        if value not in allowed:
            raise ValueError(f"{name} is one of {', '.join(allowed)}, not {value!r}.")
    if not 0 < level < 1:
        raise ValueError(f"level is a share between 0 and 1, not {level}.")
    wanted = None if method == "interpolated" else law
    fit = fit_jointly(runs, baseline, wanted, share, n_resamples, seed, strict=method == "law")
    return gains_of(fit, at_compute, at_loss, method, reference, level)


def gains_of(
    fit: JointFit,
    at_compute: float | Sequence[float] | None = None,
    at_loss: float | Sequence[float] | None = None,
    method: Method = "both",
    reference: Reference = "new",
    level: float = 0.95,
) -> pd.DataFrame:
    """`compute_equivalent_gain` from frontiers and a law that are already fitted."""
    at = "compute" if at_loss is None else "loss"
    asked = at_loss if at == "loss" else fit.rungs if at_compute is None else at_compute
    targets = np.atleast_1d(np.asarray(asked, float))
    if not (np.isfinite(targets) & (targets > 0)).all():
        raise ValueError(f"at_{at} must be positive numbers, not {asked}.")
    rows: list[dict] = []
    ceg_R: list[np.ndarray] = []
    compute_R: list[np.ndarray] = []
    B = 0 if fit.resamples is None else len(fit.resamples.loss_Bn)
    lines = _Lines(fit)
    for arm in fit.arms:
        if arm == fit.baseline:
            continue
        own = set(fit.points(arm)["rung"])
        for target in targets:
            if at == "compute" and at_compute is None and target not in own:
                continue  # a rung of the ladder that this arm was not trained at
            for kind in ("interpolated", "law") if method == "both" else (method,):
                if kind == "interpolated":
                    row, log_ceg, log_compute = _interpolated(fit, lines, arm, float(target), at, reference, level)
                else:
                    row, log_ceg, log_compute = _by_law(fit, arm, float(target), at, reference, level)
                rows.append(
                    {"arm": arm, "method": kind, "reference": reference, "n_runs": fit.n_runs(arm, fit.baseline), **row}
                )
                ceg_R.append(log_ceg if log_ceg is not None else np.full(B, np.nan))
                compute_R.append(log_compute if log_compute is not None else np.full(B, np.nan))
    table = pd.DataFrame(rows, columns=COLUMNS)
    _warn_extrapolated(table)
    _warn_disagreement(table)
    shape = (B, len(rows))
    table.attrs["resamples"] = GainResamples(
        table[["arm", "method", "compute", "loss"]].copy(),
        np.stack(ceg_R, 1) if rows else np.empty(shape),
        np.stack(compute_R, 1) if rows else np.empty(shape),
        level,
        fit.equal_exponents,
    )
    return table


Found = tuple[dict, np.ndarray | None, np.ndarray | None]


class _Lines:
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


def _interpolated(
    fit: JointFit, lines: _Lines, arm: str, target: float, at: str, reference: str, level: float
) -> Found:
    base, own = lines.measured(fit.baseline), lines.measured(arm)
    row: dict = {"law": "", "ceg_low": np.nan, "ceg_high": np.nan, "censored": "", "note": ""}
    if at == "compute":
        of, whose = (own, arm) if reference == "new" else (base, fit.baseline)
        if not of.inside(np.log(target)):
            span = f"{flop_text(np.exp(of.first))} to {flop_text(np.exp(of.last))}"
            note = f"outside the measured compute of {whose} ({span} FLOP)"
            return {**row, "compute": target, "loss": np.nan, "ceg": np.nan, "note": note}, None, None
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
        return {**row, "note": f"neither {arm} nor {fit.baseline} was measured near this loss"}, None, None
    row["note"] = _censored_note(fit, arm, censored)
    if fit.resamples is None:
        return {**row, "note": "; ".join(filter(None, [row["note"], fit.interval_note]))}, None, None
    again = _gain_between(lines.resampled(fit.baseline), lines.resampled(arm), target, at, reference)
    log_c, log_g, bounds, flags = again[0], again[2], again[3], again[4]
    low = np.where(
        flags == ">", bounds, np.where(flags == "<", -np.inf, log_g)
    )  # what a censored resample leaves open is
    high = np.where(flags == "<", bounds, np.where(flags == ">", np.inf, log_g))  # open in the interval too
    row["ceg_low"], row["ceg_high"] = _interval(low, high, value, level, censored)
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


def _by_law(fit: JointFit, arm: str, target: float, at: str, reference: str, level: float) -> Found:
    row: dict = {"law": fit.law_name, "ceg_low": np.nan, "ceg_high": np.nan, "censored": "", "note": fit.law_note}
    nothing = {
        **row,
        "compute": target if at == "compute" else np.nan,
        "loss": target if at == "loss" else np.nan,
        "ceg": np.nan,
    }
    if fit.law is None or arm not in fit.law_arms or fit.baseline not in fit.law_arms:
        return (
            {**nothing, "note": fit.law_note or f"{arm} or {fit.baseline} was measured at one compute only: no law"},
            None,
            None,
        )
    law = fit.law

    def solve(theta: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        first, second = (arm, fit.baseline) if reference == "new" else (fit.baseline, arm)
        if at == "loss":
            loss = np.full(1 if theta is None else len(theta), target)
            c_first, c_second = (law.compute_for([target], a, theta).reshape(-1) for a in (first, second))
        else:
            loss = law.predict([target], first, theta).reshape(-1)
            c_first = np.full(len(loss), target)
            c_second = law.compute_for(loss, second) if theta is None else law.compute_for_each(loss, second, theta)
        ratio = c_second / c_first if reference == "new" else c_first / c_second
        return c_first, loss, np.log(ratio)

    with np.errstate(divide="ignore", invalid="ignore"):
        compute, loss, log_ceg = (float(x[0]) for x in solve(None))
    row |= {"compute": compute, "loss": loss, "ceg": np.exp(log_ceg)}
    if not np.isfinite(log_ceg):
        return {**row, "ceg": np.nan, "note": "the law of one arm never reaches this loss"}, None, None
    own_c, base_c = (compute, compute * row["ceg"]) if reference == "new" else (compute / row["ceg"], compute)
    row["note"] = "; ".join(filter(None, [_beyond(fit, arm, own_c), _beyond(fit, fit.baseline, base_c)]))
    if fit.theta_BP is None:
        return {**row, "note": "; ".join(filter(None, [row["note"], fit.interval_note]))}, None, None
    with np.errstate(divide="ignore", invalid="ignore"):
        compute_B, _, log_ceg_B = solve(fit.theta_BP)
        log_ceg_B = np.where(np.isnan(log_ceg_B), np.inf, log_ceg_B)
        row["ceg_low"], row["ceg_high"] = _interval(log_ceg_B, log_ceg_B, log_ceg, level)
        return row, log_ceg_B, np.log(compute_B)


def _interval(
    low_B: np.ndarray, high_B: np.ndarray, value: float, level: float, censored: str = ""
) -> tuple[float, float]:
    """Quantiles of resampled ln CEG as gains, around the estimate; open on the side that censoring leaves open."""
    tail = (1 - level) / 2
    low = min(float(np.quantile(low_B, tail, method="lower")), value)
    high = max(float(np.quantile(high_B, 1 - tail, method="higher")), value)
    return 0.0 if censored == "<" else float(np.exp(low)), float("inf") if censored == ">" else float(np.exp(high))


def _censored_note(fit: JointFit, arm: str, censored: str) -> str:
    if censored == ">":
        return f"{fit.baseline} does not reach this loss at any compute measured"
    return f"{fit.baseline} already does better at its smallest compute measured" if censored == "<" else ""


def _beyond(fit: JointFit, arm: str, compute: float) -> str:
    measured = fit.points(arm)["compute"]
    if measured.min() * np.exp(-MARGIN) <= compute <= measured.max() * np.exp(MARGIN):
        return ""
    span = f"{flop_text(measured.min())} to {flop_text(measured.max())}"
    return f"extrapolated: {arm} at {flop_text(compute)} FLOP, measured from {span}"


def _warn_extrapolated(table: pd.DataFrame) -> None:
    beyond = table[table["note"].str.startswith("extrapolated")]
    if len(beyond):
        arms = ", ".join(pd.unique(beyond["arm"]))
        warnings.warn(
            f"{len(beyond)} gains by law ({arms}) rest on compute outside the measured range; their notes say which.",
            Extrapolation,
            stacklevel=4,
        )


def _warn_disagreement(table: pd.DataFrame) -> None:
    measured, law = (table[table["method"] == m].reset_index(drop=True) for m in ("interpolated", "law"))
    if len(measured) != len(law):
        return
    apart = []
    for m, w in zip(measured.itertuples(), law.itertuples(), strict=True):
        if np.isnan(m.ceg) or np.isnan(w.ceg):
            continue
        if np.isnan(m.ceg_low) or np.isnan(w.ceg_low):
            low, high = (0 if m.censored == "<" else m.ceg / APART), (np.inf if m.censored == ">" else m.ceg * APART)
            differ = not low <= w.ceg <= high
        else:
            differ = m.ceg_low > w.ceg_high or w.ceg_low > m.ceg_high
        if differ:
            apart.append(f"{m.arm} at {flop_text(m.compute)} FLOP ({m.censored or '='} {m.ceg:.3g} and {w.ceg:.3g})")
    if apart:
        warnings.warn(
            f"The interpolated gain and the gain by law disagree for {'; '.join(apart)}. Trust the interpolated one "
            "inside the measured range.",
            LawsDisagree,
            stacklevel=4,
        )
