"""A user's own grid as a YAML file of the same model, with the line and the nearest valid key in every error.

name: my_study
question: Is a wider LSTM better at equal compute?
baseline: narrow
common: {data: {corpus: english, context: 128}, batch_tokens: 512}
sweep: {extensions: 2, seeds: 2}
arms:
  narrow:
    architecture: {name: lstm, width: 32}
    compute: [1e9, 1e10]                     # budgets in FLOP; or give tokens
    cross: {learning_rate: [0.02, 0.04]}     # every combination
    zip: {seed: [0, 1], clip: [1.0, 0.5]}    # side by side
    list: [{schedule: cosine}, {schedule: linear}]
    exclude: [{learning_rate: 0.04, seed: 1}]
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from algoprogress.ablations.allocation import isoflop
from algoprogress.ablations.architectures import architectures
from algoprogress.ablations.optimizers import optimizers
from algoprogress.ablations.registry import Registry
from algoprogress.ablations.schedules import schedules
from algoprogress.ablations.spec import Data, RunSpec
from algoprogress.ablations.study import Entry, Study, Sweep, flatten

STUDY_KEYS = ("name", "question", "baseline", "common", "sweep", "arms")
AXES = ("compute", "cross", "zip", "list", "exclude")
Path_ = tuple[str | int, ...]
A = TypeVar("A", dict, list)


class StudyFileError(ValueError):
    """A study file that says something it should not; the message begins with file and line."""


class _File:
    """A YAML document that knows on which line each key stands."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise StudyFileError(
                f"{path}: there is no such study file; `algoprogress studies` lists the built-in ones"
            ) from None
        except UnicodeDecodeError as error:
            raise StudyFileError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
        except OSError as error:
            raise StudyFileError(f"{path}: cannot be read ({error.strerror}); give a readable YAML file") from None
        try:
            self.data: Any = yaml.safe_load(text)
            self.root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f":{mark.line + 1}" if mark else ""
            raise StudyFileError(f"{path}{line}: not valid YAML: {getattr(error, 'problem', error)}") from None
        except ValueError as error:  # a date that is none, such as 2020-13-45
            raise StudyFileError(f"{path}: not valid YAML: {error}") from None
        if not isinstance(self.data, dict):
            raise StudyFileError(f"{path}:1: a study file is a mapping with the keys {', '.join(STUDY_KEYS)}")
        self._check_repeats()

    def _check_repeats(self) -> None:
        """YAML readers keep the last of two equal keys and say nothing: an arm would be lost."""
        nodes, seen = [self.root], set[int]()
        while nodes:
            node = nodes.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, yaml.SequenceNode):
                nodes += node.value
            elif isinstance(node, yaml.MappingNode):
                keys = set[str]()
                for key, value in node.value:
                    nodes.append(value)
                    if isinstance(key, yaml.ScalarNode) and key.value in keys:
                        line = key.start_mark.line + 1
                        raise StudyFileError(f"{self.path}:{line}: the key {key.value!r} is given twice: keep one")
                    keys.add(str(key.value))

    def line(self, where: Path_) -> int:
        """Line of the deepest part of a path that stands in the file."""
        node, line = self.root, 1
        for step in where:
            if isinstance(node, yaml.MappingNode):
                pair = next(((k, v) for k, v in node.value if k.value == str(step)), None)
                if pair is None:
                    break
                line, node = pair[0].start_mark.line + 1, pair[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = node.start_mark.line + 1
            else:
                break
        return line

    def error(self, where: Path_, message: str) -> StudyFileError:
        return StudyFileError(f"{self.path}:{self.line(where)}: {message}")

    def check_keys(self, where: Path_, mapping: Any, known: tuple[str, ...]) -> None:
        if not isinstance(mapping, Mapping):
            raise self.error(where, f"{_dotted(where)} must be a mapping, not {mapping!r}")
        for key in mapping:
            if key not in known:
                raise self.error((*where, key), _unknown(str(key), known, _dotted(where)))


def load(path: str | Path) -> Study:
    """The study that a YAML file describes.

    Raises:
        StudyFileError: with file, line, what is wrong, and the nearest valid key.
    """
    file = _File(Path(path))
    data = file.data
    file.check_keys((), data, STUDY_KEYS)
    for key in ("name", "baseline", "arms"):
        if key not in data:
            raise file.error((), f"the key {key!r} is missing")
    common = data.get("common") or {}
    fields = tuple(RunSpec.model_fields)
    file.check_keys(("common",), common, fields)
    if not isinstance(data["arms"], Mapping) or not data["arms"]:
        raise file.error(("arms",), "arms must be a mapping from a name to what it trains")
    arms = {}
    for arm, body in data["arms"].items():
        where: Path_ = ("arms", str(arm))
        file.check_keys(where, body, (*fields, *AXES))
        arms[str(arm)] = tuple(_entries(file, where, common, body))
    baseline = str(data["baseline"])
    if baseline not in arms:
        close = difflib.get_close_matches(baseline, arms, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise file.error(("baseline",), f"the baseline {baseline!r} is not an arm; arms: {', '.join(arms)}{hint}")
    sweep = None
    if data.get("sweep") is not None:
        file.check_keys(("sweep",), data["sweep"], tuple(Sweep.model_fields))
        try:
            sweep = Sweep.model_validate(data["sweep"])
        except ValidationError as error:
            raise _explain(file, ("sweep",), error) from None
    try:
        return Study(name=data["name"], question=data.get("question") or "", baseline=baseline, arms=arms, sweep=sweep)
    except ValidationError as error:
        raise _explain(file, (), error) from None


def _entries(file: _File, where: Path_, common: Mapping[str, Any], body: Mapping[str, Any]) -> Iterator[Entry]:
    fixed = {k: v for k, v in body.items() if k not in AXES}
    points = list(_points(file, where, body))
    exclude = list(_excluded(file, where, body, points))
    kept = [p for p in points if not any(all(_same(p.get(k), v) for k, v in e.items()) for e in exclude)]
    if not kept:
        raise file.error((*where, "exclude"), "every point of this arm is excluded")
    for point in kept:
        fields = _merge(_merge(dict(common), fixed), _nest(point))
        budgets = body.get("compute")
        for budget in [None] if budgets == [] else budgets if isinstance(budgets, list) else [budgets]:
            if budget is None:
                yield Entry(spec=_spec(file, where, fields))
                continue
            try:
                compute = float(budget)
            except (TypeError, ValueError):
                raise file.error((*where, "compute"), f"a budget is a number of FLOP, not {budget!r}") from None
            yield Entry(spec=_at_compute(file, where, fields, compute), compute_budget=compute)


def _points(file: _File, where: Path_, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    cross, side = _axis(file, where, body, "cross", dict), _axis(file, where, body, "zip", dict)
    listed = _axis(file, where, body, "list", list) or [{}]
    for axis, values in (("cross", cross), ("zip", side)):
        for key, options in values.items():
            _check_axis(file, (*where, axis, key), key)
            if not isinstance(options, list) or not options:
                raise file.error((*where, axis, key), f"{key} needs a list of values, not {options!r}")
    if len({len(v) for v in side.values()}) > 1:
        lengths = ", ".join(f"{k} {len(v)}" for k, v in side.items())
        raise file.error((*where, "zip"), f"lists that are zipped must be equally long: {lengths}")
    crossed = [dict(zip(cross, values, strict=True)) for values in itertools.product(*cross.values())]
    zipped = [dict(zip(side, values, strict=True)) for values in zip(*side.values(), strict=True)] or [{}]
    for i, item in enumerate(listed):
        if not isinstance(item, Mapping):
            raise file.error((*where, "list", i), f"an item of list is a mapping of fields, not {item!r}")
        for key in item:
            _check_axis(file, (*where, "list", i, key), key)
    for a, b, c in itertools.product(crossed, zipped, listed):
        yield flatten({**a, **b, **c})


def _axis(file: _File, where: Path_, body: Mapping[str, Any], axis: str, kind: type[A]) -> A:
    value = body.get(axis)
    if value is not None and not isinstance(value, kind):
        wanted = "a mapping from fields to lists of values" if kind is dict else "a list of mappings of fields"
        raise file.error((*where, axis), f"{axis} must be {wanted}, not {value!r}")
    return kind() if value is None else value


def _excluded(
    file: _File, where: Path_, body: Mapping[str, Any], points: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """What to leave out; a field that is on no axis of the arm would leave out nothing, so it is an error."""
    known = tuple(dict.fromkeys(key for point in points for key in point))
    for i, item in enumerate(_axis(file, where, body, "exclude", list)):
        if not isinstance(item, Mapping) or not item:
            raise file.error((*where, "exclude", i), f"an item of exclude is a mapping of fields, not {item!r}")
        for key in flatten(item):
            if key not in known:
                raise file.error((*where, "exclude", i, key), _unknown(key, known, "the axes of this arm"))
        yield flatten(item)


def _check_axis(file: _File, where: Path_, key: str) -> None:
    top = str(key).split(".")[0]
    if top not in RunSpec.model_fields:
        raise file.error(where, _unknown(top, tuple(RunSpec.model_fields), "a run"))


def _at_compute(file: _File, where: Path_, fields: dict[str, Any], compute: float) -> RunSpec:
    if "tokens" in fields:
        raise file.error((*where, "tokens"), "give tokens or compute, not both")
    probe = _spec(
        file, where, {**fields, "tokens": fields.get("batch_tokens", RunSpec.model_fields["batch_tokens"].default)}
    )
    try:
        (row,) = isoflop(
            compute,
            [probe.architecture],
            probe.data.vocab_size,
            probe.data.context,
            probe.batch_tokens,
            probe.reparameterization,
        )
    except ValueError as error:
        raise file.error((*where, "compute"), str(error)) from None
    return probe.model_copy(update={"tokens": row.tokens})


def _spec(file: _File, where: Path_, fields: dict[str, Any]) -> RunSpec:
    try:
        return RunSpec.model_validate(fields)
    except ValidationError as error:
        raise _explain(file, where, error, fields) from None


def _explain(
    file: _File, where: Path_, error: ValidationError, fields: Mapping[str, Any] | None = None
) -> StudyFileError:
    """The first complaint of pydantic as one sentence, at its line."""
    first = error.errors()[0]
    loc = tuple(first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = _unknown(str(loc[-1]), _fields_at(loc[:-1], fields or {}), _dotted(loc[:-1]))
    elif first["type"] == "missing":
        message = f"the field {_dotted(loc)} is missing" + ("; or give compute" if loc == ("tokens",) else "")
    elif loc:
        got = "" if isinstance(first["input"], Mapping) else f" (got {first['input']!r})"
        message = f"{_dotted(loc)}: {message}{got}"
    # the value may stand under the arm, on an axis, or in common
    places = [(*where, *loc), *((*where, a, _dotted(loc)) for a in ("cross", "zip")), ("common", *loc)]
    best = max(places, key=lambda p: _depth(file, p))
    return file.error(best if _depth(file, best) else where, message)


def _depth(file: _File, where: Path_) -> int:
    """How many steps of a path stand in the file, beyond the arm's own."""
    data, depth = file.data, 0
    for step in where:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            break
        depth += 1
    return depth if depth == len(where) else 0


def _fields_at(loc: Path_, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys that are valid at a path of a RunSpec."""
    if not loc:
        return tuple(RunSpec.model_fields)
    registries: dict[str, Registry[Any]] = {
        "architecture": architectures,
        "optimizer": optimizers,
        "schedule": schedules,
    }
    registry = registries.get(str(loc[0]))
    if registry is not None:
        value = fields.get(str(loc[0]))
        name = value.get("name", "transformer") if isinstance(value, Mapping) else value
        keys = tuple(registry[str(name)].model_fields)
        return (*keys, "preset") if loc[0] == "architecture" else keys
    nested = RunSpec.model_fields[str(loc[0])].annotation if str(loc[0]) in RunSpec.model_fields else Data
    return tuple(nested.model_fields) if isinstance(nested, type) and issubclass(nested, BaseModel) else ()


def _unknown(key: str, known: tuple[str, ...], where: str) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
    return f"unknown key {key!r} in {where}; {hint}"


def _dotted(loc: Path_) -> str:
    return ".".join(map(str, loc)) or "the study"


def _same(a: Any, b: Any) -> bool:
    if a == b:
        return True
    try:
        return float(a) == float(b)
    except (TypeError, ValueError):
        return False


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in sorted(flat.items(), key=lambda item: item[0].count(".")):  # a whole before its parts
        *path, last = key.split(".")
        node = nested
        for step in path:
            if not isinstance(node.get(step), dict):
                node[step] = {"name": node[step]} if step in node else {}
            node = node[step]
        node[last] = value
    return nested


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, str) and isinstance(value, Mapping) and "name" not in value:
            old = {"name": old}
        merged[key] = _merge(dict(old), value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
