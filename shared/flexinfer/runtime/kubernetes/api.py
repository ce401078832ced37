"""What a component may do with the Kubernetes API.

The interface that a real API server and the simulation both implement. Bodies are sent as structs or plain
JSON values, and come back as the partial structs of `flexinfer.api`: fields that no component reads are never
built. Nothing here is cached or retried: the caller decides. Exceptions of libraries stop here.

    ApiError
    ├── NotFoundError          404: no such object (or no longer)
    ├── ConflictError          409: written by another client meanwhile, or a precondition failed
    │   └── AlreadyExistsError 409 AlreadyExists
    ├── InvalidError           400, 415, 422: the API server rejects the content; the message quotes it
    ├── ForbiddenError         401, 403: not allowed
    ├── ExpiredError           410: the resourceVersion is too old to watch from; list again
    └── UnavailableError       no answer, 429, 5xx: retry later
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Generic, Protocol, TypeAlias, TypeVar

import msgspec

from flexinfer.api.kinds import (
    CLAIM_EVENTS,
    CLAIMS,
    EVENTS,
    GPU_LEASES,
    JOBS,
    LEASES,
    MODELS,
    NODES,
    PODS,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    SERVICES,
    SHARED_GROUPS,
    STORAGE_CLASSES,
    Kind,
)

T = TypeVar("T")
Body: TypeAlias = msgspec.Struct | Mapping[str, object]
"""An object as it is sent: a struct, or plain JSON."""


class ApiError(Exception):
    """The API server rejected a request, or did not answer.

    `code` is its HTTP status, 0 without an answer; `retry_after` is in seconds.
    """

    def __init__(self, message: str, code: int = 0, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class NotFoundError(ApiError):
    """There is no such object."""


class ConflictError(ApiError):
    """Another client wrote the object meanwhile, or a precondition does not hold."""


class AlreadyExistsError(ConflictError):
    """There is an object of that name."""


class InvalidError(ApiError):
    """The API server rejects the content."""


class ForbiddenError(ApiError):
    """The client is not allowed to."""


class ExpiredError(ApiError):
    """The version to watch from is too old: list again."""


class UnavailableError(ApiError):
    """The API server does not answer, or is overloaded."""


class Listing(msgspec.Struct, Generic[T], frozen=True):
    """A list and its resourceVersion."""

    items: tuple[T, ...]
    version: str


class Change(msgspec.Struct, Generic[T], frozen=True):
    """One watch event. A BOOKMARK has no object: only the version moved."""

    type: str  # ADDED, MODIFIED, DELETED, BOOKMARK
    object: T | None
    version: str


class Cluster(Protocol):
    """The Kubernetes API, reduced to what components do with it.

    Every method may raise any ApiError; those that callers are expected to handle are named. A call ends
    within 10 s of being sent, a watch aside; of many calls at once most wait before that.
    """

    async def get(self, kind: Kind[T], namespace: str, name: str) -> T:
        """Return one object as the API server holds it now (a consistent read). Raises NotFoundError."""
        ...

    async def list(
        self, kind: Kind[T], namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Listing[T]:
        """Return all objects of a kind, of one namespace or of all, at one version; a consistent read.

        `labels` and `fields` are selectors, as kubectl has them.
        """
        ...

    def watch(self, kind: Kind[T], version: str) -> AsyncIterator[Change[T]]:
        """Yield the changes since a version, in all namespaces, until the stream ends.

        Raises ExpiredError, and UnavailableError if the stream is silent for too long.
        """
        ...

    async def create(self, kind: Kind[T], namespace: str, body: Body) -> T:
        """Create an object. Raises AlreadyExistsError."""
        ...

    async def replace(
        self, kind: Kind[T], namespace: str, name: str, body: Body, *, subresource: str = ""
    ) -> T:
        """PUT an object, or its subresource.

        Raises ConflictError unless its resourceVersion is the current one, NotFoundError.
        """
        ...

    async def apply(
        self,
        kind: Kind[T],
        namespace: str,
        body: Mapping[str, object],
        *,
        manager: str,
        subresource: str = "",
    ) -> T:
        """Apply on the server with force.

        Raises ConflictError if the body has a resourceVersion that is not the current one.
        """
        ...

    async def patch(
        self, kind: Kind[T], namespace: str, name: str, operations: Sequence[object], *, subresource: str = ""
    ) -> T:
        """Apply a JSON patch, to a subresource if one is named. Raises InvalidError if one of its tests fails, NotFoundError."""
        ...

    async def merge(self, kind: Kind[T], namespace: str, name: str, body: Body) -> T:
        """Apply a JSON merge patch. Raises NotFoundError."""
        ...

    async def delete(
        self,
        kind: Kind[T],
        namespace: str,
        name: str,
        *,
        uid: str = "",
        version: str = "",
        grace: int | None = None,
    ) -> None:
        """Delete an object; success if there is none.

        Raises ConflictError if a uid or a resourceVersion is given and the object has another. `grace` is the grace period in
        seconds; None: that of the object.
        """
        ...


async def get_or_none(cluster: Cluster, kind: Kind[T], namespace: str, name: str) -> T | None:
    """Return one object as the API server holds it now; None if there is none. Raises ApiError."""
    try:
        return await cluster.get(kind, namespace, name)
    except NotFoundError:
        return None


__all__ = [
    "CLAIMS",
    "CLAIM_EVENTS",
    "EVENTS",
    "GPU_LEASES",
    "JOBS",
    "LEASES",
    "MODELS",
    "NODES",
    "PODS",
    "RESOURCE_CLAIMS",
    "RESOURCE_SLICES",
    "SERVICES",
    "SHARED_GROUPS",
    "STORAGE_CLASSES",
    "AlreadyExistsError",
    "ApiError",
    "Body",
    "Change",
    "Cluster",
    "ConflictError",
    "ExpiredError",
    "ForbiddenError",
    "InvalidError",
    "Kind",
    "Listing",
    "NotFoundError",
    "UnavailableError",
    "get_or_none",
]
