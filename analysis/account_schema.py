"""What may stand in the file of an account: of each field its kind, so that a slip is told by the field's name."""

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import numpy as np

Kind = tuple[Callable[[Any], bool], str]  # whether a value is one, and what it is called


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _all(of: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(of, value))


def _range(value: Any) -> bool:
    return _all(_number)(value) and len(value) == 2 and 0 < value[0] <= value[1] < np.inf


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _table(value: Any) -> bool:
    return isinstance(value, dict)


TEXT: Kind = (_text, "a text in quotes")
NUMBER: Kind = (_number, "a number")
FLAG: Kind = (lambda v: isinstance(v, bool | np.bool_), "true or false")
NAMES: Kind = (_all(_text), 'a list of names, such as ["a", "b"]')
NUMBERS: Kind = (_all(_number), "a list of numbers")
RANGE: Kind = (_range, "the lowest and the highest compute in FLOP, such as [1e14, 1e18]")
PAIR: Kind = (lambda v: _all(_number)(v) and len(v) == 2, "a list of two numbers")
ALLOCATION: Kind = (
    lambda v: isinstance(v, list) and len(v) == 2 and (v[0] == "best" or _number(v[0])) and _number(v[1]),
    'a factor, or "best", and an exponent, such as ["best", 0.46]',
)
TABLE: Kind = (_table, "a table of its own")

ACCOUNT: dict[str, Kind] = {
    **dict.fromkeys(("name", "description", "like", "reference"), TEXT),
    "since": NUMBER,
    "frontier": (lambda v: _text(v) or _table(v), "a name, or a table with compute, at and growth"),
    "interaction": TABLE,
    "laws": (lambda v: _table(v) and all(map(_table, v.values())), "tables, one a law: [laws.NAME]"),
    "entries": (_all(_table), "tables, one an entry: [[entries]]"),
    "bases": (lambda v: _table(v) and all(map(_all(_text), v.values())), "a table of lists of keys"),
}
ENTRY: dict[str, Kind] = {
    **dict.fromkeys(("key", "innovation", "group", "reference", "source", "protocol"), TEXT),
    "year": NUMBER,
    "less": NAMES,
    **dict.fromkeys(("interacts", "counted"), FLAG),
}
GAIN: dict[str, Kind] = {
    **dict.fromkeys(("multiplier", "low", "high", "level"), NUMBER),
    **dict.fromkeys(("old", "new", "study", "arm", "over", "method"), TEXT),
    "measured": RANGE,
}
FRONTIER: dict[str, Kind] = {**dict.fromkeys(("compute", "at", "growth", "first", "last"), NUMBER), "name": TEXT}
INTERACTION: dict[str, Kind] = {
    **dict.fromkeys(("rule", "study"), TEXT),
    **dict.fromkeys(("measured_together", "low", "high", "level"), NUMBER),
}
LAW: dict[str, Kind] = {
    **dict.fromkeys(("E", "B", "alpha", "beta"), NUMBER),
    "a": NUMBERS,
    "inverse": PAIR,
    **dict.fromkeys(("n_of_c", "n_of_nd"), ALLOCATION),
}
LAW_FORMS: dict[str, dict[str, Kind]] = {  # by the field that only this form has
    "inverse": {k: LAW[k] for k in ("E", "inverse")},
    **{form: {k: LAW[k] for k in ("E", "B", "alpha", "beta", form)} | {"A": NUMBER} for form in ("n_of_c", "n_of_nd")},
    "a": {"E": NUMBER, "A": NUMBERS, "a": NUMBERS},
}


def check(found: Mapping[str, Any], kinds: Mapping[str, Kind], where: str, needed: tuple[str, ...] = ()) -> None:
    """Raises ValueError for a field that is unknown, of another kind, or needed and not there."""
    if unknown := sorted(set(found) - set(kinds)):
        raise ValueError(f"{where}: unknown {', '.join(unknown)}; known are {', '.join(sorted(kinds))}.")
    for field, value in found.items():
        fits, kind = kinds[field]
        if not fits(value):
            raise ValueError(f"{where}: {field} is {kind}, not {value!r}.")
    if missing := [field for field in needed if field not in found]:
        raise ValueError(f"{where}: there is no {', '.join(missing)}.")
