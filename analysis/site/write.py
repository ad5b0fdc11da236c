"""Everything in a store as a static site: a front page, a page per study, arm and run, and all tables as files."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from algoprogress.analysis.formatting import flop_text
from algoprogress.analysis.interactions import InteractionModel, fit_interactions
from algoprogress.analysis.site.account_page import AccountView, views
from algoprogress.analysis.site.conclusions import Conclusion, conclude, lead, summary
from algoprogress.analysis.site.pages import Site
from algoprogress.analysis.site.plots import Columns
from algoprogress.analysis.site.run_pages import members, run_pages, write_run_pages, write_runs_table
from algoprogress.analysis.site.study_pages import gain_plot, write_study
from algoprogress.analysis.site.tables import table
from algoprogress.results import Store

T = TypeVar("T")
AT_ONCE = 50  # pages of runs that a process is given: a tenth of a second of work
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
        processes: that conclude from studies and write pages; 1 does all in this one. A script that asks for more
            keeps what it does under `if __name__ == "__main__"`: processes begin by importing it.

    Returns:
        The front page, and what is concluded of each study.

    Raises:
        ValueError: the store holds no run.
    """
    with _workers(processes) as pool:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            runs, records, curves = store.everything()
            studies = [store.study(name) for name in store.studies()]
        if runs.empty:
            raise ValueError(
                f"the store {store.url} holds no run: train some with `algoprogress submit demo`, "
                "or name another store with --store"
            )
        runs.attrs.clear()  # pandas copies them with each part of a table
        site = Site(Path(out_dir))
        site.assets()
        bare = [Conclusion(s, runs[runs["study"] == s["name"]], None, "", level) for s in studies]
        coming = {}
        for c in sorted(bare, key=lambda c: -len(c.runs)):
            own = {r: {n: curves[r][n] for n in ("compute", "loss")} for r in c.runs["run_id"] if r in curves}
            coming[c.name] = pool.submit(_study, site, c.study, c.runs, own, level, n_resamples, seed)
        member = members(bare)
        pages = run_pages(runs, records, curves, bare, member)
        rest = [
            pool.submit(write_run_pages, site, store, pages[k : k + AT_ONCE]) for k in range(0, len(pages), AT_ONCE)
        ]
        write_runs_table(site, runs, curves, member)
        found = [coming[c.name].result() for c in bare]
        for part in rest:
            part.result()
    shown = _account(site, accounts, found, level, seed)
    return _front(site, found, runs, level, shown, list(dict.fromkeys(str(w.message) for w in caught))), found


def _study(
    site: Site,
    study: dict[str, Any],
    runs: pd.DataFrame,
    curves: Mapping[str, Columns],
    level: float,
    n_resamples: int,
    seed: int,
) -> Conclusion:
    """What is concluded of a study, its pages written."""
    found = conclude(study, runs, level, n_resamples, seed)
    write_study(site, found, curves)
    return found


class _Here(Executor):
    """Does what it is asked in this process, at once."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        done: Future[T] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


@contextmanager
def _workers(processes: int) -> Iterator[Executor]:
    """Processes to conclude in, or this one; where something failed, what has not begun is not waited for."""
    pool = ProcessPoolExecutor(processes, _context()) if processes > 1 else _Here()
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _context() -> BaseContext:
    """Copies of one process where the system can: it imports what all need while the store is read."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    from multiprocessing import forkserver

    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    forkserver.ensure_running()
    return context


def _account(
    site: Site, accounts: Sequence[str], found: list[Conclusion], level: float, seed: int
) -> list[AccountView]:
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
    return shown


def _front(
    site: Site,
    found: list[Conclusion],
    runs: pd.DataFrame,
    level: float,
    accounts: Sequence[AccountView],
    damaged: list[str],
) -> Path:
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
        account=next((a for a in accounts if a.sentence), None),
        facts=[
            ("studies", f"{len(found)}"),
            ("runs", f"{len(once):,}"),
            ("compute of a run", f"{flop_text(compute.min())} to {flop_text(compute.max())} FLOP"),
            ("training compute in all", f"{flop_text(compute.sum())} FLOP"),
        ],
        damaged=damaged,
        level=level,
    )  # fmt: skip
