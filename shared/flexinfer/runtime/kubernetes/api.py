"""What a service may do with the Kubernetes API: the seam that a real API server and the simulation both fill.

Bodies go out as structs or plain JSON values and come back as the partial structs of `contracts`; fields that
nobody reads are never built. Library exceptions stop here.

    ApiError
    ├── NotFoundError      404: it is not there (or no longer)
    ├── ConflictError      409: somebody wrote meanwhile, or a precondition failed
    │   └── ExistsError    409 AlreadyExists
    ├── InvalidError       400, 422: the API server refuses the content; its words are the message
    ├── RefusedError       401, 403: we may not
    ├── ExpiredError       410: the resourceVersion is too old to watch from
    └── AwayError          no answer, 429, 5xx: try again later
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from flexinfer.api import kube
from flexinfer.api.groupversion import API_VERSION, KIND, PLURAL
from flexinfer.api.model import Model

T = TypeVar("T")


class ApiError(Exception):
    """The API server said no, or nothing. `code` is its HTTP status, 0 when there was no answer."""

    def __init__(self, message: str, code: int = 0, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class NotFoundError(ApiError):
    """It is not there."""


class ConflictError(ApiError):
    """Somebody wrote meanwhile, or a precondition does not hold."""


class AlreadyExistsError(ConflictError):
    """An object of that name is there already."""


class InvalidError(ApiError):
    """The API server refuses the content."""


class ForbiddenError(ApiError):
    """We are not allowed to."""


class ExpiredError(ApiError):
    """The version to watch from is too old: list again."""


class UnavailableError(ApiError):
    """The API server does not answer, or is overloaded."""


class Kind(msgspec.Struct, Generic[T], frozen=True):
    """A kind of object: where it lives in the API, and the struct that its JSON is read into."""

    api_version: str
    name: str
    plural: str
    type: type[T]
    namespaced: bool = True

    @property
    def root(self) -> str:
        """The path of its group and version."""
        return f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"


MODELS: Kind[Model] = Kind(API_VERSION, KIND, PLURAL, Model)
PODS: Kind[kube.Pod] = Kind("v1", "Pod", "pods", kube.Pod)
JOBS: Kind[kube.Job] = Kind("batch/v1", "Job", "jobs", kube.Job)
CLAIMS: Kind[kube.Claim] = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims", kube.Claim)
SERVICES: Kind[kube.Service] = Kind("v1", "Service", "services", kube.Service)
LEASES: Kind[kube.Lease] = Kind("coordination.k8s.io/v1", "Lease", "leases", kube.Lease)
NODES: Kind[kube.Node] = Kind("v1", "Node", "nodes", kube.Node, namespaced=False)
EVENTS: Kind[Any] = Kind("v1", "Event", "events", msgspec.Raw)


class Listing(msgspec.Struct, Generic[T], frozen=True):
    """A list and the version it stands for."""

    items: tuple[T, ...]
    version: str


class Change(msgspec.Struct, Generic[T], frozen=True):
    """One watch event. A BOOKMARK has no object: only the version moved."""

    type: str  # ADDED, MODIFIED, DELETED, BOOKMARK
    object: T | None
    version: str


class Cluster(Protocol):
    """The Kubernetes API, reduced to what services do with it. Every method raises ApiError."""

    async def get(self, kind: Kind[T], namespace: str, name: str) -> T:
        """Return one object, as the API server holds it now (a consistent read)."""
        ...

    async def list(self, kind: Kind[T], namespace: str = "", *, labels: str = "") -> Listing[T]:
        """Return all objects of a kind, of one namespace or of all; a consistent read."""
        ...

    def watch(self, kind: Kind[T], version: str) -> AsyncIterator[Change[T]]:
        """Yield what changed since version, in all namespaces; ends when the stream does, or falls silent."""
        ...

    async def create(self, kind: Kind[T], namespace: str, body: Any) -> T:
        """Create an object; ExistsError when its name is taken."""
        ...

    async def replace(self, kind: Kind[T], namespace: str, name: str, body: Any) -> T:
        """PUT an object; its resourceVersion must be the present one, else ConflictError."""
        ...

    async def apply(
        self, kind: Kind[T], namespace: str, body: Any, *, manager: str, subresource: str = ""
    ) -> T:
        """Server-side apply with force; a resourceVersion in the body is a precondition."""
        ...

    async def patch(self, kind: Kind[T], namespace: str, name: str, operations: Sequence[Any]) -> T:
        """Apply a JSON patch; InvalidError when one of its tests fails."""
        ...

    async def merge(self, kind: Kind[T], namespace: str, name: str, body: Any) -> T:
        """Apply a JSON merge patch."""
        ...

    async def delete(
        self, kind: Kind[Any], namespace: str, name: str, *, uid: str = "", grace: int | None = None
    ) -> None:
        """Delete an object, if uid is given only that one (ConflictError otherwise); gone already is success."""
        ...
