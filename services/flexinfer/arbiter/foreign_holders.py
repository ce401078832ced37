"""Devices that another group holds: no member is granted them, whatever the placer has written. Pure."""

from collections.abc import Iterable, Iterator, Mapping

from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.api.sharedgroup import Holder, SharedGroup
from flexinfer.arbiter.group import Group, where
from flexinfer.arbiter.member import Member
from flexinfer.events.nodes import NodeFacts
from flexinfer.state.observed import ObservedState

Nodes = Mapping[str, NodeFacts]


def withheld(group: Group, state: ObservedState) -> Mapping[str, str]:
    """Return for each member of a group's queue which other group holds its devices, by uid: those that may be granted are left out."""
    if group.object is None or not group.queue:
        return {}
    # Only groups with holders are asked: how many groups there are must not matter.
    keys = sorted({key for groups in state.holding.values() for key in groups})
    holding = [state.groups[key] for key in keys]
    reasons = {m.uid: held_by_another(m, group.object, holding, state.nodes) for m in group.queue}
    return {uid: text for uid, text in reasons.items() if text}


def held_by_another(member: Member, group: SharedGroup, groups: Iterable[SharedGroup], nodes: Nodes) -> str:
    """Return which other group holds devices of a member's placement; empty if none does.

    Devices are compared by uuid. Where telemetry did not name them, their number is: the node must have one for each. Where several Pods may
    have a device, what the node offers are shares of devices, which do not tell how many there are.
    """
    placement = member.placement
    others = list(_holders_on(placement.node, group, groups))
    for other, holder in others:
        if set(holder.uuids) & set(placement.uuids):
            return _named(other, holder)
    without_devices = next((pair for pair in others if not (pair[1].uuids and placement.uuids)), None)
    held_count = sum(len(holder.uuids) or 1 for _, holder in others)
    device_count = 0 if any(map(_is_shared, others)) else _devices(nodes.get(placement.node))
    if without_devices is not None and held_count + member.devices > device_count:
        return _named(*without_devices)
    return ""


def _holders_on(
    node: str, group: SharedGroup, groups: Iterable[SharedGroup]
) -> Iterator[tuple[SharedGroup, Holder]]:
    """Yield the holders of other groups, of any namespace, whose devices are on a node."""
    for other in groups:
        if other.counts and other.key != group.key:
            yield from ((other, holder) for holder in other.status.holders if node and holder.node == node)


def _is_shared(pair: tuple[SharedGroup, Holder]) -> bool:
    """Return whether several Pods may have a device of a holder."""
    group, holder = pair
    return any(
        device.budget_mb is not None and device.uuid in holder.uuids for device in group.status.devices
    )


def _devices(node: NodeFacts | None) -> float:
    """Return how many devices a node offers; without end if nothing is known of it: the node itself is the last gate."""
    if node is None:
        return float("inf")
    return sum(node.allocatable.get(resource, 0) for resource in GPU_RESOURCES.values()) / 1000


def _named(other: SharedGroup, holder: Holder) -> str:
    group = f"group {other.name} of namespace {other.metadata.namespace}"
    return f"{where(holder.node, holder.uuids)} is held by {holder.label} of {group} (turn {holder.turn})"
