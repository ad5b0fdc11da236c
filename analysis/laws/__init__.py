"""The registry of loss laws: every module in this folder that defines a named `Law` is found by being there."""

from collections.abc import Iterator
from importlib import import_module
from inspect import isabstract
from pkgutil import iter_modules

from algoprogress.analysis.laws.base import Law


class LawRegistry:
    """Laws by name: `laws["power"]` is a class; an unknown name raises a ValueError that lists the known ones."""

    def __init__(self) -> None:
        self._laws: dict[str, type[Law]] = {}

    def _load(self) -> dict[str, type[Law]]:
        if not self._laws:
            for module in sorted(m.name for m in iter_modules(__path__)):
                for member in vars(import_module(f"{__name__}.{module}")).values():
                    if isinstance(member, type) and issubclass(member, Law) and not isabstract(member):
                        self._laws[member.name] = member
        return self._laws

    def __getitem__(self, name: str) -> type[Law]:
        known = self._load()
        if name not in known:
            raise ValueError(f"There is no law {name!r}; the laws are {', '.join(known)}.")
        return known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._load()

    def __iter__(self) -> Iterator[str]:
        return iter(self._load())

    def __len__(self) -> int:
        return len(self._load())


laws = LawRegistry()
