"""Whose turn is it? Pure: the steps of each group's Lease, and what its members are told.

The steps of a turn, each a write of the Lease with its resourceVersion:

    Freed -> Granted      the first of the queue gets turn n+1
    Granted -> Releasing  the holder must leave: nobody wants it, it left the group, or it is gone
    Releasing -> Stopped  the launcher said Ready=False/Stopped with this turn, or the holder is gone from the API
    Stopped -> Freed      the device's memory was seen free in a sample taken after that
"""

from collections.abc import Iterator, Sequence

import msgspec

from flexinfer.api import conditions, reasons
from flexinfer.api.conditions import Condition
from flexinfer.api.model import Model, SharedGroup
from flexinfer.api.reasons import Reason
from flexinfer.api.status import GrantedStatus
from flexinfer.arbiter.group import Group, groups_of, left_group, may_hold, must_leave
from flexinfer.events.workload import FREED, GRANTED, RELEASING, STOPPED, GroupLease
from flexinfer.state import actions
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.state.observed import ObservedState

GRACE_SECONDS = 30.0
"""terminationGracePeriodSeconds of every engine Pod."""
PATIENCE_SECONDS = 60.0
_STALE_SECONDS = 30.0
_MEMORY_SLACK_MB = 512
"""What a driver keeps for itself on an empty device."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Give a free device to a Model, as the next turn."""

    lease: GroupLease
    model: Model

    @property
    def key(self) -> str:
        """The group."""
        return f"group/{self.lease.namespace}/{self.lease.group}"


class Advance(msgspec.Struct, frozen=True, kw_only=True):
    """Move a Lease to its next step; `holder` is the Model it was decided from, None when that is gone."""

    lease: GroupLease
    step: str
    holder: Model | None = None
    reason: str = ""

    @property
    def key(self) -> str:
        """The group."""
        return f"group/{self.lease.namespace}/{self.lease.group}"


def decide(
    state: ObservedState, now: float, *, drain_seconds: float = 30.0, memory_free_seconds: float = 5.0
) -> Iterator[WriteStatus | Grant | Advance | RequeueAt]:
    """Yield the next step of every group and the verdict of every Model."""
    told: set[str] = set()
    patience = drain_seconds + GRACE_SECONDS + PATIENCE_SECONDS
    for group in groups_of(state):
        yield from _step(group, state, now, memory_free_seconds)
        blocked = _blocked(group, state, now, patience)
        if group.held is not None and group.lease.step in (RELEASING, STOPPED) and not blocked:
            yield RequeueAt(group.held.at + patience)
        for model in group.members:
            told.add(model.key)
            left = left_group(model, state)
            if left is None or left.group == group.name:
                yield from _member(group, model, blocked)
    for key in sorted(state.models):
        if key not in told:
            yield from _unshared(state.models[key], state, now)


def _step(
    group: Group, state: ObservedState, now: float, memory_free_seconds: float
) -> Iterator[Grant | Advance | RequeueAt]:
    lease, holder = group.lease, group.holder
    match lease.step:
        case "Freed" if group.queue:
            yield Grant(lease=lease, model=group.queue[0])
        case "Granted":
            why = "the holder is gone" if holder is None else must_leave(holder, group)
            if why:
                yield Advance(lease=lease, step=RELEASING, holder=holder, reason=why)
        case "Releasing":
            if holder is None or _reported(holder, lease.turn):
                yield Advance(lease=lease, step=STOPPED, holder=holder, reason=lease.reason)
        case "Stopped":
            free_at = _free_at(group, state, now, memory_free_seconds)
            if free_at is not None and free_at <= now:
                yield Advance(lease=lease, step=FREED, reason=lease.reason)
            elif free_at is not None:
                yield RequeueAt(free_at)
        case _:
            return


def _reported(holder: Model, turn: int) -> bool:
    """Tell whether the launcher has said that this very turn's engine is gone."""
    ready, backend = holder.condition(conditions.READY), holder.status.backend
    return (
        ready is not None
        and ready.status == conditions.FALSE
        and ready.reason == Reason.STOPPED
        and backend is not None
        and backend.turn == turn
    )


def _free_at(group: Group, state: ObservedState, now: float, memory_free_seconds: float) -> float | None:
    """Return from when the device counts as free: now or earlier, a later moment, or None for not yet."""
    since = group.held.at if group.held is not None else now
    holder = group.holder
    if holder is not None and any(not pod.gated for pod in state.workload(holder).pods):
        return None
    node, uuids = _held_devices(group)
    sample = state.gpus.get(node)
    if sample is None or not uuids or now - sample.at > _STALE_SECONDS:
        return since + memory_free_seconds
    if sample.at <= since:
        return None
    devices = [d for d in sample.observed.devices if d.uuid in uuids]
    held = [d for d in devices if d.used_mb > _MEMORY_SLACK_MB and d.processes]
    return None if held else sample.at


def _held_devices(group: Group) -> tuple[str, Sequence[str]]:
    """Return the node and the devices that the turn was granted on; a Lease of an earlier version leaves that to the placement."""
    if group.lease.node:
        return group.lease.node, group.lease.devices
    placement = group.holder.status.placement if group.holder is not None else None
    return (placement.node, placement.devices) if placement is not None else ("", ())


def _blocked(group: Group, state: ObservedState, now: float, patience: float) -> str:
    """Return what keeps a device from coming free for longer than it may take, or nothing."""
    if group.held is None or group.lease.step not in (RELEASING, STOPPED):
        return ""
    waited = now - group.held.at
    if waited < patience:
        return ""
    holder = group.holder
    node = _held_devices(group)[0] or "an unknown node"
    pods = [pod.name for pod in state.workload(holder).pods] if holder is not None else []
    named = f"Pod {', '.join(pods)}" if pods else "its memory"
    return (
        f"{named} of {group.lease.holder} on {node} has not gone in {waited:.0f} s (step {group.lease.step}); "
        "delete the Pod or the process that holds the device"
    )


def _member(group: Group, model: Model, blocked: str) -> Iterator[WriteStatus]:
    if model.deleting and model.condition(conditions.GRANTED) is None:
        return
    condition, shared = _verdict(group, model, blocked)
    told = actions.write_if_changed(model, GrantedStatus(condition=condition, shared_group=shared))
    if told is not None:
        yield told


def _verdict(group: Group, model: Model, blocked: str) -> tuple[Condition, SharedGroup]:
    lease = group.lease
    holds = lease.holder_uid == model.uid and lease.step != FREED
    if holds and model.spec.group != group.name:
        return _no(model, Reason.LEAVING_GROUP, f"leaves {group.name} when its device is free"), _shared(
            group, "Releasing"
        )
    if blocked and (holds or may_hold(model)):
        return _no(model, Reason.BLOCKED, blocked), _shared(group, "Blocked", _position(group, model))
    if holds and lease.step == GRANTED:
        condition = actions.condition(
            model,
            conditions.GRANTED,
            conditions.TRUE,
            Reason.GRANTED,
            f"turn {lease.turn} of group {group.name}",
        )
        return condition, _shared(group, "Active")
    if holds:
        return _no(model, Reason.RELEASED, f"turn {lease.turn} ends: {lease.reason}"), _shared(
            group, "Releasing"
        )
    if may_hold(model):
        return _queued(group, model)
    missing = next(
        (
            k
            for k in (conditions.ACCEPTED, conditions.PLACED, conditions.CACHED, conditions.WANTED)
            if not model.is_true(k)
        ),
        conditions.WANTED,
    )
    return _no(model, reasons.NOT_YET[missing], f"a turn needs {missing}"), SharedGroup(
        group=group.name, state="Idle"
    )


def _queued(group: Group, model: Model) -> tuple[Condition, SharedGroup]:
    position = _position(group, model)
    holder = group.lease.holder if group.lease.step != FREED else ""
    what = f"{holder} holds the device" if holder else "the device is being granted"
    message = f"{what}; position {position} of {len(group.queue)} in group {group.name}"
    return _no(model, Reason.QUEUED, message), _shared(group, "Queued", position)


def _position(group: Group, model: Model) -> int:
    uids = [m.uid for m in group.queue]
    return uids.index(model.uid) + 1 if model.uid in uids else 0


def _shared(group: Group, state: str, position: int = 0) -> SharedGroup:
    lease = group.lease
    return SharedGroup(
        group=group.name,
        state=state,
        turn=lease.turn,
        position=position,
        holder=lease.holder if lease.step != FREED else "",
        since=lease.since,
    )


def _unshared(model: Model, state: ObservedState, now: float) -> Iterator[WriteStatus | RequeueAt]:
    if left_group(model, state) is not None:
        return
    waits = actions.first_write_due(model, conditions.GRANTED, state.first_seen.get(model.uid), now)
    if waits is not None:
        yield RequeueAt(waits)
        return
    condition = actions.condition(
        model, conditions.GRANTED, conditions.TRUE, Reason.NOT_SHARED, "shares its device with no other Model"
    )
    told = actions.write_if_changed(model, GrantedStatus(condition=condition, shared_group=None))
    if told is not None:
        yield told


def _no(model: Model, reason: str, message: str) -> Condition:
    return actions.condition(model, conditions.GRANTED, conditions.FALSE, reason, message)
