"""LeaseTable: the leader Leases, beside the store.

They are most of all writes, nothing watches them, and nothing but their resourceVersion matters: a table with
the rules of the API server keeps a history within its time.
"""

import itertools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import msgspec

from flexinfer.api import kube
from flexinfer.runtime.kubernetes.api import AlreadyExistsError, ConflictError, Kind, NotFoundError
from tests.store_cluster import StoreCluster

T = TypeVar("T")


class LeaseTable(StoreCluster):
    """`runtime.kubernetes.api.Cluster` of the leader Leases alone."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._leases: dict[str, kube.Lease] = {}
        self._written: dict[str, float] = {}
        self._holders: dict[str, str] = {}
        self._clock = clock
        self._versions = itertools.count(1)

    def holder(self, component: str) -> str:
        """Return the identity that last held the Lease of a component, also if it was deleted since."""
        return self._holders.get(f"flexinfer-{component}", "")

    def renewed(self, component: str, now: float) -> float:
        """Return how many seconds ago the Lease of a component was written."""
        return now - self._written.get(f"flexinfer-{component}", 0.0)

    async def get(self, kind: Kind[T], namespace: str, name: str) -> T:
        """Return a Lease."""
        if name not in self._leases:
            raise NotFoundError(f"lease {namespace}/{name} not found", 404)
        return cast("T", self._leases[name])

    async def create(self, kind: Kind[T], namespace: str, body: Any) -> T:
        """Create a Lease."""
        if body.metadata.name in self._leases:
            raise AlreadyExistsError(f"lease {body.metadata.name} exists", 409)
        return cast("T", self._keep(body))

    async def replace(
        self, kind: Kind[T], namespace: str, name: str, body: Any, *, subresource: str = ""
    ) -> T:
        """Replace a Lease that was not written meanwhile."""
        current = cast("kube.Lease", await self.get(kind, namespace, name))
        if current.metadata.resource_version != body.metadata.resource_version:
            raise ConflictError(f"lease {name} was written meanwhile", 409)
        return cast("T", self._keep(body))

    def _keep(self, lease: kube.Lease) -> kube.Lease:
        metadata = msgspec.structs.replace(lease.metadata, resource_version=str(next(self._versions)))
        kept = msgspec.structs.replace(lease, metadata=metadata)
        self._leases[lease.metadata.name] = kept
        self._written[lease.metadata.name] = self._clock()
        self._holders[lease.metadata.name] = lease.spec.holder_identity or ""
        return kept

    def expire(self, component: str) -> None:
        """Delete the Lease of a component by hand."""
        self._leases.pop(f"flexinfer-{component}", None)
