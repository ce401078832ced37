"""The watcher's status of a Model: Accepted, Stalled, and the phase that follows from all conditions. Pure.

Every owner writes the phase with its condition (`runtime.status_writer`, ADR 0017). The watcher writes it where that is not so: after an edit,
or a write by a component of an earlier release.
"""

from collections.abc import Sequence

import msgspec

from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.model import Model
from flexinfer.api.phase import cause_of, failure_of, summary_of
from flexinfer.api.status import AcceptedStatus
from flexinfer.state import actions
from flexinfer.state.actions import WriteStatus
from flexinfer.watcher.accepted import accepted

_OWN = frozenset({conditions.ACCEPTED, conditions.STALLED})


def next_write(model: Model, conflicts: Sequence[str] = ()) -> WriteStatus | None:
    """Return the write that a Model's status needs; None if it is right. `conflicts` are its names that also mean another Model."""
    condition, generation = accepted(model, conflicts), model.metadata.generation
    others = (c for c in model.status.conditions if c.type not in _OWN)
    current = (condition, *others)
    summary = summary_of(current, generation)
    status = AcceptedStatus(
        condition=condition,
        phase=summary.phase,
        observed_generation=generation,
        reason=summary.reason,
        message=summary.message,
        stalled=_stalled(model, current),
    )
    write = actions.write_if_changed(model, status)
    if write is None or not conditions.same(model.condition(conditions.ACCEPTED), condition):
        return write
    return msgspec.structs.replace(write, gates=conditions.CONDITIONS, quiet=True)


def _stalled(model: Model, current: Sequence[Condition]) -> Condition | None:
    """Return Stalled of a Model that only a change can help, None of any other; also while its engine serves the spec before."""
    generation = model.metadata.generation
    if model.deleting or failure_of(current, generation) is None:
        return None
    cause = cause_of(current, generation)
    failed = [f"{cause.condition.type} is False"] if cause.condition is not None else []
    message = ": ".join((*failed, *([cause.message] if cause.message else [])))
    return actions.true(model, conditions.STALLED, cause.reason, message)
