"""The page of all runs and the page of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from algoprogress.analysis.site import plots, run_page
from algoprogress.analysis.site.conclusions import Conclusion
from algoprogress.analysis.site.pages import Site
from algoprogress.analysis.site.tables import Table, table
from algoprogress.results import Store
from algoprogress.results.frames import curves_table
from algoprogress.results.runfile import Curve

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Member:
    """A study that a run belongs to, and the arm that it belongs to there, with the addresses of their pages."""

    study: str
    address: str
    arm: str
    arm_address: str


@dataclass(frozen=True)
class RunPage:
    """What the page of a run tells.

    Attributes:
        compared: (study, baseline, run, its spec) of the runs that it is compared with.
        siblings: (run, seed, loss) of those of its configuration with another seed.
    """

    run_id: str
    record: Record
    curve: Curve | None
    member: Sequence[Member]
    compared: Sequence[tuple[str, str, str, Record]]
    siblings: Sequence[tuple[str, Any, Any]]


def write_runs_table(
    site: Site, runs: pd.DataFrame, curves: Mapping[str, Curve], member: Mapping[tuple[str, str], Member]
) -> None:
    """The page of all runs.

    Args:
        runs: of every status, a row per (arm, run).
        curves: run -> its curve.
        member: (study, arm) -> the addresses of their pages.
    """
    shown, links = run_page.runs_table(runs, with_study=True)
    places = [member.get(at) for at in zip(runs["study"], runs["arm"], strict=True)]
    links["study"] = ["" if at is None else at.address for at in places]
    links["arm"] = ["" if at is None else at.arm_address for at in places]
    files_of = site.download(runs, "", "runs")
    if curves:
        files_of += [(f"curves, {s}", a) for s, a in site.download(curves_table(curves), "", "curves")]
    site.page(
        "runs", "runs.html", title="Runs", table=table(shown, "runs", "Every run in the store", links, files_of),
        n_runs=runs["run_id"].nunique(),
    )  # fmt: skip


def members(found: Sequence[Conclusion]) -> dict[tuple[str, str], Member]:
    """(study, arm) -> their names and the addresses of their pages."""
    return {(c.name, arm): Member(c.name, c.address, arm, c.arm_address(arm)) for c in found for arm in c.arms}


def run_pages(
    runs: pd.DataFrame,
    records: Mapping[str, Record],
    curves: Mapping[str, Curve],
    found: Sequence[Conclusion],
    member: Mapping[tuple[str, str], Member],
) -> list[RunPage]:
    """The pages of all runs; what is concluded of the studies is not asked."""
    of: dict[str, list[Member]] = {}
    for run_id, study, arm in zip(runs["run_id"], runs["study"], runs["arm"], strict=True):
        if (study, arm) in member:
            of.setdefault(run_id, []).append(member[study, arm])
    siblings: dict[str, list[str]] = {}
    for run_id, record in records.items():
        siblings.setdefault(str(record.get("configuration_id")), []).append(run_id)
    compared: dict[str, list[tuple[str, str, str, Record]]] = {}
    for c in found:
        for run_id, other in run_page.counterparts(c.study, c.runs).items():
            baseline = str(c.study.get("against", {}).get(c.arm_of[run_id], c.study["baseline"]))
            compared.setdefault(run_id, []).append((c.name, baseline, other, records[other]["spec"]))
    return [
        RunPage(
            run_id,
            record,
            curves.get(run_id),
            of.get(run_id, []),
            compared.get(run_id, []),
            [
                (r, records[r]["spec"].get("seed"), records[r].get("loss"))
                for r in siblings[str(record.get("configuration_id"))]
                if r != run_id
            ],
        )
        for run_id, record in records.items()
    ]


def write_run_pages(site: Site, store: Store, pages: Sequence[RunPage]) -> None:
    """Write the pages of some runs, each with a copy of the run's file."""
    for p in pages:
        site.page(
            "run",
            run_page.run_address(p.run_id),
            title=f"Run {p.run_id[: run_page.WIDTH]}",
            run_id=p.run_id,
            facts=run_page.facts(p.record),
            differences=[_difference(p.record["spec"], *compared) for compared in p.compared],
            configuration=run_page.configuration(p.record["spec"]),
            provenance=run_page.provenance(p.record),
            doubts=run_page.doubts(p.record),
            member=p.member,
            siblings=p.siblings,
            plot=plots.run_plot(p.curve) if p.curve is not None and (p.curve["compute"] > 0).any() else None,
            file=site.copy(store, p.run_id),
        )


def _difference(spec: Record, study: str, baseline: str, other: str, there: Record) -> tuple[str, str, str, Table]:
    """The study, the run that this one is compared with, its arm, and the fields in which they differ."""
    rows = run_page.difference(spec, there)
    caption, columns = f"How the run differs from one of {baseline}", [(n, False) for n in ("field", "there", "here")]
    return study, other, baseline, Table(f"difference-{study}", caption, columns, [list(row) for row in rows])
