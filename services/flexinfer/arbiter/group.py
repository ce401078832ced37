"""A shared group as one value: its members, its Lease, and who is next. Pure.

Exclusivity lives in the Lease alone. Everything here is read from it; members' conditions only reflect it.
"""

from collections.abc import Sequence

import msgspec

from flexinfer.contracts import conditions, keys
from flexinfer.contracts.fleet import Fleet, Held
from flexinfer.contracts.model import Model
from flexinfer.contracts.workload import FREED, GroupLease, lease_name


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """One group of one namespace; `queue` are the members that want the device, first come first."""

    namespace: str
    name: str
    lease: GroupLease
    held: Held | None
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


def groups_of(fleet: Fleet) -> list[Group]:
    """Return every group that has a member or a Lease with a holder, by key."""
    names = {(m.metadata.namespace, m.spec.group) for m in fleet.models.values() if m.spec.group}
    names |= {(lease.namespace, lease.group) for lease in fleet.leases.values()}
    return [_group(fleet, namespace, name) for namespace, name in sorted(names)]


def left_group(model: Model, fleet: Fleet) -> GroupLease | None:
    """Return the Lease of a group that the Model left by a change of spec but still holds."""
    for key in sorted(fleet.leases):
        lease = fleet.leases[key]
        if lease.holder_uid == model.uid and lease.step != FREED and lease.group != model.spec.group:
            return lease
    return None


def _group(fleet: Fleet, namespace: str, name: str) -> Group:
    lease = fleet.lease(namespace, lease_name(name)) or GroupLease(namespace=namespace, group=name)
    members = [
        fleet.models[key]
        for key in sorted(fleet.models)
        if fleet.models[key].metadata.namespace == namespace
        and (fleet.models[key].spec.group == name or fleet.models[key].uid == _held_by(lease))
    ]
    waiting = [
        m
        for m in members
        if m.spec.group == name and may_hold(m) and m.uid != _held_by(lease) and left_group(m, fleet) is None
    ]
    return Group(
        namespace=namespace,
        name=name,
        lease=lease,
        held=fleet.lease_since.get(f"{namespace}/{lease.name}"),
        members=members,
        queue=sorted(waiting, key=lambda m: (wanted_since(m), m.metadata.name)),
    )


def _held_by(lease: GroupLease) -> str:
    return lease.holder_uid if lease.step != FREED else ""


def may_hold(model: Model) -> bool:
    """Tell whether a Model wants the device and everything else it needs is there."""
    needs = (keys.ACCEPTED, keys.PLACED, keys.CACHED, keys.WANTED)
    return not model.deleting and all(model.holds(kind) for kind in needs)


def wanted_since(model: Model) -> str:
    """Return since when a Model is wanted, as the API holds it: only ever compared with its like."""
    wanted = model.condition(keys.WANTED)
    return wanted.last_transition_time if wanted is not None else ""


def must_leave(model: Model, group: Group) -> str:
    """Return why the holder must give up the device, or nothing."""
    wanted = model.condition(keys.WANTED)
    placed = model.condition(keys.PLACED)
    if model.spec.group != group.name:
        return f"it left the group {group.name}"
    if wanted is not None and wanted.status == conditions.FALSE:
        return "nobody asks for it" if not model.deleting else "it is being deleted"
    if placed is not None and placed.status == conditions.FALSE and placed.reason == keys.R_NODE_GONE:
        return "its node is gone"
    return ""
