"""How much more compute would the baseline need?  CEG(C) = C_baseline(L_arm(C)) / C, by points and by law."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from algoprogress.analysis.agreement import disagreements, warn_disagreement, warn_extrapolated
from algoprogress.analysis.gain_estimates import Found, Lines, by_law, interpolated
from algoprogress.analysis.joint import JointFit, fit_jointly
from algoprogress.analysis.lawfit import Share
from algoprogress.analysis.laws.base import Law

Method = Literal["interpolated", "law", "both"]
Reference = Literal["new", "old"]
METHODS = {"interpolated": ("interpolated",), "law": ("law",), "both": ("interpolated", "law")}
REFERENCES = ("new", "old")
COLUMNS = [
    *("arm", "compute", "loss", "ceg", "ceg_low", "ceg_high"),
    *("method", "law", "reference", "n_runs", "censored", "note"),
]
NUMBERS = ("compute", "loss", "ceg", "ceg_low", "ceg_high")


class GainResamples(dict):  # type: ignore[type-arg]
    """The resampled gains behind a gain table, kept in its `attrs` for `scale_dependence`.

    An (empty) dict, because pandas writes `attrs` as JSON into Parquet files; shared and not copied between tables made
    from one another, because it never changes.

    Attributes:
        keys: [arm, method, law, compute, loss], one row per row of the gain table.
        log_ceg_BR, log_compute_BR: for each resample, nan where there is none; a censored gain goes on along the end
            segment.
        level: of the intervals.
        p_equal: (arm, law) -> p of the test of equal exponents, made when it is asked for.
    """

    def __init__(
        self,
        keys: pd.DataFrame,
        log_ceg_BR: np.ndarray,
        log_compute_BR: np.ndarray,
        level: float,
        p_equal: Callable[[str, str], float],
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
    law: str | Law | Sequence[str | Law] = "power",
    share: Share | None = None,
    cluster: str | None = None,
) -> pd.DataFrame:
    """CEG(C) = C_baseline(L_arm(C)) / C at the arm's compute C (reference "new"), or C / C_arm(L_baseline(C)) ("old").

    Args:
        runs: one row per (arm, run) with arm, compute (FLOP), loss (nats/token); see `frontier`. A law in size and data
            also needs n_params and tokens.
        baseline: the arm that the others are compared with; it has no rows of its own (its gain is 1).
        at_compute: FLOP; by default the rungs of the ladder that the arm was trained at.
        at_loss: nats/token, in place of at_compute: C_baseline(L) / C_arm(L).
        method: "interpolated" (lines in log compute between frontier points), "law", or both, one row each.
        level: of the intervals.
        n_resamples: of the seeds (see `bootstrap`), or of the runs for a law in size and data; 0 for no intervals.
        law, share: the law and what its arms share; several laws give a row each. By default L = E + A C^-alpha with
            one E. A law in size and data, such as "chinchilla", is fitted to all runs of each arm (approach 3 of
            Hoffmann et al. 2022), and the gain is that between best allocations.
        cluster: runs that have noise in common, such as the training that several checkpoints are of: a column, or
            "compute_bin". By default runs of one configuration, and those of one seed at one rung.

    Returns:
        [arm, compute, loss, ceg, ceg_low, ceg_high, method, law, reference, n_runs, censored, note]. Where the baseline
        never reaches the arm's loss, censored is ">" and ceg the largest gain the runs prove; "<" where the baseline's
        smallest compute already does better. n_runs counts the runs of the arm and of the baseline. Where a law and the
        interpolated gain differ, the note says so and `LawsDisagree` is warned of.

    Example:
        >>> import pandas as pd
        >>> runs = pd.DataFrame({"arm": ["old", "old", "new", "new"], "compute": [1e11, 1e12, 1e11, 1e12],
        ...                      "loss": [2.4, 1.8, 2.1, 1.7]})
        >>> gains = compute_equivalent_gain(runs, baseline="old", method="interpolated", n_resamples=0)
        >>> gains[["compute", "ceg", "censored"]].round(2).values.tolist()
        [[100000000000.0, 3.16, ''], [1000000000000.0, 1.0, '>']]
    """
    check_question(at_compute, at_loss, method, reference, level)
    wanted = None if method == "interpolated" else law
    fit = fit_jointly(runs, baseline, wanted, share, n_resamples, seed, strict=method == "law", cluster=cluster)
    check_arms(fit)
    return gains_of(fit, at_compute, at_loss, method, reference, level)


def gains_of(
    fit: JointFit,
    at_compute: float | Sequence[float] | None = None,
    at_loss: float | Sequence[float] | None = None,
    method: Method = "both",
    reference: Reference = "new",
    level: float = 0.95,
) -> pd.DataFrame:
    """`compute_equivalent_gain` from frontiers and laws already fitted; without rows where there is but a baseline."""
    check_question(at_compute, at_loss, method, reference, level)
    at = "compute" if at_loss is None else "loss"
    asked = at_loss if at == "loss" else fit.rungs if at_compute is None else at_compute
    targets = np.atleast_1d(np.asarray(asked, float))
    if targets.ndim != 1 or not (np.isfinite(targets) & (targets > 0)).all():
        raise ValueError(f"at_{at} must be positive numbers, not {asked}.")
    B = 0 if fit.resamples is None else len(fit.resamples.loss_Bn)
    B = max([B, *(len(f.theta_BP) for f in fit.fits if f.theta_BP is not None)])
    lines = Lines(fit)
    rows: list[dict] = []
    found: list[Found] = []
    for arm in (a for a in fit.arms if a != fit.baseline):
        own = set(fit.points(arm)["rung"])
        for target in map(float, targets):
            if at == "compute" and at_compute is None and target not in own:
                continue  # a rung of the ladder that this arm was not trained at
            common = {"arm": arm, "reference": reference, "_target": target}
            if "interpolated" in METHODS[method]:
                found.append(interpolated(fit, lines, arm, target, at, reference, level))
                rows.append({**common, "method": "interpolated", "n_runs": fit.n_runs(arm, fit.baseline)})
            for of in fit.fits if "law" in METHODS[method] else ():
                found.append(by_law(fit, of, arm, target, at, reference, level))
                rows.append({**common, "method": "law", "n_runs": of.runs_of(arm, fit.baseline)})
    table = pd.DataFrame(
        [row | estimate for row, (estimate, _, _) in zip(rows, found, strict=True)], columns=[*COLUMNS, "_target"]
    )
    table = table.astype(dict.fromkeys(NUMBERS, float) | {"n_runs": int})
    notes = disagreements(table, by_scatter=bool(fit.interval_note))
    warn_extrapolated(table, 2)
    warn_disagreement(table, notes, 2)
    for i, note in notes.items():
        table.loc[i, "note"] = "; ".join(filter(None, [table.loc[i, "note"], note]))
    table = table.drop(columns="_target")
    empty = np.full(B, np.nan)
    table.attrs["resamples"] = GainResamples(
        table[["arm", "method", "law", "compute", "loss"]].copy(),
        np.stack([empty if g is None else g for _, g, _ in found], 1) if found else np.empty((B, 0)),
        np.stack([empty if c is None else c for _, _, c in found], 1) if found else np.empty((B, 0)),
        level,
        fit.equal_exponents,
    )
    return table


def check_arms(fit: JointFit) -> None:
    """Raise a ValueError unless there is an arm to compare with the baseline."""
    if set(fit.arms) <= {fit.baseline}:
        raise ValueError(f"There is no arm but the baseline {fit.baseline!r}: a gain is that of one arm over another.")


def check_question(at_compute: object, at_loss: object, method: str, reference: str, level: float) -> None:
    """Raise a ValueError for what no gain can be asked for, before anything is fitted."""
    if at_compute is not None and at_loss is not None:
        raise ValueError("Give at_compute or at_loss, not both.")
    for name, value, allowed in (("method", method, METHODS), ("reference", reference, REFERENCES)):
        if value not in allowed:
            raise ValueError(f"{name} is one of {', '.join(allowed)}, not {value!r}.")
    if not 0 < level < 1:
        raise ValueError(f"level is a share between 0 and 1, not {level}.")
