"""The page of a study and the pages of its arms."""

from collections.abc import Mapping

from algoprogress.analysis.report import provenance
from algoprogress.analysis.site import plots, run_page
from algoprogress.analysis.site.conclusions import Conclusion
from algoprogress.analysis.site.pages import Site
from algoprogress.analysis.site.tables import Table, table
from algoprogress.analysis.tables import TITLES


def write_study(site: Site, c: Conclusion, curves: Mapping[str, plots.Columns]) -> None:
    """Write them; `curves` are of the study's runs, run -> compute and loss."""
    tables = _study_tables(site, c)
    arm_of = {r: a for r, a in zip(c.runs["run_id"], c.runs["arm"], strict=True) if r in curves}
    drawn = [plots.curves_plot(curves, arm_of, c.arms, "runs/")] if arm_of else []
    site.page(
        "study",
        c.address,
        title=c.name,
        c=c,
        tables=tables,
        plots={p.name: p for p in [*_plots(c, c.arms), *drawn]},
        provenance=provenance(c.runs) if len(c.runs) else [],
    )
    for arm in c.arms:
        _arm(site, c, arm, tables, curves)


def _study_tables(site: Site, c: Conclusion) -> dict[str, Table]:
    """Every table of a study, the arms in them leading to their pages."""
    found = {}
    if c.tables is not None:
        numbers = dict(c.tables.items())
        for name, shown in c.tables.shown().items():
            if len(shown):
                links = {"arm": [c.arm_address(a) for a in shown["arm"]]} if "arm" in shown else {}
                found[name] = table(shown, name, TITLES[name], links, site.download(numbers[name], c.name, name))
    if len(c.runs):
        shown, links = run_page.runs_table(c.runs, with_study=False)
        links["arm"] = [c.arm_address(a) for a in c.runs["arm"]]
        found["runs"] = table(shown, "runs", "Runs", links, site.download(c.runs, c.name, "runs"))
    return found


def _arm(site: Site, c: Conclusion, arm: str, tables: dict[str, Table], curves: Mapping[str, plots.Columns]) -> None:
    own = c.runs["run_id"][c.runs["arm"] == arm]
    baseline = str(c.study["baseline"])
    arms = [a for a in c.arms if a in (arm, baseline)]
    arm_of = {r: arm for r in own if r in curves}
    drawn = [plots.curves_plot(curves, arm_of, c.arms, "runs/")] if arm_of else []
    site.page(
        "arm",
        c.arm_address(arm),
        title=f"{arm}, {c.name}",
        c=c,
        arm=arm,
        baseline=baseline,
        tables={name: _only(t, arm) for name, t in tables.items()},
        plots={p.name: p for p in [*_plots(c, arms), *drawn]},
        warnings=c.warnings_of(arm),
        n_runs=len(own),
    )


def _plots(c: Conclusion, arms: list[str]) -> list[plots.Plot]:
    if c.tables is None:
        return []
    arms = [a for a in arms if a in c.tables.fit.arms]
    found = [plots.loss_plot(c.points, c.front, c.laws, arms, "runs/", order=c.arms)]
    gains = gain_plot(c, arms)
    return [gains, *found] if gains is not None else found


def gain_plot(c: Conclusion, arms: list[str] | None = None) -> plots.Plot | None:
    """Gains of all arms, or of some; None where there are none."""
    if c.tables is None or len(c.tables.fit.arms) < 2:
        return None
    fit, shown = c.tables.fit, set(c.tables.fit.arms if arms is None else arms)
    if not shown - {fit.baseline}:
        return None
    gains, bands = ({a: own for a, own in of.items() if a in shown} for of in (c.gains, c.bands))
    return plots.gain_plot(gains, bands, c.arms, fit.baseline, c.level)


def _only(of: Table, arm: str) -> Table:
    """The rows of an arm without their column of arms, where a table has one; its files hold all arms."""
    names = [name for name, _ in of.columns]
    if "arm" not in names:
        return of
    at = names.index("arm")
    keep = [r for r, row in enumerate(of.rows) if row[at] == arm]
    links = {k - (k > at): [v[r] for r in keep] for k, v in of.links.items() if k != at}
    rows = [[*of.rows[r][:at], *of.rows[r][at + 1 :]] for r in keep]
    return Table(of.name, of.caption, [*of.columns[:at], *of.columns[at + 1 :]], rows, links, of.files)
