"""The reaper: who runs, who sleeps, who starts first."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.workload import GRANTED, GroupLease
from flexinfer.reaper.decide import RecordActivity, decide
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from tests.builders import NOW, SHARED, a_fleet, a_model

NEED = ("Accepted", "Placed", "Cached")
IDLE = (*NEED, ("Wanted", "False", Reason.IDLE), "Granted", ("Ready", "False", Reason.STOPPED))
SERVING = (*NEED, ("Wanted", "True", Reason.ACTIVE), "Granted", "Ready")
HEARD = events.ProxyObserved(proxy="p")


def told(state: ObservedState, now: float = NOW) -> dict[str, tuple[str, str]]:
    """Return key -> (status, reason) of every verdict that changes."""
    found = {}
    for action in decide(state, now):
        report = action.report if isinstance(action, RecordActivity) else action
        if isinstance(report, WriteStatus) and not report.quiet and _differs(report):
            found[report.key] = (report.condition.status, report.condition.reason)
    return found


def _differs(report: WriteStatus) -> bool:
    """Tell whether more than the wording changes."""
    said, standing = report.condition, report.model.condition(conditions.WANTED)
    return standing is None or (said.status, said.reason, said.observed_generation) != (
        standing.status,
        standing.reason,
        standing.observed_generation,
    )


def asked(model: Model, **changes: Any) -> AnyEvent:
    """Return a proxy's word that somebody waits."""
    facts = {"idle_seconds": 0.0, "in_flight": 0, "waiting": 1} | changes
    meta = model.metadata
    return events.ActivityObserved(proxy="p", namespace=meta.namespace, name=meta.name, uid=meta.uid, **facts)


def wake(model: Model) -> AnyEvent:
    """Return a proxy's wake."""
    return events.WakeRequested(namespace=model.metadata.namespace, name=model.metadata.name, uid=model.uid)


def later(state: ObservedState, now: float, *facts: AnyEvent) -> ObservedState:
    """Return the fleet after facts at a later moment."""
    return apply_events(state, [Observation(fact, now) for fact in facts])


def test_a_model_that_is_not_serverless_always_runs() -> None:
    """Once it is accepted; nobody has to ask."""
    model = a_model(serverless={"enabled": False}, conditions=NEED)
    assert told(a_fleet(model)) == {"default/llama": ("True", Reason.ALWAYS_ON)}


def test_a_new_model_starts_once() -> None:
    """Creation counts as activity."""
    assert told(a_fleet(a_model(conditions=NEED))) == {"default/llama": ("True", Reason.FIRST_START)}


def test_a_first_start_waits_for_what_it_needs() -> None:
    """It says for what."""
    model = a_model(conditions=("Accepted", "Placed", ("Cached", "False", Reason.CHECKING)))
    assert told(a_fleet(model)) == {"default/llama": ("False", Reason.FIRST_START_QUEUED)}


def test_first_starts_run_one_at_a_time_per_node() -> None:
    """By name; the second queues."""
    first, second = a_model("a", conditions=NEED), a_model("b", conditions=NEED)
    assert told(a_fleet(first, second)) == {
        "default/a": ("True", Reason.FIRST_START),
        "default/b": ("False", Reason.FIRST_START_QUEUED),
    }


@pytest.mark.parametrize("held_up", [Reason.IMAGE_PULL_FAILED, Reason.BACK_OFF])
@pytest.mark.parametrize("wanted", [Reason.FIRST_START, Reason.REQUESTED])
def test_nobody_waits_for_a_start_that_is_held_up(held_up: str, wanted: str) -> None:
    """An image that cannot be had, and a Pod that failed, use nothing of the node."""
    stuck = a_model(
        "a", conditions=(*NEED, ("Wanted", "True", wanted), "Granted", ("Ready", "False", held_up))
    )
    state = a_fleet(stuck, a_model("b", conditions=NEED))
    assert told(state)["default/b"] == ("True", Reason.FIRST_START)


def test_a_first_start_makes_no_member_of_a_group_leave() -> None:
    """It waits until the device is free."""
    model = a_model(gpu=SHARED, conditions=NEED)
    lease = GroupLease(
        namespace="default", group="card", version=1, holder="other", holder_uid="o", step=GRANTED, turn=1
    )
    state = a_fleet(model, events.LeaseObserved(lease=lease))
    assert told(state) == {"default/llama": ("False", Reason.FIRST_START_QUEUED)}


def test_a_sleeping_model_wakes_when_somebody_asks() -> None:
    """By the hint as by the proxy's numbers."""
    model = a_model(conditions=IDLE)
    state = a_fleet(model, HEARD)
    assert told(state, NOW + 1) == {}
    assert told(later(state, NOW + 1, wake(model)), NOW + 1) == {"default/llama": ("True", Reason.REQUESTED)}
    assert told(later(state, NOW + 1, asked(model)), NOW + 1) == {"default/llama": ("True", Reason.REQUESTED)}


def test_a_wake_for_a_former_namesake_wakes_nobody() -> None:
    """The uid counts."""
    model = a_model(conditions=IDLE)
    stale = events.WakeRequested(namespace="default", name="llama", uid="former")
    assert told(later(a_fleet(model, HEARD), NOW + 1, stale), NOW + 1) == {}


def test_a_model_sleeps_after_its_idle_timeout() -> None:
    """Not a moment before, and it asks to look again then."""
    model = a_model(conditions=SERVING, serverless={"idle_timeout": "10s"})
    state = a_fleet(model, HEARD)
    assert told(state, NOW + 9.9) == {}
    assert RequeueAt(NOW + 10) in list(decide(state, NOW + 9.9))
    assert told(state, NOW + 10) == {"default/llama": ("False", Reason.IDLE)}


def test_a_request_under_way_keeps_a_model_awake() -> None:
    """However long it takes."""
    model = a_model(conditions=SERVING, serverless={"idle_timeout": "10s"})
    state = later(a_fleet(model, HEARD), NOW + 60, HEARD, asked(model, waiting=0, in_flight=1))
    assert told(state, NOW + 61) == {}


@pytest.mark.parametrize("reason", [Reason.STARTING, Reason.LOADING, Reason.RESTARTING])
def test_a_model_that_loads_does_not_fall_asleep(reason: str) -> None:
    """The idle timer must not run while loading."""
    model = a_model(
        conditions=(*NEED, ("Wanted", "True", Reason.ACTIVE), "Granted", ("Ready", "False", reason)),
        serverless={"idle_timeout": "1s"},
    )
    assert told(a_fleet(model, HEARD), NOW + 14) == {}


@pytest.mark.parametrize(
    ("connected", "proxies"),
    [
        pytest.param(None, (HEARD,), id="the bus is away"),
        pytest.param(0.0, (), id="no proxy was ever heard"),
        pytest.param(
            0.0,
            (events.ProxyObserved(proxy="p", final=True),),
            id="the only proxy said farewell",
        ),
    ],
)
def test_silence_is_not_idleness(connected: float | None, proxies: tuple[AnyEvent, ...]) -> None:
    """Requests may pass unseen."""
    model = a_model(conditions=SERVING, serverless={"idle_timeout": "1s"})
    state = a_fleet(model, *proxies, connected=connected)
    assert told(state, NOW + 10) == {}


def test_a_proxy_that_vanished_keeps_models_awake_for_a_minute() -> None:
    """It may still be answering them; then the count starts anew."""
    model = a_model(conditions=SERVING, serverless={"idle_timeout": "5s"})
    state = later(a_fleet(model, HEARD), NOW + 40, events.ProxyObserved(proxy="q"))
    assert told(later(state, NOW + 55, events.ProxyObserved(proxy="q")), NOW + 59) == {}
    state = later(state, NOW + 55, events.ProxyObserved(proxy="q"))
    state = later(state, NOW + 60, events.ProxyObserved(proxy="q"))
    assert told(state, NOW + 64) == {}
    assert told(state, NOW + 66) == {"default/llama": ("False", Reason.IDLE)}


def test_a_reconnection_starts_the_count_anew() -> None:
    """What was said meanwhile is not known."""
    model = a_model(conditions=SERVING, serverless={"idle_timeout": "5s"})
    state = msgspec.structs.replace(a_fleet(model, HEARD), connected=NOW + 4)
    assert told(state, NOW + 6) == {}
    assert told(state, NOW + 9) == {"default/llama": ("False", Reason.IDLE)}


def test_a_change_of_the_spec_leaves_a_sleeper_asleep() -> None:
    """Only the generation of the verdict moves."""
    model = msgspec.structs.replace(a_model(generation=2), status=a_model(conditions=IDLE).status)
    assert told(a_fleet(model, HEARD)) == {"default/llama": ("False", Reason.IDLE)}


def test_deleting_means_not_wanted() -> None:
    """Whatever else is true."""
    model = a_model(conditions=SERVING, deletion_timestamp="2026-11-24T10:00:00Z")
    assert told(a_fleet(model, HEARD, asked(model))) == {"default/llama": ("False", Reason.DELETING)}


def test_a_failed_first_start_is_over_until_somebody_asks() -> None:
    """With the cause in its message; a request tries again."""
    failed = ("Ready", "False", Reason.LOADING_TIMEOUT)
    model = a_model(conditions=(*NEED, ("Wanted", "True", Reason.FIRST_START), "Granted", failed))
    state = a_fleet(model, HEARD)
    assert told(state, NOW + 1) == {"default/llama": ("False", Reason.FIRST_START_FAILED)}
    assert told(later(state, NOW + 2, wake(model)), NOW + 2) == {"default/llama": ("True", Reason.REQUESTED)}


def test_who_was_asked_for_after_a_failure_stays_wanted_while_somebody_waits() -> None:
    """The failure is older than the wish, so it is not yet the launcher's word on it; else the two would take turns."""
    failed = ("Ready", "False", Reason.LOADING_TIMEOUT)
    gone = a_model(conditions=(*NEED, ("Wanted", "False", Reason.START_FAILED), "Granted", failed))
    wanted = a_model(conditions=(*NEED, ("Wanted", "True", Reason.REQUESTED), "Granted", failed), version=2)
    state = later(a_fleet(gone, HEARD), NOW + 1, wake(gone), asked(gone))
    assert told(state, NOW + 1) == {"default/llama": ("True", Reason.REQUESTED)}
    state = later(state, NOW + 2, events.ModelObserved(model=wanted))
    assert told(state, NOW + 2) == {}
    state = later(state, NOW + 3, asked(wanted, waiting=0))
    assert told(state, NOW + 3) == {"default/llama": ("False", Reason.START_FAILED)}


def test_activity_is_written_once_a_minute_at_most() -> None:
    """Coalesced: a busy Model does not storm the API server."""
    model = a_model(conditions=SERVING)
    state = later(a_fleet(model, HEARD), NOW + 1, asked(model, waiting=0, in_flight=1))
    [touch] = [action for action in decide(state, NOW + 1) if isinstance(action, RecordActivity)]
    state = later(state, NOW + 1, events.ActivityWritten(key=model.key, last=touch.last))
    state = later(state, NOW + 30, HEARD, asked(model, waiting=0, in_flight=1))
    assert not [action for action in decide(state, NOW + 30) if isinstance(action, RecordActivity)]
    state = later(state, NOW + 62, HEARD, asked(model, waiting=0, in_flight=1))
    assert [action for action in decide(state, NOW + 62) if isinstance(action, RecordActivity)]


@given(
    st.lists(st.sampled_from(["wake", "asked", "heard", "busy"]), max_size=6),
    st.sampled_from([IDLE, SERVING, NEED]),
    st.floats(0, 700),
)
def test_a_verdict_once_written_is_not_written_again(
    news: list[str], conditions: tuple[Any, ...], wait: float
) -> None:
    """Deciding again on what it wrote changes nothing: nobody writes about a Model at rest."""
    model = a_model(conditions=conditions)
    facts = {
        "wake": wake(model),
        "asked": asked(model),
        "heard": HEARD,
        "busy": asked(model, waiting=0, in_flight=2),
    }
    state = later(a_fleet(model), NOW, *(facts[n] for n in news))
    now = NOW + wait
    for action in list(decide(state, now)):
        report = action.report if isinstance(action, RecordActivity) else action
        if isinstance(report, WriteStatus):
            state = later(state, now, *_written(report))
            if isinstance(action, RecordActivity):
                state = later(state, now, events.ActivityWritten(key=action.key, last=action.last))
    assert [action for action in decide(state, now) if not isinstance(action, RequeueAt)] == []


def _written(report: WriteStatus) -> list[AnyEvent]:
    model = report.model
    kept = tuple(c for c in model.status.conditions if c.type != report.condition.type)
    status = msgspec.structs.replace(model.status, conditions=(*kept, report.condition))
    metadata = msgspec.structs.replace(model.metadata, resource_version=str(model.metadata.version + 1))
    return [events.ModelObserved(model=msgspec.structs.replace(model, metadata=metadata, status=status))]
