"""Granted, as each Model shows it: what its SharedGroup says, and its place in the queue. Pure."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import msgspec

from flexinfer.api import conditions, reasons
from flexinfer.api.conditions import Condition
from flexinfer.api.membership import GroupMembership
from flexinfer.api.model import Model
from flexinfer.api.placement import MEASURED, Placement
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import GRANTED, Holder
from flexinfer.api.status import GrantedStatus
from flexinfer.arbiter.group import (
    IDLE,
    QUEUED,
    Group,
    first_missing_gate,
    may_hold,
    queued_message,
)
from flexinfer.state import actions
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.state.observed import ObservedState

_GROWN = 1.05
"""An engine never holds quite the same twice: the part of its entry from which one has outgrown it."""


ExpectedTurns: TypeAlias = Callable[[], Mapping[str, float]]
"""Computes when members are expected to be granted, by uid, in monotonic seconds; asked only where a status is written."""


def granted_in_group(
    group: Group, model: Model, cause: str, waits: str = "", expected_times: ExpectedTurns = dict
) -> Iterator[WriteStatus]:
    """Yield Granted of a member if it changes.

    `cause` is what keeps the device from being released, `waits` what the Model waits for in the queue; or empty. An expected time that is
    another than before is no change: it is written with what is.
    """
    if model.deleting and model.condition(conditions.GRANTED) is None:
        return  # it never held the device and never will
    status = _status(group, model, cause, waits)
    membership, current = status.shared_group, model.status.shared_group
    if (
        membership is None
        or current is None
        or (membership.state, membership.group) != (QUEUED, current.group)
    ):
        candidate = status
    else:
        shared_group = msgspec.structs.replace(membership, expected_time=current.expected_time)
        candidate = msgspec.structs.replace(status, shared_group=shared_group)
    for write in _write(model, candidate):
        at = (
            expected_times().get(model.uid) if membership is not None and membership.state == QUEUED else None
        )
        yield msgspec.structs.replace(write, status=msgspec.structs.replace(status, expected_at=at))


def granted_without_group(
    model: Model, state: ObservedState, now: float
) -> Iterator[WriteStatus | RequeueAt]:
    """Yield Granted of a Model that shares its devices with none, if it changes, or when to write it."""
    due = actions.first_write_due(model, conditions.GRANTED, state.first_seen.get(model.uid), now)
    if due is not None:
        yield RequeueAt(due)
        return
    condition = _true(model, Reason.NOT_SHARED, "not in a shared group: no grant is needed")
    yield from _write(model, GrantedStatus(condition=condition, shared_group=None))


def _write(model: Model, status: GrantedStatus) -> Iterator[WriteStatus]:
    write = actions.write_if_changed(model, status)
    if write is not None:
        yield write


def _status(group: Group, model: Model, cause: str, why: str) -> GrantedStatus:
    """Return Granted of a member and its view of the group."""
    holder, waits = group.holder(model), bool(group.position(model))
    if holder is not None and model.spec.group != group.name:
        message = f"leaving group {group.name}: turn {holder.turn} is not released yet"
        return _shared(group, "Releasing", _false(model, Reason.LEAVING_GROUP, message), holder)
    if cause and (waits if holder is None else holder.step != GRANTED):
        condition = _false(model, Reason.BLOCKED, cause)
        return _shared(group, "Blocked", condition, holder, group.position(model))
    if holder is not None and holder.step == GRANTED:
        message = f"turn {holder.turn} of group {group.name}{_grown(model, holder)}"
        return _shared(group, "Holding", _true(model, Reason.GRANTED, message), holder)
    if holder is not None:
        return _shared(group, "Releasing", _released(model, holder), holder)
    if waits:
        return _queued(group, model, why)
    if may_hold(model):
        return _shared(group, IDLE, _still_preempted(model), None)
    return GrantedStatus(
        condition=_not_needed(model), shared_group=GroupMembership(group=group.name, state=IDLE)
    )


def _grown(model: Model, holder: Holder) -> str:
    """Return what the engine of a turn was measured to hold beyond its entry, which its next turn is granted by; empty if nothing."""
    placement = model.status.placement or Placement()
    held_mb, granted_mb = placement.footprint_mb, holder.memory_mb
    if placement.footprint_source != MEASURED or not granted_mb or held_mb <= granted_mb * _GROWN:
        return ""
    return f"; its engine holds {held_mb} MiB, and {granted_mb} MiB were granted: it is granted {held_mb} MiB at its next turn"


def _released(model: Model, holder: Holder) -> Condition:
    if holder.preempted_by:
        message = f"makes room for {holder.preempted_by}: {holder.reason}; the next request queues it again"
        return _false(model, Reason.PREEMPTED, message)
    return _false(model, Reason.RELEASED, f"releasing turn {holder.turn}: {holder.reason}")


def _still_preempted(model: Model) -> Condition:
    """Return Granted of a Model that made room for another and was not in demand since, as it is."""
    granted = model.condition(conditions.GRANTED)
    return _false(model, Reason.PREEMPTED, granted.message if granted is not None else "")


def _queued(group: Group, model: Model, why: str) -> GrantedStatus:
    position = group.position(model)
    message = queued_message(group, position, why)
    return _shared(group, QUEUED, _false(model, Reason.QUEUED, message), None, position)


def _not_needed(model: Model) -> Condition:
    """Return Granted of a Model that is not queued: the first condition that it waits for."""
    gate = first_missing_gate(model) or conditions.WANTED  # a deleted Model may lack none
    waiting = f"waiting for {gate}"
    message = f"does not need the device: {waiting}" if gate == conditions.WANTED else waiting
    return _false(model, reasons.NOT_YET[gate], message)


def _shared(
    group: Group, state: str, condition: Condition, holder: Holder | None, position: int = 0
) -> GrantedStatus:
    shared = GroupMembership(
        group=group.name,
        state=state,
        turn=holder.turn if holder is not None else 0,
        position=position,
        holders=tuple(one.label for one in group.holders),
        since=holder.since if holder is not None else "",
    )
    return GrantedStatus(condition=condition, shared_group=shared)


def _true(model: Model, reason: str, message: str) -> Condition:
    return actions.true(model, conditions.GRANTED, reason, message)


def _false(model: Model, reason: str, message: str) -> Condition:
    return actions.false(model, conditions.GRANTED, reason, message)
