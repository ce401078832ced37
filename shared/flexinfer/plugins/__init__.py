"""Plugins: objects that are found because their module is in a package; nothing else names them. Pure.

Backends, source schemes and GPU vendors are found this way: to add one, add a file.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def discover(package: str, attribute: str, kind: type[T]) -> tuple[T, ...]:
    """Return the `attribute` of every module of a package that has one of that type, in the order of module names.

    Imports every module of the package; raises ImportError when one cannot be imported.
    """
    path = importlib.import_module(package).__path__
    modules = [importlib.import_module(f"{package}.{module.name}") for module in pkgutil.iter_modules(path)]
    candidates = [getattr(module, attribute, None) for module in sorted(modules, key=lambda m: m.__name__)]
    return tuple(candidate for candidate in candidates if isinstance(candidate, kind))


def index(plugins: Iterable[T], names: Callable[[T], Iterable[str]]) -> Mapping[str, T]:
    """Return plugins by each of their names. Raises ValueError when two have the same name."""
    by_name: dict[str, T] = {}
    for plugin in plugins:
        for name in names(plugin):
            if name in by_name:
                raise ValueError(f"two plugins are named {name}")
            by_name[name] = plugin
    return by_name
