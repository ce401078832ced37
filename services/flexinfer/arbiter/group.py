"""A shared group as one value: its SharedGroup, its members, and the queue. Pure.

The holders are those whom the SharedGroup names, nothing else; the members' conditions only show it.
"""

from collections.abc import Mapping, Sequence

import msgspec

from flexinfer.api import conditions
from flexinfer.api.lease import GPULease, problem
from flexinfer.api.model import Model
from flexinfer.api.placement import Placement
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import Holder, SharedGroup, group_key
from flexinfer.arbiter.budget import too_large
from flexinfer.arbiter.member import Member, of_lease, of_model
from flexinfer.arbiter.standing import may_wait, standing_of
from flexinfer.state.observed import ObservedState

GATES = (conditions.ACCEPTED, conditions.PLACED, conditions.CACHED, conditions.WANTED)
"""What a member needs before it may hold the device."""
QUEUED, IDLE = "Queued", "Idle"
"""`status.sharedGroup.state` of a member that waits, and of one that does not need the devices."""
_NOT_WANTED: Mapping[str, str] = {
    Reason.IDLE: "idle",
    Reason.DELETING: "being deleted",
    Reason.START_FAILED: "its start failed",
    Reason.FIRST_START_FAILED: "its start failed",
    Reason.NOT_ACCEPTED: "its spec is not accepted",
}
_TURN_ENDED: Mapping[str, str] = {
    Reason.STOPPED: "its Pod is gone",
    Reason.BACK_OFF: "its engine failed",
}
"""Reasons of Ready with which the one Pod of a turn is gone, or will not be used any more."""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """One group of one namespace.

    `object` is what has the name of its SharedGroup, None if nothing has. `members` are the Models that name the group and those that
    still hold it, `leases` its GPULeases; `queue` are those of both that may hold the devices and do not, in their order, and `again` is when
    time alone may change that.
    """

    namespace: str
    name: str
    object: SharedGroup | None
    members: Sequence[Model]
    leases: Sequence[GPULease]
    queue: Sequence[Member]
    again: float | None

    @property
    def holders(self) -> Sequence[Holder]:
        """Who holds the devices, or has not released them yet."""
        return self.object.status.holders if self.object is not None else ()

    def holder(self, member: Model | GPULease) -> Holder | None:
        """Return the entry of a Model or GPULease, by uid."""
        return self.object.holder(member.uid) if self.object is not None else None

    def model(self, holder: Holder) -> Model | None:
        """Return the Model of an entry, by uid; None if it was deleted."""
        return next((model for model in self.members if model.uid == holder.uid), None)

    def lease(self, holder: Holder) -> GPULease | None:
        """Return the GPULease of an entry, by uid; None if it was deleted, or is of a Model."""
        return next((lease for lease in self.leases if lease.uid == holder.uid and not lease.deleting), None)

    def position(self, member: Model | GPULease) -> int:
        """Return the place of a Model or GPULease in the queue, from 1; 0 if it is not queued."""
        return next((i for i, entry in enumerate(self.queue, start=1) if entry.uid == member.uid), 0)


def group_of(state: ObservedState, namespace: str, name: str, now: float) -> Group:
    """Return a group by its exact name, with its queue: those that are in demand first, then by priority, then in their order."""
    shared = state.groups.get(group_key(namespace, name))
    holders = shared.status.holders if shared is not None and shared.name == name else ()
    keys = {*state.members(namespace, name), *(f"{namespace}/{holder.model}" for holder in holders)}
    leases = [state.leases[key] for key in sorted(state.leases_of(namespace, name))]
    uids = {holder.uid for holder in holders}
    models = [model for key in sorted(keys) if (model := state.effective(key)) is not None]
    members = [model for model in models if model.spec.group == name or model.uid in uids]
    candidates = [
        (m, standing_of(m, state, now))
        for m in members
        if m.spec.group == name and m.uid not in uids and may_hold(m) and not holds_elsewhere(m, name, state)
    ]
    waiting = [(of_model(m), standing.in_demand) for m, standing in candidates if may_wait(m, standing)]
    if shared is not None and shared.name == name:
        waiting += [
            (member, True) for lease in leases if (member := _waiting(lease, shared, state)) is not None
        ]
    entries = sorted(waiting, key=lambda one: _place(one[0], state, in_demand=one[1]))
    return Group(
        namespace=namespace,
        name=name,
        object=shared,
        members=members,
        leases=leases,
        queue=[member for member, _ in entries],
        again=min((s.again for _, s in candidates if s.again is not None), default=None),
    )


def _waiting(lease: GPULease, shared: SharedGroup, state: ObservedState) -> Member | None:
    """Return a lease as a member of the queue; None if it holds devices, is over or refused, too large, or no device is known."""
    if not may_hold_lease(lease) or shared.holder(lease.uid) is not None:
        return None
    member = of_lease(lease, shared, state)
    return member if member.placement.node and not too_large(member, shared, state) else None


def may_hold_lease(lease: GPULease) -> bool:
    """Return whether a lease may be granted its one turn."""
    return not lease.deleting and not lease.ended and not problem(lease.spec)


def holds_elsewhere(model: Model, name: str, state: ObservedState) -> bool:
    """Return whether a Model holds devices of another group than this, or may hold them by its status alone.

    The latter while the other group's SharedGroup is gone, or not initialised yet.
    """
    namespace, membership = model.metadata.namespace, model.status.shared_group
    holding = state.holding.get(model.uid)
    if holding is not None:
        return holding[0] != group_key(namespace, name)
    if membership is None or membership.group in ("", name) or membership.state in (QUEUED, IDLE):
        return False
    other = state.group(namespace, membership.group)
    return other is None or not other.initialized


def _place(
    member: Member, state: ObservedState, *, in_demand: bool
) -> tuple[bool, int, bool, bool, int, float, str]:
    """Return what the queue is ordered by; among equals leases first, then the place that one has already, else when it was seen to become wanted.

    Never a wall-clock time: one that was wrong would count for hours. The place in its status is kept over a restart of the arbiter.
    """
    position, since = _had(member.object, state)
    name = member.object.metadata.name
    return not in_demand, -member.priority, not member.is_lease, not position, position, since, name


def _had(member: Model | GPULease, state: ObservedState) -> tuple[int, float]:
    """Return the place that a member has in the queue already, 0 for none, and when it was seen to want the devices.

    It has it also while the group is blocked: else who left for it would come before it again.
    """
    if isinstance(member, GPULease):
        return member.status.position, state.first_seen.get(member.uid, 0.0)
    membership = member.status.shared_group
    of_this = membership is not None and membership.group == member.spec.group
    position = membership.position if membership is not None and of_this else 0
    return position, state.changed(member, conditions.WANTED) or 0.0


def may_hold(model: Model) -> bool:
    """Return whether a Model is wanted and everything else that an engine needs is ready."""
    return not model.deleting and first_missing_gate(model) is None


def first_missing_gate(model: Model) -> str | None:
    """Return the first condition that a Model needs before it may hold the device and that is not True."""
    return next((kind for kind in GATES if not model.is_true(kind)), None)


def must_leave(model: Model, group: SharedGroup, turn: int) -> str:
    """Return why the holder of a turn must release the devices, or nothing."""
    wanted = model.condition(conditions.WANTED)
    placed = model.condition(conditions.PLACED)
    if model.spec.group != group.name:
        return "left the group"
    if wanted is not None and wanted.status == conditions.FALSE:
        return "being deleted" if model.deleting else _NOT_WANTED.get(wanted.reason, "not wanted")
    if placed is not None and placed.status == conditions.FALSE and placed.reason == Reason.NODE_GONE:
        return "its node is gone"
    if group.deleting:
        return "the SharedGroup is being deleted"
    return _moved(model, group) or _turn_ended(model, turn) or _lacks(model, turn)


def _moved(model: Model, group: SharedGroup) -> str:
    """Return where a Model is placed that could start, but not on the node and devices of its turn, or with more memory."""
    holder, placement = group.holder(model.uid), model.status.placement or Placement()
    if holder is None or holder.covers(placement) or not may_hold(model) or has_opened(model, holder):
        return ""
    if holder.is_on(placement):
        size, entry = (
            sum(device.memory_mb for device in devices) for devices in (placement.devices, holder.devices)
        )
        return f"it needs {size} MiB now, but its turn is of {entry}"
    turn, new_place = where(holder.node, holder.uuids), where(placement.node, placement.uuids)
    return f"placed on {new_place}, but its turn is of {turn}"


def has_opened(model: Model, holder: Holder) -> bool:
    """Return whether the Pod of a turn was opened on the turn's node: its devices are those that it got there, until it ends."""
    placement, backend = model.status.placement or Placement(), model.status.backend
    return (
        placement.node == holder.node
        and backend is not None
        and backend.turn == holder.turn
        and bool(backend.pod_uid)
    )


def where(node: str, uuids: Sequence[str]) -> str:
    """Return a node with devices on it, for people."""
    devices = f" ({', '.join(uuids)})" if uuids else ""
    return f"node {node}{devices}" if node else "no node"


def queued_message(group: Group, position: int, why: str) -> str:
    """Return what one that is queued waits for: its position, the holders, and `why` it is not granted, for people."""
    names = ", ".join(holder.label for holder in group.holders)
    holders = f"holder: {names}" if len(group.holders) == 1 else f"holders: {names}" if names else ""
    cause = "; ".join(part for part in (holders, why) if part) or "the device is being granted"
    return f"position {position} of {len(group.queue)} in group {group.name}; {cause}"


def _turn_ended(model: Model, turn: int) -> str:
    """Return why a turn is over although its Model is wanted: a turn opens one Pod, and that one is gone."""
    ready, backend = model.condition(conditions.READY), model.status.backend
    has_pod = backend is not None and backend.turn == turn and backend.pod_uid
    if ready is None or ready.status != conditions.FALSE or not has_pod:
        return ""
    return _TURN_ENDED.get(ready.reason, "")


def _lacks(model: Model, turn: int) -> str:
    """Return what a Model waits for that has not opened the Pod of its turn: no device is held by a download, or without a placement."""
    ready, backend = model.condition(conditions.READY), model.status.backend
    opened = backend is not None and backend.turn == turn and backend.pod_uid
    if opened or (ready is not None and ready.true):
        return ""
    lacking = (kind for kind in GATES if model.condition_status(kind) == conditions.FALSE)
    return next((f"waiting for {kind}" for kind in lacking), "")


def has_returned(model: Model, turn: int) -> bool:
    """Return whether the launcher wrote that the engine of this very turn has stopped."""
    ready, backend = model.condition(conditions.READY), model.status.backend
    return (
        ready is not None
        and (ready.status, ready.reason) == (conditions.FALSE, Reason.STOPPED)
        and backend is not None
        and (backend.turn, backend.pod_uid) == (turn, "")
    )
