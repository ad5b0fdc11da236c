"""The figures of an account, drawn into a folder: name -> the tables that it shows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from algoprogress.analysis import account_tables
from algoprogress.analysis.accounting import Account

FIXED = np.logspace(16, 24, 5)  # FLOP: those of Gundlach et al. 2025
SMALL = (1e16, 1e18, 1e20)  # FLOP: models that a laptop, a GPU and a small cluster train in days
N_GRID = 61


def draw_account(
    account: Account,
    out_dir: str | Path,
    year: float,
    n: int = account_tables.N_DRAWS,
    level: float = 0.95,
    seed: int = 0,
    formats: Sequence[str] = ("png", "svg", "pdf"),
) -> list[Path]:
    """Draw waterfall, shares, gains, fixed_compute, reference (where there are bases), small_models and multiverse.

    Returns:
        The files, in that order.
    """
    from algoprogress.analysis import figures as of

    out, frontier = Path(out_dir), account.frontier
    first = min(e.year for e in account.entries if e.counted)
    years = np.arange(np.ceil(account.since), np.floor(frontier.last) + 1)
    fine = np.arange(years[0], years[-1] + 0.01, 0.25)
    lows = [e.gain.measured[0] for e in account.entries if e.gain.measured]
    ends = [frontier.log_compute(y) for y in (frontier.first, frontier.last)]
    grid = np.exp(np.linspace(min([*np.log(lows), ends[0]]), ends[1], N_GRID))
    fixed = account.fixed_compute_growth(FIXED.tolist(), first - 0.5, year, n, level, seed)
    worlds = account_tables.multiverse(account, year, n=n, seed=seed, level=level)
    drawn = {
        "waterfall": of.draw(of.waterfall_plot, account_tables.waterfall(account, year, n, level, seed), height=3.8),
        "shares": of.draw(of.shares_plot, account_tables.shares_by_year(account, fine[fine <= year])),
        "gains": of.draw(of.account_gains_plot, account_tables.gains_by_compute(account, grid, n, level, seed)),
        "fixed_compute": of.draw(of.fixed_compute_plot, fixed, width=5.2, height=3.6),
    }
    if account.bases:
        against = account_tables.reference_dependence(account, years, n, level, seed)
        drawn["reference"] = of.draw(of.reference_plot, against, height=3.8)
    drawn["small_models"] = of.draw(of.small_models_plot, account_tables.small_models(account, fine, SMALL), height=3.8)
    drawn["multiverse"] = of.draw(
        of.multiverse_plot, worlds, choices=account_tables.CHOICES, label=f"total gain of {year:g}", height=5.6
    )
    return [file for name, figure in drawn.items() for file in of.save(figure, out / name, formats)]
