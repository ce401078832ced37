"""Does a Model fit on a node? Compares requirements with what is available there. Pure.

Looks at one Model and one node: what other Models take is already subtracted by
`state.PlacementState.available`, and the choice among nodes is `schedule`'s.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

import msgspec

from flexinfer.api import conditions
from flexinfer.api.bindings import DEVICE_PLUGIN
from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.api.numbers import counted
from flexinfer.events.nodes import NodeFacts
from flexinfer.placer.devices import refusal, suits, too_few
from flexinfer.placer.memory import Room
from flexinfer.placer.nodeview import NodeView
from flexinfer.placer.offers import Offer
from flexinfer.placer.remedies import free_resource
from flexinfer.placer.requirements import Requirements
from flexinfer.placer.unschedulable import Rank, Unschedulable, amount_text, nearest
from flexinfer.state.observed import STALE_SECONDS

RECENT, STALE, AWAITED, NONE = "recent", "stale", "awaited", "none"
"""Telemetry of a node: recent; older than STALE_SECONDS; not seen yet, but that may be since the node or this process is new; or none, as
where no agent runs."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A node that can run a Model, and the devices that it would get there.

    Of several, the one with the lowest `order` is chosen: one where its data is, then in a group one on whose devices most members fit
    alone and then together, then one whose device memory is measured, the tightest fit, the least loaded, the first by name. `slack` is the memory in MiB that the Model would leave unused; without an estimate
    it is what is free, negative, since most is best then.
    """

    node: str
    vendor: str = "cpu"
    devices: tuple[str, ...] = ()
    architecture: str = ""
    alone: int = 0
    together: int = 0
    slack: float = 0.0
    score: int = 0
    reason: str = ""

    @property
    def rank(self) -> tuple[int, int, float]:
        """What it is compared by, the place of its data and the Models scheduled to the node aside."""
        return (-self.alone, -self.together, self.slack)

    def order(self, models: int) -> tuple[int, int, float, int, str]:
        """Return what it is compared by, the place of its data aside; `models` is how many others are scheduled to the node."""
        return (*self.rank, models, self.node)


class Available(msgspec.Struct, frozen=True, kw_only=True):
    """What a node has left for one Model: amounts in thousandths, and its devices with their room; `view` is the node itself.

    `telemetry` is RECENT, STALE, AWAITED or NONE. `models` is how many others are scheduled to the node, `reserved_for` a shared group whose devices
    were subtracted, `users` the Models that have devices of the node. `preferred` are the devices of the Model's own group, and where it is
    `pinned` a member runs or holds the turn there, so that it gets no others. `only`: it is to be on these devices, if any are named.
    """

    view: NodeView
    free: Mapping[str, int]
    rooms: Sequence[Room] = ()
    telemetry: str = NONE
    models: int = 0
    reserved_for: str = ""
    users: tuple[str, ...] = ()
    preferred: tuple[str, ...] = ()
    pinned: bool = False
    only: tuple[str, ...] = ()
    members: tuple[int, ...] = ()
    """In a group, what each member needs of a device, in MiB, the least first."""

    @property
    def node(self) -> NodeFacts:
        """The node's facts."""
        return self.view.facts

    def allows(self, uuid: str, devices: int) -> bool:
        """Return whether the Model may have a device at all, where it is bound to some."""
        if self.only:
            return uuid in self.only
        return not self.pinned or len(self.preferred) < devices or uuid in self.preferred


def evaluate(requirements: Requirements, available: Available) -> Candidate | Unschedulable:
    """Return how a Model would be placed on a node, or why it cannot be now."""
    reason = _unschedulable(requirements, available)
    if reason is not None:
        return reason
    if not requirements.devices:
        return _without_devices(available)
    results = [_with_vendor(requirements, available, vendor) for vendor in requirements.vendors]
    candidates = [result for result in results if isinstance(result, Candidate)]
    if candidates:
        return min(candidates, key=lambda candidate: candidate.order(available.models))
    return nearest(result for result in results if isinstance(result, Unschedulable))


def _unschedulable(requirements: Requirements, available: Available) -> Unschedulable | None:
    """Return why a node cannot run a Model, free devices aside, what to fix first before all else; None if it can."""
    node = available.node
    if node.ready != conditions.TRUE:
        return Unschedulable("is not ready", "bring the node back (kubectl get nodes)", Rank.NODE_DOWN)
    if node.unschedulable:
        return Unschedulable("is cordoned", f"run kubectl uncordon {node.name}", Rank.NODE_DOWN)
    if (mismatch := available.view.mismatch(requirements)) is not None:
        return mismatch
    for name, amount in requirements.amounts.items():
        free = max(0, available.free.get(name, 0))
        if amount > free and name in node.allocatable:
            return Unschedulable(
                f"has {amount_text(name, free)} {name} free, {amount_text(name, amount)} requested",
                free_resource(name, node.name),
                Rank.IN_USE,
            )
    return None


def _without_devices(available: Available) -> Candidate:
    """Return the candidate for a Model without devices: the fewer Models on the node, the better."""
    return Candidate(
        node=available.node.name,
        architecture=available.node.labels.get("kubernetes.io/arch", ""),
        reason=f"{counted(available.models, 'other model')} scheduled to the node",
    )


def _with_vendor(requirements: Requirements, available: Available, vendor: str) -> Candidate | Unschedulable:
    """Return the devices of one vendor that the Model would get, or why it cannot have them."""
    offer = available.view.offers.get(vendor, Offer())
    mismatch = available.view.mismatch(requirements, vendor)
    if mismatch is None and offer.binding == DEVICE_PLUGIN:  # what the others give is counted by device
        mismatch = _devices_in_use(requirements, available, GPU_RESOURCES[vendor])
    if mismatch is not None:
        return mismatch
    rooms = [room for room in available.rooms if room.device.vendor == vendor]
    if not rooms and (available.telemetry in (RECENT, NONE) or available.rooms):
        return _by_count(available, vendor)
    if available.telemetry == RECENT:
        return choose_devices(requirements, available, rooms, offer)
    if available.pinned:  # the turn of its group waits for telemetry; the devices are those of the group
        return _by_count(available, vendor, available.preferred[: requirements.devices])
    since = "yet" if available.telemetry == AWAITED else f"for {STALE_SECONDS:.0f}s"
    return Unschedulable(
        f"has sent no GPU telemetry {since}",
        f"check that the agent runs on the node: kubectl get pods -A -o wide | grep {available.node.name}",
        Rank.SILENT,
    )


def _by_count(available: Available, vendor: str, devices: tuple[str, ...] = ()) -> Candidate:
    """Return the candidate of devices whose memory is not known: their number is enough, and all others are better."""
    architectures = {room.device.uuid: room.device.architecture for room in available.rooms}
    return Candidate(
        node=available.node.name,
        vendor=vendor,
        devices=devices,
        architecture=architectures.get(devices[0], "") if devices else "",
        slack=math.inf,
        reason="free memory is not known",
    )


def _devices_in_use(requirements: Requirements, available: Available, resource: str) -> Unschedulable | None:
    free = max(0, available.free.get(resource, 0)) // 1000
    if free >= requirements.devices:
        return None
    total = available.node.allocatable.get(resource, 0) // 1000
    reservation = (
        f" (reserved for the shared group {available.reserved_for})" if available.reserved_for else ""
    )
    users = f" (used by {', '.join(available.users[:3])})" if available.users and not reservation else ""
    remedy = "stop a model on the node, or let models take turns on the device (the same spec.gpu.shared)"
    if reservation:
        remedy = f"let the model take turns with that group (spec.gpu.shared: {available.reserved_for})"
    elif not users:  # Pods of others have requested them
        remedy = f"delete a Pod on node {available.node.name} that requests {resource}"
    return Unschedulable(
        f"has {free} of {total} {resource} free, {requirements.devices} requested{reservation}{users}",
        remedy,
        Rank.IN_USE,
    )


def choose_devices(
    requirements: Requirements, available: Available, rooms: Sequence[Room], offer: Offer
) -> Candidate | Unschedulable:
    """Choose the devices that the Model fills best; if its size is unknown, those with most free memory."""
    candidates = rooms
    if available.only or available.pinned:
        candidates = [room for room in rooms if available.allows(room.device.uuid, requirements.devices)]
    need = requirements.device_mb
    sign = 1 if need else -1
    order = [room for room in candidates if room.free_mb >= need]
    order.sort(key=lambda room: (sign * room.free_mb, room.device.uuid))
    if available.preferred or available.members:  # the sort is stable: what a group prefers comes before that
        order.sort(key=lambda room: _for_group(requirements, available, room))
    suitable = (room for room in order if suits(requirements, room, need, offer))
    selection = list(itertools.islice(suitable, requirements.devices))
    if len(selection) == requirements.devices:
        return _candidate(requirements, available, selection)
    bound_to = available.only or (available.preferred if available.pinned else ())
    lost_uuids = sorted({*bound_to} - {room.device.uuid for room in rooms})
    if lost_uuids and len(candidates) < requirements.devices:
        return _lost(available, lost_uuids)
    reasons = [refusal(requirements, room, available.node.name, offer) for room in candidates]
    return too_few(requirements, [room.device for room in candidates], reasons, offer)


def _lost(available: Available, lost_uuids: Sequence[str]) -> Unschedulable:
    """Return that telemetry does not show all devices that the Model or its group is bound to."""
    remedy = (
        f"check the driver of node {available.node.name} and its agent (flexinfer gpus --here on the node)"
    )
    owner = "the model" if available.only else "the shared group of the model"
    return Unschedulable(
        f"does not report {', '.join(lost_uuids)}, which {owner} has", remedy, Rank.INCOMPATIBLE
    )


def _for_group(requirements: Requirements, available: Available, room: Room) -> tuple[bool, int, int]:
    """Return the order of devices for a group: its own, then those that most members fit alone, then together."""
    alone, together = _members_that_fit(available.members, requirements.usable_mb(room.device))
    return room.device.uuid not in available.preferred, -alone, -together


def _members_that_fit(members: Sequence[int], usable_mb: int) -> tuple[int, int]:
    """Return how many members of a group fit a device alone, and how many of them together, the smallest first; none without a group."""
    if not members:
        return 0, 0
    sums = itertools.accumulate(members)
    return sum(need <= usable_mb for need in members), sum(total <= usable_mb for total in sums)


def _candidate(requirements: Requirements, available: Available, selection: Sequence[Room]) -> Candidate:
    total, needed_mb = sum(room.free_mb for room in selection), requirements.device_mb * requirements.devices
    usable = min(requirements.usable_mb(room.device) for room in selection)
    alone, together = _members_that_fit(available.members, usable)
    return Candidate(
        node=available.node.name,
        alone=alone,
        together=together,
        vendor=selection[0].device.vendor,
        devices=tuple(room.device.uuid for room in selection),
        architecture=selection[0].device.architecture,
        slack=float(total - needed_mb) if needed_mb else -float(total),
        score=100 * needed_mb // max(1, total),
        reason=f"{total} MiB free on {counted(len(selection), 'device')}",
    )
