"""Slots: at most MOST_CHECKS Jobs check weights on a node at once. Pure.

A Model holds a slot while Cached says Checking. One that needs a slot and finds none says CheckQueued, and those
that have done so for longest are next. Downloads need none: the network is their bound, and they are few.
"""

from collections.abc import Iterator

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.events.events import AnyEvent
from flexinfer.prefetcher.memory import Fact
from flexinfer.state.observed import ObservedState
from flexinfer.state.touched import touches_its_model

MOST_CHECKS = 4
"""Each is a process that reads a volume; 60 at once leave the node no time for engines."""


def has_slot(model: Model, state: ObservedState) -> bool:
    """Return whether a Model may create a check Job: it holds a slot, or one is free for it."""
    return _state_of(state.effective(model.key)) == Reason.CHECKING or _is_next(model, state)


def _is_next(model: Model, state: ObservedState) -> bool:
    free = MOST_CHECKS - len(_on_node(state, model.assigned_node, Reason.CHECKING) - {model.key})
    ahead = _queue(state, model.assigned_node)
    return ahead.index(model.key) < free if model.key in ahead else len(ahead) < free


def touched(before: ObservedState, after: ObservedState, event: AnyEvent) -> Iterator[str]:
    """Yield the Model that an event is about, and those that its slot is free for."""
    for key in touches_its_model(before, after, event):
        yield key
        old, new = before.effective(key), after.effective(key)
        if old is not None and (_state_of(old), old.assigned_node) != (
            _state_of(new),
            new.assigned_node if new is not None else "",
        ):
            for node in {old.assigned_node, new.assigned_node if new is not None else ""}:
                yield from _queue(after, node)[:MOST_CHECKS]


def touched_by(_state: ObservedState, fact: Fact) -> tuple[str]:
    """Return the Model of a fact."""
    return (fact.key,)


def _queue(state: ObservedState, node: str) -> list[str]:
    """Return the Models that wait for a slot on a node, the longest waiting first."""

    def since(key: str) -> tuple[float, str]:
        changed_at = state.changed(state.models[key], conditions.CACHED)
        return (changed_at if changed_at is not None else float("inf"), key)

    return sorted(
        (key for key in _on_node(state, node, Reason.CHECK_QUEUED) if key in state.models), key=since
    )


def _on_node(state: ObservedState, node: str, reason: Reason) -> frozenset[str]:
    return frozenset(
        key
        for key in state.with_reason(conditions.CACHED, reason)
        if (model := state.effective(key)) is not None
        and model.assigned_node == node
        and _state_of(model) == reason
    )


def _state_of(model: Model | None) -> str:
    """Return Checking or CheckQueued for a Model that holds a slot or waits for one, else an empty string."""
    cached = model.condition(conditions.CACHED) if model is not None and not model.deleting else None
    current = (
        cached is not None and model is not None and model.condition_status(conditions.CACHED) == "False"
    )
    relevant = (Reason.CHECKING, Reason.CHECK_QUEUED)
    return cached.reason if cached is not None and current and cached.reason in relevant else ""
