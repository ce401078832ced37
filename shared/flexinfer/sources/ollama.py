"""ollama://: a name of the Ollama registry, which the engine itself pulls when it starts."""

import re

from flexinfer.api.model import Model
from flexinfer.sources.base import Location, Scheme, Source

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_NAME = re.compile(rf"{_PART}(/{_PART}){{0,3}}(:{_PART})?")


def parse(rest: str) -> Source | str:
    """Read `[<host>/][<namespace>/]<model>[:<tag>]`."""
    if not _NAME.fullmatch(rest) or ".." in rest:
        return f"{rest!r} is not a name of the Ollama registry"
    return Source(scheme="ollama", name=rest)


def locate(_model: Model, source: Source) -> Location:
    """Return the name: the engine decides where it keeps what it pulls."""
    return Location(path=source.name, pulled=True)


SCHEME = Scheme(name="ollama", form="ollama://<model>:<tag>", parse=parse, locate=locate)
