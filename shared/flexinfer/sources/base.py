"""Source: what a URI names, and where an engine finds it. Pure: the prefetcher downloads."""

import enum
import hashlib
import json
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


_NEWER = ("unsafe", "registry")
"""Fields of a selection that are younger than the folders of caches: the default changes no fingerprint."""


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """Which files of a repository are downloaded; neither name nor pattern means all.

    A name is a name: it must exist, and no character of it is a pattern. Names are not ignored.
    """

    repository: str
    revision: str = ""
    names: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    unsafe: bool = False
    """Whether files that can run code when they are loaded are downloaded too."""
    registry: str = ""
    """The host of the Ollama registry that has the repository, its tag being the revision; empty: the Hugging Face hub."""

    @property
    def fingerprint(self) -> str:
        """A digest of the selection: 12 hexadecimal digits."""
        selection = {
            name: value for name, value in msgspec.to_builtins(self).items() if value or name not in _NEWER
        }
        return hashlib.sha256(json.dumps(selection, sort_keys=True).encode()).hexdigest()[:12]


class Location(msgspec.Struct, frozen=True, kw_only=True):
    """Where the weights are: the path that an engine loads, and the volume that must be mounted for it."""

    path: str
    volume: Volume = Volume.NOTHING
    claim: str = ""
    owned: bool = False
    """Whether FlexInfer creates the PVC when it is missing."""
    files: Files | None = None
    """What is downloaded, by a Job or by an init container of the Pod; None: nothing."""

    @property
    def fetched(self) -> bool:
        """Whether the weights are downloaded."""
        return self.files is not None


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
