"""What the reaper's decisions depend on: every event that alters one touches it, and so does every moment."""

from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flexinfer.events.events import AnyEvent
from flexinfer.reaper.decide import decide as decide_on_key
from flexinfer.reaper.keys import touched
from flexinfer.reaper.memory import Memory
from flexinfer.state.observed import ObservedState
from tests.unit.keyed import EVENTS, HISTORIES, check_time, check_touched


def decide(state: ObservedState, key: str, now: float) -> Iterable[Any]:
    """Decide with clocks that were never compared."""
    return decide_on_key(state, Memory(), key, now)


@given(HISTORIES, EVENTS)
def test_an_event_touches_every_decision_that_it_alters(
    history: list[tuple[AnyEvent, int]], event: AnyEvent
) -> None:
    """For every other key it is the same before and after."""
    check_touched(decide, touched, history, event)


@given(HISTORIES, st.floats(0, 200))
def test_time_alone_alters_no_decision_unannounced(
    history: list[tuple[AnyEvent, int]], seconds: float
) -> None:
    """Each moment that does was asked for."""
    check_time(decide, history, seconds)
