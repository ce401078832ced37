"""The watcher's status of a Model: Accepted, and the phase that follows from all conditions. Pure.

Accepted is written at once, since every component waits for it. The phase is for people: it is written when
no condition has changed for a moment (ADR 0017), or at once when it becomes Ready.
"""

from collections.abc import Sequence

import msgspec

from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.model import Model
from flexinfer.api.phase import Phase, cause_of, explain, failure_of, phase_of
from flexinfer.api.status import AcceptedStatus
from flexinfer.state import actions
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.watcher.accepted import accepted

_OWN = frozenset({conditions.ACCEPTED, conditions.STALLED})
PHASE_DELAY_SECONDS = 0.2
"""How long no condition may have changed before the phase is written: six writers at once would conflict."""


def next_write(
    model: Model, changed_at: float, now: float, conflicts: Sequence[str] = ()
) -> WriteStatus | RequeueAt | None:
    """Return the write that a Model's status needs, or when to decide again; None if it is right.

    `changed_at` is when the Model last changed; `conflicts` are its names that also mean another Model.
    """
    condition, generation = accepted(model, conflicts), model.metadata.generation
    others = (c for c in model.status.conditions if c.type not in _OWN)
    current = (condition, *others)
    phase = phase_of(current, generation)
    status = AcceptedStatus(
        condition=condition,
        phase=phase,
        observed_generation=generation,
        reason=cause_of(current, generation).reason,
        message=conditions.one_line(explain(current, generation)),
        stalled=_stalled(model, current),
    )
    write = actions.write_if_changed(model, status)
    if write is None or not conditions.same(model.condition(conditions.ACCEPTED), condition):
        return write
    becomes_ready = phase == Phase.READY != model.status.phase
    due = changed_at if becomes_ready else changed_at + PHASE_DELAY_SECONDS
    if now < due:
        return RequeueAt(due)
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
