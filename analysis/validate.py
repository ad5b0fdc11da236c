"""Does a law fitted to small runs predict large ones?  Held-out extrapolation: log error, and cover of its interval."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from algoprogress.analysis.bootstrap import draw_seeds
from algoprogress.analysis.frontier import frontier
from algoprogress.analysis.identifiability import residuals
from algoprogress.analysis.lawfit import (
    LawFit,
    Share,
    fit_frontier,
    fit_runs,
    quietly,
    resample_frontiers,
    resample_runs,
    unfitted,
)
from algoprogress.analysis.laws.base import Law
from algoprogress.analysis.laws.law import LossLaw
from algoprogress.analysis.runs import check_runs, usable_runs

COLUMNS = [
    *("arm", "law", "compute", "n_params", "tokens", "loss", "predicted", "low", "high"),
    *("log_error", "inside", "beyond", "n_fit", "note"),
]


def validate(
    runs: pd.DataFrame,
    split: str,
    law: str | Law | Sequence[str | Law] = "power",
    share: Share | None = None,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
    cluster: str | None = None,
    max_epochs: float = 1.0,
) -> pd.DataFrame:
    """Fit laws to the runs below a split, predict those above it.

    The interval is for the measured loss: the law refitted to each resample, and noise as that of the fitted points. A
    law in compute is fitted to and asked for the frontier; another is fitted to and asked for every run.

    Args:
        runs: one row per run with compute (FLOP), loss (nats/token) and, where there are several, arm.
        split: a pandas query for the runs that are held out, such as "compute > 1e20".
        law: a name or an unfitted law, or several, each with rows of its own.
        share, cluster: as for `compute_equivalent_gain`.
        level: of the intervals.
        n_resamples: 0 for no intervals.
        seed: of the resampling.

    Returns:
        [arm, law, compute, n_params, tokens, loss, predicted, low, high, log_error, inside, beyond, n_fit, note], one
        row per held-out point: log_error = ln(predicted / loss), inside whether low <= loss <= high, beyond its compute
        over the largest that was fitted, n_fit the points of the arm behind the fit. A point without a prediction has a
        note.

    Raises:
        ValueError: the split is no query, or leaves nothing to fit or to predict.
    """
    frame = runs if "arm" in runs else runs.assign(arm="all")
    check_runs(frame)
    if not 0 < level < 1:
        raise ValueError(f"level is a share between 0 and 1, not {level}.")
    kept = usable_runs(frame, max_epochs).drop(columns=["rung", "configuration"])
    held_out = _split(kept, split)
    parts = []
    for one in [law] if isinstance(law, str | Law) else list(law):
        given = unfitted(one)
        if isinstance(given, LossLaw):
            front, points = frontier(kept[~held_out], max_epochs), frontier(kept[held_out], max_epochs)
            fit = fit_frontier(given, front, share)
            if n_resamples:
                fit = resample_frontiers(fit, quietly(draw_seeds, kept[~held_out], n_resamples, seed, max_epochs))
        else:
            front, points = kept[~held_out], kept[held_out]
            fit = fit_runs(given, front, share, max_epochs)
            if n_resamples:
                fit = resample_runs(fit, n_resamples, seed, cluster)
        n_fit = front.groupby("arm").size()
        for arm, part in points.groupby("arm", sort=False):
            largest = float(front.loc[front["arm"] == arm, "compute"].max())
            table = _predict(fit, given, str(arm), part, level, seed)
            parts.append(table.assign(beyond=part["compute"].to_numpy(float) / largest, n_fit=n_fit.get(arm, 0)))
    return pd.concat(parts, ignore_index=True).reindex(columns=COLUMNS)


def validation_summary(table: pd.DataFrame) -> pd.DataFrame:
    """How well each arm and law did: [arm, law, n_held_out, mean_log_error, rms_log_error, coverage, n_fit, note].

    Args:
        table: from `validate`.
    """
    rows = []
    for (arm, law), part in table.groupby(["arm", "law"], sort=False):
        known = part.dropna(subset=["log_error"])
        inside = known["inside"].dropna().astype(float)
        rows.append(
            {
                "arm": arm,
                "law": law,
                "n_held_out": len(part),
                "mean_log_error": known["log_error"].mean(),
                "rms_log_error": float(np.sqrt((known["log_error"] ** 2).mean())) if len(known) else np.nan,
                "coverage": inside.mean() if len(inside) else np.nan,
                "n_fit": int(part["n_fit"].max()),
                "note": "; ".join(n for n in pd.unique(part["note"]) if n),
            }
        )
    return pd.DataFrame(rows)


def _split(runs: pd.DataFrame, split: str) -> pd.Series:
    try:
        held_out = runs.eval(split)
    except Exception as error:
        raise ValueError(
            f"split {split!r} is not a query on the columns of the runs ({error}); give one such as 'compute > 1e20'."
        ) from None
    if not (isinstance(held_out, pd.Series) and held_out.dtype == bool):
        raise ValueError(f"split {split!r} does not say of each run whether it is held out, as 'compute > 1e20' does.")
    if held_out.all() or not held_out.any():
        which = "all" if held_out.all() else "none"
        span = f"{runs['compute'].min():.3g} to {runs['compute'].max():.3g}"
        raise ValueError(f"split {split!r} holds out {which} of the {len(runs)} runs; their compute is {span} FLOP.")
    return held_out


def _predict(fit: LawFit, law: Law, arm: str, points: pd.DataFrame, level: float, seed: int) -> pd.DataFrame:
    about = {c: points[c].to_numpy(float) if c in points else np.nan for c in ("compute", "n_params", "tokens")}
    loss = points["loss"].to_numpy(float)
    table = pd.DataFrame({"arm": arm, "law": fit.name, **about, "loss": loss})
    table["inside"] = pd.Series(pd.NA, index=table.index, dtype="boolean")
    if fit.law is None or arm not in fit.arms:
        return table.assign(note=fit.note or f"{arm} has too few points below the split")
    fitted = fit.law
    inputs = [points[c].to_numpy(float) for c in fitted.inputs]
    table["predicted"] = fitted.predict(*inputs, arm=arm)
    table["log_error"] = np.log(table["predicted"] / loss)
    table["note"] = fit.interval_note
    if fit.theta_BP is None:
        return table
    again = np.log(quietly(fitted.predict, *inputs, arm=arm, theta=fit.theta_BP))
    rng = np.random.default_rng([seed, 3])
    if fit.scatter is not None:  # Student's t with the sd of the frontier points
        s = fit.scatter
        t = np.sqrt(s.dof / rng.chisquare(s.dof, len(again)))[:, None]
        again = again + s.sd * t * rng.standard_normal(again.shape)
    elif not fit.from_frontier:
        own = residuals(fitted)[fitted.rows_[fitted.arms_.index(arm)]]
        n, P = len(fitted.y_), fitted.sharing_.n_free
        again = again + np.sqrt(n / max(n - P, 1)) * rng.choice(own, again.shape)
    tail = (1 - level) / 2
    low, high = np.exp(np.quantile(again, [tail, 1 - tail], axis=0))
    table["low"], table["high"] = low, high
    table["inside"] = pd.array((low <= loss) & (loss <= high), dtype="boolean")
    return table
