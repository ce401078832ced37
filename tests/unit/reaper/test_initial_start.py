"""Initial starts: one that makes no progress gives its place to the next, and continues beside it."""

from typing import Any

import pytest

from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.reaper.initial_start import NO_PROGRESS_SECONDS
from flexinfer.state.actions import RequeueAt, written
from flexinfer.state.apply import assume
from flexinfer.state.observed import ObservedState
from tests import builders
from tests.builders import NOW, SHARED, a_model, a_state
from tests.unit.reaper.test_decide import CLOCK, GATES, HEARTBEAT, changes, decide, later, message, writes

QUEUED = (*GATES, ("Wanted", "False", Reason.FIRST_START_QUEUED), "Granted")
FIRST_START = ("Wanted", "True", Reason.FIRST_START)


def starting(name: str, ready: str, wanted: str = Reason.FIRST_START, **changes: Any) -> Model:
    """Return a Model that is being started, with the reason of Ready=False."""
    conditions = (*GATES, ("Wanted", "True", wanted), "Granted", ("Ready", "False", ready))
    return a_model(name, conditions=conditions, **changes)


def queued(name: str = "z", **changes: Any) -> Model:
    """Return a Model whose initial start is queued."""
    return a_model(name, conditions=QUEUED, **changes)


@pytest.mark.parametrize("reason", [Reason.CREATE_REFUSED, Reason.BACK_OFF, Reason.IMAGE_PULL_FAILED])
@pytest.mark.parametrize("wanted", [Reason.FIRST_START, Reason.REQUESTED])
def test_a_start_that_waits_for_something_else_than_its_node_holds_no_place(reason: str, wanted: str) -> None:
    """A Pod that the API server rejects, a back-off, an image: not even for a moment."""
    state = a_state(starting("a", reason, wanted), queued(), HEARTBEAT)
    assert changes(state)["default/z"] == ("True", Reason.FIRST_START)


@pytest.mark.parametrize(
    "reason",
    [Reason.NOT_STARTED, Reason.STARTING, Reason.LOADING, Reason.RESTARTING, Reason.NODE_UNREACHABLE],
)
@pytest.mark.parametrize("wanted", [Reason.FIRST_START, Reason.REQUESTED])
def test_a_start_without_progress_gives_its_place_to_the_next(reason: str, wanted: str) -> None:
    """A crash loop, a download that hangs, a turn that does not come: after 30 s, and the decision is due then."""
    state = a_state(starting("a", reason, wanted), queued(), HEARTBEAT)
    place_ends = NOW + 30
    assert "default/z" not in changes(state, place_ends - 1)
    assert RequeueAt(place_ends) in list(decide(state, CLOCK, place_ends - 1))
    decided = changes(later(state, place_ends, HEARTBEAT), place_ends)
    assert decided["default/z"] == ("True", Reason.FIRST_START)
    assert "default/a" not in decided, "it continues beside the next one"


def test_progress_keeps_the_place() -> None:
    """Each change of Ready begins the 30 s again."""
    state = a_state(starting("a", Reason.STARTING), queued(), HEARTBEAT)
    loading = starting("a", Reason.LOADING, version=2)
    state = later(state, NOW + 20, events.ModelObserved(model=loading))
    assert "default/z" not in changes(state, NOW + 20 + NO_PROGRESS_SECONDS - 1)
    assert changes(state, NOW + 20 + NO_PROGRESS_SECONDS)["default/z"] == ("True", Reason.FIRST_START)


def test_a_place_is_given_to_one_of_those_that_wait() -> None:
    """The write that gives it counts before it was observed, however long that Model had been queued."""
    state = a_state(starting("a", Reason.LOADING), queued("y"), queued("z"), HEARTBEAT)
    now = NOW + 3600
    begun = next(write for write in writes(later(state, now, HEARTBEAT), now) if write.key == "default/y")
    state = assume(later(state, now, HEARTBEAT), written(begun))
    assert "default/z" not in changes(state, now)
    assert RequeueAt(now + NO_PROGRESS_SECONDS) in list(decide(state, CLOCK, now))


def holds(name: str) -> events.GroupObserved:
    """Return that a Model holds the group."""
    return events.GroupObserved(group=builders.a_group(builders.a_holder(name), version=3))


def a_group() -> ObservedState:
    """Return a member whose initial start was begun as another one was granted the devices, and a Model that is queued behind it."""
    gates = (*GATES, FIRST_START, ("Granted", "False", Reason.QUEUED), ("Ready", "False", Reason.NOT_STARTED))
    return a_state(a_model("b", gpu=SHARED, conditions=gates), queued("c"), holds("on"), HEARTBEAT)


def test_an_initial_start_that_is_queued_for_devices_does_not_use_its_node() -> None:
    """The next one on the node begins meanwhile."""
    state = a_group()
    assert "default/b" not in changes(state)
    assert changes(state)["default/c"] == ("True", Reason.FIRST_START)


def test_an_initial_start_keeps_its_own_turn() -> None:
    """The holder is the Model itself."""
    state = later(a_group(), NOW + 1, holds("b"))
    assert "default/b" not in changes(state, NOW + 1)


def test_a_failed_initial_start_says_which_failure() -> None:
    """The launcher's deadline ends it, also for a Pod that the API server rejects."""
    state = a_state(starting("a", Reason.LOADING_TIMEOUT), HEARTBEAT)
    assert changes(state) == {"default/a": ("False", Reason.FIRST_START_FAILED)}
    assert message(state) == "the initial start failed (LoadingTimeout); a request or a spec change retries"
