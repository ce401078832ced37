"""Where any Model of one equivalence class goes, or why no node can run it: worked out once as long as all that it follows from is the very same. Pure.

Thousands of Models ask for the same, and where nothing fits, every change of a node has each refused one decided on again: the first of them looks
at the nodes for all. What others are written meanwhile counts only where it takes something of a node.
"""

import operator

import msgspec

from flexinfer.placer.nodeview import KeptCandidate
from flexinfer.placer.requirements import Requirements
from flexinfer.state.observed import ObservedState

_MOST_KEPT = 256
Answer = tuple[KeptCandidate, ...] | str
"""The best nodes of all, equally good but for the number of Models scheduled there, by name; or the message of a refusal."""


class _Kept(msgspec.Struct, frozen=True):
    """An answer with the requirements that it is about, and until when it holds; None: time alone alters nothing."""

    requirements: Requirements
    until: float | None
    answer: Answer


class _Answers:
    """The answers of one state, by the id of requirements; with these, so that the id stays their own."""

    def __init__(self, basis: tuple[object, ...]) -> None:
        self._basis = basis
        self.by_class: dict[int, _Kept] = {}

    def are_of(self, basis: tuple[object, ...]) -> bool:
        """Return whether they follow from the very same."""
        return len(self._basis) == len(basis) and all(map(operator.is_, self._basis, basis))


_answers = [_Answers(())]


def _basis(state: ObservedState) -> tuple[object, ...]:
    """Return all that an answer follows from where no group is on any node that was looked at: the nodes, their telemetry, and who runs or starts there, and who shares devices."""
    return (
        state.nodes,
        state.gpus,
        state.occupants,
        state.grouped,
        state.groups,
        state.holding,
        state.node_since,
        state.connected_since,
    )


def kept(requirements: Requirements, state: ObservedState, now: float) -> Answer | None:
    """Return the answer for a Model that nothing on any node sets apart from others of its class; None if it is not worked out."""
    answers = _answers[0]
    entry = answers.by_class.get(id(requirements))
    if entry is None or (entry.until is not None and now >= entry.until):
        return None
    return entry.answer if answers.are_of(_basis(state)) else None


def keep(requirements: Requirements, state: ObservedState, until: float | None, answer: Answer) -> None:
    """Keep an answer until telemetry of a node counts otherwise for its age alone. Those of another state are void, and hold it in memory no longer."""
    basis = _basis(state)
    if not _answers[0].are_of(basis) or len(_answers[0].by_class) >= _MOST_KEPT:
        _answers[0] = _Answers(basis)
    _answers[0].by_class[id(requirements)] = _Kept(requirements, until, answer)
