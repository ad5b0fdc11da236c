"""Is an account one? What is refused before anything is added up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from algoprogress.analysis.accounting import Account, Entry


def check_account(of: Account) -> None:
    """Raises ValueError for entries that count twice, contain themselves, or are of a year the frontier has not."""
    keys = [e.key for e in of.entries]
    if twice := sorted({k for k in keys if keys.count(k) > 1}):
        raise ValueError(f"Two entries are called {', '.join(twice)}: an innovation counts once; merge or rename them.")
    named = [" ".join(e.innovation.casefold().split()) for e in of.entries if e.counted]
    if again := sorted({i for i in named if named.count(i) > 1}):
        raise ValueError(f"Two entries count for {again[0]!r}: an innovation counts once; give one counted = false.")
    known = {e.key: e for e in of.entries}
    for e in of.entries:
        if unknown := [k for k in e.less if k not in known]:
            raise ValueError(f"{e.key} contains {', '.join(unknown)}, which is no entry; there are {', '.join(keys)}.")
        if e.counted and not of.frontier.first <= e.year <= of.frontier.last:
            raise ValueError(
                f"{e.key} is of {e.year:g}, and the frontier goes from {of.frontier.first:g} to {of.frontier.last:g}: "
                "correct its year, give a frontier with other first and last years, or say counted = false."
            )
    for e in of.entries:
        if e.key in _inside(e, known):
            raise ValueError(f"{e.key} contains itself, by way of less = {list(e.less)}: leave one of them out.")
    if of.interaction == "power" and (of.measured_together is None or not any(e.interacts for e in of.entries)):
        raise ValueError("The rule 'power' needs entries that interact and the gain measured for them together.")
    for base, inside in of.bases.items():
        if unknown := [k for k in inside if k not in known]:
            raise ValueError(f"The base {base!r} names {', '.join(unknown)}, which is no entry.")


def _inside(entry: Entry, known: dict[str, Entry]) -> set[str]:
    """Keys of all that an entry contains, at any depth."""

    def walk(keys: tuple[str, ...]) -> Iterator[str]:
        for key in keys:
            if key not in found:
                found.add(key)
                yield key
                yield from walk(known[key].less)

    found: set[str] = set()
    return set(walk(entry.less))
