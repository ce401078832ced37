"""What the reaper's decisions depend on: every event that alters one touches it, and so does every moment."""

from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flexinfer.api.placement import Placement
from flexinfer.api.reasons import Reason
from flexinfer.events.events import AnyEvent, ModelObserved
from flexinfer.reaper.decide import decide as decide_on_key
from flexinfer.reaper.keys import touched
from flexinfer.reaper.memory import Memory
from flexinfer.state.actions import RequeueAt
from flexinfer.state.apply import assume, settle
from flexinfer.state.observed import ObservedState
from tests.builders import NOW, a_model, a_state
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


@given(HISTORIES)
def test_time_alone_alters_no_decision_unannounced(history: list[tuple[AnyEvent, int]]) -> None:
    """Each moment that does was asked for."""
    check_time(decide, history)


def a_start(name: str, wanted: str, reason: str, version: int) -> ModelObserved:
    """Return a Model of one node that starts, or whose initial start is queued."""
    queued = wanted == Reason.FIRST_START_QUEUED
    conditions: list[Any] = ["Accepted", "Placed", "Cached", ("Wanted", str(not queued), wanted)]
    conditions += [] if queued else ["Granted", ("Ready", "False", reason)]
    return ModelObserved(
        model=a_model(name, placement=Placement(node="n"), conditions=conditions, version=version)
    )


STARTS = st.builds(
    a_start,
    st.sampled_from("abc"),
    st.sampled_from([Reason.FIRST_START_QUEUED, Reason.FIRST_START, Reason.REQUESTED]),
    st.sampled_from([Reason.STARTING, Reason.LOADING, Reason.BACK_OFF]),
    st.integers(1, 40),
)


@given(st.lists(st.tuples(STARTS, st.integers(0, 40)), min_size=2, max_size=6))
def test_time_alone_ends_no_wait_for_a_start_on_the_node_unannounced(
    history: list[tuple[AnyEvent, int]],
) -> None:
    """The initial start behind one that makes no progress any more asks for the moment at which it may begin."""
    check_time(decide, history)


def test_an_initial_start_is_decided_on_again_when_the_write_of_another_start_has_arrived() -> None:
    """While it is in flight that start counts as progressing, and from then on since it was observed."""
    gates, here = ("Accepted", "Placed", "Cached"), Placement(node="n")
    starts = a_model("a", placement=here, conditions=(*gates, ("Wanted", "True", Reason.REQUESTED)))
    waits = a_model("b", placement=here, conditions=(*gates, ("Wanted", "False", Reason.FIRST_START_QUEUED)))
    written = assume(a_state(starts, waits), starts)
    arrived = settle(written, starts.key)
    [later] = [action for action in decide(written, waits.key, NOW + 5) if isinstance(action, RequeueAt)]
    [sooner] = [action for action in decide(arrived, waits.key, NOW + 5) if isinstance(action, RequeueAt)]
    assert sooner.at < later.at
    assert waits.key in touched(written, arrived, ModelObserved(model=starts))
