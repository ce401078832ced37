"""The arbiter's effects: each after another read of what it was decided from.

Every write of the status is a PUT with the resourceVersion just read: a replica that was suspended writes nothing. Each step is recorded as an
Event of the SharedGroup, which nothing waits for.
"""

from collections.abc import Sequence

from flexinfer.api.labels import HELD_FINALIZER
from flexinfer.api.lease import GPULease
from flexinfer.api.model import Model
from flexinfer.api.sharedgroup import (
    BLOCKED,
    FREED,
    GRANTED,
    RELEASING,
    STOPPED,
    Holder,
    SharedGroup,
)
from flexinfer.arbiter import status
from flexinfer.arbiter.effects import (
    Advance,
    CheckLeaseExpiry,
    Create,
    Effect,
    Grant,
    GrantLease,
    Initialize,
    OnAnyGroup,
    Preempt,
    Protect,
    Rebind,
    Report,
    Unprotect,
    WriteLeaseStatus,
)
from flexinfer.arbiter.first_status import create, initialize
from flexinfer.arbiter.grant import grant
from flexinfer.arbiter.group import has_opened, has_returned, may_hold, must_leave, where
from flexinfer.arbiter.lease_effects import perform_on_lease, still_due, waiting_lease
from flexinfer.arbiter.member import Member, of_model
from flexinfer.arbiter.objects import other_than, protect, put, read, read_model, record_step, set_finalizers
from flexinfer.arbiter.telemetry import Telemetry
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.runtime.kubernetes.api import SHARED_GROUPS
from flexinfer.runtime.refetch import deletion_of
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.status_writer import rfc3339
from flexinfer.runtime.together import both


async def perform(runtime: Runtime, action: Effect, *, telemetry: Telemetry) -> Sequence[AnyEvent]:
    """Carry out one effect; returns Model and SharedGroup as they are now. Raises ApiError, ConflictError if one changed meanwhile.

    One that is older than what the effect was decided from is that of an API server which was restored from a backup: it counts.
    """
    if isinstance(action, Create):
        return await create(runtime, action)
    if isinstance(action, Grant):
        return await _grant(runtime, action, telemetry)
    current = await read(runtime, action)
    if current is None or (other := other_than(action.group, current)):
        return [deletion_of(action.group)] if current is None else other
    return await _perform_on(runtime, action, current, telemetry)


async def _perform_on(
    runtime: Runtime, action: OnAnyGroup, current: SharedGroup, telemetry: Telemetry
) -> Sequence[AnyEvent]:
    """Carry out an effect on a SharedGroup that was just read."""
    match action:
        case Initialize():
            return await initialize(runtime, action, current)
        case GrantLease() | WriteLeaseStatus() | CheckLeaseExpiry():
            return await perform_on_lease(runtime, action, current, telemetry)
        case Advance():
            return await _advance(runtime, action, current)
        case Preempt():
            return await _preempt(runtime, action, current, telemetry)
        case Rebind():
            return await _rebind(runtime, action, current, telemetry)
        case Report():
            return await _report(runtime, action, current)
        case Protect():
            return await _protect(runtime, current)
        case Unprotect():
            return await _unprotect(runtime, current)


async def _grant(runtime: Runtime, action: Grant, telemetry: Telemetry) -> Sequence[AnyEvent]:
    """Grant the devices to a Model that may still hold them, if they have room for it: grants on one node one after the other.

    Its SharedGroup is one of all that are read anyway: another group may hold the devices.
    """
    async with telemetry.granting(action.model.assigned_node):
        meta = action.model.metadata
        model, groups = await both(
            read_model(runtime, meta.namespace, meta.name), runtime.cluster.list(SHARED_GROUPS)
        )
        current = next((group for group in groups.items if group.key == action.group.key), None)
        if current is None or (other := other_than(action.group, current)):
            return [deletion_of(action.group)] if current is None else other
        if model is None or model.uid != action.model.uid:
            return [deletion_of(action.model), events.GroupObserved(group=current)]
        replies = [events.ModelObserved(model=model)]
        moved = model.assigned_node != action.model.assigned_node
        if moved or not may_hold(model) or model.spec.group != current.name:
            return [*replies, events.GroupObserved(group=current)]
        return [*replies, *await grant(runtime, of_model(model), current, groups.items, telemetry)]


async def _advance(runtime: Runtime, action: Advance, current: SharedGroup) -> Sequence[AnyEvent]:
    """Move a holder to its next step, if it and its Model are still what the step was decided from."""
    holder = current.holder(action.holder.uid)
    replies: list[AnyEvent] = [events.GroupObserved(group=current)]
    if holder is None or (holder.turn, holder.step) != (action.holder.turn, action.holder.step):
        return replies
    read_events, reason = await _reason(runtime, action, current, holder)
    if reason is None:
        return [*read_events, *replies]
    latest = await put(
        runtime, current, status.advanced(current, holder.uid, action.step, reason, rfc3339(runtime))
    )
    why = f": {reason}" if reason else ""
    record_step(runtime, latest, action.step, f"turn {holder.turn} of {holder.label}{why}")
    return [*read_events, events.GroupObserved(group=latest)]


async def _reason(
    runtime: Runtime, action: Advance, current: SharedGroup, holder: Holder
) -> tuple[list[AnyEvent], str | None]:
    """Return what was read of a holder's Model or lease, and the reason of a step; None if it is not due any more.

    That memory is free telemetry has shown: what its Model says by now is no matter.
    """
    if action.step == FREED:
        return [], holder.reason
    still = still_due if holder.lease else _still_due
    return await still(runtime, action, current, holder)


async def _preempt(
    runtime: Runtime, action: Preempt, current: SharedGroup, telemetry: Telemetry
) -> Sequence[AnyEvent]:
    """Make a holder leave for a Model, if that still may hold the devices, and the holder may still be made to leave for it."""
    holder, replies = current.holder(action.holder.uid), [events.GroupObserved(group=current)]
    if holder is None or (holder.turn, holder.step) != (action.holder.turn, GRANTED):
        return replies
    its, (read_events, waiter) = await both(
        read_model(runtime, current.metadata.namespace, holder.model),
        _waiter(runtime, action, current, telemetry),
    )
    read_events = [*([events.ModelObserved(model=its)] if its is not None else []), *read_events]
    stays = its is None or its.uid != holder.uid
    if stays or waiter is None or not telemetry.may_leave(holder, waiter, current, runtime.clock()):
        return [*read_events, *replies]
    stamp = rfc3339(runtime)
    latest = await put(
        runtime, current, status.preempted(current, holder.uid, waiter.object, action.reason, stamp)
    )
    why = f"turn {holder.turn} of {holder.label} makes room for {waiter.label}: {action.reason}"
    record_step(runtime, latest, RELEASING, why)
    return [*read_events, events.GroupObserved(group=latest)]


async def _waiter(
    runtime: Runtime, action: Preempt, current: SharedGroup, telemetry: Telemetry
) -> tuple[list[AnyEvent], Member | None]:
    """Return what was read, and for whom a holder is to leave, if that may still hold the devices."""
    if isinstance(action.waiter, GPULease):
        return await waiting_lease(runtime, action.waiter, current, telemetry)
    model = await read_model(runtime, current.metadata.namespace, action.waiter.metadata.name)
    if model is None or model.uid != action.waiter.uid:
        return [deletion_of(action.waiter)], None
    waits = may_hold(model) and model.spec.group == current.name and current.holder(model.uid) is None
    return [events.ModelObserved(model=model)], of_model(model) if waits else None


async def _rebind(
    runtime: Runtime, action: Rebind, current: SharedGroup, telemetry: Telemetry
) -> Sequence[AnyEvent]:
    """Write the devices that the engine of a turn has got, if the turn is still that one and the placement names them."""
    holder, replies = current.holder(action.holder.uid), [events.GroupObserved(group=current)]
    if holder is None or (holder.turn, holder.step) != (action.holder.turn, GRANTED):
        return replies
    model = await read_model(runtime, current.metadata.namespace, holder.model)
    placement = model.status.placement if model is not None and model.uid == holder.uid else None
    if model is None or placement is None or placement.uuids != action.uuids or not has_opened(model, holder):
        return replies if model is None else [events.ModelObserved(model=model), *replies]
    snapshot = telemetry.seen(holder.node, holder.uid, runtime.clock())
    new_status = status.rebound(current, holder.uid, model, action.pod_uid, snapshot)
    latest = await put(runtime, current, new_status)
    devices = f"turn {holder.turn} of {holder.model} is on {where(holder.node, action.uuids)}"
    record_step(runtime, latest, GRANTED, f"{devices}: its device plugin picked it")
    return [events.ModelObserved(model=model), events.GroupObserved(group=latest)]


async def _still_due(
    runtime: Runtime, action: Advance, current: SharedGroup, holder: Holder
) -> tuple[list[AnyEvent], str | None]:
    """Return what was read of a holder's Model, and the reason of a step by that; None if the step is not due any more."""
    model = await read_model(runtime, current.metadata.namespace, holder.model)
    model = model if model is not None and model.uid == holder.uid else None
    if model is None and action.model is not None:
        return [deletion_of(action.model)], None
    read_events: list[AnyEvent] = [events.ModelObserved(model=model)] if model is not None else []
    return read_events, _still(action, current, holder, model)


def _still(action: Advance, group: SharedGroup, holder: Holder, model: Model | None) -> str | None:
    """Return the reason of a step by what was just read; None if the step is not due any more."""
    if action.step == RELEASING:
        reason = "its Model was deleted" if model is None else must_leave(model, group, holder.turn)
        return reason or None
    if action.step == STOPPED and model is not None and not has_returned(model, holder.turn):
        return None
    return holder.reason


async def _report(runtime: Runtime, action: Report, current: SharedGroup) -> Sequence[AnyEvent]:
    """Write a condition, if the holders are those that it was decided from."""
    if _steps(current) != _steps(action.group):
        return [events.GroupObserved(group=current)]
    before, condition = current.condition(action.condition.type), action.condition
    latest = await put(runtime, current, status.reported(current, condition, rfc3339(runtime)))
    if before is None or before.status != condition.status:
        warning = condition.true if condition.type == BLOCKED else not condition.true
        record_step(
            runtime, latest, condition.reason, condition.message or "no longer blocked", warning=warning
        )
    return [events.GroupObserved(group=latest)]


def _steps(group: SharedGroup) -> list[tuple[str, int, str]]:
    return [(holder.uid, holder.turn, holder.step) for holder in group.status.holders]


async def _protect(runtime: Runtime, current: SharedGroup) -> Sequence[AnyEvent]:
    """Put the finalizer back of an object with a holder. Raises ConflictError if it was written since."""
    if current.deleting or not current.status.holders:
        return [events.GroupObserved(group=current)]
    latest = await protect(runtime, current)
    message = f"finalizer {HELD_FINALIZER} was removed while the GPUs are held; it was added again"
    record_step(runtime, latest, GRANTED, message, warning=True)
    return [events.GroupObserved(group=latest)]


async def _unprotect(runtime: Runtime, current: SharedGroup) -> Sequence[AnyEvent]:
    """Remove the finalizer of an object that is being deleted, unless it has a holder. Raises ConflictError if it was written since."""
    if not current.deleting or (current.counts and current.status.holders):
        return [events.GroupObserved(group=current)]
    rest = [name for name in current.metadata.finalizers if name != HELD_FINALIZER]
    latest = await set_finalizers(runtime, current, rest)
    return [events.GroupObserved(group=latest)] if rest else [deletion_of(current)]
