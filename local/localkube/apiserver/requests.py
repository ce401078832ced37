"""What callers ask of the store and what it answers: plain values, no behaviour."""

from dataclasses import dataclass
from typing import Any, Literal

from localkube.apiserver.resources import Object

PatchKind = Literal["merge", "json", "apply", "strategic"]
Validation = Literal["Warn", "Strict", "Ignore"]
Propagation = Literal["Background", "Foreground", "Orphan"]
WatchType = Literal["ADDED", "MODIFIED", "DELETED"]


@dataclass(frozen=True, slots=True)
class Query:
    """Which objects of a resource, and how many of them at once (0: all)."""

    label_selector: str = ""
    field_selector: str = ""
    limit: int = 0
    continue_token: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """A list, the version it stands for, and where its next page begins."""

    items: tuple[Object, ...]
    resource_version: str
    continue_token: str = ""
    remaining: int | None = None  # None with selectors, as in Kubernetes


@dataclass(frozen=True, slots=True)
class Options:
    """How to write: in whose name, for show only, how strictly, and whether to take over others' fields."""

    manager: str = ""
    dry_run: bool = False
    validation: Validation = "Warn"
    force: bool = False


@dataclass(frozen=True, slots=True)
class Patch:
    """A change in one of the four languages of the API."""

    kind: PatchKind
    body: Any


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """What must hold for a deletion, how soon it is to happen, and what becomes of dependents."""

    uid: str | None = None
    resource_version: str | None = None
    propagation: Propagation | None = None  # None: Background, except where finalizers say otherwise
    grace_seconds: int | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """An object after a write, and what the writer should be told."""

    obj: Object
    warnings: tuple[str, ...] = ()
    created: bool = False


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One change, as a subscriber with its own selectors sees it."""

    type: WatchType
    obj: Object
    revision: int
