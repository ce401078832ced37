"""phase_of: the one word for people, derived from the conditions and never an input."""

from collections.abc import Sequence

from flexinfer.contracts import conditions, keys
from flexinfer.contracts.conditions import Condition

_LOADING = frozenset(
    {keys.R_STARTING, keys.R_LOADING, keys.R_RESTARTING, keys.R_BACK_OFF, keys.R_IMAGE_PULL_FAILED}
)
_AT_REST = frozenset({keys.R_NOT_STARTED, keys.R_STOPPED})


def phase_of(all_conditions: Sequence[Condition], generation: int) -> str:
    """Return the phase: a total function of the conditions and the Model's generation.

    The first match wins: Ready, Failed, Preempted, Loading, Idle, else Pending. A condition that is
    missing or of an older generation counts as Unknown, except Ready: an engine goes on answering.
    """
    ready = conditions.find(all_conditions, keys.READY)
    current = {c.type: c for c in all_conditions if c.observed_generation == generation}
    if ready is not None and ready.status == conditions.TRUE:
        return keys.PHASE_READY
    if _failed(current, ready):
        return keys.FAILED
    if _is(current, keys.WANTED, conditions.TRUE) and _is(
        current, keys.GRANTED, conditions.FALSE, keys.R_PREEMPTED
    ):
        return keys.PREEMPTED_PHASE
    if ready is not None and ready.status == conditions.FALSE and ready.reason in _LOADING:
        return keys.LOADING
    return keys.IDLE if _idle(current, ready) else keys.PENDING


def explain(all_conditions: Sequence[Condition], generation: int) -> str:
    """Return the sentence beside the phase: the first condition that is not True, in its own words."""
    found = {c.type: c for c in all_conditions}
    for kind in keys.CONDITIONS:
        condition = found.get(kind)
        if condition is None:
            return f"waits for {kind}, which the {keys.OWNERS[kind]} has not written yet"
        if condition.observed_generation != generation and kind != keys.READY:
            return f"{kind} is of generation {condition.observed_generation}, the spec of {generation}"
        if condition.status != conditions.TRUE:
            return f"{kind}={condition.status} ({condition.reason}): {condition.message}"
    return found[keys.READY].message


def _is(current: dict[str, Condition], kind: str, status: str, reason: str | None = None) -> bool:
    found = current.get(kind)
    return found is not None and found.status == status and (reason is None or found.reason == reason)


def _failed(current: dict[str, Condition], ready: Condition | None) -> bool:
    if _is(current, keys.ACCEPTED, conditions.FALSE):
        return True
    told = [*current.values(), *([ready] if ready is not None else [])]
    return any(c.status == conditions.FALSE and c.reason in keys.FINAL_REASONS for c in told)


def _idle(current: dict[str, Condition], ready: Condition | None) -> bool:
    wanted = current.get(keys.WANTED)
    return (
        wanted is not None
        and wanted.status == conditions.FALSE
        and wanted.reason != keys.R_DELETING
        and _is(current, keys.PLACED, conditions.TRUE)
        and _is(current, keys.CACHED, conditions.TRUE)
        and (ready is None or (ready.status == conditions.FALSE and ready.reason in _AT_REST))
    )
