"""What figures and pages show of an account: tidy tables over years, over compute and over conventions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.analysis.account_runs import without_interactions
from algoprogress.analysis.accounting import Account
from algoprogress.analysis.compute_frontier import FRONTIERS
from algoprogress.analysis.gain_curves import Held

N_DRAWS = 1000  # of a band: its ends are then known to a few percent of its width
CHOICES = ("reference", "frontier", "interaction", "extrapolation")


def waterfall(account: Account, year: float, n: int = N_DRAWS, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """From 1 to the total, an entry a step in the order of adoption.

    Returns:
        [key, innovation, year, group, start, end, gain, gain_low, gain_high], last the total with key "total"; `start`
        and `end` are the product of the gains before and after.
    """
    entries = sorted(account.adopted(year), key=lambda e: e.year)
    log_c = account.frontier.log_compute(year)
    gains = account.log_gains(entries, log_c)
    drawn = account.draws(entries, log_c, n, seed) if n else np.empty((0, len(entries)))
    ends = np.cumsum(gains)
    rows = [
        (e.key, e.innovation, e.year, e.group, *np.exp([end - g, end, g]), *_interval(drawn[:, k], level))
        for k, (e, g, end) in enumerate(zip(entries, gains, ends, strict=True))
    ]
    rows.append(("total", "total", year, "", 1.0, np.exp(ends[-1]), np.exp(ends[-1]), *_interval(drawn.sum(1), level)))
    columns = ["key", "innovation", "year", "group", "start", "end", "gain", "gain_low", "gain_high"]
    return pd.DataFrame(rows, columns=columns)


def shares_by_year(account: Account, years: Iterable[float]) -> pd.DataFrame:
    """[year, key, innovation, log_gain, log_share] of the entries adopted by each year, at that year's frontier.

    Years before the first adoption are left out.
    """
    first = min(e.year for e in account.entries if e.counted)
    rows = []
    for year in years:
        if year < first:
            continue
        entries = account.adopted(year)
        gains = account.log_gains(entries, account.frontier.log_compute(year))
        total = gains.sum()
        rows += [
            (year, e.key, e.innovation, g, g / total if total else np.nan) for e, g in zip(entries, gains, strict=True)
        ]
    return pd.DataFrame(rows, columns=["year", "key", "innovation", "log_gain", "log_share"])


def gains_by_compute(
    account: Account, compute: Iterable[float], n: int = N_DRAWS, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Gain of every entry that counts against compute, by the account's conventions.

    Returns:
        [key, innovation, compute, gain, gain_low, gain_high, measured_low, measured_high]; nan where an entry has no
        gain, as beyond a curve that was only measured; the measured range is nan where compute plays no part, and its
        low end above its high one where an entry and what is taken out of it were nowhere measured both.
    """
    entries = [e for e in account.entries if e.counted]
    rows = []
    for c in compute:
        log_c = float(np.log(c))
        uncertain = n and any(e.gain.uncertain for e in entries)
        drawn = account.draws(entries, log_c, n, seed) if uncertain else np.zeros((0, len(entries)))
        for k, e in enumerate(entries):
            try:
                gain = float(np.exp(account.log_gains([e], log_c)[0]))
            except ValueError:
                gain = np.nan
            rows.append(
                (e.key, e.innovation, c, gain, *_interval(drawn[:, k], level), *(account.measured(e) or [np.nan] * 2))
            )
    columns = ["key", "innovation", "compute", "gain", "gain_low", "gain_high", "measured_low", "measured_high"]
    return pd.DataFrame(rows, columns=columns)


def reference_dependence(
    account: Account, years: Iterable[float], n: int = N_DRAWS, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """The same progress, measured against each base algorithm over the years: as of `Account.against`."""
    if not account.bases:
        raise ValueError(f"{account.name} names no base algorithm: add [bases] to its file.")
    return pd.concat([account.against(year, n=n, level=level, seed=seed) for year in years], ignore_index=True)


def small_models(account: Account, years: Iterable[float], compute: Sequence[float]) -> pd.DataFrame:
    """Total gain over the years for models of a compute that stays, and along the frontier: [compute, year, gain].

    `compute` is nan along the frontier. Entries are read at the new algorithm's compute, as in `fixed_compute_growth`.
    """
    rows, years = [], list(years)
    for c in [*compute, np.nan]:
        for year in years:
            entries = [e for e in account.entries if e.counted and e.year <= year]
            log_c = account.frontier.log_compute(year) if np.isnan(c) else float(np.log(c))
            rows.append((c, year, float(np.exp(account.log_gains(entries, log_c, "new").sum())) if entries else 1.0))
    return pd.DataFrame(rows, columns=["compute", "year", "gain"])


def multiverse(
    account: Account, year: float, compute: float | None = None, n: int = 0, seed: int = 0, level: float = 0.95
) -> pd.DataFrame:
    """The total under every combination of conventions, a row each.

    The choices: which algorithm's compute gains are read at; the frontier (unless a compute is given); whether single
    gains interact; and whether laws are extrapolated, or held at the edge of what was measured.

    Returns:
        [reference, frontier, interaction, extrapolation, compute, ceg, ceg_low, ceg_high, default].
    """
    references = dict.fromkeys([account.reference, "new", "old"])
    own = account.frontier
    known = next(
        (k for k, f in FRONTIERS.items() if (f.compute, f.at, f.growth) == (own.compute, own.at, own.growth)), ""
    )
    named = {"" if compute is not None else own.name or known or "its own": own}
    if compute is None:
        others = {k: replace(f, first=own.first, last=own.last) for k, f in FRONTIERS.items()}
        named |= {k: f for k, f in others.items() if k not in named}
    rules = [account] if account.interaction == "none" else [account, without_interactions(account)]
    rows = []
    for reference, (frontier, at), of, beyond in product(references, named.items(), rules, ("by the laws", "held")):
        rule, entries = of.interaction, of.entries
        if beyond == "held":
            entries = tuple(replace(e, gain=Held(e.gain)) for e in entries)
        choice = {"reference": reference, "frontier": at, "interaction": rule, "entries": entries}
        world = replace(account, **choice)  # type: ignore[arg-type]
        log_c = at.log_compute(year) if compute is None else float(np.log(compute))
        adopted = world.adopted(year)
        low = high = np.nan
        try:
            gain = float(np.exp(world.log_gains(adopted, log_c).sum()))
            drawn = world.draws(adopted, log_c, n, seed).sum(1) if n else np.zeros(0)
            low, high = _interval(drawn, level)
        except ValueError:  # a law that never reaches the other's loss in this world
            gain = np.nan
        default = (reference, at, rule, beyond) == (
            account.reference,
            account.frontier,
            account.interaction,
            "by the laws",
        )
        rows.append((reference, frontier, rule, beyond, np.exp(log_c), gain, low, high, default))
    return pd.DataFrame(rows, columns=[*CHOICES, "compute", "ceg", "ceg_low", "ceg_high", "default"])


def forecast(
    account: Account, compute: float, year: float, n: int = 4000, level: float = 0.95, seed: int = 0
) -> dict[str, Any]:
    """What an account says at a compute, how far beyond its data that is, and how wide the band.

    Returns:
        compute, total, low, high, `band` ("draws": of the account's intervals, where every gain has one; "protocols":
        where none has, the range over every combination of conventions; "both": where some have, the range of those
        intervals over every combination), exact (how many have none), n_entries, band_decades = log10(high / low),
        decades_beyond, furthest (the entry extrapolated furthest), assumed (how many gains are taken as the same at
        every compute, no range being known in which they were measured), held (the total with every gain held at the
        edge of what was measured), level.

    Raises:
        ValueError: the compute is no positive number, or a gain has no value there.
    """
    if not (np.isfinite(compute) and compute > 0):
        raise ValueError(f"A forecast is at a compute above 0 FLOP, not {compute}.")
    log_c, entries = float(np.log(compute)), account.adopted(year)
    total = float(np.exp(account.log_gains(entries, log_c).sum()))
    drawn = account.draws(entries, log_c, n, seed) if n else np.zeros((1, len(entries)))
    exact = sum(not e.gain.uncertain for e in entries)
    varied = bool(np.ptp(drawn, axis=0).any())  # what was measured together may have an interval where no entry has
    worlds = multiverse(account, year, compute, n if varied and exact else 0, seed, level)
    if varied and not exact:
        low, high = np.exp(_quantiles(drawn.sum(1), level))
        band = "draws"
    else:
        ends = worlds[["ceg", "ceg_low", "ceg_high"]]
        low, high = ends.min(axis=None), ends.max(axis=None)
        band = "both" if varied else "protocols"
    like = worlds.query("reference == @account.reference and interaction == @account.interaction")
    furthest, beyond = account.furthest(entries, log_c)
    return {
        "compute": compute,
        "total": total,
        "low": float(low),
        "high": float(high),
        "band": band,
        "exact": exact,
        "n_entries": len(entries),
        "band_decades": float(np.log10(high / low)),
        "decades_beyond": beyond,
        "furthest": furthest,
        "assumed": sum(e.gain.measured is None for e in entries),
        "held": float(like.query("extrapolation == 'held'")["ceg"].iloc[0]),
        "level": level,
    }


def forecast_text(found: Mapping[str, Any]) -> str:
    """A forecast as two sentences; there is no shorter form of it."""
    from algoprogress.analysis.formatting import flop_text, number

    kind = {
        "draws": f"{100 * found['level']:g} % interval",
        "protocols": "range over conventions, no interval being known",
        "both": f"range of {100 * found['level']:g} % intervals over conventions, {found['exact']} of "
        f"{found['n_entries']} gains having none",
    }[found["band"]]
    far, assumed = found["decades_beyond"], found["assumed"]
    where = (
        f"{far:.1f} decades of compute beyond what was measured ({found['furthest']})"
        if far > 0.05
        else "measured at no known compute"
        if assumed == found["n_entries"]
        else "within what was measured"
    )
    if assumed:
        where += f", {assumed} of {found['n_entries']} gains being taken as the same at every compute"
    return (
        f"At {flop_text(found['compute'])} FLOP: {number(found['total'])} times [{number(found['low'])}, "
        f"{number(found['high'])}] ({kind}; {found['band_decades']:.1f} decades wide), {where}. With every gain held "
        f"at the edge of what was measured it is {number(found['held'])}."
    )


def _quantiles(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _interval(log_gains: np.ndarray, level: float) -> tuple[float, float]:
    """Of exp of draws; nan where there are none, where they do not differ, or where some have no value."""
    if not len(log_gains) or not np.isfinite(log_gains).all() or np.ptp(log_gains) == 0:
        return np.nan, np.nan
    low, high = np.exp(_quantiles(log_gains, level))
    return float(low), float(high)
