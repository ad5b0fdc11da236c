"""The page of accounts: what gains add up to over the years, by each protocol, warnings beside their numbers."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.analysis import account_tables
from algoprogress.analysis.account_files import account, protocols
from algoprogress.analysis.accounting import Account
from algoprogress.analysis.formatting import flop_text, gain_text, number
from algoprogress.analysis.interactions import InteractionModel
from algoprogress.analysis.joint import JointFit
from algoprogress.analysis.site import account_plots
from algoprogress.analysis.site.plots import Plot
from algoprogress.analysis.site.tables import Table, table
from algoprogress.analysis.trend import HO2024_MONTHS
from algoprogress.analysis.warnings import AnalysisWarning

Downloads = Callable[[pd.DataFrame, str, str], list[tuple[str, str]]]
YEAR = 2025.0  # the last of Gundlach et al. 2025
N_GRID = 41
AHEAD = 1e26  # FLOP: about the largest training runs of 2025
CAPTIONS = {
    "entries": "Entries of {}",
    "fixed_compute": "Growth per year at a compute that stays, by {}",
    "multiverse": "The total of {} under every combination of conventions",
}


@dataclass(frozen=True)
class AccountView:
    """One account: a sentence, its warnings, tables and figures; or `message`, why there are none."""

    name: str
    description: str
    sentence: str = ""
    message: str = ""
    warnings: list[str] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    plots: list[Plot] = field(default_factory=list)


def views(
    more: Sequence[str],
    fit_of: Callable[[str], JointFit],
    level: float,
    seed: int,
    save: Downloads,
    model_of: Callable[[str], InteractionModel] | None = None,
) -> list[AccountView]:
    """The accounts that come with the package and those of the user's files.

    Args:
        more: files of accounts; what is wrong with one is an error.
        fit_of: study -> its joint fit; a KeyError where the store has none: such an account says so.
        model_of: study -> its fitted interaction model, likewise.
        save: writes a table of numbers: (table, folder, name) -> files.
    """
    found: list[AccountView] = []
    for name in [*more, *protocols()]:
        try:
            found.append(_view(account(name, fit_of, model_of), level, seed, save, f"account-{len(found)}"))
        except KeyError as missing:
            study = missing.args[0]
            said = f"It rests on the study {study}, of which this store concludes nothing: algoprogress submit {study}."
            found.append(AccountView(name, "", message=said))
    return found


def _view(of: Account, level: float, seed: int, save: Downloads, key: str) -> AccountView:
    year = min(YEAR, of.frontier.last)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AnalysisWarning)
        entries = of.table(year, level=level, seed=seed)
        total = of.total(year, level=level, seed=seed)
        years = np.arange(np.ceil(of.since), of.frontier.last + 0.5)
        first = min(e.year for e in of.entries if e.counted)
        steps = account_tables.waterfall(of, year, level=level, seed=seed)
        reach = of.frontier.log_compute(of.frontier.last)
        low = min([e.gain.measured[0] for e in of.entries if e.gain.measured], default=1e14)
        grid = np.geomspace(min(low, np.exp(reach) / 10), np.exp(reach), N_GRID)
        curves = account_tables.gains_by_compute(of, grid, level=level, seed=seed)
        fixed = of.fixed_compute_growth([1e16, 1e18, 1e20, 1e22, 1e24], first - 0.5, year, level=level, seed=seed)
        worlds = account_tables.multiverse(of, year)
        told = [
            account_tables.forecast_text(account_tables.forecast(of, at, year, level=level, seed=seed))
            for at in (total["compute"], AHEAD)
        ]
        against = account_tables.reference_dependence(of, years, level=level, seed=seed) if of.bases else None
    numbers = {"entries": entries.reset_index(), "fixed_compute": fixed, "multiverse": worlds}
    texts = {"entries": _entries(entries), "fixed_compute": _fixed(fixed), "multiverse": _worlds(worlds)}
    found = {
        name: table(texts[name], f"{key}-{name}", caption.format(of.name), files=save(numbers[name], key, name))
        for name, caption in CAPTIONS.items()
    }
    plots = [
        account_plots.waterfall_plot(steps, year, f"{key}-waterfall"),
        account_plots.compute_plot(curves, f"{key}-compute"),
    ]
    if against is not None:
        plots.append(account_plots.bases_plot(against, f"{key}-bases"))
    plots.append(account_plots.multiverse_strip(worlds, [*account_tables.CHOICES], f"{key}-worlds"))
    said = list(dict.fromkeys(str(w.message) for w in caught))
    sentence = " ".join([_sentence(total), *told])
    return AccountView(of.name, of.description, sentence, "", said, found, plots)


def _sentence(total: dict[str, Any]) -> str:
    growth, months = total["growth_per_year"], total["doubling_months"]
    return (
        f"By {total['year']:g}, at {flop_text(total['compute'])} FLOP, the gains add up to {_text(total['total'])} "
        f"times: {_text(growth)} times a year, doubling in {_text(months)} months (by published models of 2012 to 2023 "
        f"in {gain_text(*HO2024_MONTHS)}: Ho et al. 2024)."
    )


def _text(value: dict[str, float]) -> str:
    return gain_text(value["value"], value["low"], value["high"])


def _entries(entries: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "innovation": [i.replace("->", "→") for i in entries["innovation"]],
            "year": [f"{y:g}" for y in entries["year"]],
            "gain": [gain_text(*r) for r in entries[["gain", "gain_low", "gain_high"]].to_numpy()],
            "share of the logarithm": [f"{100 * s:.1f} %" for s in entries["log_share"]],
            "at the compute of": entries["reference"],
            "note": entries["note"],
            "source": entries["source"],
        }
    )


def _fixed(fixed: pd.DataFrame) -> pd.DataFrame:
    shares = (100 * fixed[["growth_per_year", "growth_low", "growth_high"]]).to_numpy()
    return pd.DataFrame(
        {
            "compute (FLOP)": [flop_text(c) for c in fixed["compute"]],
            "gain": [gain_text(*r) for r in fixed[["gain", "gain_low", "gain_high"]].to_numpy()],
            "growth per year (%)": [gain_text(*r) for r in shares],
            "decades beyond the data": [f"{d:.1f}" for d in fixed["decades_beyond"]],
        }
    )


def _worlds(worlds: pd.DataFrame) -> pd.DataFrame:
    shown = worlds.sort_values("ceg")
    choices = shown[[*account_tables.CHOICES]].rename(columns={"reference": "at the compute of"})
    own = ["the account's own" if d else "" for d in shown["default"]]
    return choices.assign(total=[number(v) for v in shown["ceg"]], note=own)
