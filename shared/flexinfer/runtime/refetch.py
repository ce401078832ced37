"""Reading an object again: after a hint that it was written, after a conflict, and where the stream does not confirm a reply."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from flexinfer.api.lease import GPULease
from flexinfer.api.model import Model
from flexinfer.api.sharedgroup import SharedGroup
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.runtime.kubernetes.api import (
    GPU_LEASES,
    MODELS,
    SHARED_GROUPS,
    ApiError,
    Kind,
    NotFoundError,
)
from flexinfer.runtime.runtime import Runtime
from flexinfer.state.observed import Observation

log = logging.getLogger(__name__)
Written: TypeAlias = Model | SharedGroup | GPULease
"""What components write, so that a reply of the API server may be ahead of the stream."""
_DELETIONS: Mapping[type[Written], type[events.ModelDeleted | events.GroupDeleted | events.LeaseDeleted]] = {
    Model: events.ModelDeleted,
    SharedGroup: events.GroupDeleted,
    GPULease: events.LeaseDeleted,
}
_KINDS: Mapping[type[Written], Kind[Any]] = {Model: MODELS, SharedGroup: SHARED_GROUPS, GPULease: GPU_LEASES}


async def refetch(runtime: Runtime, namespace: str, name: str) -> Observation | None:
    """GET a Model that was written; None if the API server does not return it."""
    try:
        model = await runtime.cluster.get(MODELS, namespace, name)
    except ApiError as error:
        log.debug("model %s/%s not read: %s", namespace, name, error)
        return None
    return Observation(events.ModelObserved(model=model), runtime.clock(), reply=True)


async def reread(runtime: Runtime, previous: Written | None) -> Sequence[AnyEvent]:
    """GET an object after a conflict; returns the events that lead to how it is now, none without an answer."""
    if previous is None:
        return ()
    meta = previous.metadata
    try:
        current: Written = await runtime.cluster.get(_KINDS[type(previous)], meta.namespace, meta.name)
    except NotFoundError:
        return (deletion_of(previous),)
    except ApiError:
        return ()
    return changes(previous, current)


def changes(previous: Written, current: Written) -> list[AnyEvent]:
    """Return the events that lead from an observed object to what the API server has: another uid means that it was deleted."""
    event = returned(previous, current)
    return [deletion_of(previous), event] if current.metadata.uid != previous.metadata.uid else [event]


def returned(previous: Written, current: Written) -> AnyEvent:
    """Return the event of an object as the API server returned it, after an observed version of it.

    A version below the observed one means that the API server was restored from a backup: later versions no
    longer count.
    """
    went_back = (
        current.metadata.uid == previous.metadata.uid and current.metadata.version < previous.metadata.version
    )
    match current:
        case Model():
            return events.ModelRestored(model=current) if went_back else events.ModelObserved(model=current)
        case SharedGroup():
            return events.GroupRestored(group=current) if went_back else events.GroupObserved(group=current)
        case GPULease():
            return events.LeaseRestored(lease=current) if went_back else events.LeaseObserved(lease=current)


def deletion_of(previous: Written) -> AnyEvent:
    """Return the event of an object that the API server no longer has."""
    meta, event = previous.metadata, _DELETIONS[type(previous)]
    return event(namespace=meta.namespace, name=meta.name, uid=meta.uid, version=meta.version + 1)
