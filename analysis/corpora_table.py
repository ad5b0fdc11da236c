"""Does a gain hold on other text?  The gains of a study beside those of the studies that ask the same elsewhere."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.analysis.formatting import flop_text, gain_text
from algoprogress.analysis.gains import Reference, gains_of
from algoprogress.analysis.innovation_table import innovation_table
from algoprogress.analysis.joint import fit_jointly
from algoprogress.analysis.warnings import AnalysisWarning

GAIN = ["ceg", "ceg_low", "ceg_high", "censored"]
COLUMNS = ["asked", "compute", "corpus", *GAIN, "other_corpus", *(f"other_{c}" for c in GAIN), "agree"]

Asked = tuple[Mapping[str, Any], pd.DataFrame]  # a study as stored, and its runs


def corpora_table(
    study: Asked,
    others: Sequence[Asked],
    reference: Reference = "new",
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Each gain between measured points on either corpus; empty where no other study asks the same.

    Losses of two texts do not compare, gains in compute do.

    Returns:
        [asked, compute, corpus, ceg, ceg_low, ceg_high, censored, other_corpus, other_ceg, other_ceg_low,
        other_ceg_high, other_censored, agree]: asked is an arm, or an innovation and its recipe; agree says whether the
        two intervals overlap, and is missing where there is no interval.
    """
    if not others:
        return pd.DataFrame(columns=COLUMNS)
    own, *rest = (_gains(*asked, reference, level, n_resamples, seed) for asked in (study, *others))
    tables = []
    for (_, runs), gains in zip(others, rest, strict=True):
        table = own.merge(gains.rename(columns={c: f"other_{c}" for c in GAIN}), on=["asked", "compute"])
        tables.append(table.assign(corpus=corpus_of(study[1]), other_corpus=corpus_of(runs)))
    table = pd.concat(tables, ignore_index=True)
    ends = table[["ceg_low", "ceg_high", "other_ceg_low", "other_ceg_high"]].astype(float)
    overlap = (ends["ceg_low"] <= ends["other_ceg_high"]) & (ends["other_ceg_low"] <= ends["ceg_high"])
    return table.assign(agree=overlap.astype("boolean").mask(ends.isna().any(axis=1)))[COLUMNS]


def corpus_of(runs: pd.DataFrame) -> str:
    """The name of the text that the runs read."""
    return ", ".join(map(str, runs["corpus"].dropna().unique())) if "corpus" in runs else ""


def _gains(
    study: Mapping[str, Any], runs: pd.DataFrame, reference: Reference, level: float, n_resamples: int, seed: int
) -> pd.DataFrame:
    """[asked, compute, ceg, ceg_low, ceg_high, censored]: of innovations where there are any, else of arms."""
    table = innovation_table(study, runs, reference, level, n_resamples, seed)
    if len(table):
        way = table["direction"].map({"out": "out of", "in": "into"})
        return table.assign(asked=table["innovation"] + ", " + way + " " + table["recipe"])[["asked", "compute", *GAIN]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AnalysisWarning)  # the study's own tables say it
        fit = fit_jointly(runs, study["baseline"], None, n_resamples=n_resamples, seed=seed)
        gains = pd.DataFrame(gains_of(fit, method="interpolated", reference=reference, level=level))
    missing = {column: np.nan for column in ("ceg_low", "ceg_high") if column not in gains}
    return gains.rename(columns={"arm": "asked"}).assign(**missing)[["asked", "compute", *GAIN]]


def shown_corpora(table: pd.DataFrame) -> pd.DataFrame:
    """As people read it: a column for each corpus."""
    rows = []
    for (asked, compute), part in table.groupby(["asked", "compute"], sort=False):
        first = part.iloc[0]
        row = {"asked": asked, "compute (FLOP)": flop_text(compute)}
        row[f"CEG on {first['corpus']}"] = gain_text(*(first[c] for c in GAIN))
        for r in part.to_dict("records"):
            row[f"CEG on {r['other_corpus']}"] = gain_text(*(r[f"other_{c}"] for c in GAIN))
        disagree = part["agree"].eq(False).fillna(False).any()
        rows.append({**row, "intervals": "apart" if disagree else "–" if part["agree"].isna().all() else "overlap"})
    return pd.DataFrame(rows)
