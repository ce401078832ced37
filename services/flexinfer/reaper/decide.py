"""Whether a Model should run now: observed state, memory and time in, the condition Wanted out. Pure.

The first that applies:
  (1) the Model is being deleted: no;
  (2) its spec is not accepted: no;
  (3) it is not serverless: yes;
  (4) its start failed, and no request came since: no;
  (5) a request is waiting: yes;
  (6) its initial start is still to come: yes if it may begin now, else it is queued;
  (7) it is wanted and loading, or was requested within idleTimeout: still yes;
  (8) no.
What was decided before is read from the condition itself: no `Wanted`, or False/FirstStartQueued, means that
the initial start is still to come.
"""

import math
from collections.abc import Iterator

import msgspec

from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.reasons import Reason
from flexinfer.api.status import MonotonicTime, WantedStatus
from flexinfer.reaper.initial_start import Wait, wait_of
from flexinfer.reaper.memory import Memory
from flexinfer.reaper.messages import (
    idle_message,
    not_requested_message,
    requested_message,
    serving_message,
)
from flexinfer.reaper.model_state import ModelState, has_new_request, model_state
from flexinfer.state import actions
from flexinfer.state.actions import CatchUp, RequeueAt, WithWrite, WriteStatus
from flexinfer.state.observed import ObservedState

WRITE_SECONDS = 60.0
"""At most this often is lastActiveTime written while a Model is in use."""
OVERDUE_SECONDS = 1.0
"""How often a Model past its idleTimeout is decided again while it is loading or in use."""
_NEWER_SECONDS = 0.5
"""Reports of the same request differ by less: the times of transport differ."""
_IN_USE = (Reason.ACTIVE, Reason.REQUESTED)


class RecordActivity(WithWrite, frozen=True, kw_only=True):
    """Write a newer lastActiveTime together with the condition; `last` is that time in monotonic seconds."""

    last: float


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What the decision on one Model may look at beside it."""

    state: ObservedState
    clock_offset: float | None
    now: float


def status_write(action: RecordActivity) -> WriteStatus:
    """Return the status that an effect writes."""
    return action.write


def decide(
    state: ObservedState, memory: Memory, key: str, now: float
) -> Iterator[WriteStatus | RecordActivity | RequeueAt | CatchUp]:
    """Yield Wanted of a Model if it changes, newer activity, and when to decide again.

    Silence scales to zero, so first everything is read that was sent until the timeout was over: after a pause of this
    process the requests of that time still wait to be read.
    """
    model = state.models.get(key)
    if model is None:
        return
    item = model_state(model, state, now)
    due = actions.first_write_due(model, conditions.WANTED, state.first_seen.get(model.uid), now)
    if due is not None and not item.demand.busy and not model.deleting:
        yield RequeueAt(due)
        return
    context = Context(state=state, clock_offset=memory.clock_offset, now=now)
    condition = wanted_condition(item, context)
    if condition.reason == Reason.IDLE and item.is_wanted and state.caught_up_at < _idle_at(item):
        yield CatchUp()
        return
    yield from _emit(item, memory, condition, now)
    if condition.reason == Reason.FIRST_START_QUEUED:
        wait = wait_of(item, state, now)
        if wait is not None and wait.until < math.inf:
            yield RequeueAt(wait.until)


def wanted_condition(item: ModelState, context: Context) -> Condition:
    """Return Wanted of one Model."""
    model, failure = item.model, item.start_failure
    if model.deleting:
        return _false(item, Reason.DELETING, "the Model is being deleted")
    if model.condition_status(conditions.ACCEPTED) == conditions.FALSE:
        return _false(item, Reason.NOT_ACCEPTED, f"waiting for {conditions.ACCEPTED}")
    if not model.spec.serverless.enabled:
        return _true(item, Reason.ALWAYS_ON, "serverless.enabled is false: always running")
    has_request = has_new_request(item, context.state)
    # A retry is seen by a change of Wanted: what is Requested already becomes StartFailed first.
    unseen = item.is_wanted and item.reason in _IN_USE and not item.was_retried
    is_retry = has_request or (item.demand.busy and item.was_retried)
    if failure is not None and (unseen or not is_retry):
        return _failed(item, failure)
    if item.demand.busy or has_request:
        return _requested(item, context)
    if item.reason == Reason.NOT_ACCEPTED and item.is_ready:
        return _true(item, Reason.ACTIVE, serving_message(item))  # its engine has served the spec before
    if item.needs_initial_start:
        return _initial_start(item, context)
    return _idle_or_keep(item, context)


def _failed(item: ModelState, failure: Condition) -> Condition:
    if item.reason in (Reason.FIRST_START, Reason.FIRST_START_FAILED):
        message = f"the initial start failed ({failure.reason}); a request or a spec change retries"
        return _false(item, Reason.FIRST_START_FAILED, message)
    return _false(item, Reason.START_FAILED, f"the start failed ({failure.reason}); the next request retries")


def _requested(item: ModelState, context: Context) -> Condition:
    """Return Wanted of a Model that a request waits for; its evidence is of when that was decided."""
    if item.is_wanted and item.reason in _IN_USE:
        return _unchanged(item)
    return _true(item, Reason.REQUESTED, requested_message(item, context.clock_offset))


def _initial_start(item: ModelState, context: Context) -> Condition:
    wait = wait_of(item, context.state, context.now)
    if wait is not None:
        return _queued(item, wait)
    return _true(item, Reason.FIRST_START, "initial start, to verify that the model can serve")


def _queued(item: ModelState, wait: Wait) -> Condition:
    return _false(item, Reason.FIRST_START_QUEUED, f"queued for its initial start: {wait.cause}")


def _idle_or_keep(item: ModelState, context: Context) -> Condition:
    """Return Wanted of a Model that no request is waiting for."""
    if not item.is_wanted:
        if item.reason == Reason.IDLE:
            return _unchanged(
                item
            )  # the evidence is of when it was scaled to zero; later reports do not change it
        return _false(item, Reason.IDLE, not_requested_message(item, context.clock_offset))
    if item.is_loading or (item.reason == Reason.FIRST_START and not item.is_ready):
        return _unchanged(item)
    if context.now >= _idle_at(item):
        return _false(item, Reason.IDLE, idle_message(item, context.clock_offset))
    if item.reason in (Reason.FIRST_START, Reason.ALWAYS_ON):
        return _true(item, Reason.ACTIVE, serving_message(item))
    return _unchanged(item)


def _unchanged(item: ModelState) -> Condition:
    """Return Wanted as it is, for the current generation.

    Only what its message says of the spec follows the spec.
    """
    if item.wanted is None:
        raise ValueError(f"{item.key} has no condition {conditions.WANTED} to keep")
    message = serving_message(item) if item.reason == Reason.ACTIVE else item.wanted.message
    return actions.condition(item.model, conditions.WANTED, item.wanted.status, item.reason, message)


def _true(item: ModelState, reason: str, message: str) -> Condition:
    return actions.true(item.model, conditions.WANTED, reason, message)


def _false(item: ModelState, reason: str, message: str) -> Condition:
    return actions.false(item.model, conditions.WANTED, reason, message)


def _emit(
    item: ModelState, memory: Memory, condition: Condition, now: float
) -> Iterator[WriteStatus | RecordActivity | RequeueAt]:
    """Yield the write of a condition or of newer activity, if any, and when to decide again, if ever."""
    write = _write(item, memory, condition)
    if write is not None:
        yield write
    recheck_at = _recheck_at(item, condition, now)
    if recheck_at is not None:
        yield RequeueAt(recheck_at)
    if item.demand.busy_until is not None:
        yield RequeueAt(item.demand.busy_until)


def _write(item: ModelState, memory: Memory, condition: Condition) -> WriteStatus | RecordActivity | None:
    """Return the write of a changed condition, or of activity that is newer than what the status holds."""
    model, last, written_at = item.model, item.demand.last_request, memory.written.get(item.model.uid)
    changed = not conditions.same(item.wanted, condition)
    if last is None or (written_at is not None and last <= written_at + _NEWER_SECONDS):
        status = WantedStatus(condition=condition, last_active_time=model.status.last_active_time)
        return WriteStatus(model=model, status=status, gates=_gates(condition)) if changed else None
    if not changed and written_at is not None and last - written_at < WRITE_SECONDS:
        return None
    status = WantedStatus(condition=condition, last_active_time=MonotonicTime(last))
    write = WriteStatus(model=model, status=status, gates=_gates(condition), quiet=not changed)
    return RecordActivity(write=write, last=last)


def _gates(condition: Condition) -> tuple[str, ...]:
    """Return the conditions that a status depends on: an engine that began to load meanwhile is not idle."""
    return (conditions.READY,) if condition.reason == Reason.IDLE else ()


def _recheck_at(item: ModelState, condition: Condition, now: float) -> float | None:
    """Return when Wanted may become False by itself, or when idle time may begin to count, or no longer count as it is written."""
    if not condition.true:
        return item.demand.late_at if condition.reason == Reason.IDLE and item.is_wanted else None
    if item.demand.idle_since is None or not item.model.spec.serverless.enabled:
        return item.demand.recheck_at
    due = _idle_at(item)
    return due if due > now else now + OVERDUE_SECONDS


def _idle_at(item: ModelState) -> float:
    """Return when the Model has been idle for its idleTimeout, the default's for a text that is not a duration; infinity if that does not count."""
    if item.demand.idle_since is None:
        return math.inf
    return item.demand.idle_since + item.model.spec.serverless.idle_seconds
