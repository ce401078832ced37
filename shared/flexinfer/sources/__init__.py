"""Sources: where weights come from, one file a scheme, found because the file is here.

A module of this package holds one `SCHEME`. To add a scheme, add a file and its form to the rule on spec.source in crds/models.yaml.
"""

from collections.abc import Mapping
from functools import cache

from flexinfer import plugins
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

_MAX_LENGTH, _LONGEST_SHOWN = 2048, 200


def names() -> tuple[str, ...]:
    """Return the names of all schemes."""
    return tuple(sorted(_catalogue()))


def scheme(name: str) -> Scheme | None:
    """Return the scheme of that name, which is case-sensitive; None when there is none."""
    return _catalogue().get(name)


def parse(uri: str) -> Source | SourceError:
    """Return what a source URI names, or why it is not valid."""
    name, separator, rest = uri.partition("://")
    parser = scheme(name) if separator else None
    if parser is None:
        forms = ", ".join(one.form for one in _catalogue().values())
        return SourceError(
            Reason.INVALID_SOURCE, f"spec.source {_shown(uri)} has no known scheme; use one of {forms}"
        )
    fault = "it is not one printable line" if not uri.isprintable() else ""
    fault = fault or (f"it is longer than {_MAX_LENGTH} characters" if len(uri) > _MAX_LENGTH else "")
    source = fault or parser.parse(rest)
    if isinstance(source, str):
        return SourceError(
            Reason.INVALID_SOURCE, f"spec.source {_shown(uri)}: {source}; the form is {parser.form}"
        )
    return source


def _shown(uri: str) -> str:
    """Return a URI as a message shows it: what follows it must not be cut off."""
    return repr(uri if len(uri) <= _LONGEST_SHOWN else f"{uri[:_LONGEST_SHOWN]}...")


def locate(model: Model) -> Location | None:
    """Return where a Model's weights are inside its container; None when its source is not valid."""
    source = parse(model.spec.source)
    if isinstance(source, SourceError):
        return None
    locator = scheme(source.scheme)
    return None if locator is None else locator.locate(model, source)


@cache
def _catalogue() -> Mapping[str, Scheme]:
    schemes = sorted(plugins.discover(__name__, "SCHEME", Scheme), key=lambda scheme: scheme.name)
    return plugins.index(schemes, lambda scheme: (scheme.name,))
