"""Decisions by key, for tests that look at what is decided of all Models."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flexinfer.state.actions import RequeueAt, WriteStatus, written
from flexinfer.state.apply import assume
from flexinfer.state.observed import ObservedState


def effects(actions: Iterable[Any]) -> list[Any]:
    """Return what is done of what was decided."""
    return [action for action in actions if not isinstance(action, RequeueAt)]


def due_at(actions: Iterable[Any]) -> float:
    """Return when a decision is to be made again at the latest, infinite if it did not ask for that."""
    return min((float(action.at) for action in actions if isinstance(action, RequeueAt)), default=math.inf)


def check_unaltered(before: Iterable[Any], after: Iterable[Any], what: object) -> None:
    """Fail if an event that does not touch a key alters what is done of it; it may alter when it is due, to later: that the key is decided on early alters nothing."""
    first, second = list(before), list(after)
    assert effects(first) == effects(second), what
    assert due_at(first) <= due_at(second), what


def on_all_models(decide: Callable[..., Iterable[Any]]) -> Callable[..., Iterator[Any]]:
    """Return a decision on every Model, by key; its arguments are those of `decide` without the key.

    Each counts what was decided before it, as in the control loop.
    """

    def decide_on_all(state: ObservedState, *memory_and_now: Any, **settings: Any) -> Iterator[Any]:
        *memory, now = memory_and_now
        for key in sorted(state.models):
            for action in decide(state, *memory, key, now, **settings):
                yield action
                write = action if isinstance(action, WriteStatus) else getattr(action, "write", None)
                if write is not None:
                    state = assume(state, written(write))

    return decide_on_all
