"""What is concluded of a study, for its pages and the front page: tables, or else why there are none."""

import re
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.analysis.answer import answer, well_measured
from algoprogress.analysis.bands import gain_bands, law_curves
from algoprogress.analysis.formatting import flop_text, gain_text, interval_text, number
from algoprogress.analysis.runs import usable_runs
from algoprogress.analysis.site.plots import MOST_NAMED, Columns, by_arm
from algoprogress.analysis.tables import StudyTables, study_tables
from algoprogress.analysis.warnings import AnalysisWarning

GAIN_COLUMNS = ["compute", "ceg", "ceg_low", "ceg_high", "censored"]
ALL_BUT_WORDS = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Conclusion:
    """A study with its runs, and its tables or the reason why there are none."""

    study: dict[str, Any]
    runs: pd.DataFrame
    tables: StudyTables | None
    message: str
    level: float = 0.95

    @property
    def name(self) -> str:
        return str(self.study["name"])

    @property
    def arms(self) -> list[str]:
        return list(self.study["arms"])

    @property
    def address(self) -> str:
        return f"studies/{self.name}.html"

    def arm_address(self, arm: str) -> str:
        return f"studies/{self.name}/{self.slugs[arm]}.html"

    @cached_property
    def arm_of(self) -> dict[str, str]:
        """Run -> its arm."""
        return dict(zip(self.runs["run_id"], self.runs["arm"], strict=True))

    @cached_property
    def slugs(self) -> dict[str, str]:
        """Arm -> name of its file: what is no letter or digit is left out, and a number tells equals apart."""
        found: dict[str, str] = {}
        for k, arm in enumerate(self.arms):
            slug = ALL_BUT_WORDS.sub("-", arm).strip("-.") or f"arm-{k}"
            taken = {s.lower() for s in found.values()}  # file systems that know no capitals
            found[arm] = slug if slug.lower() not in taken else f"{slug}-{k}"
        return found

    @cached_property
    def answer(self) -> str:
        return answer(self.tables) if self.tables is not None else self.message

    @property
    def warnings(self) -> list[str]:
        return self.tables.warnings if self.tables is not None else []

    def warnings_of(self, arm: str) -> list[str]:
        """Those that name the arm, and those that name no arm and so concern all."""
        return [w for w, named in self._named.items() if arm in named or not named]

    @cached_property
    def _named(self) -> dict[str, set[str]]:
        """Warning -> the arms that it names."""
        return {w: {a for a in self.arms if _names(w, a)} for w in self.warnings}

    @cached_property
    def points(self) -> dict[str, Columns]:
        """Arm -> compute, loss, run_id, learning_rate of its runs that count."""
        assert self.tables is not None
        usable = usable_runs(self.runs[self.runs["arm"].isin(self.tables.fit.arms)])
        return by_arm(usable[["arm", "compute", "loss", "run_id", "learning_rate"]])

    @cached_property
    def gains(self) -> dict[str, Columns]:
        """Arm -> its interpolated gains."""
        assert self.tables is not None
        table = self.tables.gains
        return by_arm(table.loc[table["method"] == "interpolated", ["arm", *GAIN_COLUMNS]])

    @cached_property
    def bands(self) -> dict[str, Columns]:
        """Arm -> its gain by law on a grid of compute, as `gain_bands`."""
        assert self.tables is not None
        return by_arm(gain_bands(self.tables.fit, self.level))

    @cached_property
    def laws(self) -> dict[str, Columns]:
        """Arm -> its loss by law, as `law_curves`."""
        assert self.tables is not None
        return by_arm(law_curves(self.tables.fit, self.level))

    @cached_property
    def front(self) -> dict[str, Columns]:
        """Arm -> its frontier."""
        assert self.tables is not None
        return by_arm(self.tables.fit.front[["arm", "rung", "compute", "loss"]])

    @property
    def span(self) -> float:
        """Decades of compute in which gains of many arms were measured; -1 where there is no gain."""
        rungs = [] if self.tables is None else well_measured(self.tables.fit)
        return float(np.log10(rungs[-1] / rungs[0])) if rungs else -1.0


def conclude(study: dict[str, Any], runs: pd.DataFrame, level: float, n_resamples: int, seed: int) -> Conclusion:
    """The tables of a study; a study of which nothing can be concluded says so on its page, and stops no other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AnalysisWarning)  # they stand in the tables
        try:
            tables = study_tables(study, runs, level=level, n_resamples=n_resamples, seed=seed)
        except ValueError as error:
            return Conclusion(study, runs, None, f"Nothing can be concluded yet: {error}", level)
    return Conclusion(study, runs, tables, "", level)


def summary(found: list[Conclusion]) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """A row for each arm that is no baseline, at the largest compute it was measured at, and addresses of its cells."""
    rows, studies, arms = [], [], []
    for c in found:
        if c.tables is None:
            continue
        gains, slopes = _records(c.tables.efficiency), _records(c.tables.scale_dependence)
        for arm in c.tables.fit.arms:
            own = [r for r in gains.get(arm, []) if r["method"] != "baseline"]
            if not own:
                continue
            top = max(r["compute"] for r in own)
            by = {r["method"]: r for r in reversed(own) if r["compute"] == top}
            slope = {
                r["method"]: number(r["slope"], 2) + interval_text(r["slope_low"], r["slope_high"])
                for r in reversed(slopes.get(arm, []))
                if r["range"] == "measured" and not np.isnan(r["slope"])
            }
            extrapolated = "law" in by and str(by["law"]["note"]).startswith("extrapolated")
            rows.append(
                {
                    "study": c.name,
                    "arm": arm,
                    "over": c.tables.fit.baseline,
                    "at compute (FLOP)": flop_text(top),
                    "gain, interpolated": _gain(by.get("interpolated")),
                    "gain, law": _gain(by.get("law")) + (" (extrapolated)" if extrapolated else ""),
                    "d ln CEG / d ln C": slope.get("interpolated", slope.get("law", "–")),
                    "runs": int(next(r["n_runs"] for r in own if r["compute"] == top)),
                    "to be doubted": ", ".join(dict.fromkeys(w.split(":")[0] for w in c.warnings_of(arm))),
                }
            )
            studies.append(c.address)
            arms.append(c.arm_address(arm))
    return pd.DataFrame(rows), {"study": studies, "arm": arms}


def _records(table: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Arm -> its rows."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_dict("records"):
        found.setdefault(str(row["arm"]), []).append({str(k): v for k, v in row.items()})
    return found


def lead(found: list[Conclusion]) -> Conclusion | None:
    """The study that the front page begins with: the one that measured gains over the widest range of compute.

    Of those that have as much, one whose arms can be told apart in a figure, and of these the one with most runs.
    """
    with_gains = [c for c in found if c.span >= 0]
    return max(with_gains, key=lambda c: (c.span, len(c.arms) <= MOST_NAMED, len(c.runs))) if with_gains else None


def _gain(row: dict[str, Any] | None) -> str:
    return "–" if row is None else gain_text(row["ceg"], row["ceg_low"], row["ceg_high"], row["censored"])


def _names(text: str, arm: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(arm)}(?![\w-])", text) is not None
