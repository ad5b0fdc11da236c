"""A stored study: its arms in order, its baseline and the run ids of each arm, so that tables need no study code."""

import json
import re
from operator import itemgetter
from typing import Any

from algoprogress.results.problems import Unreadable
from algoprogress.results.record import is_run_id

STAGES = ("sweep", "main")
VERSION = 1  # of these files; runs have a version of their own
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def is_study_name(name: object) -> bool:
    """Whether `name` can be a study's name, and so never a way out of the store's folder."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def check_study_name(name: object) -> str:
    """Returns `name`, or raises ValueError if it could not be a file's name in every store."""
    if not isinstance(name, str) or not is_study_name(name):
        raise ValueError(
            "A study's name begins with a letter or digit and goes on with letters, digits, '_', '.' or '-', "
            f"100 characters at most; {name!r} does not: rename it."
        )
    return name


def study_run_ids(study: dict[str, Any]) -> list[str]:
    """The ids of a study's runs in its order, each once."""
    return list(dict.fromkeys(entry["run_id"] for entries in study["arms"].values() for entry in entries))


def encode(study: dict[str, Any]) -> bytes:
    """The study as JSON. Raises ValueError if its name, an arm, a run id or the baseline is not valid."""
    name = check_study_name(study.get("name"))
    try:
        _check(study, name)
        text = json.dumps({**study, "schema_version": VERSION}, indent=1, ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError) as error:
        raise ValueError(f"Study {name} can not be stored: {str(error).rstrip('.')}.") from error
    return text.encode()


def parse(data: bytes, name: str) -> dict[str, Any]:
    """The study in a file's bytes. Raises Unreadable if they are not a study of that name."""
    remedy = f"run `algoprogress submit {name}` to write it anew; no run is trained twice"
    try:
        study = json.loads(data)
        if not isinstance(study, dict):
            raise ValueError("it is not a mapping")
    except ValueError as error:
        raise Unreadable(f"it is not a whole study ({error})", remedy) from error
    if (version := study.get("schema_version")) != VERSION:
        newer = "install the version of algoprogress that wrote it"
        raise Unreadable(f"its schema_version is {version!r}, not {VERSION}", newer)
    try:
        _check(study, name)
    except ValueError as error:
        raise Unreadable(str(error).rstrip("."), remedy) from error
    return study


def _check(study: dict[str, Any], name: str) -> None:
    arms = study.get("arms")
    if study.get("name") != name:
        raise ValueError(f"its name is {study.get('name')!r}")
    if not isinstance(arms, dict) or not all(isinstance(entries, list) for entries in arms.values()):
        raise ValueError("arms must map each arm's name to a list of runs")
    for arm, entries in arms.items():
        if not isinstance(arm, str):
            raise ValueError(f"the arm {arm!r} must have text for a name")
        for entry in [] if _all_plain(entries) else entries:
            if not isinstance(entry, dict) or not is_run_id(entry.get("run_id")):
                raise ValueError(f"arm {arm} holds {entry!r}, where a run_id of 20 hex digits belongs")
            budget = entry.get("compute_budget")
            if isinstance(budget, bool) or not isinstance(budget, int | float | None):
                raise ValueError(f"arm {arm} holds the compute_budget {budget!r}, which is not a number of FLOP")
            if entry.get("stage", "main") not in STAGES:
                raise ValueError(f"arm {arm} holds the stage {entry['stage']!r}, not one of {', '.join(STAGES)}")
    if study.get("baseline") is not None and study["baseline"] not in arms:
        raise ValueError(f"its baseline {study['baseline']!r} is not one of its arms ({', '.join(arms)})")


def _all_plain(entries: list[Any]) -> bool:
    """Whether nothing can be wrong with any entry, column by column: a study may have a hundred thousand."""
    try:
        return (
            all(map(is_run_id, map(itemgetter("run_id"), entries)))
            and {type(entry.get("compute_budget")) for entry in entries} <= {int, float, type(None)}
            and {entry.get("stage", "main") for entry in entries} <= set(STAGES)
        )
    except (AttributeError, IndexError, KeyError, TypeError):
        return False
