"""The arbiter's effects: the steps of a group's Lease, each after another read of what it was decided from.

Every write is a PUT with the resourceVersion just read: a replica that was suspended writes nothing.
"""

from collections.abc import Sequence

import msgspec

from flexinfer.api import conditions
from flexinfer.api.model import Model, Placement
from flexinfer.arbiter.decide import Advance, Grant
from flexinfer.arbiter.group import may_hold
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.workload import FREED, GRANTED, STOPPED, GroupLease, group_lease, lease_of
from flexinfer.runtime.kubernetes.api import LEASES, MODELS, NotFoundError
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.status_writer import model_deleted


async def perform(runtime: Runtime, action: Grant | Advance) -> Sequence[AnyEvent]:
    """Carry out one step of a Lease; returns the Model and the Lease as they are now. Raises ApiError."""
    if isinstance(action, Grant):
        return await _grant(runtime, action)
    return await _advance(runtime, action)


async def _grant(runtime: Runtime, action: Grant) -> Sequence[AnyEvent]:
    """Grant the device to a Model that may still hold it, if it is still free."""
    model = await _model(runtime, action.lease.namespace, action.model.metadata.name)
    if model is None or model.uid != action.model.uid:
        return [model_deleted(action.model)]
    current = await _lease(runtime, action.lease)
    replies: list[AnyEvent] = [events.ModelObserved(model=model)]
    if current is not None and current.step != FREED:
        return [*replies, events.LeaseObserved(lease=current)]
    if not may_hold(model) or model.spec.group != action.lease.group:
        return replies
    lease = _granted(runtime, action.lease, current, model)
    return [*replies, events.LeaseObserved(lease=await _write(runtime, lease, new=current is None))]


def _granted(runtime: Runtime, decided: GroupLease, current: GroupLease | None, model: Model) -> GroupLease:
    """Return the Lease of the next turn, held by the Model on the devices that it is placed on."""
    previous = current or GroupLease(namespace=decided.namespace, group=decided.group)
    placement = model.status.placement or Placement()
    return msgspec.structs.replace(
        previous,
        holder=model.metadata.name,
        holder_uid=model.uid,
        step=GRANTED,
        turn=previous.turn + 1,
        reason="",
        since=_stamp(runtime),
        node=placement.node,
        devices=placement.devices,
    )


async def _advance(runtime: Runtime, action: Advance) -> Sequence[AnyEvent]:
    """Move the Lease to its next step, if it and its holder are still what the step was decided from."""
    current = await _lease(runtime, action.lease)
    if current is None:
        return []
    if (current.turn, current.step) != (action.lease.turn, action.lease.step):
        return [events.LeaseObserved(lease=current)]
    holder = await _model(runtime, current.namespace, current.holder)
    if holder is not None and holder.uid != current.holder_uid:
        holder = None
    replies: list[AnyEvent] = [events.ModelObserved(model=holder)] if holder is not None else []
    if action.step != FREED and (holder is None) != (action.holder is None):
        return [*replies, *([model_deleted(action.holder)] if action.holder is not None else [])]
    if action.step == STOPPED and holder is not None and not _same_ready(holder, action.holder):
        return replies
    lease = msgspec.structs.replace(current, step=action.step, reason=action.reason)
    return [*replies, events.LeaseObserved(lease=await _write(runtime, lease, new=False))]


def _same_ready(current: Model, decided: Model | None) -> bool:
    """Tell whether Ready and its turn are still what the step was decided from."""
    ready = _ready(current)
    return ready is not None and decided is not None and ready == _ready(decided)


def _ready(model: Model) -> tuple[str, str, int] | None:
    ready, backend = model.condition(conditions.READY), model.status.backend
    return (ready.status, ready.reason, backend.turn if backend else 0) if ready is not None else None


async def _model(runtime: Runtime, namespace: str, name: str) -> Model | None:
    try:
        return await runtime.cluster.get(MODELS, namespace, name)
    except NotFoundError:
        return None


async def _lease(runtime: Runtime, lease: GroupLease) -> GroupLease | None:
    try:
        return group_lease(await runtime.cluster.get(LEASES, lease.namespace, lease.name))
    except NotFoundError:
        return None


async def _write(runtime: Runtime, lease: GroupLease, *, new: bool) -> GroupLease:
    """Create or replace the Lease; returns it as written. Raises ApiError, ConflictError if it changed."""
    body = lease_of(lease)
    if new:
        written = await runtime.cluster.create(LEASES, lease.namespace, body)
    else:
        written = await runtime.cluster.replace(LEASES, lease.namespace, lease.name, body)
    return group_lease(written) or lease


def _stamp(runtime: Runtime) -> str:
    """Return the wall-clock time as a Lease holds it, for people: RFC 3339 with microseconds, UTC."""
    return runtime.utc_now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
