"""Wanted: which Models run, which are scaled to zero, and which initial start comes first."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.reaper import decide as deciding
from flexinfer.reaper.decide import RecordActivity
from flexinfer.reaper.memory import ActivityWritten, Memory, remember
from flexinfer.state.actions import CatchUp, RequeueAt, WriteStatus
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from tests.builders import NOW, SHARED, a_group, a_holder, a_model, a_state
from tests.keyed import on_all_models

decide = on_all_models(deciding.decide)

GATES = ("Accepted", "Placed", "Cached")
IDLE = (*GATES, ("Wanted", "False", Reason.IDLE), "Granted", ("Ready", "False", Reason.STOPPED))
SERVING = (*GATES, ("Wanted", "True", Reason.ACTIVE), "Granted", "Ready")
INITIAL = (*GATES, ("Wanted", "True", Reason.FIRST_START), "Granted", "Ready")
HEARTBEAT = events.ProxyObserved(proxy="p")
NOON = 12 * 3600.0
CLOCK = Memory(clock_offset=NOON - NOW)
"""At NOW it is noon."""


def writes(state: ObservedState, now: float = NOW, memory: Memory = CLOCK) -> Iterator[WriteStatus]:
    """Yield every status write of a decision."""
    for action in decide(state, memory, now):
        if isinstance(action, RecordActivity):
            yield action.write
        elif isinstance(action, WriteStatus):
            yield action


def changes(state: ObservedState, now: float = NOW) -> dict[str, tuple[str, str]]:
    """Return key -> (status, reason) of every condition that changes; another message alone is no change."""
    return {
        write.key: (write.condition.status, write.condition.reason)
        for write in writes(state, now)
        if not write.quiet and _differs(write)
    }


def message(state: ObservedState, now: float = NOW, memory: Memory = CLOCK) -> str:
    """Return the message of the one condition that is written."""
    [write] = writes(state, now, memory)
    return write.condition.message


def _differs(write: WriteStatus) -> bool:
    previous, current = write.model.condition(conditions.WANTED), write.condition
    return previous is None or _facts(previous) != _facts(current)


def _facts(condition: Condition) -> tuple[str, str, int]:
    return condition.status, condition.reason, condition.observed_generation


def activity(model: Model, **fields: Any) -> AnyEvent:
    """Return a proxy's report: one request is queued, unless the fields say otherwise."""
    facts: dict[str, Any] = {"proxy": "p", "idle_seconds": 0.0, "in_flight": 0, "waiting": 1}
    meta = model.metadata
    return events.ActivityObserved(namespace=meta.namespace, name=meta.name, uid=meta.uid, **(facts | fields))


def wake(model: Model) -> AnyEvent:
    """Return a proxy's hint that a request is queued."""
    return events.WakeRequested(namespace=model.metadata.namespace, name=model.metadata.name, uid=model.uid)


def later(state: ObservedState, now: float, *facts: AnyEvent) -> ObservedState:
    """Return the state after events at a later time."""
    return apply_events(state, [Observation(fact, now) for fact in facts])


def test_a_model_that_is_not_serverless_always_runs() -> None:
    """Once it is accepted; no request is needed."""
    state = a_state(a_model(serverless={"enabled": False}, conditions=GATES))
    assert changes(state) == {"default/llama": ("True", Reason.ALWAYS_ON)}
    assert message(state) == "serverless.enabled is false: always running"


def test_a_model_that_becomes_serverless_no_longer_counts_as_always_on() -> None:
    """Its message must not outlive its cause."""
    always_on = (*GATES, ("Wanted", "True", Reason.ALWAYS_ON), "Granted", "Ready")
    state = a_state(a_model(conditions=always_on), HEARTBEAT)
    assert changes(state) == {"default/llama": ("True", Reason.ACTIVE)}
    assert message(state) == "active; scales to zero after 5m without requests"


def test_a_new_model_starts_once() -> None:
    """Creation counts as activity."""
    state = a_state(a_model(conditions=GATES))
    assert changes(state) == {"default/llama": ("True", Reason.FIRST_START)}
    assert message(state) == "initial start, to verify that the model can serve"


def test_an_initial_start_waits_for_its_gates() -> None:
    """The message names the first that is missing."""
    state = a_state(a_model(conditions=("Accepted", ("Placed", "False", Reason.NO_NODE_FITS), "Cached")))
    assert changes(state) == {"default/llama": ("False", Reason.FIRST_START_QUEUED)}
    assert message(state) == "queued for its initial start: waiting for Placed"


@pytest.mark.parametrize("placed", ["True", "False"])
def test_a_model_that_serves_the_spec_before_goes_on_when_a_refused_one_is_corrected(placed: str) -> None:
    """Whether the new spec can start or not: its engine has no initial start to make."""
    refused = ("Wanted", "False", Reason.NOT_ACCEPTED)
    gates = (
        "Accepted",
        ("Placed", placed, Reason.PLACED if placed == "True" else Reason.NO_NODE_FITS),
        "Cached",
    )
    state = a_state(a_model(conditions=(*gates, refused, "Granted", "Ready")), HEARTBEAT)
    assert changes(state) == {"default/llama": ("True", Reason.ACTIVE)}


def test_initial_starts_run_one_at_a_time_per_node() -> None:
    """By name; the second is queued."""
    state = a_state(a_model("a", conditions=GATES), a_model("b", conditions=GATES))
    assert changes(state) == {
        "default/a": ("True", Reason.FIRST_START),
        "default/b": ("False", Reason.FIRST_START_QUEUED),
    }
    assert [write.condition.message for write in writes(state)][1] == (
        "queued for its initial start: the initial start of default/a is running on node a"
    )


def test_an_initial_start_waits_for_a_start_that_was_requested() -> None:
    """Requests come first."""
    loading = (*GATES, ("Wanted", "True", Reason.REQUESTED), "Granted", ("Ready", "False", Reason.LOADING))
    state = a_state(a_model("a", conditions=loading), a_model("b", conditions=GATES))
    assert changes(state) == {"default/b": ("False", Reason.FIRST_START_QUEUED)}
    assert message(state) == "queued for its initial start: default/a is starting for a request on node a"


@pytest.mark.parametrize("stalled", [Reason.IMAGE_PULL_FAILED, Reason.BACK_OFF])
@pytest.mark.parametrize("wanted", [Reason.FIRST_START, Reason.REQUESTED])
def test_no_initial_start_waits_for_a_stalled_start(stalled: str, wanted: str) -> None:
    """An image that cannot be pulled, and a Pod in back-off, use nothing of the node."""
    stuck = a_model(
        "a", conditions=(*GATES, ("Wanted", "True", wanted), "Granted", ("Ready", "False", stalled))
    )
    state = a_state(stuck, a_model("b", conditions=GATES))
    assert changes(state)["default/b"] == ("True", Reason.FIRST_START)


def test_an_initial_start_in_a_group_is_queued_by_the_arbiter() -> None:
    """Whether there is room beside the holder is known there alone; no holder is made to leave for it."""
    model = a_model(gpu=SHARED, conditions=GATES)
    state = a_state(model, a_group(a_holder("other")))
    assert changes(state) == {"default/llama": ("True", Reason.FIRST_START)}


def test_a_request_starts_a_model_that_is_scaled_to_zero() -> None:
    """By the hint as by the proxy's report; the idle message ends with it."""
    model = a_model(conditions=IDLE)
    state = a_state(model, HEARTBEAT)
    assert changes(state, NOW + 1) == {}
    for fact, evidence in ((wake(model), "at 12:00:01"), (activity(model), "at 12:00:01 by p")):
        requested = later(state, NOW + 1, fact)
        assert changes(requested, NOW + 1) == {"default/llama": ("True", Reason.REQUESTED)}
        assert message(requested, NOW + 1) == f"requested {evidence}"


def test_the_evidence_of_a_request_is_of_when_the_start_was_decided() -> None:
    """More requests, other proxies or another clock write nothing; so it says what happened, and is still true once they are answered."""
    model = a_model(conditions=IDLE)
    reports = (
        activity(model, proxy="proxy-1", idle_seconds=1.0, waiting=2),
        activity(model, proxy="proxy-0", idle_seconds=3.0, waiting=1),
    )
    state = later(a_state(model, HEARTBEAT), NOW + 5, *reports, wake(model))
    assert message(state, NOW + 5) == "requested at 12:00:02 by proxy-0 (3 requests)"
    assert message(state, NOW + 5, Memory()) == "requested by proxy-0 (3 requests)"
    [write] = writes(state, NOW + 5)
    state = later(state, NOW + 5, *_written(write))
    written = Memory(clock_offset=0.0, written={model.uid: NOW + 7})
    state = later(state, NOW + 6, activity(model, proxy="proxy-2", waiting=9))
    assert not list(writes(state, NOW + 6, written))


def test_a_hint_for_a_deleted_namesake_starts_nothing() -> None:
    """The uid counts."""
    model = a_model(conditions=IDLE)
    stale = events.WakeRequested(namespace="default", name="llama", uid="deleted")
    assert changes(later(a_state(model, HEARTBEAT), NOW + 1, stale), NOW + 1) == {}


def test_a_hint_for_a_deleted_namesake_is_no_request_of_the_present_one() -> None:
    """It does not keep it running, and is not named as its last request."""
    model = a_model(conditions=SERVING, serverless={"idle_timeout": "10s"})
    stale = events.WakeRequested(namespace="default", name="llama", uid="deleted")
    state = later(later(a_state(model, HEARTBEAT), NOW + 5, stale), NOW + 9, HEARTBEAT)
    assert changes(state, NOW + 10) == {"default/llama": ("False", Reason.IDLE)}
    assert "no request since its initial start" in message(state, NOW + 10)


def test_a_model_scales_to_zero_after_its_idle_timeout() -> None:
    """Not a moment before, and the decision is due again then."""
    model = a_model(conditions=SERVING, serverless={"idle_timeout": "10s"})
    state = later(a_state(model, HEARTBEAT), NOW + 5, HEARTBEAT)
    assert changes(state, NOW + 9.9) == {}
    assert RequeueAt(NOW + 10) in list(decide(state, CLOCK, NOW + 9.9))
    assert changes(state, NOW + 10) == {"default/llama": ("False", Reason.IDLE)}


def test_silence_counts_once_everything_was_read_that_was_sent_until_the_timeout_was_over() -> None:
    """A reaper that was paused decides before it reads the requests that came meanwhile."""
    model = a_model(conditions=SERVING, serverless={"idle_timeout": "10s"})
    state = later(a_state(model, HEARTBEAT), NOW + 5, HEARTBEAT)
    behind = msgspec.structs.replace(state, caught_up_at=NOW + 9.9)
    assert list(decide(behind, CLOCK, NOW + 10)) == [CatchUp()]
    caught_up = msgspec.structs.replace(state, caught_up_at=NOW + 10)
    assert changes(caught_up, NOW + 10.1) == {"default/llama": ("False", Reason.IDLE)}


def test_a_late_heartbeat_is_waited_for_before_a_model_is_scaled_to_zero() -> None:
    """What the proxy reports is as late: a reaper that was suspended, or a message that is on its way."""
    model = a_model(conditions=SERVING, serverless={"idle_timeout": "10s"})
    state = a_state(model, HEARTBEAT)
    assert changes(state, NOW + 10) == {}
    assert RequeueAt(NOW + 11) in list(decide(state, CLOCK, NOW + 10))
    assert changes(later(state, NOW + 10.5, HEARTBEAT), NOW + 11) == {"default/llama": ("False", Reason.IDLE)}


def test_scaling_to_zero_depends_on_ready() -> None:
    """An engine that began to load since the decision is not idle: the write is decided again."""
    model = a_model(conditions=SERVING, serverless={"idle_timeout": "5s"})
    [write] = writes(later(a_state(model, HEARTBEAT), NOW + 5, HEARTBEAT), NOW + 6)
    assert write.gates == (conditions.READY,)


def test_the_idle_message_names_the_last_request_and_its_proxy() -> None:
    """Evidence: when it was, and which proxy reported it."""
    model = a_model(conditions=SERVING, serverless={"idle_timeout": "10s"})
    reports = (
        activity(model, proxy="proxy-1", idle_seconds=3.0, waiting=0),
        activity(model, proxy="proxy-0", idle_seconds=1.0, waiting=0),
    )
    state = later(a_state(model, HEARTBEAT), NOW + 5, HEARTBEAT, *reports)
    heartbeats = [events.ProxyObserved(proxy=proxy) for proxy in ("p", "proxy-0", "proxy-1")]
    state = later(state, NOW + 10, *heartbeats)
    assert message(state, NOW + 14) == (
        "idle for 10s (last request 12:00:04 by proxy-0); the next request starts it"
    )
    assert message(state, NOW + 14, Memory()) == (
        "idle for 10s (last request by proxy-0); the next request starts it"
    )


def test_the_idle_message_reads_the_status_for_what_no_proxy_reported_since() -> None:
    """As after a restart of the reaper."""
    model = a_model(conditions=SERVING, serverless={"idle_timeout": "10s"})
    status = msgspec.structs.replace(model.status, last_active_time="2026-11-24T11:58:09Z")
    state = later(a_state(msgspec.structs.replace(model, status=status), HEARTBEAT), NOW + 5, HEARTBEAT)
    assert message(state, NOW + 10) == "idle for 10s (last request 11:58:09); the next request starts it"


def test_a_model_without_requests_is_idle_since_its_initial_start() -> None:
    """There is no request to name."""
    model = a_model(conditions=INITIAL, serverless={"idle_timeout": "10s"})
    state = later(a_state(model, HEARTBEAT), NOW + 5, HEARTBEAT)
    assert message(state, NOW + 6) == "active; scales to zero after 10s without requests"
    assert message(state, NOW + 10) == (
        "idle for 10s (no request since its initial start); the next request starts it"
    )


def test_an_idle_model_keeps_its_message() -> None:
    """A report that comes late, or another clock, changes no word of it."""
    model = a_model(conditions=SERVING, serverless={"idle_timeout": "10s"})
    state = later(a_state(model, HEARTBEAT), NOW + 5, HEARTBEAT)
    [write] = writes(state, NOW + 10)
    state = later(state, NOW + 10, *_written(write))
    state = later(state, NOW + 11, activity(model, proxy="q", waiting=0))
    moved = Memory(clock_offset=0.0, written={model.uid: NOW + 11})
    assert list(decide(state, moved, NOW + 12)) == []


def test_a_serving_message_follows_the_spec() -> None:
    """A longer idleTimeout shows with the generation that has it."""
    model = a_model(conditions=SERVING, generation=2, serverless={"idle_timeout": "10m"})
    assert message(a_state(model, HEARTBEAT)) == "active; scales to zero after 10m without requests"


def test_a_request_in_flight_keeps_a_model_running() -> None:
    """However long it takes."""
    model = a_model(conditions=SERVING, serverless={"idle_timeout": "10s"})
    state = later(a_state(model, HEARTBEAT), NOW + 60, HEARTBEAT, activity(model, waiting=0, in_flight=1))
    assert changes(state, NOW + 61) == {}


@pytest.mark.parametrize("reason", [Reason.STARTING, Reason.LOADING, Reason.RESTARTING])
def test_a_model_that_is_loading_is_not_scaled_to_zero(reason: str) -> None:
    """The idle timeout does not run while loading."""
    model = a_model(
        conditions=(*GATES, ("Wanted", "True", Reason.ACTIVE), "Granted", ("Ready", "False", reason)),
        serverless={"idle_timeout": "1s"},
    )
    assert changes(a_state(model, HEARTBEAT), NOW + 14) == {}


@pytest.mark.parametrize(
    ("connected", "proxies"),
    [
        pytest.param(None, (HEARTBEAT,), id="NATS is not connected"),
        pytest.param(0.0, (), id="no proxy has sent a heartbeat"),
        pytest.param(
            0.0,
            (events.ProxyObserved(proxy="p", final=True),),
            id="the only proxy has shut down",
        ),
    ],
)
def test_a_model_without_reports_is_not_idle(connected: float | None, proxies: tuple[AnyEvent, ...]) -> None:
    """Requests may go unobserved."""
    model = a_model(conditions=SERVING, serverless={"idle_timeout": "1s"})
    state = a_state(model, *proxies, connected=connected)
    assert changes(state, NOW + 5) == {}  # before a heartbeat is late


def test_a_proxy_that_vanished_keeps_models_running_for_a_minute() -> None:
    """It may still be serving requests; then the idle time starts again."""
    model = a_model(conditions=SERVING, serverless={"idle_timeout": "5s"})
    state = later(a_state(model, HEARTBEAT), NOW + 40, events.ProxyObserved(proxy="q"))
    assert changes(later(state, NOW + 55, events.ProxyObserved(proxy="q")), NOW + 59) == {}
    state = later(state, NOW + 55, events.ProxyObserved(proxy="q"))
    state = later(state, NOW + 60, events.ProxyObserved(proxy="q"))
    assert changes(state, NOW + 64) == {}
    assert changes(state, NOW + 66) == {"default/llama": ("False", Reason.IDLE)}


def test_a_reconnection_restarts_the_idle_time() -> None:
    """What was published meanwhile is unknown."""
    model = a_model(conditions=SERVING, serverless={"idle_timeout": "5s"})
    state = later(a_state(model, HEARTBEAT, connected=NOW + 4), NOW + 5, HEARTBEAT)
    assert changes(state, NOW + 6) == {}
    assert changes(state, NOW + 9) == {"default/llama": ("False", Reason.IDLE)}


def test_a_model_that_was_taken_for_deleted_is_not_idle_before_its_timeout() -> None:
    """What its proxies had reported is forgotten with it; it had no engine yet, whose readiness would restart the idle time."""
    queued = a_model(conditions=(*GATES, ("Wanted", "True", Reason.REQUESTED)), version=5)
    state = a_state(queued, HEARTBEAT)
    gone = events.ModelDeleted(namespace="default", name="llama", uid=queued.uid, version=4)
    at = NOW + 400
    state = later(state, at, events.ProxyObserved(proxy="p"), msgspec.structs.replace(gone, version=5))
    state = later(state, at, events.ModelRestored(model=queued))
    assert "default/llama" not in changes(state, at + 1)


def test_a_change_of_the_spec_does_not_start_an_idle_model() -> None:
    """Only the generation of the condition moves."""
    model = msgspec.structs.replace(a_model(generation=2), status=a_model(conditions=IDLE).status)
    assert changes(a_state(model, HEARTBEAT)) == {"default/llama": ("False", Reason.IDLE)}


def test_a_model_that_is_being_deleted_is_not_wanted() -> None:
    """Whatever else is true."""
    model = a_model(conditions=SERVING, deletion_timestamp="2026-11-24T10:00:00Z")
    assert changes(a_state(model, HEARTBEAT, activity(model))) == {
        "default/llama": ("False", Reason.DELETING)
    }


def test_a_failed_initial_start_is_retried_by_a_request() -> None:
    """The message names the cause and the remedy."""
    failed = ("Ready", "False", Reason.LOADING_TIMEOUT)
    model = a_model(conditions=(*GATES, ("Wanted", "True", Reason.FIRST_START), "Granted", failed))
    state = a_state(model, HEARTBEAT)
    assert changes(state, NOW + 1) == {"default/llama": ("False", Reason.FIRST_START_FAILED)}
    assert message(state, NOW + 1) == (
        "the initial start failed (LoadingTimeout); a request or a spec change retries"
    )
    requested = later(state, NOW + 2, wake(model))
    assert changes(requested, NOW + 2) == {"default/llama": ("True", Reason.REQUESTED)}


def test_a_failed_start_is_idle_after_a_change_of_the_spec() -> None:
    """The failure was another spec's; the next request starts the new one."""
    failed = ("Ready", "False", Reason.LOADING_TIMEOUT)
    model = a_model(
        conditions=(*GATES, ("Wanted", "False", Reason.START_FAILED), "Granted", failed), generation=2
    )
    state = a_state(model, HEARTBEAT)
    assert changes(state) == {"default/llama": ("False", Reason.IDLE)}
    assert message(state) == (
        "no request is waiting (no request since its initial start); the next request starts it"
    )


def test_a_request_that_arrives_while_a_start_times_out_is_a_retry_of_its_own() -> None:
    """The failure is published first: a Wanted that stays Requested would show the launcher no retry."""
    failed = (
        *GATES,
        ("Wanted", "True", Reason.REQUESTED),
        "Granted",
        ("Ready", "False", Reason.LOADING_TIMEOUT),
    )
    loading = (*GATES, ("Wanted", "True", Reason.REQUESTED), "Granted", ("Ready", "False", Reason.LOADING))
    before, after = a_model(conditions=loading), a_model(conditions=failed, version=2)
    state = later(a_state(before, HEARTBEAT), NOW + 9, events.ModelObserved(model=after))
    state = later(state, NOW + 10, wake(after), activity(after))
    assert changes(state, NOW + 10) == {"default/llama": ("False", Reason.START_FAILED)}
    stopped = (
        *GATES,
        ("Wanted", "False", Reason.START_FAILED),
        "Granted",
        ("Ready", "False", Reason.LOADING_TIMEOUT),
    )
    state = later(state, NOW + 11, events.ModelObserved(model=a_model(conditions=stopped, version=3)))
    state = later(state, NOW + 12, wake(after), activity(after))
    assert changes(state, NOW + 12) == {"default/llama": ("True", Reason.REQUESTED)}


def test_a_model_requested_after_a_failure_stays_wanted_while_a_request_waits() -> None:
    """The failure is older than the request, so it is not that start's.

    Else reaper and launcher would take turns.
    """
    failed = ("Ready", "False", Reason.LOADING_TIMEOUT)
    stopped = a_model(conditions=(*GATES, ("Wanted", "False", Reason.START_FAILED), "Granted", failed))
    wanted = a_model(conditions=(*GATES, ("Wanted", "True", Reason.REQUESTED), "Granted", failed), version=2)
    state = later(a_state(stopped, HEARTBEAT), NOW + 1, wake(stopped), activity(stopped))
    assert changes(state, NOW + 1) == {"default/llama": ("True", Reason.REQUESTED)}
    state = later(state, NOW + 2, events.ModelObserved(model=wanted))
    assert changes(state, NOW + 2) == {}
    state = later(state, NOW + 3, activity(wanted, waiting=0))
    assert changes(state, NOW + 3) == {"default/llama": ("False", Reason.START_FAILED)}
    assert message(state, NOW + 3) == "the start failed (LoadingTimeout); the next request retries"


def test_activity_is_written_once_a_minute_at_most() -> None:
    """A busy Model does not flood the API server."""
    model = a_model(conditions=SERVING)
    settled = next(writes(a_state(model)))
    state = later(a_state(model, HEARTBEAT), NOW, *_written(settled))
    state = later(state, NOW + 1, activity(model, waiting=0, in_flight=1))
    [record] = [action for action in decide(state, CLOCK, NOW + 1) if isinstance(action, RecordActivity)]
    assert record.write.quiet
    memory = remember(CLOCK, ActivityWritten(model.key, model.uid, record.last), NOW + 1)
    state = later(state, NOW + 30, HEARTBEAT, activity(model, waiting=0, in_flight=1))
    assert not list(writes(state, NOW + 30, memory))
    state = later(state, NOW + 62, HEARTBEAT, activity(model, waiting=0, in_flight=1))
    assert list(writes(state, NOW + 62, memory))


@given(
    st.lists(st.sampled_from(["wake", "queued", "heartbeat", "in flight"]), max_size=6),
    st.sampled_from([IDLE, SERVING, INITIAL, GATES]),
    st.floats(0, 700),
)
def test_what_is_written_is_not_written_again(
    facts: list[str], conditions: tuple[Any, ...], wait: float
) -> None:
    """Deciding again on what was written changes nothing: a Model at rest costs no write."""
    model = a_model(conditions=conditions)
    by_name = {
        "wake": wake(model),
        "queued": activity(model),
        "heartbeat": HEARTBEAT,
        "in flight": activity(model, waiting=0, in_flight=2),
    }
    state, memory = later(a_state(model), NOW, *(by_name[name] for name in facts)), CLOCK
    now = NOW + wait
    for action in list(decide(state, memory, now)):
        if isinstance(action, RecordActivity):
            state = later(state, now, *_written(action.write))
            memory = remember(memory, ActivityWritten(action.key, action.write.model.uid, action.last), now)
        elif isinstance(action, WriteStatus):
            state = later(state, now, *_written(action))
    assert not list(writes(state, now, memory))


def _written(write: WriteStatus) -> list[AnyEvent]:
    """Return the Model as the API server holds it after a write."""
    model = write.model
    kept = tuple(c for c in model.status.conditions if c.type != write.condition.type)
    status = msgspec.structs.replace(model.status, conditions=(*kept, write.condition))
    metadata = msgspec.structs.replace(model.metadata, resource_version=str(model.metadata.version + 1))
    return [events.ModelObserved(model=msgspec.structs.replace(model, metadata=metadata, status=status))]
