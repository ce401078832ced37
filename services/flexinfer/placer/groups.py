"""Where the devices of a shared group are: those that a holder has, else those that its members are assigned to. Pure."""

from collections.abc import Mapping, Sequence

import msgspec

from flexinfer.api.model import Model
from flexinfer.api.sharedgroup import Holder, SharedGroup, SharedGroupSpec
from flexinfer.events.nodes import NodeFacts
from flexinfer.placer.requirements import requirements_of
from flexinfer.state.index import scheduled_to
from flexinfer.state.observed import ObservedState


class GroupPlacement(msgspec.Struct, frozen=True, kw_only=True):
    """The node and devices of a shared group; `pinned`: a member holds the turn or has Pods, so it stays."""

    group: str
    node: str
    pinned: bool
    devices: int
    uuids: tuple[str, ...] = ()

    def offers(self, node: str, uuids: tuple[str, ...]) -> bool:
        """Return whether a member that is placed there is on the group's node, and on its devices where those are pinned."""
        elsewhere = self.pinned and uuids and self.uuids and not {*uuids} <= {*self.uuids}
        return node == self.node and not elsewhere


def group_id(model: Model) -> tuple[str, str]:
    """Return namespace and name of a Model's group."""
    return (model.metadata.namespace, model.spec.group)


def reserve_of(state: ObservedState, model: Model) -> int:
    """Return what a Model's group never gives out of each device, in MiB; the default while it has no SharedGroup, 0 in no group."""
    if not model.spec.group:
        return 0
    group = state.group(*group_id(model))
    return (group.spec if group is not None else SharedGroupSpec(group=model.spec.group)).reserve_mb


def turn_of(state: ObservedState, model: Model) -> Holder | None:
    """Return the turn that a Model holds, or has not released yet, of whatever group; None if it has none."""
    keys = state.holding.get(model.uid, ())
    holders = (group.holder(model.uid) for key in keys if (group := state.groups.get(key)) is not None)
    return next((holder for holder in holders if holder is not None), None)


class _HeldByNode(msgspec.Struct):
    """The groups with holders by the node of their devices, for the groups of one state."""

    holding: Mapping[str, tuple[str, ...]] = {}
    groups: Mapping[str, SharedGroup] = {}
    by_node: Mapping[str, Sequence[tuple[str, str]]] = {}


_held_by_node = [_HeldByNode()]


def held_on(state: ObservedState, node: str) -> Sequence[tuple[str, str]]:
    """Return the groups whose devices on a node a Model holds, by uid of the Model: also one that no Model names any more.

    Computed once as long as the groups stay the same: each decision asks for many nodes.
    """
    cache = _held_by_node[0]
    if cache.holding is not state.holding or cache.groups is not state.groups:
        cache = _held_by_node[0] = _HeldByNode(state.holding, state.groups, _by_node(state))
    return cache.by_node.get(node, ())


def is_unused(state: ObservedState, node: NodeFacts) -> bool:
    """Return whether nothing is subtracted of a node: no Model runs, starts or shares devices there, and no claim of others has any."""
    is_used = node.name in state.occupants or node.device_claims or node.name in state.grouped
    return not is_used and not held_on(state, node.name)


def _by_node(state: ObservedState) -> Mapping[str, Sequence[tuple[str, str]]]:
    by_node: dict[str, list[tuple[str, str]]] = {}
    for uid in sorted(state.holding):
        for group in (state.groups[key] for key in state.holding[uid]):
            for node in {holder.node for holder in group.status.holders}:
                by_node.setdefault(node, []).append((group.metadata.namespace, group.name))
    return by_node


def held(group: str, holders: Sequence[Holder], members: Sequence[Model]) -> GroupPlacement | None:
    """Return the devices that a group's holders were granted, wherever their Models are placed now; None without a known node."""
    node = next((holder.node for holder in holders if holder.node), "")
    if not node:
        return None
    uids = {holder.uid for holder in holders}
    here = [
        m for m in members if m.uid in uids and scheduled_to(m) == node and m.status.placement is not None
    ]
    granted_uuids = dict.fromkeys(uuid for holder in holders if holder.node == node for uuid in holder.uuids)
    placed_uuids = here[0].status.placement.uuids if here and here[0].status.placement is not None else ()
    needs = (requirements_of(m).devices for m in members if scheduled_to(m))
    return GroupPlacement(
        group=group,
        node=node,
        pinned=True,
        devices=max(len(granted_uuids), *needs, 0),
        uuids=tuple(granted_uuids) or placed_uuids,
    )


def assigned(group: str, first: Model, members: Sequence[Model], *, pinned: bool) -> GroupPlacement:
    """Return the devices that a member is assigned to, as those of its group."""
    placement = first.status.placement
    return GroupPlacement(
        group=group,
        node=scheduled_to(first),
        pinned=pinned,
        devices=max(requirements_of(m).devices for m in members),
        uuids=placement.uuids if placement is not None else (),
    )
