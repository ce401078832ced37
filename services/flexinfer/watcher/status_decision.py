"""The watcher's status of a Model: Accepted, and phase, reason and message, which follow from all conditions. Pure.

All of it is written at once: every component waits for Accepted, and people read the message beside the conditions, which it must not
contradict for longer than a write takes (ADR 0017). Where the next component is about to write, its turn comes first.
"""

from collections.abc import Sequence

import msgspec

from flexinfer.api import conditions, reasons
from flexinfer.api.conditions import CONDITIONS, Condition
from flexinfer.api.model import Model, ModelStatus
from flexinfer.api.phase import Cause, cause_of, described, explain, failure_of, phase_of
from flexinfer.api.reasons import Reason
from flexinfer.api.status import AcceptedStatus
from flexinfer.state import actions
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.watcher.accepted import accepted

_OWN = frozenset({conditions.ACCEPTED, conditions.STALLED})
JUDGED_SECONDS = 1.0
"""How long a condition may be missing, or of an older spec, before the message names the component that it waits for."""
STARTED_SECONDS = 0.2
"""How long a Model that may start is given to do so before the message says that it has not: a write would conflict with those of its start."""
_BEFORE_A_START = reasons.AT_REST | {Reason.NOT_WANTED}


def due_next(model: Model, conflicts: Sequence[str] = ()) -> str:
    """Return the condition type that its owner is about to write, so that a summary without it would be over as soon as it is read; else empty."""
    cause = cause_of(_current(model, accepted(model, conflicts)), model.metadata.generation)
    return cause.type if cause.condition is None or _may_start(cause) else ""


def next_write(
    model: Model, due_since: float | None, now: float, conflicts: Sequence[str] = ()
) -> WriteStatus | RequeueAt | None:
    """Return the write that a Model's status needs, or when to decide again; None if it is right.

    `due_since` is when what is `due_next` became so, None if nothing is; `conflicts` are its names that also mean another Model. A write
    is void if any condition has changed: its phase would be of older conditions. That of the phase alone is quiet.
    """
    condition, generation = accepted(model, conflicts), model.metadata.generation
    current = _current(model, condition)
    cause, since = cause_of(current, generation), now if due_since is None else due_since
    judged_at = since + JUDGED_SECONDS if cause.condition is None else now
    reason, message = _summary(model.status, current, generation, judged=now >= judged_at)
    status = AcceptedStatus(
        condition=condition,
        phase=phase_of(current, generation),
        observed_generation=generation,
        reason=reason,
        message=message,
        stalled=_stalled(model, current),
    )
    write = actions.write_if_changed(model, status, CONDITIONS)
    if write is None:
        return RequeueAt(judged_at) if now < judged_at else None
    phase_alone = conditions.same(model.condition(conditions.ACCEPTED), condition)
    due = since + STARTED_SECONDS if phase_alone and _may_start(cause) else now
    return RequeueAt(due) if now < due else msgspec.structs.replace(write, quotes=True, quiet=phase_alone)


def _current(model: Model, condition: Condition) -> tuple[Condition, ...]:
    return (condition, *(c for c in model.status.conditions if c.type not in _OWN))


def _summary(
    status: ModelStatus, current: Sequence[Condition], generation: int, *, judged: bool
) -> tuple[str, str]:
    """Return reason and message; while components judge the spec those of a condition before, true after the next one is written too."""
    cause = cause_of(current, generation)
    if cause.condition is not None or judged:
        return cause.reason, conditions.one_line(explain(current, generation))
    before = CONDITIONS[: CONDITIONS.index(cause.type)]
    in_line = sorted((c for c in current if c.type in before), key=lambda c: before.index(c.type))
    quotes = [(c.reason, conditions.one_line(described(c))) for c in in_line]
    previous = (status.reason, status.message)
    return previous if previous in quotes else quotes[-1]


def _may_start(cause: Cause) -> bool:
    """Return whether nothing but the start is left to do: the first condition that is not True is at rest, and those before it are True."""
    return (
        cause.type in (conditions.GRANTED, conditions.READY)
        and cause.condition is not None
        and cause.condition.status == conditions.FALSE
        and cause.reason in _BEFORE_A_START
    )


def _stalled(model: Model, current: Sequence[Condition]) -> Condition | None:
    """Return Stalled of a Model that only a change can help, None of any other; also while its engine serves the spec before."""
    generation = model.metadata.generation
    if model.deleting or failure_of(current, generation) is None:
        return None
    cause = cause_of(current, generation)
    causes = [f"{cause.condition.type} is False"] if cause.condition is not None else []
    message = ": ".join((*causes, *([cause.message] if cause.message else [])))
    return actions.true(model, conditions.STALLED, cause.reason, message)
