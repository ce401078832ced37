"""SharedGroups, GPULeases and Models as the arbiter reads and writes them: a write is based on what was read, and fails if that is no longer so."""

from collections.abc import Sequence

import msgspec

from flexinfer.api.labels import HELD_FINALIZER
from flexinfer.api.lease import GPULease, GPULeaseStatus
from flexinfer.api.model import Model
from flexinfer.api.sharedgroup import SharedGroup, SharedGroupStatus
from flexinfer.arbiter.effects import OnGroup
from flexinfer.events.events import AnyEvent
from flexinfer.runtime.event_recorder import record
from flexinfer.runtime.kubernetes.api import (
    GPU_LEASES,
    MODELS,
    SHARED_GROUPS,
    ConflictError,
    InvalidError,
    get_or_none,
)
from flexinfer.runtime.refetch import changes
from flexinfer.runtime.runtime import Runtime


async def protect(runtime: Runtime, current: SharedGroup) -> SharedGroup:
    """Return the object with the finalizer, as this or the last write of it returned it."""
    if HELD_FINALIZER in current.metadata.finalizers:
        return current
    return await set_finalizers(runtime, current, [*current.metadata.finalizers, HELD_FINALIZER])


async def set_finalizers(runtime: Runtime, current: SharedGroup, names: Sequence[str]) -> SharedGroup:
    """Return the object with these finalizers. Raises ConflictError if it was written since it was read."""
    meta = current.metadata
    operations = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": meta.resource_version},
        {"op": "add", "path": "/metadata/finalizers", "value": list(names)},
    ]
    try:
        return await runtime.cluster.patch(SHARED_GROUPS, meta.namespace, meta.name, operations)
    except InvalidError as error:
        raise ConflictError(f"SharedGroup {meta.key} changed meanwhile: {error}", 409) from error


async def put(runtime: Runtime, current: SharedGroup, new: SharedGroupStatus) -> SharedGroup:
    """PUT the status. Raises ConflictError if the object was written since it was read."""
    meta = current.metadata
    body = msgspec.structs.replace(current, status=new)
    return await runtime.cluster.replace(SHARED_GROUPS, meta.namespace, meta.name, body, subresource="status")


async def read(runtime: Runtime, action: OnGroup) -> SharedGroup | None:
    """Return the object of an effect as it is now; None if it is gone."""
    meta = action.group.metadata
    return await get_or_none(runtime.cluster, SHARED_GROUPS, meta.namespace, meta.name)


async def read_model(runtime: Runtime, namespace: str, name: str) -> Model | None:
    """Return a Model as it is now; None if it is gone."""
    return await get_or_none(runtime.cluster, MODELS, namespace, name)


async def read_lease(runtime: Runtime, namespace: str, name: str) -> GPULease | None:
    """Return a GPULease as it is now; None if it is gone."""
    return await get_or_none(runtime.cluster, GPU_LEASES, namespace, name)


async def put_lease(runtime: Runtime, current: GPULease, new: GPULeaseStatus) -> GPULease:
    """PUT the status of a lease. Raises ConflictError if it was written since it was read, NotFoundError if it is gone."""
    meta = current.metadata
    body = msgspec.structs.replace(current, status=new)
    return await runtime.cluster.replace(GPU_LEASES, meta.namespace, meta.name, body, subresource="status")


def record_step(
    runtime: Runtime, group: SharedGroup, reason: str, message: str, *, warning: bool = False
) -> None:
    """Record a step as an Event of the SharedGroup; nothing waits for it."""
    runtime.spawn_background(record(runtime, group, reason, message, warning=warning))


def other_than(decided_on: SharedGroup, current: SharedGroup) -> Sequence[AnyEvent]:
    """Return what was read in place of the object that an effect was decided from; empty if it is that one, or a later state of it."""
    same = current.metadata.uid == decided_on.metadata.uid
    later = current.metadata.version >= decided_on.metadata.version
    return [] if same and later else changes(decided_on, current)
