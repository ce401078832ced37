"""The Lease of a shared group as the launcher reads it: which turn it grants, and which it asks back. Pure."""

from collections.abc import Iterable

from flexinfer.api.model import Model
from flexinfer.events.workload import GRANTED, RELEASING, GroupLease, lease_name
from flexinfer.state.observed import ObservedState


def names(model: Model) -> tuple[str, ...]:
    """Return the names of the Leases that this Model may hold: of its group first, then of one that it is leaving."""
    status = model.status.shared_group
    groups = dict.fromkeys((model.spec.group, status.group if status is not None else ""))
    return tuple(lease_name(group) for group in groups if group)


def observed(model: Model, state: ObservedState) -> tuple[GroupLease, ...]:
    """Return those Leases as last observed."""
    leases = (state.lease(model.metadata.namespace, name) for name in names(model))
    return tuple(lease for lease in leases if lease is not None)


def release_turn(model: Model, leases: Iterable[GroupLease]) -> int:
    """Return the turn that this Model is asked to give back; 0 if none."""
    return next((g.turn for g in leases if g.step == RELEASING and g.holder_uid == model.uid), 0)


def grants(lease: GroupLease | None, model: Model, turn: int) -> bool:
    """Tell whether the group's Lease grants this turn to this uid; a Model in no shared group needs no Lease, and has turn 0."""
    if not model.spec.group:
        return turn == 0
    if lease is None or lease.step != GRANTED:
        return False
    return (lease.holder_uid, lease.turn) == (model.uid, turn)
