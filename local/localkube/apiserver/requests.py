"""The parameters and results of the store's operations, as plain values.

Options correspond to ListOptions, CreateOptions, PatchOptions and DeleteOptions of
apimachinery/pkg/apis/meta/v1.
"""

from dataclasses import dataclass
from typing import Any, Literal

from localkube.apiserver.resources import Object

PatchKind = Literal["merge", "json", "apply", "strategic"]
Validation = Literal["Warn", "Strict", "Ignore"]
Propagation = Literal["Background", "Foreground", "Orphan"]
WatchType = Literal["ADDED", "MODIFIED", "DELETED"]


@dataclass(frozen=True, slots=True)
class Query:
    """The selectors of a list or watch.

    A list has at most `limit` items (0: all), from a continue token on.
    """

    label_selector: str = ""
    field_selector: str = ""
    limit: int = 0
    continue_token: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """A list at a resourceVersion, the continue token of its next chunk and the number of remaining items."""

    items: tuple[Object, ...]
    resource_version: str
    continue_token: str = ""
    remaining: int | None = None  # None with selectors, as in Kubernetes


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a write: field manager, dry run, field validation.

    `force` lets an apply take over fields.
    """

    manager: str = ""
    dry_run: bool = False
    validation: Validation = "Warn"
    force: bool = False


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch of one of the four types that the API supports."""

    kind: PatchKind
    body: Any


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """The preconditions, propagation policy and grace period (seconds) of a deletion."""

    uid: str | None = None
    resource_version: str | None = None
    propagation: Propagation | None = None  # None: by the finalizers, else the default of the resource
    grace_seconds: int | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class WriteResult:
    """An object after a write, and the warnings for the client."""

    obj: Object
    warnings: tuple[str, ...] = ()
    created: bool = False


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """A watch event, as the selectors of the subscriber see the change."""

    type: WatchType
    obj: Object
    revision: int
