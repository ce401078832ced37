"""Why no node can run any Model of one kind, worked out once as long as all that it follows from is the very same. Pure.

Where nothing fits, every change of a node has each refused Model decided on again, and each decision looks at every node: the first of those that
ask for the same does so for all.
"""

import msgspec

from flexinfer.placer.requirements import Requirements
from flexinfer.state.observed import ObservedState

_MOST_KEPT = 256


class _Kept(msgspec.Struct, frozen=True):
    """A message with the requirements that it is about, what it follows from, and until when; None: time alters nothing."""

    requirements: Requirements
    basis: tuple[object, ...]
    until: float | None
    message: str


_kept: dict[int, _Kept] = {}  # id of requirements -> the refusal, with these, so that the id stays their own


def _basis(observed: ObservedState) -> tuple[object, ...]:
    """Return all that a refusal follows from where no group is on any node: the nodes, their telemetry, and who runs, starts or is grouped there."""
    return (
        observed.nodes,
        observed.gpus,
        observed.tenants,
        observed.index,
        observed.groups,
        observed.holding,
        observed.node_since,
        observed.connected_since,
    )


def kept(requirements: Requirements, observed: ObservedState, now: float) -> str | None:
    """Return the message for a Model that nothing on any node sets apart from others of its kind; None if it is not worked out."""
    refusal = _kept.get(id(requirements))
    if refusal is None or (refusal.until is not None and now >= refusal.until):
        return None
    same = all(old is new for old, new in zip(refusal.basis, _basis(observed), strict=True))
    return refusal.message if same else None


def keep(requirements: Requirements, observed: ObservedState, until: float | None, message: str) -> None:
    """Keep a message until telemetry of a node counts otherwise for its age alone."""
    if len(_kept) >= _MOST_KEPT:
        _kept.clear()
    _kept[id(requirements)] = _Kept(requirements, _basis(observed), until, message)
