"""LeaseTable: the leader Leases, beside the store.

They are most of all writes, nothing watches them, and nothing but their resourceVersion matters: a table with
the rules of the API server keeps a history within its time.
"""

import itertools
from typing import Any, TypeVar, cast

import msgspec

from flexinfer.api import kube
from flexinfer.runtime.kubernetes.api import AlreadyExistsError, ConflictError, Kind, NotFoundError
from tests.store_cluster import StoreCluster

T = TypeVar("T")


class LeaseTable(StoreCluster):
    """`runtime.kubernetes.api.Cluster` of the leader Leases alone."""

    def __init__(self) -> None:
        self._leases: dict[str, kube.Lease] = {}
        self._versions = itertools.count(1)

    def holder(self, component: str) -> str:
        """Return the identity that holds the Lease of a component; empty if none does."""
        lease = self._leases.get(f"flexinfer-{component}")
        return (lease.spec.holder_identity or "") if lease is not None else ""

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

    async def replace(self, kind: Kind[T], namespace: str, name: str, body: Any) -> T:
        """Replace a Lease that nobody wrote meanwhile."""
        current = cast("kube.Lease", await self.get(kind, namespace, name))
        if current.metadata.resource_version != body.metadata.resource_version:
            raise ConflictError(f"lease {name} was written meanwhile", 409)
        return cast("T", self._keep(body))

    def _keep(self, lease: kube.Lease) -> kube.Lease:
        metadata = msgspec.structs.replace(lease.metadata, resource_version=str(next(self._versions)))
        kept = msgspec.structs.replace(lease, metadata=metadata)
        self._leases[lease.metadata.name] = kept
        return kept

    def expire(self, component: str) -> None:
        """Delete the Lease of a component by hand."""
        self._leases.pop(f"flexinfer-{component}", None)
