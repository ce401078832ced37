"""What is cheap to see of a node before it is evaluated: that it is full, and that its telemetry does not show yet what will be taken. Pure."""

from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.api.model import Model
from flexinfer.placer.binding import counts_by_number, offers_on
from flexinfer.placer.claims import has_loaded, takes_devices
from flexinfer.placer.state import PlacementState


class Occupancy:
    """The nodes as one Model sees them. One that others may leave for it, as in a group, sees none as full."""

    def __init__(self, placements: PlacementState, model: Model) -> None:
        requirements = self._requirements = placements.requirements(model)
        self._placements, self._needed = placements, 1000 * requirements.devices
        self._resources = tuple(GPU_RESOURCES[v] for v in requirements.vendors if v in GPU_RESOURCES)
        self._alone = requirements.devices > 0 and not model.spec.group and not placements.pods(model)

    def is_full(self, node: str) -> bool:
        """Tell whether Pods have requested too many of a node's devices, so that it is refused whatever else is there."""
        if not self._alone or not counts_by_number(offers_on(self._placements, node), self._requirements):
            return False
        facts = self._placements.observed.nodes[node]
        free = (facts.allocatable.get(r, 0) - facts.requested.get(r, 0) for r in self._resources)
        return all(amount < self._needed for amount in free)

    def is_unsettled(self, node: str) -> bool:
        """Tell whether Models may still take memory of a node's devices that its telemetry does not show."""
        if any(other.spec.devices for other in self._placements.starting(node)):
            return True
        occupying = [m for m in self._placements.occupying(node) if takes_devices(m)]
        return any(not has_loaded(self._placements, other, node) for other in occupying)
