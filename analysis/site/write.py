"""Everything in a store as a static site: a front page, a page per study, arm and run, and all tables as files."""

import json
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.analysis.formatting import flop_text
from algoprogress.analysis.interactions import InteractionModel, fit_interactions
from algoprogress.analysis.report import provenance as study_provenance
from algoprogress.analysis.site import plots, run_page
from algoprogress.analysis.site.account_page import views
from algoprogress.analysis.site.conclusions import Conclusion, conclude, lead, summary
from algoprogress.analysis.site.tables import Table, download, table
from algoprogress.analysis.tables import TITLES
from algoprogress.results import Store

QUESTION = "How much compute does each algorithm save, and does that depend on scale?"
ASSETS = ("site.css", "site.js")


class Site:
    """A folder that pages are written to, each from a template."""

    def __init__(self, out: Path) -> None:
        from jinja2 import Environment, PackageLoader, StrictUndefined

        self.out = out
        self.environment = Environment(
            loader=PackageLoader("algoprogress.analysis.site", "."),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self.environment.filters["script"] = _script
        self.environment.globals["made"] = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")

    def page(self, template: str, address: str, **content: Any) -> Path:
        """Write one page; `root` in it leads back to the front page's folder."""
        path = self.out / address
        path.parent.mkdir(parents=True, exist_ok=True)
        root = "../" * address.count("/")
        html = self.environment.get_template(f"{template}.html.j2").render(root=root, here=address, **content)
        path.write_text(html, encoding="utf-8")
        return path

    def download(self, numbers: pd.DataFrame, folder: str, name: str) -> list[tuple[str, str]]:
        return download(numbers, self.out / "data" / folder, self.out, name)

    def copy(self, store: Store, run_id: str) -> str:
        """The run's own file of the store, its curve as rows and its record in the footer; returns its address."""
        path = self.out / "data" / "runs" / f"{run_id}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.folder.read(f"runs/{run_id}.parquet"))
        return path.relative_to(self.out).as_posix()

    def assets(self) -> None:
        """The style and scripts that all pages share: plotly's is copied from its package, and fetched by no page."""
        folder = self.out / "assets"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ASSETS:
            (folder / name).write_bytes((files("algoprogress.analysis.site") / name).read_bytes())
        (folder / "plotly.min.js").write_bytes((files("plotly") / "package_data" / "plotly.min.js").read_bytes())


def write_site(
    store: Store,
    out_dir: str | Path,
    accounts: Sequence[str] = (),
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> tuple[Path, list[Conclusion]]:
    """Write the site of a store.

    Args:
        out_dir: made when it is missing; pages of an earlier site are written over, other files are left.
        accounts: files of accounts of the user's own, beside those of the package.
        level, n_resamples, seed: of the intervals.

    Returns:
        The front page, and what is concluded of each study.

    Raises:
        ValueError: the store holds no run.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        runs, records = store.runs(status=None), store.records()
        studies = [store.study(name) for name in store.studies()]
        curves = _by_run(store.curves())
    if runs.empty:
        raise ValueError(
            f"the store {store.url} holds no run: train some with `algoprogress submit demo`, "
            "or name another store with --store"
        )
    damaged = list(dict.fromkeys(str(w.message) for w in caught))
    site = Site(Path(out_dir))
    site.assets()
    found = [conclude(s, runs[runs["study"] == s["name"]], level, n_resamples, seed) for s in studies]
    for conclusion in found:
        _study(site, conclusion, curves)
    _runs(site, store, runs, records, curves, found)
    fits = {c.name: c.tables.fit for c in found if c.tables is not None}
    by_name = {c.name: c for c in found if c.tables is not None}

    def model_of(study: str) -> InteractionModel:
        model = fit_interactions(by_name[study].study, by_name[study].runs)
        if model is None:
            raise KeyError(study)
        return model

    shown = views(accounts, fits.__getitem__, level, seed, site.download, model_of)
    drawn = [p for v in shown for p in v.plots]
    site.page("account", "account.html", title="The account", views=shown, plots={p.name: p for p in drawn})
    front = _front(site, found, runs, level, damaged)
    return front, found


def _front(site: Site, found: list[Conclusion], runs: pd.DataFrame, level: float, damaged: list[str]) -> Path:
    first, (shown, links) = lead(found), summary(found)
    once = runs.drop_duplicates("run_id")
    compute = once["compute"].astype(float)
    return site.page(
        "index",
        "index.html",
        title="Algorithmic progress",
        question=QUESTION,
        lead=first,
        plot=_gain_plot(first) if first else None,
        table=table(shown, "summary", "Each arm at the largest compute at which it was measured", links,
                    site.download(shown, "", "summary")) if len(shown) else None,
        studies=found,
        facts=[
            ("studies", f"{len(found)}"),
            ("runs", f"{len(once):,}"),
            ("compute of a run", f"{flop_text(compute.min())} to {flop_text(compute.max())} FLOP"),
            ("training compute in all", f"{flop_text(compute.sum())} FLOP"),
        ],
        damaged=damaged,
        level=level,
    )  # fmt: skip


def _study(site: Site, c: Conclusion, curves: Mapping[str, pd.DataFrame]) -> None:
    tables = _study_tables(site, c)
    arm_of = {r: a for r, a in zip(c.runs["run_id"], c.runs["arm"], strict=True) if r in curves}
    drawn = [plots.curves_plot(dict(curves), arm_of, c.arms, "runs/")] if arm_of else []
    site.page(
        "study",
        c.address,
        title=c.name,
        c=c,
        tables=tables,
        plots={p.name: p for p in [*_plots(c, c.arms), *drawn]},
        provenance=study_provenance(c.runs) if len(c.runs) else [],
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


def _arm(site: Site, c: Conclusion, arm: str, tables: dict[str, Table], curves: Mapping[str, pd.DataFrame]) -> None:
    own = c.runs["run_id"][c.runs["arm"] == arm]
    baseline = str(c.study["baseline"])
    arms = [a for a in c.arms if a in (arm, baseline)]
    arm_of = {r: arm for r in own if r in curves}
    drawn = [plots.curves_plot(dict(curves), arm_of, c.arms, "runs/")] if arm_of else []
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


def _runs(
    site: Site,
    store: Store,
    runs: pd.DataFrame,
    records: Mapping[str, Mapping[str, Any]],
    curves: Mapping[str, pd.DataFrame],
    found: list[Conclusion],
) -> None:
    shown, links = run_page.runs_table(runs, with_study=True)
    by_name = {c.name: c for c in found}
    links["study"] = [by_name[s].address if s in by_name else "" for s in runs["study"]]
    places = [(by_name[s], a) if s in by_name else None for s, a in zip(runs["study"], runs["arm"], strict=True)]
    links["arm"] = ["" if at is None else at[0].arm_address(at[1]) for at in places]
    files_of = site.download(runs, "", "runs")
    if curves:
        files_of += [(f"curves, {s}", a) for s, a in site.download(_stacked(curves), "", "curves")]
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
    shown = pd.DataFrame(rows, columns=["field", "there", "here"])
    return c, other, baseline, table(shown, f"difference-{c.name}", f"How the run differs from one of {baseline}")


def _plots(c: Conclusion, arms: list[str]) -> list[plots.Plot]:
    if c.tables is None:
        return []
    fit = c.tables.fit
    arms = [a for a in arms if a in fit.arms]
    found = [plots.loss_plot(c.points, fit.front, c.laws, arms, "runs/", order=c.arms)]
    gains = _gain_plot(c, arms)
    return [gains, *found] if gains is not None else found


def _gain_plot(c: Conclusion, arms: list[str] | None = None) -> plots.Plot | None:
    if c.tables is None or len(c.tables.fit.arms) < 2:
        return None
    fit, shown = c.tables.fit, set(c.tables.fit.arms if arms is None else arms)
    if not shown - {fit.baseline}:
        return None
    gains = c.tables.gains[(c.tables.gains["method"] == "interpolated") & c.tables.gains["arm"].isin(shown)]
    return plots.gain_plot(gains, c.bands[c.bands["arm"].isin(shown)], c.arms, fit.baseline, c.level)


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


def _by_run(curves: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {str(run): part for run, part in curves.groupby("run_id", sort=False)} if len(curves) else {}


def _stacked(curves: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(list(curves.values()), ignore_index=True)


def _script(value: Any) -> Any:
    """JSON that can stand in a script element, whatever text is in it."""
    from markupsafe import Markup

    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} in a page's data")
