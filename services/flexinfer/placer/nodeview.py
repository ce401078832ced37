"""NodeView: what follows from a node's facts and its last sample alone, computed once for both. Pure.

A decision looks at a node again and again, and thousands of decisions at the same one. What other Models take there is not its matter
(`state.PlacementState.available`).
"""

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING

import msgspec

from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.api.placement import Placement
from flexinfer.events.nodes import Device, NodeFacts
from flexinfer.placer.memory import Room, measured_rooms
from flexinfer.placer.mismatch import hardware_mismatch, static_mismatch
from flexinfer.placer.offers import Offers, counts_by_number, offer
from flexinfer.placer.requirements import Requirements
from flexinfer.placer.unschedulable import Unschedulable

if TYPE_CHECKING:
    from flexinfer.placer.fit import Candidate

_MOST_CLASSES = 256
"""Kinds of Models of which something is kept for a node."""


class OfClass:
    """What follows for one equivalence class of Models from a node and its last sample: why it can never run there, and whether Pods have all of its devices."""

    __slots__ = ("full", "mismatches", "requirements")

    def __init__(self, requirements: Requirements, *, full: bool) -> None:
        self.requirements, self.full = requirements, full
        self.mismatches: dict[str, Unschedulable | None] = {}


class Scheduled(msgspec.Struct, frozen=True):
    """The placement of a Model, and its message."""

    placement: Placement
    message: str


class KeptCandidate:
    """A node that can run Models of one equivalence class; `scheduled` is what all that go there have in common, made for the first of them."""

    __slots__ = ("candidate", "scheduled")

    def __init__(self, candidate: "Candidate") -> None:
        self.candidate = candidate
        self.scheduled: Scheduled | None = None


Results = dict[tuple[int, str], tuple[Requirements, KeptCandidate | Unschedulable]]
"""How each equivalence class of Models would be placed on a node, by the id of its requirements and the state of telemetry; with the requirements, so that the id stays their own."""


class NodeView:
    """A node with the devices of its last sample."""

    def __init__(self, facts: NodeFacts, devices: Sequence[Device]) -> None:
        self.facts, self.devices = facts, devices
        self._classes: dict[int, OfClass] = {}
        self.results: Results = {}

    @cached_property
    def offers(self) -> Offers:
        """How Pods get its devices, by vendor."""
        return {vendor: offer(self.facts, self.devices, vendor) for vendor in GPU_RESOURCES}

    @cached_property
    def rooms(self) -> Sequence[Room]:
        """Its devices where no Model takes anything of them: as measured."""
        return measured_rooms(self.devices)

    @cached_property
    def free(self) -> Mapping[str, int]:
        """What its Pods have not requested, in thousandths, by resource."""
        requests = self.facts.requested
        return {name: total - requests.get(name, 0) for name, total in self.facts.allocatable.items()}

    @cached_property
    def totals(self) -> Mapping[str, int]:
        """What each of its devices has in all, in MiB, by uuid."""
        return {device.uuid: device.total_mb for device in self.devices}

    def mismatch(self, requirements: Requirements, vendor: str = "") -> Unschedulable | None:
        """Return why it can never run a Model, or why its devices of one vendor cannot, whatever is free there; None if they could."""
        mismatches = self.of_class(requirements).mismatches
        if vendor not in mismatches:
            mismatches[vendor] = self._mismatch(requirements, vendor)
        return mismatches[vendor]

    def _mismatch(self, requirements: Requirements, vendor: str) -> Unschedulable | None:
        if vendor:
            return hardware_mismatch(requirements, self.facts, self.devices, vendor, self.offers)
        return static_mismatch(requirements, self.facts, partial(self.mismatch, requirements))

    def of_class(self, requirements: Requirements) -> OfClass:
        """Return what is kept of one equivalence class of Models."""
        of_class = self._classes.get(
            id(requirements)
        )  # kept with the Requirements, so that the id stays its own
        if of_class is None:
            if len(self._classes) >= _MOST_CLASSES:
                self._classes.clear()
            of_class = self._classes[id(requirements)] = OfClass(
                requirements, full=self._is_full(requirements)
            )
        return of_class

    def _is_full(self, requirements: Requirements) -> bool:
        """Return whether Pods have requested too many of its devices, so that a Model is refused that none of them leaves for, whatever else is there."""
        if not requirements.devices or not counts_by_number(self.offers, requirements.vendors):
            return False
        resources = (GPU_RESOURCES[v] for v in requirements.vendors if v in GPU_RESOURCES)
        return all(self.free.get(name, 0) < 1000 * requirements.devices for name in resources)


_views: dict[str, NodeView] = {}
_MOST_VIEWS = 16384


def node_view(facts: NodeFacts, devices: Sequence[Device]) -> NodeView:
    """Return the view of a node; the last one of its name as long as facts and devices are the very same."""
    view = _views.get(facts.name)
    if view is None or view.facts is not facts or view.devices is not devices:
        if len(_views) >= _MOST_VIEWS:
            _views.clear()
        view = _views[facts.name] = NodeView(facts, devices)
    return view
