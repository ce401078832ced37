"""The phase of a Model: one word for people, derived from the conditions. Pure.

It is never an input to a decision; components read conditions.
"""

from collections.abc import Mapping, Sequence
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
"""An engine that is being stopped: to be started again if the Model is wanted, else to rest."""
_UNSTOPPED = frozenset({Reason.STOPPING, Reason.NODE_UNREACHABLE})
"""A stop that does not end by itself: no condition before Ready knows of it."""
_CAUSES = reasons.FINAL | reasons.WARNING
"""Reasons of Ready that say why a start failed; that it stops or has stopped meanwhile does not."""


def phase_of(all_conditions: Sequence[Condition], generation: int) -> Phase:
    """Return the phase: a total function of the conditions and the Model's generation.

    The first match wins: Ready, Failed, Preempted, Loading, Idle, else Pending. A condition that is missing or of an
    older generation counts as Unknown, except Ready: a running engine keeps serving.
    """
    ready = conditions.find(all_conditions, conditions.READY)
    current = {c.type: c for c in all_conditions if c.observed_generation == generation}
    if ready is not None and ready.status == conditions.TRUE:
        return Phase.READY
    if failure_of(all_conditions, generation) is not None:
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
    return cause.message if cause.condition.true else described(cause.condition)


class Cause(NamedTuple):
    """What holds a Model up: a reason for machines, a message for people, the type of the condition, and the condition.

    None if that is not written yet, or of an older spec.
    """

    reason: str
    message: str
    type: str
    condition: Condition | None


def _cause(condition: Condition) -> Cause:
    return Cause(condition.reason, condition.message, condition.type, condition)


def cause_of(all_conditions: Sequence[Condition], generation: int) -> Cause:
    """Return what holds a Model up: the first condition that is not True; Ready where nothing does.

    A Model that has failed is held up by what made it fail, whatever else is not True yet. A start that failed is explained by
    Ready where that has the cause, and not by Wanted, which says that it is over; so is a stop that does not end.
    """
    by_type = {c.type: c for c in all_conditions}
    special = _ended(by_type) or failure_of(all_conditions, generation) or _unstopped(by_type)
    if special is not None:
        return _cause(special)
    for kind in conditions.CONDITIONS:
        condition = by_type.get(kind)
        if condition is None:
            return Cause(
                f"Not{kind}", f"waiting for {kind}: not written yet by the {OWNERS[kind]}", kind, None
            )
        if condition.observed_generation != generation and kind != conditions.READY:
            older = f"it is of generation {condition.observed_generation}, the spec of {generation}"
            return Cause(f"Not{kind}", f"waiting for {kind}: {older}", kind, None)
        if condition.status != conditions.TRUE:
            return _cause(condition)
    return _cause(by_type[conditions.READY])


def failure_of(all_conditions: Sequence[Condition], generation: int) -> Condition | None:
    """Return the first condition that waiting does not change; None if there is none.

    The phase is Failed then, or Ready while the engine serves the spec before the one that failed.
    """
    by_type = {c.type: c for c in all_conditions}
    in_order = (by_type[kind] for kind in conditions.CONDITIONS if kind in by_type)
    return next((c for c in in_order if _is_failure(c, generation)), None)


def _is_failure(condition: Condition, generation: int) -> bool:
    """Return whether waiting does not change a condition; Ready counts at any generation."""
    if condition.status != conditions.FALSE:
        return False
    if condition.observed_generation != generation and condition.type != conditions.READY:
        return False
    return condition.type == conditions.ACCEPTED or condition.reason in reasons.FINAL


def _ended(by_type: Mapping[str, Condition]) -> Condition | None:
    """Return what explains a Model whose start failed or that is being deleted, or None."""
    wanted, ready = by_type.get(conditions.WANTED), by_type.get(conditions.READY)
    if wanted is None:
        return None
    stopped = ready is not None and not ready.true
    if wanted.reason in _FAILED_STARTS:
        return ready if stopped and ready is not None and ready.reason in _CAUSES else None
    if wanted.reason == Reason.DELETING:
        stops = stopped and ready is not None and ready.reason in _STOPS | _UNSTOPPED
        return ready if stops else wanted
    return None


def _unstopped(by_type: Mapping[str, Condition]) -> Condition | None:
    """Return Ready of a Model that is not to run while its stop does not end: that it is not wanted is no cause for that."""
    ready = by_type.get(conditions.READY)
    to_stop = (by_type.get(kind) for kind in (conditions.WANTED, conditions.GRANTED))
    stops = any(c is not None and c.status == conditions.FALSE for c in to_stop)
    unstopped = ready is not None and not ready.true and ready.reason in _UNSTOPPED
    return ready if stops and unstopped else None


def described(condition: Condition) -> str:
    """Return a condition with its status, reason and message, as a part of a longer message."""
    state = f"{condition.type}={condition.status} ({condition.reason})"
    return f"{state}: {condition.message}" if condition.message else state


def _is(current: dict[str, Condition], kind: str, status: str) -> bool:
    condition = current.get(kind)
    return condition is not None and condition.status == status


def _preempted(current: dict[str, Condition]) -> bool:
    """Return whether a Model that is wanted had to leave its devices to another."""
    granted = current.get(conditions.GRANTED)
    preempted = (
        granted is not None and granted.status == conditions.FALSE and granted.reason == Reason.PREEMPTED
    )
    return preempted and _is(current, conditions.WANTED, conditions.TRUE)


def _loading(current: dict[str, Condition], ready: Condition | None) -> bool:
    """Return whether the engine starts, or is stopped to be started again: with another template, on another node or device."""
    if ready is None or ready.status != conditions.FALSE:
        return False
    restarts = _is(current, conditions.WANTED, conditions.TRUE) and ready.reason in _STOPS
    return ready.reason in reasons.LOADING or restarts


def _idle(current: dict[str, Condition], ready: Condition | None) -> bool:
    """Return whether the Model is scaled to zero, or drains to be."""
    wanted = current.get(conditions.WANTED)
    stopped = ready is None or (
        ready.status == conditions.FALSE and (ready.reason in reasons.AT_REST or ready.reason in _STOPS)
    )
    return (
        wanted is not None
        and wanted.status == conditions.FALSE
        and wanted.reason != Reason.DELETING
        and _is(current, conditions.PLACED, conditions.TRUE)
        and _is(current, conditions.CACHED, conditions.TRUE)
        and stopped
    )
