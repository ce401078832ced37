"""Which Models an event concerns, as the reaper sees it. Pure."""

from collections.abc import Iterable, Iterator

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.events.events import AnyEvent
from flexinfer.reaper.memory import ActivityWritten, Fact
from flexinfer.state.demand import any_heard_again
from flexinfer.state.observed import ObservedState
from flexinfer.state.touched import touches_its_model


def touched(before: ObservedState, after: ObservedState, event: AnyEvent) -> Iterator[str]:
    """Yield the Models that an event may start or scale to zero."""
    key = next(iter(touches_its_model(before, after, event)), None)
    if key is not None:
        yield key
        settled = key in before.assumed and key not in after.assumed
        yield from _queued_behind(before.effective(key), after.effective(key), after, settled=settled)
    if before.proxies is not after.proxies and any_heard_again(before, after):
        yield from after.models


def touched_by(_state: ObservedState, fact: Fact) -> Iterable[str]:
    """Return the Model whose activity was written."""
    return (fact.key,) if isinstance(fact, ActivityWritten) else ()


def _queued_behind(
    before: Model | None, after: Model | None, state: ObservedState, *, settled: bool
) -> Iterator[str]:
    """Yield the Models whose initial start waits on the nodes of a Model whose own start began or ended.

    Or whose write has arrived (`settled`): until then its start counts as having made progress just now.
    """
    if _start(before) == _start(after) and not settled:
        return
    keys = state.with_reason(conditions.WANTED, Reason.FIRST_START_QUEUED)
    for node in {model.assigned_node for model in (before, after) if model is not None}:
        yield from (key for key in keys if key in state.on_node(node))


def _start(model: Model | None) -> tuple[object, ...] | None:
    """Return what other Models on the node see of a Model's start."""
    if model is None:
        return None
    current = [model.condition(kind) for kind in (conditions.WANTED, conditions.GRANTED, conditions.READY)]
    statuses = [(c.status, c.reason, c.observed_generation) if c is not None else None for c in current]
    return (model.uid, model.deleting, model.metadata.generation, model.assigned_node, *statuses)
