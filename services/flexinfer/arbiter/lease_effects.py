"""The arbiter's effects on GPULeases: each after another read of lease and group, each status with the resourceVersion of that read.

The end of a lease is a wall-clock time: a restart of the arbiter must not extend it.
"""

from collections.abc import Sequence

import msgspec

from flexinfer.api import conditions
from flexinfer.api.lease import GPULease, GPULeaseStatus
from flexinfer.api.lease_reasons import LeaseReason
from flexinfer.api.moments import moment
from flexinfer.api.sharedgroup import GRANTED, RELEASING, STOPPED, Holder, SharedGroup
from flexinfer.arbiter.effects import Advance, CheckLeaseExpiry, GrantLease, WriteLeaseStatus
from flexinfer.arbiter.grant import grant
from flexinfer.arbiter.group import may_hold_lease
from flexinfer.arbiter.leases import end_is_recorded, granted_status
from flexinfer.arbiter.member import Member
from flexinfer.arbiter.objects import put_lease, read_lease
from flexinfer.arbiter.telemetry import Telemetry
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.runtime.event_recorder import record
from flexinfer.runtime.kubernetes.api import GPU_LEASES, SHARED_GROUPS, NotFoundError
from flexinfer.runtime.refetch import changes, deletion_of
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.status_writer import rfc3339

_EARLY_SECONDS = 0.05
"""An end is due so long before: the two clocks are not read at the same moment."""


async def perform_on_lease(
    runtime: Runtime,
    action: GrantLease | WriteLeaseStatus | CheckLeaseExpiry,
    current: SharedGroup,
    telemetry: Telemetry,
) -> Sequence[AnyEvent]:
    """Carry out an effect on a lease; returns lease and SharedGroup as they are now. Raises ApiError, ConflictError."""
    lease, replies = await _read(runtime, action.lease)
    if lease is None:
        return [*replies, events.GroupObserved(group=current)]
    match action:
        case GrantLease():
            return [*replies, *await _grant(runtime, lease, current, telemetry)]
        case CheckLeaseExpiry():
            return [*replies, *_timed(runtime, lease)]
        case WriteLeaseStatus():
            return [*replies, *await _write_current(runtime, action, lease, current)]


async def _read(runtime: Runtime, decided_on: GPULease) -> tuple[GPULease | None, list[AnyEvent]]:
    """Return a lease as it is now, None if that one is gone, and what was read."""
    meta = decided_on.metadata
    lease = await read_lease(runtime, meta.namespace, meta.name)
    if lease is None:
        return None, [deletion_of(decided_on)]
    return lease if lease.uid == decided_on.uid else None, changes(decided_on, lease)


async def _grant(
    runtime: Runtime, lease: GPULease, current: SharedGroup, telemetry: Telemetry
) -> Sequence[AnyEvent]:
    """Grant a lease its turn, if it may still have one: grants on one node one after the other."""
    member = telemetry.lease(lease, current)
    if not may_hold_lease(lease) or lease.spec.group != current.name or not member.placement.node:
        return [events.GroupObserved(group=current)]
    async with telemetry.granting(member.placement.node):
        groups = (await runtime.cluster.list(SHARED_GROUPS)).items
        return await grant(runtime, member, current, groups, telemetry)


async def waiting_lease(
    runtime: Runtime, decided_on: GPULease, current: SharedGroup, telemetry: Telemetry
) -> tuple[list[AnyEvent], Member | None]:
    """Return what was read, and a lease that holders are to leave for; None if it does not wait any more."""
    lease, replies = await _read(runtime, decided_on)
    waits = lease is not None and may_hold_lease(lease) and current.holder(lease.uid) is None
    return replies, telemetry.lease(lease, current) if lease is not None and waits else None


async def _write_current(
    runtime: Runtime, action: WriteLeaseStatus, lease: GPULease, current: SharedGroup
) -> Sequence[AnyEvent]:
    """Write the status of a lease, if lease and entry are still those that it was decided from."""
    holder, before = current.holder(lease.uid), action.group.holder(lease.uid)
    if lease.metadata.version != action.lease.metadata.version or _step(holder) != _step(before):
        return [events.GroupObserved(group=current)]
    new = action.status
    if holder is not None and holder.step == GRANTED:
        new = granted_status(current, holder, lease, new.since or rfc3339(runtime))
    latest = await _write(runtime, lease, new)
    _record(runtime, lease, latest)
    return [
        events.LeaseObserved(lease=latest),
        events.GroupObserved(group=current),
        *_timed(runtime, latest),
    ]


async def _write(runtime: Runtime, lease: GPULease, new: GPULeaseStatus) -> GPULease:
    entries = tuple(
        conditions.stamped(one, conditions.find(lease.status.conditions, one.type), rfc3339(runtime))
        for one in new.conditions
    )
    return await put_lease(runtime, lease, msgspec.structs.replace(new, conditions=entries))


def _step(holder: Holder | None) -> tuple[int, str] | None:
    return (holder.turn, holder.step) if holder is not None else None


def _record(runtime: Runtime, before: GPULease, after: GPULease) -> None:
    """Record a step of a lease as an Event; nothing waits for it."""
    old, new = before.condition(), after.condition()
    if new is None or (old is not None and old.reason == new.reason):
        return
    warning = not new.true and new.reason != LeaseReason.QUEUED
    runtime.spawn_background(record(runtime, after, new.reason, new.message, warning=warning))


def _timed(runtime: Runtime, lease: GPULease) -> list[AnyEvent]:
    """Return how long a lease lasts yet; nothing for one that has no end."""
    remaining, meta = _remaining(runtime, lease), lease.metadata
    if remaining is None:
        return []
    return [
        events.LeaseTimed(
            namespace=meta.namespace,
            name=meta.name,
            uid=meta.uid,
            expires_at=lease.status.expires_at,
            remaining_seconds=remaining,
        )
    ]


def _remaining(runtime: Runtime, lease: GPULease) -> float | None:
    """Return how many seconds a lease lasts yet, by the wall clock; None if it has no end."""
    end = moment(lease.status.expires_at)
    return end - runtime.utc_now().timestamp() if end is not None else None


async def still_due(
    runtime: Runtime, action: Advance, current: SharedGroup, holder: Holder
) -> tuple[list[AnyEvent], str | None]:
    """Return what was read of a holder's lease, and the reason of a step by that; None if the step is not due any more."""
    lease = await read_lease(runtime, current.metadata.namespace, holder.lease)
    lease = lease if lease is not None and lease.uid == holder.uid and not lease.deleting else None
    read_events: list[AnyEvent] = []
    if lease is not None:
        read_events = [events.LeaseObserved(lease=lease), *_timed(runtime, lease)]
    if action.step == RELEASING:
        return read_events, _ends(runtime, lease, holder, current)
    return read_events, holder.reason if action.step != STOPPED or end_is_recorded(lease, holder) else None


def _ends(runtime: Runtime, lease: GPULease | None, holder: Holder, current: SharedGroup) -> str | None:
    """Return why a lease ends now, by the wall clock; None if it does not."""
    if lease is None:
        return "its GPULease was deleted"
    remaining = _remaining(runtime, lease)
    expired = remaining is not None and remaining <= _EARLY_SECONDS
    if (expired and lease.status.turn == holder.turn) or end_is_recorded(lease, holder):
        return LeaseReason.EXPIRED
    return "the SharedGroup is being deleted" if current.deleting else None


async def claimed(runtime: Runtime, current: SharedGroup) -> Sequence[events.LeaseObserved]:
    """Write the uid of a SharedGroup into the status of each of its leases; returns these leases. Raises ApiError, ConflictError.

    A paused arbiter, which would write Granted of a turn of the object that was there before, is refused from then on.
    """
    items = (await runtime.cluster.list(GPU_LEASES, current.metadata.namespace)).items
    leases = []
    for lease in (one for one in items if one.spec.group == current.name):
        new = msgspec.structs.replace(lease.status, shared_group=current.metadata.uid)
        try:
            latest = lease if new == lease.status else await put_lease(runtime, lease, new)
        except NotFoundError:
            continue
        leases.append(events.LeaseObserved(lease=latest))
    return leases
