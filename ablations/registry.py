"""Names to things: how an architecture, an optimizer, a schedule or a study is looked up.

A registry reads every module of one package the first time it is asked, so adding a thing is adding a file.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """The things of one kind, by name, in the order in which they were registered."""

    def __init__(self, kind: str, package: str) -> None:
        """Store the names; nothing is imported yet.

        Args:
            kind: what an entry is, for error messages ("optimizer").
            package: the module or package whose import registers the entries.
        """
        self.kind = kind
        self.package = package
        self._entries: dict[str, T] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files the decorated thing under `name`."""

        def add(thing: T) -> T:
            if name in self._entries:
                raise ValueError(f"two {self.kind}s are called {name!r}: rename one of them")
            self._entries[name] = thing
            return thing

        return add

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        root = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(getattr(root, "__path__", [])):
            importlib.import_module(f"{self.package}.{module.name}")

    def names(self) -> list[str]:
        self._load()
        return list(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __getitem__(self, name: str) -> T:
        self._load()
        if not isinstance(name, str) or name not in self._entries:
            close = difflib.get_close_matches(str(name), self._entries, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"unknown {self.kind} {name!r}; known: {', '.join(self._entries) or 'none yet'}{hint}")
        return self._entries[name]


def named_config(registry: Registry[Any]) -> Callable[[Any], Any]:
    """Validator for a field that holds one of several configs, chosen by its `name`.

    Accepts a built config, the bare name, or a mapping with the key `name`.
    """

    def validate(value: Any) -> Any:
        if isinstance(value, str):
            value = {"name": value}
        if isinstance(value, dict):
            if "name" not in value:
                raise ValueError(f"the {registry.kind} has no 'name'; known: {', '.join(registry)}")
            return registry[value["name"]].model_validate(value)
        return value

    return validate
