"""Backends: the engines that FlexInfer can run, one file each, found by being here.

A file of this package holds one `BACKEND`. To add an engine, add a file: nothing else names it.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache

from flexinfer.backends.base import Backend, Problem, Serving

__all__ = ["Backend", "Problem", "Serving", "find", "names"]


def find(name: str) -> Backend | None:
    """Return the backend of that name or alias, any case; None when there is none."""
    return _catalogue().get(name.strip().lower())


def names() -> tuple[str, ...]:
    """Return the names of all backends, without aliases."""
    return tuple(sorted({backend.name for backend in _catalogue().values()}))


@cache
def _catalogue() -> Mapping[str, Backend]:
    found: dict[str, Backend] = {}
    for module in pkgutil.iter_modules(__path__):
        backend = getattr(importlib.import_module(f"{__name__}.{module.name}"), "BACKEND", None)
        if not isinstance(backend, Backend):
            continue
        for name in (backend.name, *backend.aliases):
            if name in found:
                raise ValueError(f"two backends are called {name}: {found[name].name} and {backend.name}")
            found[name] = backend
    return found
