"""The nodes as one Model that has nothing there sees them: whether it fits. Pure.

What follows from a node, its sample and the Models there is kept until one of these changes: a decision asks for hundreds of nodes, of which
hardly any has changed since the last one.
"""

from collections.abc import Mapping

from flexinfer.api.model import Model
from flexinfer.placer.fit import Candidate, evaluate
from flexinfer.placer.groups import held_on
from flexinfer.placer.nodeview import KeptCandidate, NodeView, Results
from flexinfer.placer.state import PlacementState
from flexinfer.placer.unschedulable import Unschedulable
from flexinfer.state.index import scheduled_to
from flexinfer.state.observed import Occupant, Sample

_MOST_RESULTS = 32
"""Results that are kept of a node: one for each equivalence class of Models."""
_MOST_NODES = 16384
Occupants = Mapping[str, Occupant]


class _Occupied:
    """How classes of Models would be placed on a node with the Models that run or start there, as these were last seen."""

    def __init__(self, view: NodeView, sample: Sample | None, occupants: Occupants) -> None:
        self.view, self.sample, self.occupants = view, sample, occupants
        self.results: Results = {}


_occupied: dict[str, _Occupied] = {}


class Occupancy:
    """The nodes for one Model. One that others may leave for it, as in a group, or that has Pods, sees none as full, and nothing is kept for it."""

    def __init__(self, placements: PlacementState, model: Model) -> None:
        requirements = self.requirements = placements.requirements(model)
        self._placements, self._model = placements, model
        self.alone = requirements.devices > 0 and not model.spec.group and not placements.pods(model)
        """Whether it has devices, and no memory that is in use counts as free for it."""
        self.like_others = self.alone and not self._starts_somewhere()
        """Whether all that was asked for so far is the same for every Model of its class: nothing of its own is anywhere, nor any shared group."""

    def _starts_somewhere(self) -> bool:
        """Return whether a node counts what the Model itself will take there: one without a Pod, which is scheduled to it and should run."""
        state, key = self._placements.observed, self._placements.key
        node = scheduled_to(state.assumed.get(key, self._model))
        return bool(node) and key in state.occupants.get(node, ())

    def candidate_unless_full(self, node: str) -> KeptCandidate | Unschedulable | None:
        """Return how the Model would be placed on a node; None without a word where Pods have requested too many of its devices, whatever else is there."""
        view = self._placements.view(node)
        return None if self.alone and view.of_class(self.requirements).full else self._result(node, view)

    def evaluate(self, node: str) -> Candidate | Unschedulable:
        """Return how the Model would be placed on a node that it is not assigned to, or why it cannot be now."""
        result = self._result(node, self._placements.view(node))
        return result.candidate if isinstance(result, KeptCandidate) else result

    def _result(self, node: str, view: NodeView) -> KeptCandidate | Unschedulable:
        placements, state = self._placements, self._placements.observed
        entries = state.holding and held_on(state, node)
        if not self.alone or entries or node in state.grouped:
            self.like_others = False
            return self._evaluated(node)
        results = self._results(node, view)
        key = id(self.requirements), placements.telemetry.state(node)
        entry = results.get(key)
        if entry is None:
            if len(results) >= _MOST_RESULTS:
                results.clear()
            entry = results[key] = self.requirements, self._evaluated(node)
        return entry[1]

    def _evaluated(self, node: str) -> KeptCandidate | Unschedulable:
        available = self._placements.available(self._model, node, assigned=False)
        result = evaluate(self.requirements, available)
        return KeptCandidate(result) if isinstance(result, Candidate) else result

    def _results(self, node: str, view: NodeView) -> Results:
        """Return what is kept of a node: nothing yet, unless it and all that runs or starts there are as they were."""
        state = self._placements.observed
        occupants = state.occupants.get(node)
        if not occupants:
            return view.results
        if self._placements.key in occupants:
            return {}
        sample, entry = state.gpus.get(node), _occupied.get(node)
        if (
            entry is None
            or entry.view is not view
            or entry.sample is not sample
            or entry.occupants is not occupants
        ):
            if len(_occupied) >= _MOST_NODES:
                _occupied.clear()
            entry = _occupied[node] = _Occupied(view, sample, occupants)
        return entry.results
