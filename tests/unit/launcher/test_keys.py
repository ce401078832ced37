"""What the launcher's decisions depend on: every event that alters one touches it, and so does every moment."""

from collections.abc import Iterable
from typing import Any

from hypothesis import given

from flexinfer.events.events import AnyEvent
from flexinfer.launcher.decide import decide as decide_on_key
from flexinfer.launcher.keys import touched
from flexinfer.launcher.memory import Memory
from flexinfer.state.observed import ObservedState
from tests.unit.keyed import EVENTS, HISTORIES, check_time, check_touched
from tests.unit.launcher.models import SETTINGS


def decide(state: ObservedState, key: str, now: float) -> Iterable[Any]:
    """Decide without a memory."""
    return decide_on_key(state, Memory(), key, now, settings=SETTINGS)


@given(HISTORIES, EVENTS)
def test_an_event_touches_every_decision_that_it_alters(
    history: list[tuple[AnyEvent, int]], event: AnyEvent
) -> None:
    """For every other key it is the same before and after."""
    check_touched(decide, touched, history, event)


@given(HISTORIES)
def test_time_alone_alters_no_decision_unannounced(history: list[tuple[AnyEvent, int]]) -> None:
    """Each moment that does was asked for."""
    check_time(decide, history)
