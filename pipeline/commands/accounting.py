"""`algoprogress accounting`: what gains add up to along a frontier of compute."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from algoprogress.pipeline.commands.inputs import formats, notes, writing
from algoprogress.pipeline.output import JsonOption, StoreOption, emit, note, open_store, records

if TYPE_CHECKING:
    import pandas as pd

    from algoprogress.analysis.accounting import Account
    from algoprogress.analysis.interactions import InteractionModel
    from algoprogress.analysis.joint import JointFit


FIXED = (1e16, 1e18, 1e20, 1e22, 1e24)  # FLOP: those of Gundlach et al. 2025


def accounting(
    protocol: Annotated[
        str, typer.Option(help="gundlach2025, gundlach2025_consistent, ours_laptop, or a TOML, Parquet or CSV file.")
    ] = "gundlach2025",
    year: Annotated[float, typer.Option(help="The year whose frontier the gains are read at.")] = 2025,
    compute: Annotated[float | None, typer.Option(help="FLOP, in place of the frontier's at that year.")] = None,
    frontier: Annotated[
        str | None, typer.Option(help="Another frontier: its name, or COMPUTE@YEAR*GROWTH such as 1e16@2013*4.1.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="new, old or 'as published': the compute of which algorithm; default: the account's."),
    ] = None,
    interaction: Annotated[
        str | None,
        typer.Option(
            help="How gains combine: none, power, or fitted (the model of the study interactions, or of fitted:STUDY); "
            "default: the account's."
        ),
    ] = None,
    since: Annotated[
        float | None, typer.Option(help="Year that growth is counted from; default: the account's.")
    ] = None,
    draws: Annotated[int, typer.Option(min=0, help="Joint draws behind the intervals; 0 for none.")] = 4000,
    level: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    fixed_compute: Annotated[
        str | None, typer.Option(help="FIRST:LAST, as 2016.5:2025: also the growth per year at computes that stay.")
    ] = None,
    figures: Annotated[Path | None, typer.Option(help="Folder: also draw the account's figures there.")] = None,
    format: Annotated[str, typer.Option(help="Of the figures, with commas between: png, svg, pdf.")] = "png,svg,pdf",
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Total gain, its parts and their shares of the logarithm, growth per year and doubling time, with intervals."""
    from dataclasses import replace
    from functools import lru_cache

    from algoprogress.analysis.account_files import account, named_frontier
    from algoprogress.analysis.account_tables import forecast, forecast_text
    from algoprogress.analysis.formatting import gain_text
    from algoprogress.analysis.trend import HO2024_MONTHS

    def fit_of(study: str) -> JointFit:
        from algoprogress.analysis.joint import fit_jointly

        there = open_store(store)
        with notes():
            baseline = str(there.study(study)["baseline"])
            return fit_jointly(there.runs(study), baseline, "power", n_resamples=draws, seed=seed)

    def model_of(study: str) -> InteractionModel:
        from algoprogress.analysis.interactions import fit_interactions

        there = open_store(store)
        with notes():
            model = fit_interactions(there.study(study), there.runs(study))
        if model is None:
            raise ValueError(f"{study} is no factorial, or has too few runs for its model: algoprogress submit {study}")
        return model

    with notes():
        found = account(protocol, lru_cache(fit_of), model_of, interaction)
    changes: dict[str, Any] = {"since": since, "reference": reference}
    if frontier is not None:
        changes["frontier"] = named_frontier(frontier)
    if reference not in (None, "new", "old", "as published"):
        raise ValueError(f"--reference is new, old or 'as published', not {reference!r}")
    if not 0 < level < 1:
        raise ValueError(f"--level is a share between 0 and 1, not {level:g}")
    found = replace(found, **{k: v for k, v in changes.items() if v is not None})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = found.table(year, compute, draws, level, seed)
        total = found.total(year, compute, draws, level, seed)
        against = found.against(year, compute, n=draws, level=level, seed=seed) if found.bases else None
        ahead = forecast(found, total["compute"], year, draws, level, seed)
        growth = None
        if fixed_compute is not None:
            growth = found.fixed_compute_growth(FIXED, *_years(fixed_compute), draws, level, seed)
    if figures is not None:
        _draw(found, figures, format, year, draws, level, seed)
    said = list(dict.fromkeys(str(w.message) for w in caught))
    if as_json:
        more: dict[str, Any] = {"entries": records(table.reset_index()), "warnings": said}
        more["ho2024_halving_months"] = dict(zip(("value", "low", "high"), HO2024_MONTHS, strict=True))
        more["forecast"] = ahead
        if against is not None:
            more["against"] = records(against)
        if growth is not None:
            more["fixed_compute"] = records(growth)
        emit({**table["gain"].to_dict(), **_flat(total), **more}, True)
        return
    for line in said:
        note(f"warning: {line}")
    if found.description:
        print(f"{found.description}\n")
    shown = table[["innovation", "year", "gain", "gain_low", "gain_high", "log_share", "reference", "note"]]
    emit(_dated(shown.reset_index()), False)
    print(f"\n{_sentence(total)}\n{forecast_text(ahead)}" if compute is None else f"\n{forecast_text(ahead)}")
    months = gain_text(*HO2024_MONTHS)
    print(f"For comparison, by published models of 2012 to 2023 (Ho et al. 2024): doubling in {months} months.")
    if against is not None:
        print("\nagainst a base algorithm")
        emit(_dated(against), False)
    if growth is not None:
        print("\nat a compute that stays")
        emit(growth, False)


def _dated(table: pd.DataFrame) -> pd.DataFrame:
    """With years as years, not as numbers of a thousand and more."""
    return table.assign(year=[f"{y:g}" for y in table["year"]])


def _draw(found: Account, folder: Path, format: str, year: float, draws: int, level: float, seed: int) -> None:
    from algoprogress.analysis.account_figures import draw_account
    from algoprogress.analysis.account_tables import N_DRAWS

    with writing(folder):
        for file in draw_account(found, folder, year, min(draws, N_DRAWS), level, seed, formats(format)):
            note(f"wrote {file}")


def _flat(total: dict[str, Any]) -> dict[str, Any]:
    """One level: total, total_low, total_high, groups by name, log_share_GROUP, growth_per_year, doubling_months."""
    flat: dict[str, Any] = {}

    def put(name: str, value: dict[str, float]) -> None:
        name = name.replace("-", "_").replace(" ", "_")
        flat[name] = value["value"]
        flat[f"{name}_low"], flat[f"{name}_high"] = value["low"], value["high"]

    for key, value in total.items():
        if key in ("total", "growth_per_year", "doubling_months"):
            put(key, value)
        elif key == "groups":
            for group, of in value.items():
                put(group or "other", of)
        elif key == "log_share":
            for group, of in value.items():
                put(f"log_share_{group or 'other'}", of)
        else:
            flat[key] = value
    return flat


def _sentence(total: dict[str, Any]) -> str:
    from algoprogress.analysis.formatting import gain_text

    def text(value: dict[str, float]) -> str:
        return gain_text(value["value"], value["low"], value["high"])

    exact = total["n_entries"] - total["n_uncertain"]
    bounds = f"{exact} of {total['n_entries']} gains have no interval" if exact else f"{total['level']:.0%} intervals"
    return (
        f"{total['protocol']}, {total['year']:g}, {total['compute']:.3g} FLOP: {text(total['total'])} times in all, "
        f"{text(total['growth_per_year'])} times a year, doubling in {text(total['doubling_months'])} months "
        f"({bounds}; up to {total['decades_beyond']:.1f} decades of compute beyond what was measured)."
    )


def _years(text: str) -> tuple[float, float]:
    try:
        first, last = map(float, text.split(":"))
    except ValueError:
        raise ValueError(f"--fixed-compute takes FIRST:LAST, such as 2016.5:2025, not {text!r}") from None
    return first, last
