"""NodeView: what follows from a node's facts and its last sample alone, computed once for both. Pure.

A decision looks at a node again and again, and thousands of decisions at the same one. What other Models take there is not its matter
(`state.PlacementState.available`).
"""

from collections.abc import Sequence
from functools import cached_property

from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.events.nodes import Device, NodeFacts
from flexinfer.placer.memory import Room, measured_rooms
from flexinfer.placer.mismatch import hardware_mismatch, static_mismatch
from flexinfer.placer.offers import Offers, offer
from flexinfer.placer.requirements import Requirements
from flexinfer.placer.unschedulable import Unschedulable

_MOST_MISMATCHES = 256
"""Mismatches that are kept of a node: one for each kind of Model, and for each of its vendors."""


class NodeView:
    """A node with the devices of its last sample."""

    def __init__(self, facts: NodeFacts, devices: Sequence[Device]) -> None:
        self.facts, self.devices = facts, devices
        self._mismatches: dict[tuple[int, str], tuple[Requirements, Unschedulable | None]] = {}

    @cached_property
    def offers(self) -> Offers:
        """How Pods get its devices, by vendor."""
        return {vendor: offer(self.facts, self.devices, vendor) for vendor in GPU_RESOURCES}

    @cached_property
    def rooms(self) -> Sequence[Room]:
        """Its devices where no Model takes anything of them: as measured."""
        return measured_rooms(self.devices)

    def mismatch(self, requirements: Requirements, vendor: str = "") -> Unschedulable | None:
        """Return why it can never run a Model, or why its devices of one vendor cannot, whatever is free there; None if they could."""
        key = id(requirements), vendor  # kept with the Requirements, so that the id stays its own
        if key not in self._mismatches:
            if len(self._mismatches) >= _MOST_MISMATCHES:
                self._mismatches.clear()
            self._mismatches[key] = requirements, self._mismatch(requirements, vendor)
        return self._mismatches[key][1]

    def _mismatch(self, requirements: Requirements, vendor: str) -> Unschedulable | None:
        if vendor:
            return hardware_mismatch(requirements, self.facts, self.devices, vendor, self.offers)
        return static_mismatch(requirements, self.facts, self.devices, self.offers)


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
