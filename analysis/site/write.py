"""Everything in a store as a static site: a front page, a page per study, arm and run, and all tables as files."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import pandas as pd

from algoprogress.analysis.formatting import flop_text
from algoprogress.analysis.interactions import InteractionModel, fit_interactions
from algoprogress.analysis.site.account_page import views
from algoprogress.analysis.site.conclusions import Conclusion, conclude, lead, summary
from algoprogress.analysis.site.pages import Site
from algoprogress.analysis.site.run_pages import write_runs
from algoprogress.analysis.site.study_pages import gain_plot, write_study
from algoprogress.analysis.site.tables import table
from algoprogress.results import Store

QUESTION = "How much compute does each algorithm save, and does that depend on scale?"


def write_site(
    store: Store,
    out_dir: str | Path,
    accounts: Sequence[str] = (),
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
    processes: int = 1,
) -> tuple[Path, list[Conclusion]]:
    """Write the site of a store.

    Args:
        out_dir: made when it is missing; pages of an earlier site are written over, other files are left.
        accounts: files of accounts of the user's own, beside those of the package.
        level, n_resamples, seed: of the intervals.
        processes: that conclude from studies while this one writes the pages of runs; 1 does all in this one. A script
            that asks for more keeps what it does under `if __name__ == "__main__"`: processes begin by importing it.

    Returns:
        The front page, and what is concluded of each study.

    Raises:
        ValueError: the store holds no run.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        runs, records = store.runs(status=None), store.records()
        studies = [store.study(name) for name in store.studies()]
        curves = store.curves()
    if runs.empty:
        raise ValueError(
            f"the store {store.url} holds no run: train some with `algoprogress submit demo`, "
            "or name another store with --store"
        )
    damaged = list(dict.fromkeys(str(w.message) for w in caught))
    site = Site(Path(out_dir))
    site.assets()
    by_run = _by_run(curves)
    bare = [Conclusion(study, runs[runs["study"] == study["name"]], None, "", level) for study in studies]
    with _studies_written(site, bare, by_run, n_resamples, seed, processes) as found:
        write_runs(site, store, runs, records, curves, by_run, bare)
        found = list(found)
    by_name = {c.name: c for c in found if c.tables is not None}

    def model_of(study: str) -> InteractionModel:
        model = fit_interactions(by_name[study].study, by_name[study].runs)
        if model is None:
            raise KeyError(study)
        return model

    fits = {c.name: c.tables.fit for c in found if c.tables is not None}
    shown = views(accounts, fits.__getitem__, level, seed, site.download, model_of)
    drawn = [p for v in shown for p in v.plots]
    site.page("account", "account.html", title="The account", views=shown, plots={p.name: p for p in drawn})
    front = _front(site, found, runs, level, damaged)
    return front, found


@contextmanager
def _studies_written(
    site: Site, bare: list[Conclusion], curves: Mapping[str, pd.DataFrame], n_resamples: int, seed: int, processes: int
) -> Iterator[Iterator[Conclusion]]:
    """What is concluded of each study, its pages written; in processes of their own where there are several."""
    if min(processes, len(bare)) < 2:
        yield (_study_written(site.out, c, curves, n_resamples, seed) for c in bare)
        return
    with ProcessPoolExecutor(min(processes, len(bare)), get_context("spawn")) as pool:
        waiting: dict[str, Future[Conclusion]] = {}
        for c in sorted(bare, key=lambda c: -len(c.runs)):  # the longest first
            own = {run_id: curves[run_id] for run_id in c.runs["run_id"] if run_id in curves}
            waiting[c.name] = pool.submit(_study_written, site.out, c, own, n_resamples, seed)
        try:
            yield (waiting[c.name].result() for c in bare)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # where one failed, the others need not be waited for


def _study_written(
    out: Path, bare: Conclusion, curves: Mapping[str, pd.DataFrame], n_resamples: int, seed: int
) -> Conclusion:
    conclusion = conclude(bare.study, bare.runs, bare.level, n_resamples, seed)
    write_study(Site(out), conclusion, curves)
    return conclusion


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
        plot=gain_plot(first) if first else None,
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


def _by_run(curves: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Run -> its curve, numbers alone."""
    if curves.empty:
        return {}
    numbers = curves.drop(columns="run_id")
    return {str(run): part for run, part in numbers.groupby(curves["run_id"].to_numpy(), sort=False)}
