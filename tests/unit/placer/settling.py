"""Decisions of the placer until nothing is dirty, as the control loop makes them, with every write arriving at once."""

from collections.abc import Iterable

import msgspec

from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.placer.decide import decide
from flexinfer.placer.keys import touched
from flexinfer.state.actions import RequeueAt, WriteStatus, written
from flexinfer.state.apply import apply_events, assume
from flexinfer.state.apply import settle as settled_write
from flexinfer.state.observed import Observation, ObservedState

MOST_DECISIONS = 2000


class Settled(msgspec.Struct):
    """The state once nothing is dirty, the writes that led there, and how many decisions were made."""

    state: ObservedState
    writes: list[WriteStatus]
    requeues: list[RequeueAt]
    due: dict[str, float]
    decisions: int = 0


def settle(
    state: ObservedState, now: float, dirty: Iterable[str] | None = None, *, in_flight: bool = False
) -> Settled:
    """Decide on the dirty keys, all if none are named, until none is left. Raises AssertionError without an end.

    A write arrives at once, or with `in_flight` only when nothing else is left to decide.
    """
    queue = dict.fromkeys(sorted(state.models if dirty is None else dirty))
    result = Settled(state, [], [], {})
    waiting: dict[str, WriteStatus] = {}
    while queue or waiting:
        if not queue:
            key, write = waiting.popitem()
            _arrive(result, write, now, queue)
            queue[key] = None
            continue
        key = next(iter(queue))
        del queue[key]
        if key in waiting:
            continue  # decided again when its write has arrived
        for write in _decided(result, key, now):
            if in_flight:
                waiting[key] = write
                before, result.state = result.state, assume(result.state, written(write))
                observed = events.ModelObserved(model=written(write))
                queue |= dict.fromkeys(sorted(set(touched(before, result.state, observed)) - {key}))
            else:
                _arrive(result, write, now, queue)
    return result


def _decided(result: Settled, key: str, now: float) -> list[WriteStatus]:
    result.decisions += 1
    assert result.decisions < MOST_DECISIONS, "the placer does not settle"
    actions = list(decide(result.state, key, now))
    result.due.pop(key, None)
    for action in actions:
        if isinstance(action, RequeueAt):
            result.requeues.append(action)
            result.due[key] = action.at
    writes = [action for action in actions if isinstance(action, WriteStatus)]
    result.writes += writes
    return writes


def _arrive(result: Settled, write: WriteStatus, now: float, queue: dict[str, None]) -> None:
    before, result.state = result.state, settled_write(result.state, write.key)
    present = events.ModelObserved(model=result.state.models[write.key])
    queue |= dict.fromkeys(sorted(set(touched(before, result.state, present))))
    result.state, keys = observe(result.state, arrival(write), now)
    queue |= dict.fromkeys(keys)


def arrival(write: WriteStatus) -> AnyEvent:
    """Return the event of a write that the API server took."""
    model = written(write)
    version = str(model.metadata.version + 1)
    metadata = msgspec.structs.replace(model.metadata, resource_version=version)
    return events.ModelObserved(model=msgspec.structs.replace(model, metadata=metadata))


def observe(state: ObservedState, event: AnyEvent, now: float) -> tuple[ObservedState, list[str]]:
    """Return the state after an event, and the keys that it makes dirty."""
    after = apply_events(state, [Observation(event, now)])
    return after, sorted(set(touched(state, after, event)))
