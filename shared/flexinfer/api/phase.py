"""The phase of a Model: one word for people, derived from the conditions. Pure.

It is never an input to a decision; components read conditions.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from flexinfer.api import conditions, reasons
from flexinfer.api.conditions import Condition
from flexinfer.api.reasons import Reason
from flexinfer.api.services import OWNERS


class Phase(StrEnum):
    """The phases, as the CRD lists them."""

    IDLE = "Idle"
    PENDING = "Pending"
    LOADING = "Loading"
    READY = "Ready"
    PREEMPTED = "Preempted"
    FAILED = "Failed"


_FAILED_STARTS = frozenset({Reason.FIRST_START_FAILED, Reason.START_FAILED})
_STOPS = frozenset({Reason.DRAINING, Reason.STOPPING})


def phase_of(all_conditions: Sequence[Condition], generation: int) -> Phase:
    """Return the phase: a total function of the conditions and the Model's generation.

    The first match wins: Ready, Failed, Preempted, Loading, Idle, else Pending. A condition that is missing or of an
    older generation counts as Unknown, except Ready: a running engine keeps serving.
    """
    ready = conditions.find(all_conditions, conditions.READY)
    current = {c.type: c for c in all_conditions if c.observed_generation == generation}
    if ready is not None and ready.status == conditions.TRUE:
        return Phase.READY
    if _failed(current, ready):
        return Phase.FAILED
    if _preempted(current):
        return Phase.PREEMPTED
    if _loading(current, ready):
        return Phase.LOADING
    return Phase.IDLE if _idle(current, ready) else Phase.PENDING


def explain(all_conditions: Sequence[Condition], generation: int) -> str:
    """Return the message beside the phase: the first condition that is not True, as its owner worded it."""
    cause = cause_of(all_conditions, generation)
    if cause.condition is None:
        return cause.message
    return cause.message if cause.condition.true else _explained(cause.condition)


class Cause(NamedTuple):
    """What holds a Model up: a reason for machines, a message for people, and the condition that says so, None if it says nothing yet."""

    reason: str
    message: str
    condition: Condition | None


def cause_of(all_conditions: Sequence[Condition], generation: int) -> Cause:
    """Return what holds a Model up: the first condition that is not True; Ready where nothing does.

    A start that failed is explained by Ready, which has the cause, and not by Wanted, which says that it is over.
    So is a deletion while its engine stops.
    """
    by_type = {c.type: c for c in all_conditions}
    ended = _ended(by_type.get(conditions.WANTED), by_type.get(conditions.READY))
    if ended is not None:
        return Cause(ended.reason, ended.message, ended)
    for kind in conditions.CONDITIONS:
        condition = by_type.get(kind)
        if condition is None:
            return Cause(f"Not{kind}", f"waiting for {kind}: not written yet by the {OWNERS[kind]}", None)
        if condition.observed_generation != generation and kind != conditions.READY:
            older = f"it is of generation {condition.observed_generation}, the spec of {generation}"
            return Cause(f"Not{kind}", f"waiting for {kind}: {older}", None)
        if condition.status != conditions.TRUE:
            return Cause(condition.reason, condition.message, condition)
    ready = by_type[conditions.READY]
    return Cause(ready.reason, ready.message, ready)


def failure_of(all_conditions: Sequence[Condition], generation: int) -> Condition | None:
    """Return the condition for which the phase is Failed; None while it is another."""
    if phase_of(all_conditions, generation) != Phase.FAILED:
        return None
    ready = conditions.find(all_conditions, conditions.READY)
    current = [c for c in all_conditions if c.observed_generation == generation or c is ready]
    failed = [c for c in current if c.status == conditions.FALSE]
    final = (c for c in failed if c.type == conditions.ACCEPTED or c.reason in reasons.FINAL)
    return next(final, None)


def _ended(wanted: Condition | None, ready: Condition | None) -> Condition | None:
    """Return what explains a Model whose start failed or that is being deleted, or None."""
    if wanted is None or wanted.reason not in {*_FAILED_STARTS, Reason.DELETING}:
        return None
    if ready is not None and not ready.true and (wanted.reason in _FAILED_STARTS or ready.reason in _STOPS):
        return ready
    return wanted if wanted.reason == Reason.DELETING else None


def _explained(condition: Condition) -> str:
    return f"{condition.type}={condition.status} ({condition.reason}): {condition.message}"


def _is(current: dict[str, Condition], kind: str, status: str) -> bool:
    condition = current.get(kind)
    return condition is not None and condition.status == status


def _failed(current: dict[str, Condition], ready: Condition | None) -> bool:
    if _is(current, conditions.ACCEPTED, conditions.FALSE):
        return True
    candidates = [*current.values(), *([ready] if ready is not None else [])]
    return any(c.status == conditions.FALSE and c.reason in reasons.FINAL for c in candidates)


def _preempted(current: dict[str, Condition]) -> bool:
    """Tell whether a Model that is wanted had to leave its devices to another."""
    granted = current.get(conditions.GRANTED)
    preempted = (
        granted is not None and granted.status == conditions.FALSE and granted.reason == Reason.PREEMPTED
    )
    return preempted and _is(current, conditions.WANTED, conditions.TRUE)


def _loading(current: dict[str, Condition], ready: Condition | None) -> bool:
    """Tell whether the engine starts, or drains to be restarted with another template."""
    if ready is None or ready.status != conditions.FALSE:
        return False
    restarts = _is(current, conditions.WANTED, conditions.TRUE) and _is(
        current, conditions.GRANTED, conditions.TRUE
    )
    return ready.reason in reasons.LOADING or (ready.reason == Reason.DRAINING and restarts)


def _idle(current: dict[str, Condition], ready: Condition | None) -> bool:
    """Tell whether the Model is scaled to zero, or drains to be."""
    wanted = current.get(conditions.WANTED)
    stopped = ready is None or (
        ready.status == conditions.FALSE
        and (ready.reason in reasons.AT_REST or ready.reason == Reason.DRAINING)
    )
    return (
        wanted is not None
        and wanted.status == conditions.FALSE
        and wanted.reason != Reason.DELETING
        and _is(current, conditions.PLACED, conditions.TRUE)
        and _is(current, conditions.CACHED, conditions.TRUE)
        and stopped
    )
