"""A shared group as one value: its members, its Lease, and the queue. Pure.

The holder is whom the Lease names, nothing else; the members' conditions only show it.
"""

from collections.abc import Mapping, Sequence

import msgspec

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.events.workload import FREED, GroupLease, lease_name
from flexinfer.state.observed import ObservedState, StepSince

GATES = (conditions.ACCEPTED, conditions.PLACED, conditions.CACHED, conditions.WANTED)
"""What a member needs before it may hold the device."""
_NOT_WANTED: Mapping[str, str] = {
    Reason.IDLE: "idle",
    Reason.DELETING: "being deleted",
    Reason.START_FAILED: "its start failed",
    Reason.FIRST_START_FAILED: "its start failed",
    Reason.NOT_ACCEPTED: "its spec is not accepted",
}


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """One group of one namespace.

    `members` are the Models that name it and the one that still holds it; `queue` are those that may hold the
    device and do not, in the order in which they became wanted. `step_since` is since when the Lease is at
    its step.
    """

    namespace: str
    name: str
    lease: GroupLease
    step_since: StepSince | None
    members: Sequence[Model]
    queue: Sequence[Model]

    @property
    def is_free(self) -> bool:
        """Whether no Model holds the device."""
        return self.lease.step == FREED

    @property
    def holder(self) -> Model | None:
        """The member that the Lease names, by uid; None if it names none or that Model was deleted."""
        return next((m for m in self.members if m.uid == self.lease.holder_uid), None)

    def is_held_by(self, model: Model) -> bool:
        """Tell whether a Model holds the device, or has not released it yet."""
        return not self.is_free and self.lease.holder_uid == model.uid

    def position(self, model: Model) -> int:
        """Return a Model's place in the queue, from 1; 0 if it is not queued."""
        return next((i for i, queued in enumerate(self.queue, start=1) if queued.uid == model.uid), 0)


def groups_of(state: ObservedState) -> list[Group]:
    """Return every group that has a member or a Lease, by namespace and name."""
    names = {(m.metadata.namespace, m.spec.group) for m in state.models.values() if m.spec.group}
    names |= {(lease.namespace, lease.group) for lease in state.leases.values()}
    return [_group(state, namespace, name) for namespace, name in sorted(names)]


def left_group(model: Model, state: ObservedState) -> GroupLease | None:
    """Return the Lease of a group that the Model left by a change of spec but still holds."""
    for key in sorted(state.leases):
        lease = state.leases[key]
        if lease.holder_uid == model.uid and lease.step != FREED and lease.group != model.spec.group:
            return lease
    return None


def _group(state: ObservedState, namespace: str, name: str) -> Group:
    lease = state.lease(namespace, lease_name(name)) or GroupLease(namespace=namespace, group=name)
    holder_uid = lease.holder_uid if lease.step != FREED else ""
    models = [state.models[key] for key in sorted(state.models)]
    members = [
        m
        for m in models
        if m.metadata.namespace == namespace and (m.spec.group == name or m.uid == holder_uid)
    ]
    waiting = [
        m
        for m in members
        if m.spec.group == name and m.uid != holder_uid and may_hold(m) and left_group(m, state) is None
    ]
    return Group(
        namespace=namespace,
        name=name,
        lease=lease,
        step_since=state.step_since.get(f"{namespace}/{lease.name}"),
        members=members,
        queue=sorted(waiting, key=lambda m: (_wanted_since(m), m.metadata.name)),
    )


def may_hold(model: Model) -> bool:
    """Tell whether a Model is wanted and everything else that an engine needs is ready."""
    return not model.deleting and first_missing_gate(model) is None


def first_missing_gate(model: Model) -> str | None:
    """Return the first condition that a Model needs before it may hold the device and that is not True."""
    return next((kind for kind in GATES if not model.is_true(kind)), None)


def _wanted_since(model: Model) -> str:
    """Return since when a Model is wanted (RFC 3339): wall-clock time, compared with its like alone."""
    wanted = model.condition(conditions.WANTED)
    return wanted.last_transition_time if wanted is not None else ""


def must_leave(model: Model, group: Group) -> str:
    """Return why the holder must release the device, or nothing."""
    wanted = model.condition(conditions.WANTED)
    placed = model.condition(conditions.PLACED)
    if model.spec.group != group.name:
        return "left the group"
    if wanted is not None and wanted.status == conditions.FALSE:
        return "being deleted" if model.deleting else _NOT_WANTED.get(wanted.reason, "not wanted")
    if placed is not None and placed.status == conditions.FALSE and placed.reason == Reason.NODE_GONE:
        return "its node is gone"
    return ""
