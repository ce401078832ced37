"""PlacementState: what is taken on each node, by which Models, while one Model's placement is decided. Pure.

A placement is an assignment, not a reservation: a Model that is scaled to zero takes nothing, so that many
can be assigned to one device. A Model that should run but has no Pod on a node yet takes what it will
request, so that two never count on the same free device. The devices of a shared group are reserved for its
members, also while none of them runs. Which node a Model gets is `decide`'s.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.api.model import Model
from flexinfer.api.sharedgroup import Holder
from flexinfer.events.nodes import Device
from flexinfer.events.workload import PodFacts
from flexinfer.placer.binding import offers_on, plugged, shareable
from flexinfer.placer.claims import claims_on
from flexinfer.placer.fit import Available
from flexinfer.placer.groups import (
    GroupPlacement,
    assigned,
    group_id,
    held,
    held_on,
    is_unused,
    reserve_of,
    turn_of,
)
from flexinfer.placer.memory import rooms
from flexinfer.placer.nodeview import NodeView, node_view
from flexinfer.placer.offers import counts_by_number
from flexinfer.placer.requirements import Requirements, requirements_of
from flexinfer.placer.start_order import start_order
from flexinfer.placer.telemetry import Telemetry
from flexinfer.state.index import OCCUPYING, SCHEDULED, STARTING, scheduled_to
from flexinfer.state.observed import ObservedState


class PlacementState:
    """The observed state as a decision on one Model counts it: every other Model as it will be once written."""

    def __init__(self, state: ObservedState, model: Model, now: float) -> None:
        self.observed, self.model, self.now, self.key = state, model, now, model.key
        self._workload = state.workloads.get(self.key)
        self.telemetry = Telemetry(state, now)
        self._own: Requirements | None = None
        self._requirements: dict[str, tuple[Model, Requirements]] = {}
        self._groups: dict[tuple[str, str], GroupPlacement | None] = {}
        self._members: dict[tuple[str, str], Sequence[Model]] = {}

    def _models(self, keys: Collection[str]) -> list[Model]:
        """Return Models by key."""
        if not keys:
            return []
        models = (self.model if key == self.key else self.observed.effective(key) for key in sorted(keys))
        return [model for model in models if model is not None]

    def requirements(self, model: Model) -> Requirements:
        """Return what a Model asks of a node; in a group its devices are smaller by what that keeps in reserve."""
        if model is self.model:
            if self._own is None:
                self._own = requirements_of(model, reserve_of(self.observed, model))
            return self._own
        entry = self._requirements.get(model.uid)
        if entry is None or entry[0] is not model:
            requirements = requirements_of(model, reserve_of(self.observed, model))
            entry = self._requirements[model.uid] = model, requirements
        return entry[1]

    def view(self, node: str) -> NodeView:
        """Return what a node is, what is taken there aside."""
        return node_view(self.observed.nodes[node], self.devices(node))

    def pods(self, model: Model) -> Sequence[PodFacts]:
        """Return a Model's Pods that can still run."""
        workload = self._workload if model is self.model else self.observed.workloads.get(model.key)
        return [pod for pod in workload.pods if not pod.ended] if workload is not None else ()

    def devices(self, node: str) -> Sequence[Device]:
        """Return the devices of a node's last sample."""
        sample = self.observed.gpus.get(node)
        return sample.observed.devices if sample is not None else ()

    def data_nodes(self) -> Sequence[str]:
        """Return the nodes where the Model's weights are, the best first: of its volume, then where it was assigned to before."""
        workload, previous = self._workload, self.model.assigned_node
        if workload is None or not workload.claims:
            return [previous] if previous else []
        return [
            node for node in dict.fromkeys([*(claim.node for claim in workload.claims), previous]) if node
        ]

    def starting(self, node: str) -> Sequence[Model]:
        """Return the Models scheduled to a node that should run, but whose requests it does not count yet."""
        return self._models(self.observed.under(STARTING, node))

    def models_on(self, node: str) -> int:
        """Return how many other Models are scheduled to a node."""
        keys = self.observed.under(SCHEDULED, node)
        return len(keys) - (self.key in keys)

    def loads(self, nodes: Iterable[str]) -> Sequence[int]:
        """Return how many other Models are scheduled to each of some nodes; asked of hundreds at a decision."""
        index, none = self.observed.index, frozenset[str]()
        each = [index.get((SCHEDULED, node), none) for node in nodes]
        return [len(keys) - (self.key in keys) for keys in each]

    def occupying(self, node: str) -> Sequence[Model]:
        """Return the Models with a Pod on a node that has not ended."""
        return self._models(self.observed.under(OCCUPYING, node))

    def _groups_on(self, node: str) -> Iterator[tuple[tuple[str, str], GroupPlacement]]:
        """Yield the groups placed on a node, each once, in the order of their Models there."""
        models = self._models(self.observed.grouped_on(node))
        model_groups = [group for model in models for group in self._named(model)]
        for group in dict.fromkeys((*model_groups, *held_on(self.observed, node))):
            placement = self._group(group)
            if placement is not None and placement.node == node:
                yield group, placement

    def _named(self, model: Model) -> Iterator[tuple[str, str]]:
        """Yield the groups that a Model belongs to, or whose turn it may hold."""
        if model.spec.group:
            yield group_id(model)
        shared = model.status.shared_group
        if shared is not None and shared.group:
            yield model.metadata.namespace, shared.group

    def _members_of(self, group: tuple[str, str]) -> Sequence[Model]:
        """Return the members of a group, by key.

        A Model whose spec has left a group stays a member while it holds the group's turn: its engine still
        fills the devices.
        """
        if group not in self._members:
            holders = {holder.uid: holder.model for holder in self.holders(*group)}
            keys = {*self.observed.members(*group), *(f"{group[0]}/{name}" for name in holders.values())}
            models = self._models(keys)
            self._members[group] = [m for m in models if group_id(m) == group or m.uid in holders]
        return self._members[group]

    def members(self, model: Model) -> Sequence[Model]:
        """Return the members of a Model's shared group, itself included; none if it is in no group."""
        return self._members_of(group_id(model)) if model.spec.group else ()

    def group_of(self, model: Model) -> GroupPlacement | None:
        """Return the placement of a Model's shared group; None without a group, or without a placement."""
        return self._group(group_id(model)) if model.spec.group else None

    def _group(self, group: tuple[str, str]) -> GroupPlacement | None:
        if group not in self._groups:
            self._groups[group] = self._group_placement(group)
        return self._groups[group]

    def _group_placement(self, group: tuple[str, str]) -> GroupPlacement | None:
        """Return where a holder of the devices is, else a member with Pods, else the first member by key.

        A member that still holds the devices of another group says nothing of this one's.
        """
        holders, members = self.holders(*group), self._members_of(group)
        uids = {holder.uid for holder in holders}
        placed_models = [m for m in members if scheduled_to(m) and (m.uid in uids or self.turn(m) is None)]
        if not placed_models:
            return held(group[1], holders, members)
        first = min(placed_models, key=lambda m: (m.uid not in uids, not self.pods(m), m.key))
        pinned = first.uid in uids or bool(self.pods(first))
        return held(group[1], holders, members) or assigned(group[1], first, placed_models, pinned=pinned)

    def turn(self, model: Model) -> Holder | None:
        """Return the turn that a Model holds, or has not released yet, of whatever group."""
        return turn_of(self.observed, model)

    def group_holders(self, model: Model) -> Sequence[Holder]:
        """Return who holds the devices of a Model's group, or has not released them yet."""
        return self.holders(*group_id(model)) if model.spec.group else ()

    def holders(self, namespace: str, name: str) -> Sequence[Holder]:
        """Return who holds the devices of a group, or has not released them yet."""
        group = self.observed.group(namespace, name)
        return group.status.holders if group is not None else ()

    def available(self, model: Model, node: str, *, assigned: bool, only: tuple[str, ...] = ()) -> Available:
        """Return what a node has left for a Model; `assigned`: it is scheduled there already, `only`: on these devices."""
        view = self.view(node)
        if not model.spec.group and is_unused(self.observed, view.facts):
            return Available(
                view=view,
                free=view.free,
                rooms=view.rooms,
                telemetry=self.telemetry.state(node),
                models=self.models_on(node),
                only=only,
            )
        free = self._free(view, model, node, assigned=assigned)
        reserved_for, reservations = self._reserve_for_groups(free, model, node)
        group = self.group_of(model)
        here = group if group is not None and group.node == node else None
        claims = list(claims_on(self, model, node, assigned=assigned)) if model.spec.devices else []
        in_use = bool(claims or reservations)
        shared = shareable(self.requirements(model), view.offers) if in_use else frozenset[str]()
        return Available(
            view=view,
            free=free,
            rooms=rooms(view.devices, claims, shared, reservations) if in_use else view.rooms,
            telemetry=self.telemetry.state(node),
            models=self.models_on(node),
            reserved_for=reserved_for,
            users=tuple(claim.name for claim in claims if not claim.leaves),
            preferred=here.uuids if here is not None else (),
            pinned=here is not None and here.pinned,
            only=only,
            members=tuple(sorted(self.requirements(m).device_mb for m in self.members(model))),
        )

    def _free(self, view: NodeView, model: Model, node: str, *, assigned: bool) -> dict[str, int]:
        """Return what is free of each resource; the old Pod of a Model leaves, and so does the holder of its group, before it starts."""
        free = {**view.free}
        for leaving in (model, *self.other_members(model)):
            if self._runs_on(leaving, node):
                _add(free, self._requested(leaving), 1)
        for other in self.starting(node):  # which the node does not count yet
            if self.precedes(other, model, assigned=assigned):
                _add(free, self._requested(other, grouped=False), -1)
        return free

    def _reserve_for_groups(
        self, free: dict[str, int], model: Model, node: str
    ) -> tuple[str, Mapping[str, str]]:
        """Subtract the devices of other shared groups on a node from what is free; returns the first group, and which has each device.

        What running members have requested is subtracted already, so only the rest is. Nothing is subtracted for a
        Model that needs no device, or once none is left for it.
        """
        groups = list(self._groups_on(node))
        if not groups:
            return "", {}
        requirements, first, uuids = self.requirements(model), "", dict[str, str]()
        usable = [
            GPU_RESOURCES[v] for v in requirements.vendors if v in GPU_RESOURCES and requirements.devices
        ]
        by_number = not usable or counts_by_number(offers_on(self, node), requirements.vendors)
        for key, placement in groups:
            if by_number and all(free.get(resource, 0) <= 0 for resource in usable):
                break
            if key == group_id(model):
                continue
            uuids |= dict.fromkeys(placement.uuids, placement.group)
            members = self._members_of(key)
            count = sum(self.requirements(m).devices for m in members if self._runs_on(m, node))
            resource = self._group_resource(placement, members)
            if resource:
                free[resource] = free.get(resource, 0) - 1000 * max(0, placement.devices - count)
                first = first or placement.group
        return first, uuids

    def _group_resource(self, placement: GroupPlacement, members: Sequence[Model]) -> str:
        """Return the resource of a group's devices: a member's, else by telemetry; empty if neither tells, since a device of no known vendor is not reserved."""
        member = next((m for m in members if self.requirements(m).devices), None)
        if member is not None:
            return self._resource(member, placement.node)
        vendor = next((d.vendor for d in self.devices(placement.node) if d.uuid in placement.uuids), "")
        return GPU_RESOURCES.get(vendor, "")

    def other_members(self, model: Model) -> Sequence[Model]:
        """Return the other members of a Model's group; none if it is in no group."""
        return [m for m in self.members(model) if m.uid != model.uid] if model.spec.group else ()

    def _runs_on(self, model: Model, node: str) -> bool:
        return any(pod.node == node for pod in self.pods(model))

    def precedes(self, other: Model, model: Model, *, assigned: bool) -> bool:
        """Return whether a Model that is starting on a node is served before another.

        All of them are before a Model that is new to the node; among those assigned to it, the start order
        decides. Members of one group take turns, so none takes anything from another.
        """
        grouped = other in self.members(model)
        first = not assigned or start_order(self.observed, other) < start_order(self.observed, model)
        return other.uid != model.uid and not grouped and first

    def _requested(self, model: Model, *, grouped: bool = True) -> dict[str, int]:
        """Return what a Model's Pod requests, in thousandths; without `grouped`, a member's devices are left out: they are reserved for its group."""
        requirements = self.requirements(model)
        if not requirements.devices or not plugged(model) or (model.spec.group and not grouped):
            return requirements.amounts
        return requirements.amounts | {
            self._resource(model, scheduled_to(model)): 1000 * requirements.devices
        }

    def _resource(self, model: Model, node: str) -> str:
        """Return the resource that a Model's devices on a node are counted as."""
        placement = model.status.placement
        vendor = placement.vendor if placement is not None and placement.node == node else ""
        return GPU_RESOURCES.get(vendor) or GPU_RESOURCES[self.requirements(model).vendors[0]]


def _add(free: dict[str, int], amounts: Mapping[str, int], sign: int) -> None:
    for name, amount in amounts.items():
        free[name] = free.get(name, 0) + sign * amount
