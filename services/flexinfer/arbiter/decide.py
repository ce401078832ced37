"""Which Model holds the devices of a shared group: the steps of each group's Lease. Pure.

The steps of a turn, each a write of the Lease with its resourceVersion:

    Freed -> Granted      the first of the queue gets turn n+1
    Granted -> Releasing  the holder must leave: not wanted, not in the group, without its node, or deleted
    Releasing -> Stopped  the launcher wrote Ready=False/Stopped with this turn, or the holder was deleted
    Stopped -> Freed      a sample taken after that shows the device's memory free
"""

from collections.abc import Iterator, Sequence

import msgspec

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.arbiter.granted import granted_in_group, granted_without_group
from flexinfer.arbiter.group import Group, groups_of, left_group, must_leave
from flexinfer.events import workload
from flexinfer.events.workload import FREED, RELEASING, STOPPED, GroupLease
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.state.observed import ObservedState

GRACE_SECONDS = 30.0
"""terminationGracePeriodSeconds of every engine Pod."""
PATIENCE_SECONDS = 60.0
"""How long a release may take beyond draining and the grace period before the group counts as blocked."""
_STALE_SECONDS = 30.0
"""An older sample of the device says nothing about it: the agent sends one every 10 s."""
_MEMORY_SLACK_MB = 512
"""What a driver keeps for itself on an empty device."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Grant a free device to a Model, as the next turn."""

    lease: GroupLease
    model: Model

    @property
    def key(self) -> str:
        """The group."""
        return f"group/{self.lease.namespace}/{self.lease.group}"


class Advance(msgspec.Struct, frozen=True, kw_only=True):
    """Move a Lease to its next step.

    `holder` is the Model that this was decided from, None if it was deleted.
    """

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
    """Yield the next step of every group, every change of Granted, and when to decide again."""
    members: set[str] = set()
    deadline = drain_seconds + GRACE_SECONDS + PATIENCE_SECONDS
    for group in groups_of(state):
        members |= {model.key for model in group.members}
        yield from _next_step(group, state, now, memory_free_seconds)
        blocked = _blocked(group, state, now, deadline)
        if group.step_since is not None and group.lease.step in (RELEASING, STOPPED) and not blocked:
            yield RequeueAt(group.step_since.at + deadline)
        for model in group.members:
            left = left_group(model, state)
            if left is None or left.group == group.name:  # else the group that it left writes Granted
                yield from granted_in_group(group, model, blocked)
    for key in sorted(state.models):
        model = state.models[key]
        if key not in members and left_group(model, state) is None:
            yield from granted_without_group(model, state, now)


def _next_step(
    group: Group, state: ObservedState, now: float, memory_free_seconds: float
) -> Iterator[Grant | Advance | RequeueAt]:
    lease, holder = group.lease, group.holder
    match lease.step:
        case workload.FREED if group.queue:
            yield Grant(lease=lease, model=group.queue[0])
        case workload.GRANTED:
            reason = "its Model was deleted" if holder is None else must_leave(holder, group)
            if reason:
                yield Advance(lease=lease, step=RELEASING, holder=holder, reason=reason)
        case workload.RELEASING:
            if holder is None or _has_stopped(holder, lease.turn):
                yield Advance(lease=lease, step=STOPPED, holder=holder, reason=lease.reason)
        case workload.STOPPED:
            free_at = _free_at(group, state, now, memory_free_seconds)
            if free_at is not None and free_at <= now:
                yield Advance(lease=lease, step=FREED, reason=lease.reason)
            elif free_at is not None:
                yield RequeueAt(free_at)
        case _:
            return


def _has_stopped(holder: Model, turn: int) -> bool:
    """Tell whether the launcher wrote that the engine of this very turn has stopped."""
    ready, backend = holder.condition(conditions.READY), holder.status.backend
    return (
        ready is not None
        and ready.status == conditions.FALSE
        and ready.reason == Reason.STOPPED
        and backend is not None
        and backend.turn == turn
    )


def _free_at(group: Group, state: ObservedState, now: float, memory_free_seconds: float) -> float | None:
    """Return from when the device counts as free, perhaps later than now; None if in use or unknown."""
    since = group.step_since.at if group.step_since is not None else now
    if any(not pod.gated for pod in _pods(group, state)):
        return None
    node, uuids = _granted_devices(group)
    sample = state.gpus.get(node)
    if sample is None or not uuids or now - sample.at > _STALE_SECONDS:
        return since + memory_free_seconds
    if sample.at <= since:
        return None  # taken before the engine had stopped
    devices = [d for d in sample.observed.devices if d.uuid in uuids]
    in_use = any(d.used_mb > _MEMORY_SLACK_MB and d.processes for d in devices)
    return None if in_use else sample.at


def _pods(group: Group, state: ObservedState) -> Sequence[workload.PodFacts]:
    """Return the holder's Pods; none if it was deleted, since its finalizer outlives them."""
    return state.workload(group.holder).pods if group.holder is not None else ()


def _granted_devices(group: Group) -> tuple[str, Sequence[str]]:
    """Return the node and devices of the turn.

    A Lease of an earlier release lacks them, so the placement is used.
    """
    if group.lease.node:
        return group.lease.node, group.lease.devices
    placement = group.holder.status.placement if group.holder is not None else None
    return (placement.node, placement.devices) if placement is not None else ("", ())


def _blocked(group: Group, state: ObservedState, now: float, deadline: float) -> str:
    """Return why the device is not released after `deadline` seconds, and the remedy; empty before that."""
    if group.step_since is None or group.lease.step not in (RELEASING, STOPPED):
        return ""
    if now - group.step_since.at < deadline:
        return ""
    node = _granted_devices(group)[0]
    where = f"on node {node}" if node else "on an unknown node"
    when = f"after {deadline:.0f}s (step {group.lease.step})"
    pods = ", ".join(pod.name for pod in _pods(group, state))
    if pods:
        remedy = "delete the Pod or end the process that uses the device"
        return f"Pod {pods} of {group.lease.holder} is still {where} {when}; {remedy}"
    return (
        f"memory of {group.lease.holder} is still in use {where} {when}; end the process that uses the device"
    )
