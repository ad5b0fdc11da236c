"""The tables of a study, from its runs: efficiency, scale dependence, frontier, laws, differences, tuning."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.analysis.corpora_table import corpora_table, shown_corpora
from algoprogress.analysis.exponent_table import exponent_table, shown_exponents
from algoprogress.analysis.formatting import flop_text, gain_text, interval_text, markdown, number
from algoprogress.analysis.gains import Reference
from algoprogress.analysis.innovation_table import innovation_table
from algoprogress.analysis.interactions import interaction_table
from algoprogress.analysis.joint import JointFit
from algoprogress.analysis.runs import excluded_runs, usable_runs
from algoprogress.analysis.scale import scale_dependence
from algoprogress.analysis.study_fit import compared_runs, runs_in_order, study_fit
from algoprogress.analysis.tuning_tables import care_table, tuning_table

TITLES = {
    "innovations": "What each innovation is worth",
    "interactions": "Main effects and interactions",
    "corpora": "Does it hold on other text?",
    "exponents": "How the best size and number of tokens grow with compute",
    "efficiency": "Compute-equivalent gain at each compute",
    "scale_dependence": "Does the gain depend on scale?",
    "frontier": "Best configuration at each compute",
    "laws": "Fitted laws",
    "arms": "How the arms differ from the baseline",
    "counts": "How carefully each arm was tuned",
    "care": "How much tuning each arm got",
    "tuning": "The sweep behind each learning rate",
    "speed": "How fast the runs trained",
}


OF_SOME = ("innovations", "interactions", "corpora", "exponents", "care", "tuning")  # studies


@dataclass(frozen=True)
class StudyTables:
    """Tables of numbers (FLOP, nats/token), one row per fact; `shown` gives them as people read them.

    Attributes:
        efficiency: [arm, compute, loss, ceg, ceg_low, ceg_high, method, law, reference, n_runs, n_seeds, censored,
            n_censored, note]; loss is the measured frontier, the baseline has ceg 1, n_censored counts the arm's rows.
        scale_dependence: `scale_dependence(gains)`.
        frontier, laws, arms, counts, speed: see the functions below.
        innovations, interactions, corpora, exponents, care, tuning: see the functions of these names; empty where a
            study has none.
        warnings: sentences to print beside the tables.
        fit: the frontiers, law and resamples that they come from.
        gains: the gain table (its `attrs` hold the resamples).
    """

    efficiency: pd.DataFrame
    scale_dependence: pd.DataFrame
    frontier: pd.DataFrame
    laws: pd.DataFrame
    arms: pd.DataFrame
    counts: pd.DataFrame
    speed: pd.DataFrame
    innovations: pd.DataFrame
    interactions: pd.DataFrame
    corpora: pd.DataFrame
    exponents: pd.DataFrame
    care: pd.DataFrame
    tuning: pd.DataFrame
    warnings: list[str]
    fit: JointFit
    gains: pd.DataFrame
    study: dict[str, Any]

    def items(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """(name, table), in the order to read them."""
        for name in TITLES:
            yield name, getattr(self, name)

    def shown(self) -> dict[str, pd.DataFrame]:
        """The tables as text, gains with their intervals."""
        return {
            "efficiency": _shown_efficiency(self.efficiency),
            "scale_dependence": _shown_slopes(self.scale_dependence),
            "frontier": self.frontier.drop(columns=["rung", "configuration_id"], errors="ignore").assign(
                **{c: self.frontier[c].map(flop_text) for c in ("compute", "compute_budget") if c in self.frontier}
            ),
            "laws": _shown_laws(self.laws),
            "arms": self.arms,
            "counts": self.counts.assign(compute=self.counts["compute"].map(flop_text)),
            "speed": _shown_speed(self.speed),
            "innovations": _shown_innovations(self.innovations),
            "interactions": self.interactions,
            "corpora": shown_corpora(self.corpora),
            "exponents": shown_exponents(self.exponents),
            "care": self.care.assign(sweep_compute=self.care["sweep_compute"].map(flop_text)),
            "tuning": self.tuning.assign(compute_budget=self.tuning["compute_budget"].map(flop_text)),
        }


def study_tables(
    study: dict[str, Any],
    runs: pd.DataFrame,
    reference: Reference = "new",
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
    max_epochs: float = 1.0,
    others: Sequence[tuple[dict[str, Any], pd.DataFrame]] = (),
) -> StudyTables:
    """Every table of a study.

    Args:
        study: as stored: name, question, baseline, arms, differences.
        runs: one row per (arm, run) of the study with every status, so that diverged runs are counted.
        others: studies that ask the same on other corpora, each with its runs.
    """
    runs = runs_in_order(study, runs)
    found = study_fit(study, runs, reference, level, n_resamples, seed, max_epochs)
    fit, gains, said, compared = found.fit, found.gains, list(found.warnings), compared_runs(study, runs)
    counts = count_table(runs, fit, max_epochs)
    if (n := int(counts["n_over_one_epoch"].sum())) > 0:
        said.append(
            f"Repeated text: {n} run(s) saw their data more than {max_epochs:g} time(s) and are left out of every fit."
        )
    if note := fit.first.note:
        said.append(f"{note[0].upper()}{note[1:]}")
    return StudyTables(
        efficiency=efficiency_table(fit, gains),
        scale_dependence=scale_dependence(gains),
        frontier=fit.front,
        laws=law_table(fit, level),
        arms=arm_table(study),
        counts=counts,
        speed=speed_table(runs),
        innovations=innovation_table(study, runs, reference, level, n_resamples, seed),
        interactions=interaction_table(study, runs, level),
        corpora=corpora_table(
            (study, compared), [(s, compared_runs(s, r)) for s, r in others], reference, level, n_resamples, seed
        ),
        exponents=exponent_table(study, runs, level, n_resamples, seed),
        care=care_table(study, runs),
        tuning=tuning_table(study),
        warnings=list(dict.fromkeys(said)),
        fit=fit,
        gains=gains,
        study=study,
    )


def efficiency_table(fit: JointFit, gains: pd.DataFrame) -> pd.DataFrame:
    """Arm by compute: the measured loss and the gain over the baseline, by each method; the baseline's gain is 1."""
    front = fit.front[["arm", "rung", "loss", "n_seeds"]].rename(columns={"rung": "compute", "loss": "measured"})
    table = pd.DataFrame(gains.drop(columns="loss")).merge(front, on=["arm", "compute"], how="left")
    own = fit.points(fit.baseline)
    base = pd.DataFrame(
        {
            "arm": fit.baseline,
            "compute": own["rung"],
            "measured": own["loss"],
            "ceg": 1.0,
            "method": "baseline",
            "law": "",
            "reference": "",
            "n_runs": fit.n_runs(fit.baseline),
            "n_seeds": own["n_seeds"],
            "censored": "",
            "note": "",
        }
    )
    table = pd.concat([base, table], ignore_index=True) if len(table) else base
    for column in ("ceg_low", "ceg_high"):
        if column not in table:
            table[column] = np.nan
    table["n_seeds"] = table["n_seeds"].astype("Int64")  # an arm may lack a rung
    table["n_censored"] = (table["censored"] != "").groupby(table["arm"]).transform("sum").astype(int)
    columns = ["arm", "compute", "loss", "ceg", "ceg_low", "ceg_high", "method", "law", "reference"]
    columns += ["n_runs", "n_seeds", "censored", "n_censored", "note"]
    order = {arm: k for k, arm in enumerate(fit.arms)}
    return (
        table.rename(columns={"measured": "loss"})[columns]
        .sort_values("arm", key=lambda a: a.map(order), kind="stable")
        .reset_index(drop=True)
    )


def law_table(fit: JointFit, level: float = 0.95) -> pd.DataFrame:
    """[arm, law, parameter, estimate, low, high, unit, shared, at_bound, n]: each with its resampled interval."""
    columns = ["arm", "law", "parameter", "estimate", "low", "high", "unit", "shared", "at_bound", "n"]
    law, theta_BP = fit.first.law, fit.first.theta_BP
    if law is None:
        return pd.DataFrame(columns=columns)
    table = law.summary.assign(law=fit.first.name, low=np.nan, high=np.nan, n=law.diagnostics_["n"])
    table["unit"] = table["parameter"].map(dict(zip(law.parameters, law.units, strict=True)))
    if theta_BP is not None:
        tail = (1 - level) / 2
        ends = {
            (arm, parameter): (low, high)
            for arm in law.arms_
            for parameter, low, high in zip(
                law.parameters, *np.quantile(law.parameters_of(arm, theta_BP), [tail, 1 - tail], axis=0), strict=True
            )
        }
        unknown = (np.nan, np.nan)  # what follows from parameters, such as a_opt
        table[["low", "high"]] = [ends.get(of, unknown) for of in zip(table["arm"], table["parameter"], strict=True)]
    return table[columns]


def arm_table(study: dict[str, Any]) -> pd.DataFrame:
    """[arm, field, baseline, value]: every field in which an arm differs from the baseline, as stored."""
    rows = [
        {"arm": arm, "field": field, "baseline": _values(pair["baseline"]), "value": _values(pair["arm"])}
        for arm, fields in study.get("differences", {}).items()
        for field, pair in fields.items()
    ]
    return pd.DataFrame(rows, columns=["arm", "field", "baseline", "value"])


def count_table(runs: pd.DataFrame, fit: JointFit, max_epochs: float = 1.0) -> pd.DataFrame:
    """Runs by fate, and how far each arm was searched: configurations, sizes, rates, compute, best at an edge."""
    counts = excluded_runs(runs, max_epochs)
    kept = usable_runs(runs, max_epochs)
    seeds = kept.groupby(["arm", "configuration"], sort=False).size().groupby(level="arm", sort=False)
    many = seeds.agg(configurations="size", with_two_seeds=lambda n: int((n > 1).sum()))
    own = runs.groupby("arm", sort=False)
    found = [own["compute"].agg(lambda c: c.astype(float).sum()), many]
    if "n_params" in runs:
        found.append(own["n_params"].nunique().rename("sizes"))
    if "learning_rate" in runs:
        rates = own["learning_rate"].agg(["nunique", "min", "max"])
        found.append(rates["nunique"].rename("learning_rates"))
        rates["from_to"] = [f"{low:g} to {high:g}" for low, high in zip(rates["min"], rates["max"], strict=True)]
        points = [fit.points(str(arm)) for arm in rates.index]
        rates["best_rate_at_edge"] = [f"{int(p['at_edge'].sum())} of {len(p)} computes" for p in points]
        found.append(rates[["from_to", "best_rate_at_edge"]])
    counts = counts.join(pd.concat(found, axis=1), on="arm")
    whole = [c for c in ("configurations", "with_two_seeds", "sizes", "learning_rates") if c in counts]
    counts[whole] = counts[whole].fillna(0).astype(int)
    return counts


def speed_table(runs: pd.DataFrame) -> pd.DataFrame:
    """[arm, n_runs, wall_seconds, tokens_per_second, flop_per_second, gemm_fraction]: sum of the time, medians of the
    rest; gemm_fraction is of what a square matrix product reaches there. Empty where runs have no times.
    """
    columns = ["tokens_per_second", "flop_per_second", "gemm_fraction"]
    if not {"wall_seconds", *columns} <= set(runs):
        return pd.DataFrame(columns=["arm", "n_runs", "wall_seconds", *columns])
    numbers = runs[["wall_seconds", *columns]].astype(float).assign(arm=runs["arm"])
    by = numbers.groupby("arm", sort=False)
    table = pd.concat([by.size().rename("n_runs"), by["wall_seconds"].sum(), by[columns].median()], axis=1)
    return table.reset_index()


def write(tables: StudyTables, out_dir: str | Path) -> list[Path]:
    """Write each table as CSV (numbers) and Markdown (as read), and `tables.md` with all of them; returns the files."""
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    files = []
    shown = tables.shown()
    for name, table in tables.items():
        if name in OF_SOME and table.empty:
            continue
        files += [out / f"{name}.csv", out / f"{name}.md"]
        table.to_csv(files[-2], index=False)
        files[-1].write_text(markdown(shown[name]), encoding="utf-8")
    files.append(out / "tables.md")
    files[-1].write_text(as_text(tables), encoding="utf-8")
    return files


def as_text(tables: StudyTables, names: Sequence[str] | None = None) -> str:
    """The named tables, or all of them, as one Markdown text for a file or a terminal."""
    parts = [f"# {tables.study['name']}\n", f"{tables.study.get('question', '')}\n"]
    for name, table in tables.shown().items():
        if len(table) and (names is None or name in names):
            parts.append(f"## {TITLES[name]}\n\n{markdown(table)}")
    if tables.warnings:
        parts.append("## To be doubted\n\n" + "\n".join(f"- {w}" for w in tables.warnings) + "\n")
    return "\n".join(parts)


def _shown_efficiency(table: pd.DataFrame) -> pd.DataFrame:
    rows, parts = [], dict[tuple, list[dict]]()
    for r in table.to_dict("records"):
        parts.setdefault((r["arm"], r["compute"]), []).append(r)
    for (arm, compute), part in parts.items():
        by = {r["method"]: r for r in reversed(part)}
        any_row = part[0]
        row = {"arm": arm, "compute (FLOP)": flop_text(compute), "loss (nats/token)": number(any_row["loss"], 4)}
        for method, title in (("interpolated", "CEG, interpolated"), ("law", "CEG, law")):
            if "baseline" in by:
                row[title] = "1 (baseline)"
            else:
                r = by.get(method)
                row[title] = gain_text(r["ceg"], r["ceg_low"], r["ceg_high"], r["censored"]) if r is not None else "–"
        extrapolated = "law" in by and str(by["law"]["note"]).startswith("extrapolated")
        row["CEG, law"] += " (extrapolated)" if extrapolated else ""
        row |= {"runs": any_row["n_runs"], "seeds of the best": any_row["n_seeds"]}
        rows.append(row)
    return pd.DataFrame(rows)


def _shown_innovations(table: pd.DataFrame) -> pd.DataFrame:
    """One row for each innovation and way of asking, a column for each compute."""
    rows = []
    for (innovation, recipe), part in table.groupby(["innovation", "recipe"], sort=False):
        first = part.iloc[0]
        way = {"out": "out of", "in": "into"}[first["direction"]]
        row = {"innovation": innovation, "year": first["year"], "asked": f"{way} {recipe}"}
        for r in part.itertuples():
            marked = "*" if r.differs else ""
            row[f"CEG at {flop_text(r.compute)}"] = gain_text(r.ceg, r.ceg_low, r.ceg_high, r.censored) + marked
        row |= {"runs": first["n_runs"], "seeds": first["n_seeds"]}
        rows.append({**row, "published": number(first["published"], 3)})
    return pd.DataFrame(rows)


def _shown_slopes(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "arm": table["arm"],
            "method": table["method"].where(table["range"] == "measured", table["method"] + ", extrapolated"),
            "d ln CEG / d ln C": [
                number(s, 2) + interval_text(lo, hi)
                for s, lo, hi in zip(table["slope"], table["slope_low"], table["slope_high"], strict=True)
            ],
            "p (equal exponents)": [
                "–" if np.isnan(p) else "< .001" if p < 0.001 else f"{p:.3f}" for p in table["p_equal_exponents"]
            ],
            "runs": table["n_runs"],
            "note": table["note"],
        }
    )


def _shown_speed(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "arm": table["arm"],
            "runs": table["n_runs"],
            "time (s)": [f"{s:.0f}" for s in table["wall_seconds"]],
            "tokens/s": [f"{s:,.0f}" for s in table["tokens_per_second"]],
            "GFLOP/s": [f"{s / 1e9:.1f}" for s in table["flop_per_second"]],
            "of a matrix product's": ["–" if np.isnan(s) else f"{s:.0%}" for s in table["gemm_fraction"]],
        }
    )


def _shown_laws(table: pd.DataFrame) -> pd.DataFrame:
    value = [
        number(e, 3) + interval_text(lo, hi)
        for e, lo, hi in zip(table["estimate"], table["low"], table["high"], strict=True)
    ]
    wide = table.assign(value=value)
    rows = [
        {"arm": arm, "law": part["law"].iloc[0]}
        | {
            r.parameter + (" (shared)" if r.shared else ""): r.value + (" at its bound" if r.at_bound else "")
            for r in part.itertuples()
        }
        | {"points": part["n"].iloc[0]}
        for arm, part in wide.groupby("arm", sort=False)
    ]
    return pd.DataFrame(rows)


def _values(values: Any) -> str:
    listed = values if isinstance(values, list) else [values]
    shown = [f"{v:g}" if isinstance(v, float) else "none" if v is None else str(v) for v in listed]
    return ", ".join(shown) if len(shown) <= 6 else f"{', '.join(shown[:3])}, … {shown[-1]} ({len(shown)} values)"
