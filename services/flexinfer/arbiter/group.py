"""A shared group as one value: its members, its Lease, and who is next. Pure.

Exclusivity lives in the Lease alone. Everything here is read from it; members' conditions only reflect it.
"""

from collections.abc import Sequence

import msgspec

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.events.workload import FREED, GroupLease, lease_name
from flexinfer.state.observed import ObservedState, StepSince


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """One group of one namespace; `queue` are the members that want the device, first come first."""

    namespace: str
    name: str
    lease: GroupLease
    held: StepSince | None
    members: Sequence[Model]
    queue: Sequence[Model]

    @property
    def key(self) -> str:
        """What actions on this group are keyed by: no Model's key has two slashes."""
        return f"group/{self.namespace}/{self.name}"

    @property
    def holder(self) -> Model | None:
        """The member that holds the device, by uid; None when nobody does or it is gone from the API."""
        return next((m for m in self.members if m.uid == self.lease.holder_uid), None)


def groups_of(state: ObservedState) -> list[Group]:
    """Return every group that has a member or a Lease with a holder, by key."""
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
    members = [
        state.models[key]
        for key in sorted(state.models)
        if state.models[key].metadata.namespace == namespace
        and (state.models[key].spec.group == name or state.models[key].uid == _held_by(lease))
    ]
    waiting = [
        m
        for m in members
        if m.spec.group == name and may_hold(m) and m.uid != _held_by(lease) and left_group(m, state) is None
    ]
    return Group(
        namespace=namespace,
        name=name,
        lease=lease,
        held=state.step_since.get(f"{namespace}/{lease.name}"),
        members=members,
        queue=sorted(waiting, key=lambda m: (wanted_since(m), m.metadata.name)),
    )


def _held_by(lease: GroupLease) -> str:
    return lease.holder_uid if lease.step != FREED else ""


def may_hold(model: Model) -> bool:
    """Tell whether a Model wants the device and everything else it needs is there."""
    needs = (conditions.ACCEPTED, conditions.PLACED, conditions.CACHED, conditions.WANTED)
    return not model.deleting and all(model.is_true(kind) for kind in needs)


def wanted_since(model: Model) -> str:
    """Return since when a Model is wanted, as the API holds it: only ever compared with its like."""
    wanted = model.condition(conditions.WANTED)
    return wanted.last_transition_time if wanted is not None else ""


def must_leave(model: Model, group: Group) -> str:
    """Return why the holder must give up the device, or nothing."""
    wanted = model.condition(conditions.WANTED)
    placed = model.condition(conditions.PLACED)
    if model.spec.group != group.name:
        return f"it left the group {group.name}"
    if wanted is not None and wanted.status == conditions.FALSE:
        return "nobody asks for it" if not model.deleting else "it is being deleted"
    if placed is not None and placed.status == conditions.FALSE and placed.reason == Reason.NODE_GONE:
        return "its node is gone"
    return ""
