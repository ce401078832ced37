"""Source: what a URI names, and where an engine finds it. Pure: fetching is the prefetcher's."""

import enum
from collections.abc import Callable

import msgspec

from flexinfer.api.model import Model

MOUNT = "/models"
"""Where an engine finds its volume."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What a URI names: a claim, repository or tag, and a path where the scheme has one."""

    scheme: str
    name: str = ""
    path: str = ""


class SourceError(msgspec.Struct, frozen=True):
    """Why a URI names nothing: a reason for machines, a sentence with the right form for people."""

    reason: str
    message: str


class Volume(enum.Enum):
    """What is mounted at `MOUNT`."""

    NOTHING = "nothing"
    CLAIM = "claim"
    MEMORY = "memory"
    DISK = "disk"


class Location(msgspec.Struct, frozen=True, kw_only=True):
    """Where the weights are: the path that an engine is told, and what must be mounted for it."""

    path: str
    volume: Volume = Volume.NOTHING
    claim: str = ""
    owned: bool = False
    """Whether the claim is one that FlexInfer makes when it is missing."""
    fetched: bool = False
    """Whether the bytes are fetched, by a Job or by the Pod's first container, rather than there already."""
    pulled: bool = False
    """Whether the engine itself pulls them when it starts."""


class Scheme(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of source. `parse` returns a sentence when the rest of the URI is not of its form."""

    name: str
    form: str
    parse: Callable[[str], Source | str]
    locate: Callable[[Model, Source], Location]


def wrong_path(path: str) -> str:
    """Return what is wrong with a path that a user gave, or nothing."""
    parts = path.split("/")
    if ".." in parts or "." in parts:
        return "a path may not hold `.` or `..` as a part"
    return "a path may not hold an empty part" if "" in parts else ""
