"""The nodes as one Model that has nothing there sees them: whether it fits, and whether others may still take memory. Pure.

What follows from a node, its sample and the Models there is kept until one of these changes: a decision asks for hundreds of nodes, of which
hardly any has changed since the last one.
"""

import msgspec

from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.api.model import Model
from flexinfer.placer.binding import counts_by_number
from flexinfer.placer.claims import has_loaded, takes_devices
from flexinfer.placer.fit import Candidate, evaluate
from flexinfer.placer.groups import held_on
from flexinfer.placer.nodeview import NodeView
from flexinfer.placer.requirements import Requirements
from flexinfer.placer.state import PlacementState
from flexinfer.placer.unschedulable import Unschedulable
from flexinfer.state.index import GROUPED, OCCUPYING, STARTING

_MOST_RESULTS = 32
"""Results that are kept of a node: one for each kind of Model."""
_MOST_NODES = 16384


class _Tenancy:
    """A node with the Models that run or start there, as they were last seen."""

    def __init__(self, view: NodeView, tenants: tuple[object, ...]) -> None:
        self.view, self.tenants = view, tenants
        self.unsettled: bool | None = None
        self.results: dict[tuple[int, str], tuple[Requirements, Candidate | Unschedulable]] = {}


_tenancies: dict[str, _Tenancy] = {}


class Occupancy:
    """The nodes for one Model. One that others may leave for it, as in a group, or that has Pods, sees none as full, and nothing is kept for it."""

    def __init__(self, placements: PlacementState, model: Model) -> None:
        requirements = self._requirements = placements.requirements(model)
        self._placements, self._model, self._needed = placements, model, 1000 * requirements.devices
        self._resources = tuple(GPU_RESOURCES[v] for v in requirements.vendors if v in GPU_RESOURCES)
        self._alone = requirements.devices > 0 and not model.spec.group and not placements.pods(model)

    def is_full(self, node: str) -> bool:
        """Tell whether Pods have requested too many of a node's devices, so that it is refused whatever else is there."""
        if not self._alone:
            return False
        view = self._placements.view(node)
        if not counts_by_number(view.offers, self._requirements):
            return False
        free = (view.facts.allocatable.get(r, 0) - view.facts.requested.get(r, 0) for r in self._resources)
        return all(amount < self._needed for amount in free)

    def is_unsettled(self, node: str) -> bool:
        """Tell whether Models may still take memory of a node's devices that its telemetry does not show."""
        tenancy = self._tenancy(node)
        if tenancy.unsettled is None:
            tenancy.unsettled = self._is_unsettled(node)
        return tenancy.unsettled

    def _is_unsettled(self, node: str) -> bool:
        starting = self._placements.starting(node)
        return any(other.spec.devices and other.uid != self._model.uid for other in starting) or any(
            not has_loaded(self._placements, other, node) and takes_devices(other)
            for other in self._placements.occupying(node)
        )

    def evaluate(self, node: str) -> Candidate | Unschedulable:
        """Return how the Model would be placed on a node that it is not assigned to, or why it cannot be now."""
        observed = self._placements.observed
        if not self._alone or observed.under(GROUPED, node) or held_on(observed, node):
            return self._evaluate(node)
        results, key = (
            self._tenancy(node).results,
            (id(self._requirements), self._placements.telemetry.state(node)),
        )
        if key not in results:
            if len(results) >= _MOST_RESULTS:
                results.clear()
            results[key] = self._requirements, self._evaluate(node)
        result, models = results[key][1], self._placements.models_on(node, self._model)
        if isinstance(result, Unschedulable) or result.models == models:
            return result
        return msgspec.structs.replace(result, models=models)

    def _evaluate(self, node: str) -> Candidate | Unschedulable:
        return evaluate(self._requirements, self._placements.available(self._model, node, assigned=False))

    def _tenancy(self, node: str) -> _Tenancy:
        """Return what is kept of a node: nothing yet, unless it and all that runs or starts there are as they were."""
        view, tenants = self._placements.view(node), self._tenants(node)
        tenancy = _tenancies.get(node)
        if tenancy is None or tenancy.view is not view or tenancy.tenants != tenants:
            if len(_tenancies) >= _MOST_NODES:
                _tenancies.clear()
            tenancy = _tenancies[node] = _Tenancy(view, tenants)
        return tenancy

    def _tenants(self, node: str) -> tuple[object, ...]:
        """Return all that what others take of a node follows from: its sample, the Models, their Pods, and since when they are ready."""
        observed, own = self._placements.observed, self._model.key
        sample = observed.gpus.get(node)
        if node not in observed.busy:
            return (sample,)
        starting = [observed.effective(key) for key in observed.under(STARTING, node) if key != own]
        occupying = [
            (observed.effective(key), observed.workloads.get(key)) for key in observed.under(OCCUPYING, node)
        ]
        changed = [observed.changed_at.get(model.uid) for model, _ in occupying if model is not None]
        return (sample, *starting, None, *occupying, *changed)
