"""Starts that fail again and again: a Model that always runs is retried without end, a rejected Pod ever less often."""

import itertools
from typing import Any

import msgspec
import pytest

from flexinfer.api import conditions
from flexinfer.api.model import BackendStatus, Model
from flexinfer.api.phase import Phase, phase_of
from flexinfer.api.reasons import REJECTS_REQUESTS, Reason
from flexinfer.events import events
from flexinfer.launcher.effects import Purpose, Start, Stop
from flexinfer.launcher.memory import CreationRejected, Memory, remember
from flexinfer.launcher.retry import back_off
from flexinfer.runtime.kubernetes.api import ForbiddenError
from flexinfer.state.actions import RequeueAt
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation
from tests.builders import NOW, a_state
from tests.unit.launcher.acting import SETTINGS as ACTING
from tests.unit.launcher.acting import a_world, perform, ready_message, ready_of, there
from tests.unit.launcher.deciding import LOADING, decide, decided, message, outcome, ready, with_messages
from tests.unit.launcher.models import SETTINGS, a_start, holding, its_pod, starting

ALWAYS_ON = ("Accepted", "Placed", "Cached", ("Wanted", "True", Reason.ALWAYS_ON), "Granted")
BACK_OFF, TIMEOUT = ("False", Reason.BACK_OFF), ("False", Reason.LOADING_TIMEOUT)
REFUSED = ("False", Reason.CREATE_REFUSED)


def always_on(*gates: Any, ready: tuple[str, str], **changes: Any) -> Model:
    """Return a Model that is not serverless."""
    return a_start(*(gates or ALWAYS_ON), ready=ready, serverless={"enabled": False}, **changes)


def waiting(model: Model, requests: int = 1) -> events.ActivityObserved:
    """Return a proxy's report of requests that wait."""
    return events.ActivityObserved(
        proxy="p",
        namespace="default",
        name="llama",
        uid=model.uid,
        idle_seconds=0,
        in_flight=0,
        waiting=requests,
    )


def test_a_model_that_always_runs_is_never_given_up_after_its_deadline() -> None:
    """It backs off, its Pod is deleted, and another follows."""
    model = always_on(ready=LOADING)
    [action] = decided(model, holding(model, its_pod(model)), after=SETTINGS.loading_seconds + 1)
    assert outcome(action) == BACK_OFF
    assert message(action).startswith("no progress for 60s: ")
    assert message(action).endswith("; back-off: attempt 2 in 1s")
    backing_off = always_on(ready=BACK_OFF, backend_status=BackendStatus(restarts=1))
    [clear] = decided(backing_off, holding(backing_off, its_pod(backing_off)))
    assert isinstance(clear, Stop)
    assert clear.purpose is Purpose.CLEAR
    assert decided(backing_off) == [RequeueAt(NOW + 1)]
    [again] = decided(backing_off, after=1)
    assert outcome(again) == ("False", Reason.STARTING)


@pytest.mark.parametrize("failures", [5, 6, 100, 5000])
def test_a_model_that_always_runs_is_never_given_up_after_its_failures(failures: int) -> None:
    """However many there were: the back-off grows to a minute, and the number of attempts has no end."""
    model = always_on(ready=LOADING, backend_status=BackendStatus(restarts=failures))
    [action] = decided(model, holding(model, its_pod(model, phase="Failed", running=False)))
    assert outcome(action) == BACK_OFF
    assert ready(action).backend.restarts == failures + 1
    assert f"attempt {failures + 2} in {back_off(failures + 1):g}s" in message(action)
    assert back_off(failures + 1) <= 60


def test_a_request_shortens_the_back_off_of_a_model_that_always_runs() -> None:
    """It counts as asked for again."""
    model = always_on(ready=BACK_OFF, backend_status=BackendStatus(restarts=9))
    assert decided(model) == [RequeueAt(NOW + 60)]
    assert decided(model, waiting(model)) == [RequeueAt(NOW + 5)]
    [again] = decided(model, waiting(model), after=5)
    assert outcome(again) == ("False", Reason.STARTING)


def test_a_model_that_always_runs_leaves_a_timeout_at_once() -> None:
    """An earlier release wrote it, or the Model was serverless then."""
    [action] = decided(always_on(ready=TIMEOUT))
    assert outcome(action) == ("False", Reason.STARTING)


def test_a_back_off_is_no_failure_for_good() -> None:
    """The phase is Loading, and the proxies hold requests."""
    model = always_on(ready=BACK_OFF)
    assert phase_of(model.status.conditions, 1) == Phase.LOADING
    assert Reason.BACK_OFF not in REJECTS_REQUESTS


def test_a_serverless_model_is_still_given_up() -> None:
    """Its next request tries again."""
    model = a_start(ready=LOADING)
    [action] = decided(model, holding(model, its_pod(model)), after=SETTINGS.loading_seconds + 1)
    assert outcome(action) == TIMEOUT


async def test_a_rejected_pod_is_remembered() -> None:
    """The rejection is a fact beside the condition, whose message may change from one to the next."""
    world, runtime = a_world(a_start())
    number = iter(range(9))

    def rejects(call: str) -> None:
        if call == "create pods":
            raise ForbiddenError(f"violates PodSecurity (request {next(number)})", 403)

    world.between, memory, now = rejects, Memory(), 0.0
    for count in (1, 2, 3):
        replies = await perform(runtime, starting(there(world), 0, ACTING))
        rejected = [reply for reply in replies if isinstance(reply, CreationRejected)]
        memory = remember(memory, rejected[0], now)
        assert memory.rejections["uid-llama"].count == count
    assert ready_of(world) == ("False", Reason.CREATE_REFUSED, 0)
    assert "(request 2)" in ready_message(world)


def test_a_rejected_pod_is_tried_again_ever_less_often() -> None:
    """Each attempt may change the message, so that equal actions do not tell."""
    model = a_start(ready=REFUSED)
    state, memory, starts, now = a_state(model), Memory(), [NOW], NOW
    for _ in range(5):
        memory = remember(memory, CreationRejected(key=model.key, uid=model.uid), now)
        [wait] = decide(state, memory, now, settings=SETTINGS)
        now = wait.at
        starts += [
            now for action in decide(state, memory, now, settings=SETTINGS) if isinstance(action, Start)
        ]
    assert [b - a for a, b in itertools.pairwise(starts)] == [1, 2, 4, 8, 16]


def test_a_rejected_pod_has_a_deadline() -> None:
    """Then the start is given up; one of a Model that always runs never is."""
    refused = with_messages(a_start(ready=REFUSED), Ready="the API server rejected it: no")
    [action] = decided(refused, after=SETTINGS.loading_seconds)
    assert outcome(action) == TIMEOUT
    assert message(action) == "Pod rejected for 60s: the API server rejected it: no"
    endless = always_on(ready=REFUSED)
    assert decided(endless, after=3600) == [starting(endless)]


def test_the_deadline_of_a_rejected_pod_is_that_of_its_spec() -> None:
    """A newer spec gets a start of its own."""
    model = a_start(ready=REFUSED, generation=2, ready_generation=1)
    [action] = decided(model, after=SETTINGS.loading_seconds + 1)
    assert outcome(action) == ("False", Reason.STARTING)


def test_a_namesake_inherits_no_rejection_and_no_deadline() -> None:
    """Both belong to the uid."""
    former, namesake = a_start(ready=REFUSED), a_start(ready=REFUSED, uid="other", version=50)
    memory = remember(Memory(), CreationRejected(key=former.key, uid=former.uid), NOW + 500)
    state = apply_events(a_state(former), [Observation(events.ModelObserved(model=namesake), NOW + 500)])
    [deadline, start] = decide(state, memory, NOW + 500, settings=SETTINGS)
    assert deadline == RequeueAt(NOW + 500 + SETTINGS.loading_seconds)
    assert start == starting(namesake)


def test_the_message_of_a_back_off_does_not_change_while_it_lasts() -> None:
    """No write without an event."""
    model = always_on(ready=LOADING, backend_status=BackendStatus(restarts=20))
    pod = its_pod(model, phase="Failed", running=False)
    [action] = decided(model, holding(model, pod))
    condition = msgspec.structs.replace(ready(action).condition)
    assert condition.type == conditions.READY
    assert "a request retries within 5s" in condition.message
