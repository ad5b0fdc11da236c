"""Accounts as files: TOML with laws and entries, or a table (Parquet, CSV) with one entry a row."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from algoprogress.analysis import account_schema as schema
from algoprogress.analysis.account_runs import (
    fitted_pair,
    measured_curve,
    with_fitted_interactions,
    without_interactions,
)
from algoprogress.analysis.accounting import Account, Entry
from algoprogress.analysis.compute_frontier import FRONTIERS, Frontier
from algoprogress.analysis.gain_curves import Gain, LawPair, Multiplier, PowerSum
from algoprogress.analysis.interactions import InteractionModel
from algoprogress.analysis.joint import JointFit

FitOf = Callable[[str], JointFit]
ModelOf = Callable[[str], InteractionModel]

METHODS = ("law", "interpolated")
RULES = ("none", "power", "fitted")
HOFFMANN = ("E", "A", "B", "alpha", "beta")


def protocols() -> list[str]:
    """Names of the accounts that come with the package."""
    return sorted(f.name.removesuffix(".toml") for f in _folder().iterdir() if f.name.endswith(".toml"))


def account(
    name: str, fit_of: FitOf | None = None, model_of: ModelOf | None = None, interaction: str | None = None
) -> Account:
    """An account that comes with the package by its name, or one of the user's own by its file.

    Args:
        name: of an account, or of a file.
        fit_of: study -> its joint fit, for entries whose gain is that of a study of one's own.
        model_of: study -> its fitted interaction model, for the rule "fitted".
        interaction: another rule than the account's: "none", "power", "fitted", or "fitted:STUDY".

    Raises:
        ValueError: no such account, or a file that is not one; the message says what is wrong with which entry.
    """
    path = Path(name)
    if path.suffix in (".toml", ".parquet", ".csv"):
        if not path.is_file():
            raise ValueError(
                f"there is no file {name}: give a TOML, Parquet or CSV file, or one of {', '.join(protocols())}"
            )
        if path.suffix != ".toml":
            return _ruled(_from_table(path), interaction or "none", model_of)
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{name} is not TOML: it is no text in UTF-8 ({error})") from None
        return _from_toml(text, name, fit_of, model_of, interaction)
    if name not in protocols():
        raise ValueError(f"there is no account {name!r}; there are {', '.join(protocols())}, or give a file")
    text = (_folder() / f"{name}.toml").read_text(encoding="utf-8")
    return _from_toml(text, name, fit_of, model_of, interaction)


def _folder() -> Any:
    return files("algoprogress.analysis") / "accounts"


def _from_toml(
    text: str, name: str, fit_of: FitOf | None, model_of: ModelOf | None, interaction: str | None
) -> Account:
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{name} is not TOML: {error}") from None
    schema.check(found, schema.ACCOUNT, name)
    if "like" in found:
        like = _one_of(
            found.pop("like"), tuple(protocols()), f"{name}: like"
        )  # what it says itself replaces what that says
        base = tomllib.loads((_folder() / f"{like}.toml").read_text(encoding="utf-8"))
        found = {**base, **found, "laws": {**base.get("laws", {}), **found.get("laws", {})}}
    laws = {law: _law(law, spec) for law, spec in found.get("laws", {}).items()}
    entries = tuple(_entry(row, laws, name, fit_of) for row in found.get("entries", []))
    if not entries:
        raise ValueError(f"{name} has no [[entries]].")
    rule = found.get("interaction", {})
    schema.check(rule, schema.INTERACTION, f"{name}, [interaction]")
    own = _one_of(rule.get("rule", "none"), RULES, f"{name}: the interaction rule")
    if own == "fitted" and "study" in rule:
        own = f"fitted:{rule['study']}"
    together = rule.get("measured_together")
    frontier = found.get("frontier", "gundlach2025")
    if isinstance(frontier, dict):
        schema.check(frontier, schema.FRONTIER, f"{name}, [frontier]", needed=("compute", "at", "growth"))
    found_account = Account(
        name=found.get("name", Path(name).stem),
        entries=entries,
        frontier=Frontier(**frontier) if isinstance(frontier, dict) else named_frontier(frontier),
        reference=_one_of(found.get("reference", "new"), ("new", "old", "as published"), f"{name}: reference"),
        interaction="power" if own == "power" else "none",
        measured_together=None if together is None else Multiplier(together, **_interval(rule)),  # type: ignore[arg-type]
        since=float(found.get("since", 2012)),
        bases={base: tuple(of) for base, of in found.get("bases", {}).items()},
        description=found.get("description", ""),
    )
    return _ruled(found_account, interaction or own, model_of)


def _ruled(found: Account, rule: str, model_of: ModelOf | None) -> Account:
    """The account under a rule for interactions."""
    name, _, study = rule.partition(":")
    _one_of(name, RULES, "the interaction rule")
    if study and name != "fitted":
        raise ValueError(f"the interaction rule {name} is of no study: leave out {study!r}")
    if name == "none":
        return without_interactions(found)
    if name == "power":
        return replace(found, interaction="power")
    if model_of is None:
        raise ValueError("The rule 'fitted' rests on a study: give a store that holds its runs.")
    return with_fitted_interactions(found, model_of(study or "interactions"))


def named_frontier(text: str) -> Frontier:
    """A frontier by its name, or "COMPUTE@YEAR*GROWTH", such as 1e16@2013*4.1."""
    if text in FRONTIERS:
        return FRONTIERS[text]
    try:
        compute, rest = text.split("@")
        year, growth = rest.split("*")
        return Frontier(float(compute), float(year), float(growth), name=text)
    except ValueError:
        raise ValueError(
            f"a frontier is one of {', '.join(FRONTIERS)}, or COMPUTE@YEAR*GROWTH such as 1e16@2013*4.1; not {text!r}"
        ) from None


def _law(name: str, spec: Mapping[str, Any]) -> PowerSum:
    """The law in compute of one of these forms.

    L = E + sum A C^-a; C = 1 / (c (L - E)^p) by inverse = [c, p]; or L(N, D) of Hoffmann et al. along an allocation
    with D = C / 6N: N = k C^e by n_of_c = [k, e], or N = k (C/6)^e by n_of_nd = [k, e], the best one where k is "best".
    """
    form = next((f for f in schema.LAW_FORMS if f in spec), "a")
    schema.check(spec, schema.LAW_FORMS[form], f"the law {name}", needed=tuple(schema.LAW_FORMS[form]))
    if form == "a":
        return PowerSum(spec["E"], spec["A"], spec["a"])
    if form == "inverse":
        c, p = spec["inverse"]
        return PowerSum(spec["E"], [c ** (-1 / p)], [1 / p])
    E, A, B, alpha, beta = (spec[k] for k in HOFFMANN)
    k, e = spec[form]
    if k == "best":
        k = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    if form == "n_of_nd":
        k = k * 6**-e
    return PowerSum(E, [A * k**-alpha, B * (6 * k) ** beta], [alpha * e, beta * (1 - e)])


def _entry(row: Mapping[str, Any], laws: Mapping[str, PowerSum], name: str, fit_of: FitOf | None = None) -> Entry:
    called = row.get("key") or row.get("innovation") or "an entry without key"
    schema.check(row, schema.ENTRY | schema.GAIN, f"{name}, {called}", needed=("key", "innovation", "year"))
    try:
        gain = _of_study(row, fit_of) if "study" in row else _gain(row, laws)
    except ValueError as error:
        raise ValueError(f"{name}, {called}: {error}") from None
    told = {k: v for k, v in row.items() if k in schema.ENTRY}
    told["year"], told["less"] = float(told["year"]), tuple(told.get("less", ()))
    if "reference" in told:
        told["reference"] = _one_of(told["reference"], ("new", "old"), f"{name}, {called}: reference")
    return Entry(gain=gain, **told)


def _gain(row: Mapping[str, Any], laws: Mapping[str, PowerSum]) -> Gain:
    by_law = "old" in row or "new" in row
    if by_law == ("multiplier" in row):
        raise ValueError("Give either a multiplier, or the laws old and new.")
    measured = tuple(map(float, row["measured"])) if "measured" in row else None
    if not by_law:
        return Multiplier(float(row["multiplier"]), measured=measured, **_interval(row))  # type: ignore[arg-type]
    unknown = [str(row.get(side)) for side in ("old", "new") if row.get(side) not in laws]
    if unknown:
        raise ValueError(f"There is no law {', '.join(unknown)}; there are {', '.join(laws) or 'none'}.")
    return LawPair(laws[row["old"]], laws[row["new"]], measured=measured)  # type: ignore[arg-type]


def _of_study(row: Mapping[str, Any], fit_of: FitOf | None) -> Gain:
    """The gain of an arm of a study over another: by their laws, or as it was measured and nowhere else."""
    if fit_of is None:
        raise ValueError("Its gain is that of a study: give the store that holds the runs.")
    if both := sorted({"multiplier", "old", "new", "low", "high"} & set(row)):
        raise ValueError(f"Its gain is that of a study: leave out {', '.join(both)}.")
    if "arm" not in row:
        raise ValueError("Its gain is that of a study: say of which arm.")
    method, fit = _one_of(row.get("method", "law"), METHODS, "method"), fit_of(row["study"])
    if method == "law":
        return fitted_pair(fit, row["arm"], row.get("over"), row["study"])
    if row.get("over", fit.baseline) != fit.baseline:
        raise ValueError(f"Interpolated gains are over the study's baseline, {fit.baseline}, not over {row['over']}.")
    return measured_curve(fit, row["arm"], row["study"])


def _interval(row: Mapping[str, Any]) -> dict[str, float]:
    return {k: float(row[k]) for k in ("low", "high", "level") if k in row}


def _from_table(path: Path) -> Account:
    """Columns key (or innovation), year, multiplier, and where known low, high, level, group, source, protocol, ..."""
    try:
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except ValueError as error:  # those of pandas and of Arrow are ones
        raise ValueError(f"{path} can not be read as a table: {error}") from None
    rows = []
    for record in table.to_dict("records"):
        row = {str(k): _cell(str(k), v) for k, v in record.items() if not (np.isscalar(v) and pd.isna(v))}
        for one, other in (("key", "innovation"), ("innovation", "key")):
            if other in row:
                row.setdefault(one, row[other])
        rows.append(_entry(row, {}, str(path)))
    if not rows:
        raise ValueError(f"{path} has no rows: an account needs entries.")
    return Account(name=path.stem, entries=tuple(rows))


def _cell(field: str, value: Any) -> Any:
    """A cell as a file of TOML would have it: names may stand in one cell with commas between."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    kind = (schema.ENTRY | schema.GAIN).get(field)
    if kind is schema.NAMES and isinstance(value, str):
        return [name.strip() for name in value.split(",")]
    return str(value) if kind is schema.TEXT else value


def _one_of(value: Any, allowed: tuple[str, ...], what: str) -> Any:
    if value not in allowed:
        raise ValueError(f"{what} is one of {', '.join(allowed)}, not {value!r}.")
    return value
