"""The status of a GPULease as its group has it, and when it must leave. Pure.

Its steps are those of every holder, but no engine answers for it: it has stopped once its status says that it is over, so that its owner is
never shown Granted of memory that another holder may use. What its processes still hold then keeps it from being Freed.
"""

from collections.abc import Iterator, Mapping

import msgspec

from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.lease import GPULease, GPULeaseStatus, expiry, problem
from flexinfer.api.lease_reasons import LeaseReason
from flexinfer.api.moments import moment
from flexinfer.api.sharedgroup import GRANTED, Holder, SharedGroup
from flexinfer.arbiter.budget import too_large
from flexinfer.arbiter.effects import CheckLeaseExpiry, WriteLeaseStatus
from flexinfer.arbiter.group import Group, queued_message, where
from flexinfer.arbiter.member import of_lease
from flexinfer.state.actions import RequeueAt
from flexinfer.state.observed import LeaseEnd, ObservedState

_LOOK_SECONDS = 60.0
"""How often the wall clock is asked for the end of a lease: the monotonic clock stands still while a machine is suspended."""


def status_writes(
    group: Group, shared: SharedGroup, state: ObservedState, waits: Mapping[str, str], cause: str
) -> Iterator[WriteLeaseStatus]:
    """Yield the status of each lease of a group, where it changes."""
    for lease in group.leases:
        position = group.position(lease)
        why = (
            waits.get(lease.uid, "") if position else too_large(of_lease(lease, shared, state), shared, state)
        )
        status = _status(group, shared, lease, why, cause)
        if status is not None and not _same(lease.status, status):
            yield WriteLeaseStatus(group=shared, lease=lease, status=status)


def without_object(group: Group, other: SharedGroup, cause: str) -> Iterator[WriteLeaseStatus]:
    """Yield the status of each lease that waits for a group whose object cannot be made: the one of `other` has its name."""
    for lease in group.leases:
        status = _plain(other, lease, conditions.FALSE, LeaseReason.BLOCKED, cause)
        if not (lease.deleting or lease.ended or lease.granted or _same(lease.status, status)):
            yield WriteLeaseStatus(group=other, lease=lease, status=status)


def expiry_checks(
    group: Group, shared: SharedGroup, state: ObservedState, now: float
) -> Iterator[CheckLeaseExpiry | RequeueAt]:
    """Yield when the leases that are granted end, or the look at the wall clock that tells."""
    for lease in group.leases:
        holder = shared.holder(lease.uid)
        if holder is None or holder.step != GRANTED or not lease.status.expires_at:
            continue
        end = end_of(lease, state)
        if end is None or now >= end.looked_at + _LOOK_SECONDS:
            yield CheckLeaseExpiry(group=shared, lease=lease)
        elif now < end.at:
            yield RequeueAt(min(end.at, end.looked_at + _LOOK_SECONDS))


def must_leave(
    lease: GPULease | None, holder: Holder, shared: SharedGroup, state: ObservedState, now: float
) -> str:
    """Return why a lease must give back its devices; empty while it may keep them."""
    if lease is None:
        return "its GPULease was deleted"
    end = end_of(lease, state)
    if (end is not None and now >= end.at) or end_is_recorded(lease, holder):
        return LeaseReason.EXPIRED
    return "the SharedGroup is being deleted" if shared.deleting else ""


def end_is_recorded(lease: GPULease | None, holder: Holder) -> bool:
    """Return whether the owner of a turn was told that it is over: by the status, or because the lease is gone."""
    return lease is None or (lease.ended and lease.status.turn >= holder.turn)


def granted_status(shared: SharedGroup, holder: Holder, lease: GPULease, since: str) -> GPULeaseStatus:
    """Return the status of a lease that was granted its turn at `since`; without an end if that is empty."""
    expires_at = expiry(since, lease.spec)
    memory = ", ".join(f"{device.memory_mb} MiB of {device.uuid}" for device in holder.devices)
    until = f" until {expires_at}" if expires_at else ""
    message = f"turn {holder.turn} of group {shared.name}: {memory or where(holder.node, ())}{until}"
    return msgspec.structs.replace(
        _plain(shared, lease, conditions.TRUE, LeaseReason.GRANTED, message),
        turn=holder.turn,
        node=holder.node,
        devices=holder.devices,
        since=since,
        expires_at=expires_at,
    )


def end_of(lease: GPULease, state: ObservedState) -> LeaseEnd | None:
    """Return when a lease ends, if that was looked up for the end that its status has now."""
    end = state.lease_ends.get(lease.uid)
    return end if end is not None and end.expires_at == lease.status.expires_at else None


def _status(
    group: Group, shared: SharedGroup, lease: GPULease, why: str, cause: str
) -> GPULeaseStatus | None:
    """Return the status of a lease, as the group has it now; None if it stays as it is."""
    holder = shared.holder(lease.uid)
    if lease.deleting or (lease.ended and (holder is None or end_is_recorded(lease, holder))):
        return None
    if holder is None:
        return _waiting(group, shared, lease, why, cause)
    if holder.step == GRANTED:
        is_its = lease.status.turn == holder.turn and moment(lease.status.since) is not None
        since = lease.status.since if is_its else ""
        return granted_status(shared, holder, lease, since)
    expired = holder.reason == LeaseReason.EXPIRED
    why = f"its time of {lease.spec.duration} is over" if expired else holder.reason
    reason = LeaseReason.EXPIRED if expired else LeaseReason.RELEASED
    message = f"turn {holder.turn} has ended: {why}; end its processes, and take another lease to continue"
    return msgspec.structs.replace(
        _plain(shared, lease, conditions.FALSE, reason, message),
        turn=holder.turn,
        since=lease.status.since,
        expires_at=lease.status.expires_at,
    )


def _waiting(group: Group, shared: SharedGroup, lease: GPULease, why: str, cause: str) -> GPULeaseStatus:
    """Return the status of a lease that holds nothing yet."""
    position, fault = group.position(lease), problem(lease.spec)
    if fault:
        return _plain(shared, lease, conditions.FALSE, LeaseReason.INVALID, f"refused: {fault}")
    if not position and why:
        least = f"lower spec.reserveMB of SharedGroup {shared.metadata.name}"
        message = f"refused: {why}; take a lease of less memory, or {least}"
        return _plain(shared, lease, conditions.FALSE, LeaseReason.TOO_LARGE, message)
    if not position:
        message = f"no Model of group {shared.name} is placed on a node, so its GPUs are not known"
        remedy = f"apply a Model with spec.gpu.shared: {shared.name}"
        return _plain(shared, lease, conditions.FALSE, LeaseReason.NO_DEVICES, f"{message}; {remedy}")
    reason = LeaseReason.BLOCKED if cause else LeaseReason.QUEUED
    message = cause or queued_message(group, position, why)
    status = _plain(shared, lease, conditions.FALSE, reason, message)
    return msgspec.structs.replace(status, position=position)


def _plain(
    shared: SharedGroup, lease: GPULease, status: str, reason: LeaseReason, message: str
) -> GPULeaseStatus:
    condition = Condition(
        type=conditions.GRANTED,
        status=status,
        reason=reason,
        message=conditions.one_line(message),
        observed_generation=lease.metadata.generation,
    )
    return GPULeaseStatus(
        observed_generation=lease.metadata.generation,
        shared_group=shared.metadata.uid,
        conditions=(condition,),
    )


def _same(current: GPULeaseStatus, new: GPULeaseStatus) -> bool:
    """Return whether two statuses say the same, the time of the last transition aside."""
    before = conditions.find(current.conditions, conditions.GRANTED)
    same = conditions.same(before, new.conditions[0])
    return same and msgspec.structs.replace(current, conditions=()) == msgspec.structs.replace(
        new, conditions=()
    )
