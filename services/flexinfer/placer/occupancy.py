"""The nodes as one Model that has nothing there sees them: whether it fits, and whether others may still take memory. Pure.

What follows from a node, its sample and the Models there is kept until one of these changes: a decision asks for hundreds of nodes, of which
hardly any has changed since the last one.
"""

from collections.abc import Iterator

import msgspec

from flexinfer.api.model import Model
from flexinfer.placer.claims import has_loaded, takes_devices
from flexinfer.placer.fit import Candidate, evaluate
from flexinfer.placer.groups import held_on
from flexinfer.placer.nodeview import NodeView, Results
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
        self.results: Results = {}


_tenancies: dict[str, _Tenancy] = {}


class Occupancy:
    """The nodes for one Model. One that others may leave for it, as in a group, or that has Pods, sees none as full, and nothing is kept for it."""

    def __init__(self, placements: PlacementState, model: Model) -> None:
        requirements = self._requirements = placements.requirements(model)
        self._placements, self._model = placements, model
        self._alone = requirements.devices > 0 and not model.spec.group and not placements.pods(model)

    def candidate(self, node: str) -> Candidate | None:
        """Return how the Model would be placed on a node, None if it cannot be now; `evaluate` says why."""
        view = self._placements.view(node)
        if self._is_full(view):
            return None
        result = self._result(node, view)
        return result if isinstance(result, Candidate) else None

    def _is_full(self, view: NodeView) -> bool:
        """Tell whether Pods have requested too many of a node's devices, so that it is refused whatever else is there."""
        return self._alone and view.verdict(self._requirements).full

    def unsettled(self) -> Iterator[str]:
        """Yield the nodes with devices to give on which Models may still take memory that telemetry does not show."""
        nodes = self._placements.observed.nodes
        for node in self._placements.observed.busy:
            if node in nodes and not self._is_full(view := self._placements.view(node)):
                tenancy = self._tenancy(node, view)
                if tenancy.unsettled is None:
                    tenancy.unsettled = self._is_unsettled(node)
                if tenancy.unsettled:
                    yield node

    def _is_unsettled(self, node: str) -> bool:
        starting = self._placements.starting(node)
        return any(other.spec.devices and other.uid != self._model.uid for other in starting) or any(
            not has_loaded(self._placements, other, node) and takes_devices(other)
            for other in self._placements.occupying(node)
        )

    def evaluate(self, node: str) -> Candidate | Unschedulable:
        """Return how the Model would be placed on a node that it is not assigned to, or why it cannot be now."""
        return self._result(node, self._placements.view(node))

    def _result(self, node: str, view: NodeView) -> Candidate | Unschedulable:
        placements, observed = self._placements, self._placements.observed
        if not self._alone or (GROUPED, node) in observed.index or held_on(observed, node):
            return self._evaluate(node)
        results = self._tenancy(node, view).results if node in observed.busy else view.results
        key = id(self._requirements), placements.telemetry.state(node)
        kept = results.get(key)
        if kept is None:
            if len(results) >= _MOST_RESULTS:
                results.clear()
            kept = results[key] = self._requirements, self._evaluate(node)
        result = kept[1]
        if isinstance(result, Unschedulable):
            return result
        models = placements.models_on(node, self._model)
        return result if result.models == models else msgspec.structs.replace(result, models=models)

    def _evaluate(self, node: str) -> Candidate | Unschedulable:
        return evaluate(self._requirements, self._placements.available(self._model, node, assigned=False))

    def _tenancy(self, node: str, view: NodeView) -> _Tenancy:
        """Return what is kept of a busy node: nothing yet, unless it and all that runs or starts there are as they were."""
        tenants = self._tenants(node)
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
        starting = [observed.effective(key) for key in observed.under(STARTING, node) if key != own]
        occupying = [
            (observed.effective(key), observed.workloads.get(key)) for key in observed.under(OCCUPYING, node)
        ]
        changed = [observed.changed_at.get(model.uid) for model, _ in occupying if model is not None]
        return (sample, *starting, None, *occupying, *changed)
