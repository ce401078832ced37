"""Source: what a URI names, and where an engine finds it. Pure: the prefetcher downloads."""

import enum
from collections.abc import Callable

import msgspec

from flexinfer.api.model import Model

MOUNT = "/models"
"""Where the volume with the weights is mounted in an engine's container."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What a URI names: a PVC, repository or tag, and a path where the scheme has one."""

    scheme: str
    name: str = ""
    path: str = ""


class SourceError(msgspec.Struct, frozen=True):
    """Why a URI is not valid: a reason for machines, a sentence with the right form for people."""

    reason: str
    message: str


class Volume(enum.Enum):
    """What is mounted at `MOUNT`."""

    NOTHING = "nothing"
    CLAIM = "claim"
    MEMORY = "memory"
    DISK = "disk"


class Location(msgspec.Struct, frozen=True, kw_only=True):
    """Where the weights are: the path that an engine loads, and the volume that must be mounted for it."""

    path: str
    volume: Volume = Volume.NOTHING
    claim: str = ""
    owned: bool = False
    """Whether FlexInfer creates the PVC when it is missing."""
    fetched: bool = False
    """Whether the weights are downloaded, by a Job or by an init container of the Pod."""
    pulled: bool = False
    """Whether the engine itself downloads them when it starts."""


class Scheme(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of source. `parse` returns a sentence when what follows `://` is not of its form."""

    name: str
    form: str
    parse: Callable[[str], Source | str]
    locate: Callable[[Model, Source], Location]


def wrong_path(path: str) -> str:
    """Return what is wrong with a path of a user; empty when it is valid."""
    parts = path.split("/")
    if ".." in parts or "." in parts:
        return "a path may not hold `.` or `..` as a part"
    return "a path may not hold an empty part" if "" in parts else ""
