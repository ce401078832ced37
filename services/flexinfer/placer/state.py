"""What is taken on each node, and by whom. Pure.

Placement is a home, not a reservation: a sleeping Model takes nothing. A Model that is wanted but has no Pod on a node yet takes what it
will request, so that two never count on the same gap. The home of a shared group is kept for its members, awake or asleep.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property

import msgspec

from flexinfer.api import conditions
from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.api.model import Model
from flexinfer.events.nodes import Device
from flexinfer.events.workload import FREED, GroupLease, PodFacts, lease_name
from flexinfer.placer.fit import STALE_SECONDS, Available, static_mismatch
from flexinfer.placer.requirements import Requirements, requirements_of
from flexinfer.state.observed import ObservedState


class GroupPlacement(msgspec.Struct, frozen=True, kw_only=True):
    """Where a shared group lives; `live`: a member holds the turn or runs, so nobody may move."""

    group: str
    node: str
    live: bool
    devices: int
    uuids: tuple[str, ...] = ()


class PlacementState:
    """A fleet, with the placements that are being decided in place of the former ones."""

    def __init__(self, state: ObservedState, models: Mapping[str, Model], now: float) -> None:
        self.state, self.models, self.now = state, models, now
        self._needs: dict[str, Requirements] = {}

    def need(self, model: Model) -> Requirements:
        """Return what a Model asks of a node."""
        if model.key not in self._needs:
            self._needs[model.key] = requirements_of(model)
        return self._needs[model.key]

    def pods(self, model: Model) -> Sequence[PodFacts]:
        """Return a Model's Pods that can still run."""
        return [pod for pod in self.state.workload(model).pods if not pod.ended]

    def devices(self, node: str) -> Sequence[Device]:
        """Return the devices of a node's last sample."""
        sample = self.state.gpus.get(node)
        return sample.observed.devices if sample is not None else ()

    def fresh(self, node: str) -> bool:
        """Tell whether a node's telemetry is young enough for a new start on a device."""
        sample = self.state.gpus.get(node)
        return sample is not None and self.now - sample.at <= STALE_SECONDS

    @cached_property
    def homes(self) -> Mapping[str, Sequence[Model]]:
        """Node -> the Models that live there, by key."""
        found: dict[str, list[Model]] = {}
        for key in sorted(self.models):
            node = node_of(self.models[key])
            if node:
                found.setdefault(node, []).append(self.models[key])
        return found

    @cached_property
    def _waiting(self) -> Mapping[str, Sequence[Model]]:
        """Node -> the Models that live there and are to run, but whose requests no node counts yet."""
        return {node: [m for m in models if self._waits(m)] for node, models in self.homes.items()}

    @cached_property
    def groups(self) -> Mapping[tuple[str, str], GroupPlacement]:
        """(namespace, group) -> where it lives."""
        return {group: home for group in sorted(self._members) if (home := self._group_home(group))}

    @cached_property
    def _members(self) -> Mapping[tuple[str, str], Sequence[Model]]:
        """Return each group's members by key; who holds the turn of a group that it left still counts."""
        found: dict[tuple[str, str], dict[str, Model]] = {}
        by_uid = {model.uid: model for model in self.models.values()}
        for key in sorted(self.models):
            model = self.models[key]
            if model.spec.group:
                found.setdefault((model.metadata.namespace, model.spec.group), {})[key] = model
        for lease in self.state.leases.values():
            holder = by_uid.get(lease.holder_uid)
            if lease.step != FREED and holder is not None:
                found.setdefault((lease.namespace, lease.group), {})[holder.key] = holder
        return {group: list(members.values()) for group, members in found.items()}

    def members(self, model: Model) -> Sequence[Model]:
        """Return the members of a Model's shared group."""
        return self._members.get((model.metadata.namespace, model.spec.group), ())

    def _turn(self, namespace: str, group: str) -> GroupLease | None:
        """Return the Lease of a group whose device is not free."""
        lease = self.state.lease(namespace, lease_name(group))
        return lease if lease is not None and lease.step != FREED else None

    def _group_home(self, group: tuple[str, str]) -> GroupPlacement | None:
        members = [m for m in self._members[group] if node_of(m)]
        if not members:
            return None
        turn = self._turn(*group)
        holder = turn.holder_uid if turn is not None else ""
        first = min(members, key=lambda m: (m.uid != holder, not self.pods(m), m.key))
        uuids = first.status.placement.devices if first.status.placement is not None else ()
        held = turn.devices if turn is not None and turn.node == node_of(first) else ()
        return GroupPlacement(
            group=group[1],
            node=node_of(first),
            live=first.uid == holder or bool(self.pods(first)),
            devices=max(len(held), *(self.need(m).devices for m in members)),
            uuids=uuids or held,
        )

    def suits_all(self, model: Model, node: str) -> bool:
        """Tell whether a node could take every member of a Model's group, as things are built."""
        facts, devices = self.state.nodes[node], self.devices(node)
        return all(static_mismatch(self.need(m), facts, devices) is None for m in self.members(model))

    def stock(self, model: Model, node: str, *, settled: bool) -> Available:
        """Return what a node has left for a Model; `settled`: it lives there already and is only looked at again."""
        facts = self.state.nodes[node]
        free = {name: whole - facts.requested.get(name, 0) for name, whole in facts.allocatable.items()}
        runs = self._runs_on(model, node)
        mates = [m for m in self._mates(model) if self._runs_on(m, node)]
        for leaving in [model, *mates] if runs else mates:
            _add(free, self._request(leaving), 1)
        for other in self._waiting.get(node, ()):
            if self._goes_first(other, model, settled=settled):
                _add(free, self._request(other, grouped=False), -1)
        home = self.groups.get((model.metadata.namespace, model.spec.group))
        return Available(
            node=facts,
            kept_for=self._keep(free, model, node),
            free=free,
            devices=self.devices(node),
            fresh=self.fresh(node),
            trust=not (runs or mates or (settled and not self._sampled_since_wanted(model, node))),
            models=len(self.homes.get(node, ())) - (node_of(model) == node),
            preferred=home.uuids if home is not None and home.node == node else (),
        )

    def _keep(self, free: dict[str, int], model: Model, node: str) -> str:
        """Take off the devices of other groups that live on a node; returns the first group's name."""
        first = ""
        for key, home in self.groups.items():
            if home.node != node or key == (model.metadata.namespace, model.spec.group):
                continue
            members = self._members[key]
            requested = sum(self.need(m).devices for m in members if self._runs_on(m, node))
            resource = self._kept_resource(home, members)
            if resource:
                free[resource] = free.get(resource, 0) - 1000 * max(0, home.devices - requested)
                first = first or home.group
        return first

    def _kept_resource(self, home: GroupPlacement, members: Sequence[Model]) -> str:
        """Return what a group's devices count as: by a member, or by telemetry once all who need devices have left."""
        member = next((m for m in members if self.need(m).devices), None)
        if member is not None:
            return self._resource(member, home.node)
        vendor = next((d.vendor for d in self.devices(home.node) if d.uuid in home.uuids), "")
        return GPU_RESOURCES.get(vendor, "")

    def _mates(self, model: Model) -> Sequence[Model]:
        """Return the other members of a Model's group: they leave before it starts."""
        return [m for m in self.members(model) if m.uid != model.uid] if model.spec.group else ()

    def _runs_on(self, model: Model, node: str) -> bool:
        return any(pod.node == node for pod in self.pods(model))

    def _goes_first(self, other: Model, model: Model, *, settled: bool) -> bool:
        """Tell whether a Model that waits to start counts on what is free before another does."""
        mates = bool(model.spec.group) and other in self.members(model)
        return other.uid != model.uid and not mates and (not settled or _rank(other) < _rank(model))

    def _waits(self, model: Model) -> bool:
        """Tell whether a Model is to run at home and has no Pod on a node."""
        bound = any(pod.node for pod in self.pods(model))
        return not bound and not model.deleting and wanted(model)

    def _request(self, model: Model, *, grouped: bool = True) -> dict[str, int]:
        """Return what a Model's Pod requests; a group's devices are kept for it as a whole, if they are not `grouped`."""
        need = self.need(model)
        if not need.devices or (model.spec.group and not grouped):
            return need.amounts
        return need.amounts | {self._resource(model, node_of(model)): 1000 * need.devices}

    def _resource(self, model: Model, node: str) -> str:
        placement = model.status.placement
        vendor = placement.vendor if placement is not None and placement.node == node else ""
        return GPU_RESOURCES.get(vendor) or GPU_RESOURCES[self.need(model).vendors[0]]

    def _sampled_since_wanted(self, model: Model, node: str) -> bool:
        """Tell whether a node's telemetry is younger than the wish to run: what left just before may still fill an older one."""
        sample = self.state.gpus.get(node)
        since = self.state.changed_at.get((model.key, conditions.WANTED))
        return self.fresh(node) and sample is not None and (since is None or sample.at > since)


def node_of(model: Model) -> str:
    """Return the node that a Model lives on, or nothing."""
    placed, placement = model.condition(conditions.PLACED), model.status.placement
    return placement.node if placed is not None and placed.true and placement is not None else ""


def wanted(model: Model) -> bool:
    """Tell whether a Model is to run now, or will be as soon as it may."""
    said = model.condition(conditions.WANTED)
    return said.true if said is not None else not model.spec.serverless.enabled


def _rank(model: Model) -> tuple[str, str]:
    """Return what orders those who count on the same gap: who was wanted first, then by name."""
    said = model.condition(conditions.WANTED)
    return (said.last_transition_time if said is not None and said.true else "~", model.key)


def _add(free: dict[str, int], amounts: Mapping[str, int], sign: int) -> None:
    for name, amount in amounts.items():
        free[name] = free.get(name, 0) + sign * amount
