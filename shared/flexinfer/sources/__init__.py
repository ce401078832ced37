"""Sources: where weights come from, one file a scheme, found by being here.

A file of this package holds one `SCHEME`. To add a scheme, add a file: nothing else names it (the CRD's rule aside).
"""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache

from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.sources.base import MOUNT, Location, Scheme, Source, SourceError, Volume

__all__ = [
    "MOUNT",
    "Location",
    "Scheme",
    "Source",
    "SourceError",
    "Volume",
    "locate",
    "names",
    "parse",
    "scheme",
]

_LONGEST = 2048


def names() -> tuple[str, ...]:
    """Return the names of all schemes."""
    return tuple(sorted(_catalogue()))


def scheme(name: str) -> Scheme | None:
    """Return the scheme of that name, which is case-sensitive; None when there is none."""
    return _catalogue().get(name)


def parse(uri: str) -> Source | SourceError:
    """Return what a source URI names, or why it names nothing."""
    name, separator, rest = uri.partition("://")
    found = scheme(name) if separator else None
    if found is None:
        forms = ", ".join(known.form for known in _catalogue().values())
        return SourceError(
            Reason.INVALID_SOURCE, f"spec.source {uri!r} has no known scheme; use one of {forms}"
        )
    wrong = "it is not one printable line" if not uri.isprintable() or len(uri) > _LONGEST else ""
    parsed = wrong or found.parse(rest)
    if isinstance(parsed, str):
        return SourceError(Reason.INVALID_SOURCE, f"spec.source {uri!r}: {parsed}; the form is {found.form}")
    return parsed


def locate(model: Model) -> Location | None:
    """Return where a Model's weights are inside its container, or None when its source is not one."""
    source = parse(model.spec.source)
    found = None if isinstance(source, SourceError) else scheme(source.scheme)
    return None if found is None or isinstance(source, SourceError) else found.locate(model, source)


@cache
def _catalogue() -> Mapping[str, Scheme]:
    found: dict[str, Scheme] = {}
    for module in pkgutil.iter_modules(__path__):
        candidate = getattr(importlib.import_module(f"{__name__}.{module.name}"), "SCHEME", None)
        if not isinstance(candidate, Scheme):
            continue
        if candidate.name in found:
            raise ValueError(f"two files hold the scheme {candidate.name}")
        found[candidate.name] = candidate
    return found
