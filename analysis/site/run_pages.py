"""The page of all runs and the page of each."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from algoprogress.analysis.site import plots, run_page
from algoprogress.analysis.site.conclusions import Conclusion
from algoprogress.analysis.site.pages import Site
from algoprogress.analysis.site.tables import Table, table
from algoprogress.results import Store
from algoprogress.results.frames import curves_table
from algoprogress.results.runfile import Curve


def write_runs(
    site: Site,
    store: Store,
    runs: pd.DataFrame,
    records: Mapping[str, Mapping[str, Any]],
    curves: Mapping[str, Curve],
    found: list[Conclusion],
) -> None:
    """Write them.

    Args:
        runs: of every status, a row per (arm, run).
        records: run -> its record.
        curves: run -> its curve.
        found: the studies; what is concluded of them is not asked.
    """
    shown, links = run_page.runs_table(runs, with_study=True)
    by_name = {c.name: c for c in found}
    links["study"] = [by_name[s].address if s in by_name else "" for s in runs["study"]]
    places = [(by_name[s], a) if s in by_name else None for s, a in zip(runs["study"], runs["arm"], strict=True)]
    links["arm"] = ["" if at is None else at[0].arm_address(at[1]) for at in places]
    files_of = site.download(runs, "", "runs")
    if curves:
        files_of += [(f"curves, {s}", a) for s, a in site.download(curves_table(curves), "", "curves")]
    site.page(
        "runs", "runs.html", title="Runs", table=table(shown, "runs", "Every run in the store", links, files_of),
        n_runs=runs["run_id"].nunique(),
    )  # fmt: skip
    member: dict[str, list[tuple[Conclusion, str]]] = {}
    for run_id, at in zip(runs["run_id"], places, strict=True):
        if at is not None:
            member.setdefault(run_id, []).append(at)
    siblings: dict[str, list[str]] = {}
    for run_id, record in records.items():
        siblings.setdefault(str(record.get("configuration_id")), []).append(run_id)
    compared: dict[str, list[tuple[Conclusion, str]]] = {}
    for c in found:
        for run_id, other in run_page.counterparts(c.study, c.runs).items():
            compared.setdefault(run_id, []).append((c, other))
    for run_id, record in records.items():
        curve = curves.get(run_id)
        same = siblings[str(record.get("configuration_id"))]
        site.page(
            "run",
            run_page.run_address(run_id),
            title=f"Run {run_id[: run_page.WIDTH]}",
            run_id=run_id,
            facts=run_page.facts(record),
            differences=[_difference(c, run_id, other, records) for c, other in compared.get(run_id, [])],
            configuration=run_page.configuration(record["spec"]),
            provenance=run_page.provenance(record),
            doubts=run_page.doubts(record),
            member=member.get(run_id, []),
            siblings=[(r, records[r]["spec"].get("seed"), records[r].get("loss")) for r in same if r != run_id],
            plot=plots.run_plot(curve) if curve is not None and (curve["compute"] > 0).any() else None,
            file=site.copy(store, run_id),
        )


def _difference(
    c: Conclusion, run_id: str, other: str, records: Mapping[str, Mapping[str, Any]]
) -> tuple[Conclusion, str, str, Table]:
    """The study, the run that this one is compared with, its arm, and the fields in which they differ."""
    baseline = str(c.study.get("against", {}).get(c.arm_of[run_id], c.study["baseline"]))
    rows = run_page.difference(records[run_id]["spec"], records[other]["spec"])
    caption, columns = f"How the run differs from one of {baseline}", [(n, False) for n in ("field", "there", "here")]
    return c, other, baseline, Table(f"difference-{c.name}", caption, columns, [list(row) for row in rows])
