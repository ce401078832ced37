"""Before a stop: what begins it, what does not, and when in-flight requests have completed."""

import pytest

from flexinfer.api.labels import RUNNING_FINALIZER
from flexinfer.api.membership import GroupMembership
from flexinfer.api.model import BackendStatus
from flexinfer.api.placement import Placement
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import GRANTED, RELEASING
from flexinfer.launcher import decide as deciding
from flexinfer.launcher.effects import Announce, Expose, Purpose, Stop
from flexinfer.state.actions import RequeueAt
from tests.builders import NOW, a_condition, a_node
from tests.keyed import on_all_models
from tests.unit.launcher.deciding import (
    LOADING,
    READY,
    SHARED,
    STOPPED,
    decided,
    draining,
    message,
    outcome,
    quiet,
    the_group,
    traffic,
)
from tests.unit.launcher.models import (
    IDLE,
    OPEN,
    SETTINGS,
    a_probe,
    a_start,
    holding,
    its_pod,
    starting,
)

decide = on_all_models(deciding.decide)


def test_an_idle_model_drains_before_it_stops() -> None:
    """The proxies stop routing first."""
    model = a_start(*IDLE, ready=READY)
    [action] = decided(model, holding(model, its_pod(model)))
    assert outcome(action) == ("False", Reason.DRAINING)


def test_a_stop_waits_for_in_flight_requests() -> None:
    """A proxy that counts one holds it back, up to the drain's deadline."""
    model = draining()
    pod = its_pod(model)
    parts = (model, holding(model, pod), quiet(model, pod), traffic(model, "p", 1))
    assert decided(*parts, after=1) == [RequeueAt(NOW + SETTINGS.drain_seconds)]
    assert isinstance(decided(*parts, after=SETTINGS.drain_seconds)[0], Stop)


def test_a_stop_continues_once_every_proxy_reports_none_in_flight() -> None:
    """Each live one has reported since."""
    model = draining()
    pod = its_pod(model)
    [action] = decided(model, holding(model, pod), quiet(model, pod), traffic(model, "p", 0))
    assert action == Stop(
        model=model, pods=(pod,), purpose=Purpose.STOP, cause="Wanted is False", draining_since=NOW
    )


def test_a_request_in_the_middle_of_a_drain_keeps_the_engine() -> None:
    """The engine never stopped."""
    model = draining(*OPEN)
    pod = its_pod(model)
    [action] = decided(model, holding(model, pod), a_probe(model, pod))
    assert isinstance(action, Announce)


def test_a_loading_engine_that_is_no_longer_wanted_stops_at_once() -> None:
    """There is nothing to drain."""
    model = a_start(*IDLE, ready=LOADING)
    [action] = decided(model, holding(model, its_pod(model)))
    assert isinstance(action, Stop)


def test_an_engine_on_a_silent_node_drains_before_it_stops() -> None:
    """The requests that it had when the node fell silent continue; a Pod that is deleted cuts them once the node is back."""
    model = a_start(*IDLE, ready=("Unknown", Reason.NODE_UNREACHABLE))
    [action] = decided(model, holding(model, its_pod(model)))
    assert outcome(action) == ("False", Reason.DRAINING)


@pytest.mark.parametrize(("in_flight", "reason"), [(1, Reason.DRAINING), (0, "")])
def test_an_engine_that_stopped_responding_drains_if_it_has_requests(in_flight: int, reason: str) -> None:
    """Too busy to answer a health check: a proxy that counts requests tells it from one that loads again."""
    model = a_start(*IDLE, ready=("False", Reason.RESTARTING))
    [action] = decided(model, holding(model, its_pod(model)), traffic(model, "p", in_flight))
    assert outcome(action)[1] == reason if reason else isinstance(action, Stop)


def test_a_refused_newer_spec_does_not_stop_the_engine() -> None:
    """It serves the older one, and Ready says so."""
    model = a_start(
        ("Accepted", "False", Reason.INVALID_CONFIG),
        ("Wanted", "False", Reason.NOT_ACCEPTED),
        ready=READY,
        generation=2,
        ready_generation=1,
    )
    pod = its_pod(model, template="earlier", generation=1)
    [action] = decided(model, holding(model, pod), a_probe(model, pod))
    assert outcome(action) == ("True", Reason.SERVING_OLDER_SPEC)


def test_a_changed_template_is_stop_then_start() -> None:
    """Only once everything the newer spec needs is there."""
    model = a_start(ready=READY, generation=2, ready_generation=1)
    pod = its_pod(model, template="earlier", generation=1)
    [action] = decided(model, holding(model, pod), a_probe(model, pod))
    assert outcome(action) == ("False", Reason.DRAINING)
    model = draining(*OPEN, generation=2)
    [action] = decided(model, holding(model, pod), quiet(model, pod), traffic(model, "p", 0))
    assert isinstance(action, Stop)
    assert action.purpose is Purpose.RENEW


def test_the_pod_of_a_node_that_is_gone_is_deleted_by_force() -> None:
    """Nothing can drain there."""
    model = a_start(
        "Accepted", ("Placed", "False", Reason.NODE_GONE), "Cached", "Wanted", "Granted", ready=READY
    )
    [action] = decided(model, holding(model, its_pod(model)))
    assert isinstance(action, Stop)
    assert action.force


def test_a_turn_that_is_asked_back_is_a_stop_even_if_nothing_runs() -> None:
    """The arbiter waits for the status with that turn."""
    model = a_start(
        *IDLE, ready=STOPPED, gpu=SHARED, shared_group=GroupMembership(group="card", state="Holding", turn=4)
    )
    [action] = decided(model, the_group(RELEASING))
    assert isinstance(action, Stop)
    returned = a_start(
        *IDLE,
        ready=STOPPED,
        gpu=SHARED,
        shared_group=GroupMembership(group="card", state="Holding", turn=4),
        backend_status=BackendStatus(turn=4),
    )
    assert decided(returned, the_group(RELEASING)) == []


def test_a_granted_turn_is_nothing_to_give_back() -> None:
    """A member is released by the arbiter."""
    model = a_start(
        *IDLE, ready=STOPPED, gpu=SHARED, shared_group=GroupMembership(group="card", state="Holding", turn=4)
    )
    assert decided(model, the_group(GRANTED)) == []


def test_a_deleted_model_loses_its_finalizer_through_a_stop() -> None:
    """Also an idle one, at once."""
    model = a_start(
        *IDLE,
        ready=STOPPED,
        finalizers=(RUNNING_FINALIZER,),
        deletion_timestamp="2026-11-24T10:00:00Z",
    )
    [action] = decided(model)
    assert isinstance(action, Stop)


def test_a_deleted_model_that_never_started_is_left_to_the_api_server() -> None:
    """No finalizer, no write."""
    assert decided(a_start(deletion_timestamp="2026-11-24T10:00:00Z")) == []


def test_a_drain_says_why_and_how_many_requests_it_waits_for() -> None:
    """With its deadline; the number is that of its beginning, so that it does not change."""
    model = a_start(*IDLE, ready=READY)
    [action] = decided(model, holding(model, its_pod(model)), traffic(model, "p", 2))
    assert message(action) == (
        "draining (Wanted is False): 2 requests were in flight when the drain began; "
        "the engine stops when they complete, after 30s at the latest"
    )


def test_a_stop_that_does_not_end_keeps_its_message_while_the_pod_terminates() -> None:
    """Wanted again meanwhile: the Pod that hangs is still what it waits for."""
    model = a_start(ready=("False", Reason.STOPPING))
    assert decided(model, holding(model, its_pod(model, deleting=True))) == []
    assert decided(model) == [starting(model)]


def test_a_change_that_keeps_the_template_keeps_the_engine() -> None:
    """Ready is rewritten for the newer generation, nothing else happens."""
    model = a_start(ready=READY, generation=2, ready_generation=1, serverless={"idle_timeout": "5s"})
    pod = its_pod(model, generation=1)
    [action] = decided(model, holding(model, pod), a_probe(model, pod))
    assert isinstance(action, Expose)
    assert outcome(action) == READY


@pytest.mark.parametrize("arrived", [(), ("Accepted",), ("Accepted", "Placed", "Cached")])
def test_a_change_that_keeps_the_template_is_not_written_about_while_conditions_arrive(
    arrived: tuple[str, ...],
) -> None:
    """Those of the newer generation arrive one by one."""
    gates = [a_condition(g, generation=2 if g in arrived else 1) for g in OPEN]
    model = a_start(*gates, ready=READY, generation=2, ready_generation=1)
    pod = its_pod(model, generation=1)
    assert decided(model, holding(model, pod), a_probe(model, pod)) == []


def test_an_upgrade_of_flexinfer_restarts_no_engine() -> None:
    """What was Ready at this generation stays, whatever template is rendered now."""
    model = a_start(ready=READY)
    pod = its_pod(model, template="rendered by an earlier release")
    assert not [a for a in decided(model, holding(model, pod), a_probe(model, pod)) if isinstance(a, Stop)]


def test_an_engine_whose_model_is_placed_on_another_node_drains_and_moves() -> None:
    """Also one that is ready at its generation: the placer moves it off a device that must not be used (reliability G11)."""
    model = a_start(ready=READY, placement=Placement(node="b"))
    [action] = decided(model, holding(model, its_pod(model, node="a")), a_node("b"))
    assert outcome(action) == ("False", Reason.DRAINING)
    assert "it is placed on node b now, and its Pod runs on a" in message(action)
    assert decided(model, holding(model, its_pod(model, node="b")), a_node("b")) != [action]
