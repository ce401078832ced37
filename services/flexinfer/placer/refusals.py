"""Why no node can run any Model of one equivalence class, worked out once as long as all that it follows from is the very same. Pure.

Where nothing fits, every change of a node has each refused Model decided on again, and each decision looks at every node: the first of those that
ask for the same does so for all.
"""

import msgspec

from flexinfer.placer.requirements import Requirements
from flexinfer.state.observed import ObservedState

_MOST_KEPT = 256


class _Kept(msgspec.Struct, frozen=True):
    """A message with the requirements that it is about, and until when it holds; None: time alone alters nothing."""

    requirements: Requirements
    until: float | None
    message: str


class _Messages:
    """The messages of one state, by the id of requirements; with these, so that the id stays their own."""

    def __init__(self, basis: tuple[object, ...]) -> None:
        self._basis = basis
        self.by_class: dict[int, _Kept] = {}

    def are_of(self, basis: tuple[object, ...]) -> bool:
        """Return whether they follow from the very same."""
        return len(self._basis) == len(basis) and all(
            old is new for old, new in zip(self._basis, basis, strict=True)
        )


_messages = [_Messages(())]


def _basis(state: ObservedState) -> tuple[object, ...]:
    """Return all that a refusal follows from where no group is on any node: the nodes, their telemetry, and who runs, starts or is grouped there."""
    return (
        state.nodes,
        state.gpus,
        state.occupants,
        state.index,
        state.groups,
        state.holding,
        state.node_since,
        state.connected_since,
    )


def kept(requirements: Requirements, state: ObservedState, now: float) -> str | None:
    """Return the message for a Model that nothing on any node sets apart from others of its class; None if it is not worked out."""
    messages = _messages[0]
    refusal = messages.by_class.get(id(requirements))
    if refusal is None or (refusal.until is not None and now >= refusal.until):
        return None
    return refusal.message if messages.are_of(_basis(state)) else None


def keep(requirements: Requirements, state: ObservedState, until: float | None, message: str) -> None:
    """Keep a message until telemetry of a node counts otherwise for its age alone. Those of another state are void, and hold it in memory no longer."""
    basis = _basis(state)
    if not _messages[0].are_of(basis) or len(_messages[0].by_class) >= _MOST_KEPT:
        _messages[0] = _Messages(basis)
    _messages[0].by_class[id(requirements)] = _Kept(requirements, until, message)
