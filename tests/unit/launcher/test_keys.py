"""What the launcher's decisions depend on: every event that alters one touches it, and so does every moment."""

from collections.abc import Iterable
from typing import Any

from hypothesis import given

from flexinfer.api.placement import Placement
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.launcher.decide import decide as decide_on_key
from flexinfer.launcher.keys import touched
from flexinfer.launcher.memory import Memory
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from tests.builders import NOW, a_model, a_node
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


def test_the_readiness_of_a_node_touches_a_model_that_is_placed_there() -> None:
    """A probe may have read its Pod on the node before the watcher published that."""
    placed = events.ModelObserved(model=a_model(placement=Placement(node="a")))
    before = apply_events(
        ObservedState(), [Observation(events_of_a_node("True"), NOW), Observation(placed, NOW)]
    )
    event = events_of_a_node("Unknown")
    after = apply_events(before, [Observation(event, NOW)])
    assert set(touched(before, after, event)) == {"default/llama"}


def events_of_a_node(ready: str) -> events.NodeObserved:
    """Return that node a is ready, or is not."""
    return events.NodeObserved(name="a", node=a_node("a", ready=ready, version=1 if ready == "True" else 2))


@given(HISTORIES)
def test_time_alone_alters_no_decision_unannounced(history: list[tuple[AnyEvent, int]]) -> None:
    """Each moment that does was asked for."""
    check_time(decide, history)
