"""The launcher's decision: when an engine starts, stops, and what Ready says of it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.api import conditions, kube
from flexinfer.api.labels import RUNNING_FINALIZER
from flexinfer.api.model import BackendStatus, Gpu, Metadata, Model, SharedGroup
from flexinfer.api.reasons import Reason
from flexinfer.api.status import ReadyStatus
from flexinfer.events import events
from flexinfer.events.workload import GRANTED, RELEASING, GroupLease, PodFacts, pod_facts
from flexinfer.launcher.decide import decide
from flexinfer.launcher.effects import Announce, Expose, Purpose, Start, Stop
from flexinfer.launcher.memory import EngineProbed, Memory
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from tests.builders import NOW, a_condition, a_fleet, a_node
from tests.unit.launcher.models import (
    ADDRESS,
    IDLE,
    OPEN,
    SETTINGS,
    a_probe,
    a_start,
    holding,
    its_pod,
    observed,
    starting,
)

CARD = Gpu(vendor="cpu")
SHARED = Gpu(vendor="nvidia", shared="card")
READY, LOADING, STOPPED = ("True", Reason.READY), ("False", Reason.LOADING), ("False", Reason.STOPPED)


def decided(*parts: Any, after: float = 0.0) -> list[Any]:
    """Return what is decided, some seconds after everything was observed."""
    state, memory = observed(*parts)
    return list(decide(state, memory, NOW + after, settings=SETTINGS))


def outcome(action: Any) -> tuple[str, str]:
    """Return status and reason of what an action writes."""
    return written(action).condition.status, written(action).condition.reason


def message(action: Any) -> str:
    """Return the message that an action writes."""
    return written(action).condition.message


def written(action: Any) -> WriteStatus:
    """Return the status write of an action, and what it writes with it."""
    write = action.write if isinstance(action, Expose | Announce) else action
    assert isinstance(write, WriteStatus)
    return write


def ready(action: Any) -> ReadyStatus:
    """Return the status that an action writes."""
    status = written(action).status
    assert isinstance(status, ReadyStatus)
    return status


# --- starting


def test_starts_once_every_gate_is_open() -> None:
    """All five True at this generation: nothing else is waited for."""
    model = a_start()
    assert decided(model) == [starting(model)]


@pytest.mark.parametrize("closed", OPEN)
@pytest.mark.parametrize("status", ["False", "Unknown"])
def test_starts_nothing_while_a_gate_is_closed(closed: str, status: str) -> None:
    """Each of the five."""
    model = a_start(*[(g, status, "Because") if g == closed else g for g in OPEN])
    assert not [a for a in decided(model) if isinstance(a, Start)]


def test_a_gate_of_an_older_generation_is_not_open() -> None:
    """A condition is of a generation."""
    model = a_start(*[a_condition(g, generation=1) for g in OPEN], generation=2)
    assert not [a for a in decided(model) if isinstance(a, Start)]


def test_a_member_of_a_group_starts_on_its_turn() -> None:
    """The turn goes into the Pod's gate."""
    model = a_start(gpu=SHARED, shared_group=SharedGroup(group="card", turn=7))
    assert decided(model) == [starting(model, 7)]


def test_a_gated_pod_is_continued_with() -> None:
    """A start that was cut off between two steps is completed by the successor."""
    model = a_start()
    assert decided(
        model, holding(model, its_pod(model, gates=("flexinfer.ai/turn-0",), running=False, ip=""))
    ) == [starting(model)]


def test_an_idle_model_is_not_written_about() -> None:
    """It owns its Service and its PVC, nothing else."""
    assert decided(a_start(*IDLE, ready=STOPPED)) == []


def test_a_new_model_has_its_endpoint_before_it_was_ever_started() -> None:
    """The endpoint is written as soon as Accepted is True, and the Service is created with it."""
    model = a_start(
        "Accepted",
        "Placed",
        ("Cached", "False", Reason.FETCHING),
        ("Wanted", "False", Reason.FIRST_START_QUEUED),
    )
    [action] = decided(model, after=2)
    assert isinstance(action, Expose)
    assert outcome(action) == ("False", Reason.NOT_STARTED)
    assert ready(action).endpoint == f"{SETTINGS.proxy_base_url}/model/default/llama/v1"


def test_a_first_condition_waits_for_those_before_it() -> None:
    """At most a second: six writers at once would make ten conflicts."""
    assert decided(a_start("Accepted")) == [RequeueAt(NOW + 1)]


# --- loading and ready


def test_a_pod_that_waits_for_its_process_is_starting() -> None:
    """The message names the node."""
    model = a_start(ready=STOPPED)
    [action] = decided(model, holding(model, its_pod(model, running=False, ip="", phase="Pending")))
    assert outcome(action) == ("False", Reason.STARTING)
    assert message(action) == "Pod is starting on node a"


def test_a_running_engine_that_does_not_answer_loads() -> None:
    """Until the first probe says otherwise."""
    model = a_start(ready=("False", Reason.STARTING))
    [action] = decided(model, holding(model, its_pod(model)))
    assert outcome(action) == ("False", Reason.LOADING)


def test_an_engine_that_answers_is_ready_and_announced() -> None:
    """With its address, in one write."""
    model = a_start(ready=LOADING)
    pod = its_pod(model)
    [action] = decided(model, holding(model, pod), a_probe(model, pod))
    assert isinstance(action, Announce)
    assert outcome(action) == READY
    assert ready(action).backend.address == ADDRESS


def test_a_ready_engine_is_left_alone() -> None:
    """Nothing new is nothing written."""
    model = a_start(ready=READY)
    pod = its_pod(model)
    actions = decided(model, holding(model, pod), a_probe(model, pod))
    assert [a for a in actions if outcome(a) != READY] == []


def test_a_restarted_launcher_leaves_a_ready_engine_ready() -> None:
    """Not probed yet does not mean unhealthy."""
    model = a_start(ready=READY)
    assert decided(model, holding(model, its_pod(model))) == []


def test_a_probe_of_another_pod_does_not_count() -> None:
    """Each answer belongs to the Pod that gave it."""
    model = a_start(ready=LOADING)
    previous = its_pod(model, uid="pod-0", version=1)
    actions = decided(model, holding(model, its_pod(model)), a_probe(model, previous))
    assert not [a for a in actions if isinstance(a, Announce)]


def test_the_launchers_own_read_of_a_pod_counts_before_the_watch() -> None:
    """A cold start does not wait for NATS."""
    model = a_start(ready=LOADING)
    pod = its_pod(model)
    [action] = decided(model, a_probe(model, pod))
    assert outcome(action) == READY


def test_an_engine_that_died_is_restarting() -> None:
    """The kubelet restarts it; the proxies stop routing."""
    model = a_start(ready=READY)
    pod = its_pod(model, restarts=1, exit_code=137)
    [action] = decided(model, holding(model, pod), a_probe(model, pod, healthy=False, detail="no connection"))
    assert outcome(action) == ("False", Reason.RESTARTING)
    assert "exit code 137" in message(action)


def test_an_engine_that_ran_out_of_memory_says_what_to_raise() -> None:
    """The kubelet's back-off explains nothing; the end of the last process does."""
    ended = {"exitCode": 137, "reason": "OOMKilled"}
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}}
    container = {"name": "engine", "restartCount": 3, "state": state, "lastState": {"terminated": ended}}
    facts = pod_facts(
        msgspec.convert(
            {"metadata": {"name": "llama-0"}, "status": {"containerStatuses": [container]}}, kube.Pod
        )
    )
    model = a_start(ready=LOADING)
    pod = its_pod(model, running=False, restarts=3, exit_code=facts.exit_code, last=facts.last)
    [action] = decided(model, holding(model, pod))
    assert outcome(action) == ("False", Reason.RESTARTING)
    assert "OOMKilled" in message(action)
    assert "spec.resources.limits.memory" in message(action)


def test_an_image_for_another_architecture_is_named() -> None:
    """The kernel's error alone names no remedy."""
    model = a_start(ready=LOADING)
    last = "Error: exec /usr/bin/python: exec format error"
    pod = its_pod(model, running=False, restarts=1, exit_code=255, last=last)
    [action] = decided(model, holding(model, pod))
    assert "another architecture than that of node a" in message(action)


def test_a_pod_that_its_node_ended_says_why_and_not_how() -> None:
    """An evicted engine was killed, but that is the consequence."""
    killed = {"terminated": {"exitCode": 137, "reason": "Error", "message": ""}}
    status = {
        "phase": "Failed",
        "reason": "Evicted",
        "message": "The node was low on resource: ephemeral-storage.",
        "containerStatuses": [{"name": "engine", "state": killed}],
    }
    pod = pod_facts(msgspec.convert({"metadata": {"name": "llama-0"}, "status": status}, kube.Pod))
    assert (pod.reason, pod.message) == ("Evicted", "The node was low on resource: ephemeral-storage.")
    disrupted = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "TerminationByKubelet",
        "message": "low on resource",
    }
    status = {k: v for k, v in status.items() if k not in ("reason", "message")} | {"conditions": [disrupted]}
    pod = pod_facts(msgspec.convert({"metadata": {"name": "llama-0"}, "status": status}, kube.Pod))
    assert (pod.reason, pod.message) == ("TerminationByKubelet", "low on resource")


def test_an_image_that_cannot_be_pulled_has_the_nodes_error() -> None:
    """So that the user knows what to install."""
    model = a_start(ready=("False", Reason.STARTING))
    pod = its_pod(
        model, running=False, ip="", phase="Pending", reason="ErrImagePull", message="no runtime for vllm"
    )
    [action] = decided(model, holding(model, pod))
    assert outcome(action) == ("False", Reason.IMAGE_PULL_FAILED)
    assert "no runtime for vllm" in message(action)


def test_a_failed_init_container_has_its_error_in_the_message() -> None:
    """The cause is in the Pod's first container."""
    words = {"exitCode": 1, "reason": "Error", "message": "noise\nthe hub is unavailable"}
    status = {
        "phase": "Pending",
        "initContainerStatuses": [{"name": "fetch", "lastState": {"terminated": words}}],
    }
    pod = pod_facts(msgspec.convert({"metadata": {"name": "llama-0"}, "status": status}, kube.Pod))
    assert (pod.reason, pod.message) == ("InitError", "the hub is unavailable")


def test_loading_has_a_deadline() -> None:
    """No progress for loading_seconds ends the start."""
    model = a_start(ready=LOADING)
    early, late = (
        decided(model, holding(model, its_pod(model)), after=SETTINGS.loading_seconds + x) for x in (-1, 1)
    )
    assert early[0] == RequeueAt(NOW + SETTINGS.loading_seconds)
    assert outcome(late[0]) == ("False", Reason.LOADING_TIMEOUT)


def test_progress_extends_the_deadline() -> None:
    """From Starting to Loading the deadline is set again."""
    model = a_start(ready=("False", Reason.STARTING))
    [action] = decided(model, holding(model, its_pod(model)), after=SETTINGS.loading_seconds + 1)
    assert outcome(action) == ("False", Reason.LOADING)


def test_a_crash_loop_is_no_progress() -> None:
    """However often it restarts, the deadline runs on."""
    model = a_start(ready=("False", Reason.RESTARTING))
    pod = its_pod(model, restarts=9, exit_code=1)
    [action] = decided(model, holding(model, pod), after=SETTINGS.loading_seconds + 1)
    assert outcome(action) == ("False", Reason.LOADING_TIMEOUT)


def test_a_start_that_was_given_up_is_deleted_and_not_retried() -> None:
    """Final until the spec changes or a request arrives."""
    model = a_start(ready=("False", Reason.LOADING_TIMEOUT))
    pod = its_pod(model)
    [action] = decided(model, holding(model, pod))
    assert isinstance(action, Stop)
    assert action.purpose is Purpose.CLEAR
    assert decided(model) == []


def test_a_request_after_a_failed_start_tries_again() -> None:
    """Wanted turned True after Ready turned LoadingTimeout. That is written first: a Pod under LoadingTimeout is deleted as failed."""
    failed = a_start(*IDLE, ready=("False", Reason.LOADING_TIMEOUT))
    asked = a_start(ready=("False", Reason.LOADING_TIMEOUT), version=2)
    state = apply_events(a_fleet(failed), [Observation(events.ModelObserved(model=asked), NOW + 5)])
    assert [outcome(a) for a in decide(state, Memory(), NOW + 5, settings=SETTINGS)] == [
        ("False", Reason.STARTING)
    ]
    retried = a_start(ready=("False", Reason.STARTING))
    assert decided(retried) == [starting(retried)]


def test_a_failed_pod_is_replaced_after_a_back_off() -> None:
    """Written, deleted, waited, started."""
    model = a_start(ready=LOADING)
    pod = its_pod(model, phase="Failed", running=False, reason="Evicted", message="low on memory")
    [first] = decided(model, holding(model, pod))
    assert outcome(first) == ("False", Reason.BACK_OFF)
    assert ready(first).backend.restarts == 1
    backing_off = a_start(ready=("False", Reason.BACK_OFF), backend_status=BackendStatus(restarts=3))
    [second] = decided(backing_off, holding(backing_off, pod))
    assert isinstance(second, Stop)
    assert second.purpose is Purpose.CLEAR
    assert decided(backing_off) == [RequeueAt(NOW + 4)]
    assert decided(backing_off, after=4) == [starting(backing_off)]


def test_pods_that_fail_without_end_are_given_up() -> None:
    """No wait is without a deadline."""
    model = a_start(ready=LOADING, backend_status=BackendStatus(restarts=5))
    [action] = decided(model, holding(model, its_pod(model, phase="Failed", running=False)))
    assert outcome(action) == ("False", Reason.LOADING_TIMEOUT)


def test_a_pod_that_was_deleted_is_replaced() -> None:
    """First the routing ends, then it starts."""
    model = a_start(ready=READY)
    assert [outcome(a) for a in decided(model)] == [("False", Reason.RESTARTING)]
    assert decided(a_start(ready=("False", Reason.RESTARTING)))[0].turn == 0


def test_a_pod_last_read_as_terminating_and_deleted_since_is_replaced() -> None:
    """An evicted Pod: it is not read again, so that read must not keep its replacement waiting without end."""
    model = a_start(ready=("False", Reason.RESTARTING))
    leaving = its_pod(model, version=99, deleting=True)
    (action,) = decided(model, a_probe(model, leaving, healthy=False), holding(model))
    assert isinstance(action, Start)


def test_a_node_that_is_not_ready_makes_readiness_unknown() -> None:
    """Nothing is routed there, and nothing is started elsewhere."""
    model = a_start(ready=READY)
    pod = its_pod(model)
    [action] = decided(model, holding(model, pod), a_probe(model, pod), a_node(ready="Unknown"))
    assert outcome(action) == ("Unknown", Reason.NODE_UNREACHABLE)


# --- stopping


def test_an_idle_model_drains_before_it_stops() -> None:
    """The proxies stop routing first."""
    model = a_start(*IDLE, ready=READY)
    [action] = decided(model, holding(model, its_pod(model)))
    assert outcome(action) == ("False", Reason.DRAINING)


def draining(*gates: Any, **changes: Any) -> Model:
    """Return a Model whose stop is published."""
    return a_start(*(gates or IDLE), ready=("False", Reason.DRAINING), **changes)


def traffic(model: Model, proxy: str, in_flight: int) -> events.ActivityObserved:
    """Return a proxy's report on a Model."""
    return events.ActivityObserved(
        proxy=proxy,
        namespace="default",
        name=model.metadata.name,
        uid=model.uid,
        idle_seconds=0.0,
        in_flight=in_flight,
        waiting=0,
    )


def quiet(model: Model, pod: PodFacts, **changes: Any) -> EngineProbed:
    """Return an engine that says how many requests it works on."""
    return a_probe(model, pod, **({"in_flight": 0} | changes))


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


def test_a_stop_waits_for_a_proxy_that_has_not_reported_since() -> None:
    """Its last report is older than the stop."""
    model = draining()
    pod = its_pod(model)
    early = events.ProxyObserved(proxy="p")
    assert decided(early, model, holding(model, pod), quiet(model, pod)) == [
        RequeueAt(NOW + SETTINGS.drain_seconds)
    ]


def test_a_heartbeat_after_the_stop_counts_as_a_report() -> None:
    """A proxy that had a request would have reported it by then."""
    model = draining()
    pod = its_pod(model)
    heartbeat = events.ProxyObserved(proxy="p")
    state, memory = observed(model, holding(model, pod), quiet(model, pod), heartbeat)
    state = apply_events(state, [Observation(heartbeat, NOW + 3)])
    assert isinstance(next(iter(decide(state, memory, NOW + 3, settings=SETTINGS))), Stop)


def test_a_stop_waits_for_the_engine_itself() -> None:
    """Requests that reached it past the proxies count as well."""
    model = draining()
    pod = its_pod(model)
    busy = (model, holding(model, pod), quiet(model, pod, in_flight=2))
    assert decided(*busy) == [RequeueAt(NOW + SETTINGS.drain_seconds)]


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
    [action] = decided(model, holding(model, pod), quiet(model, pod))
    assert isinstance(action, Stop)
    assert action.purpose is Purpose.RENEW


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


def test_an_idle_model_stays_idle_on_a_change_of_spec() -> None:
    """It is written once at the new generation."""
    model = a_start(*IDLE, ready=STOPPED, generation=2, ready_generation=1)
    [action] = decided(model)
    assert isinstance(action, Expose)
    assert outcome(action) == STOPPED


def test_the_pod_of_a_node_that_is_gone_is_deleted_by_force() -> None:
    """Nothing can drain there."""
    model = a_start(
        "Accepted", ("Placed", "False", Reason.NODE_GONE), "Cached", "Wanted", "Granted", ready=READY
    )
    [action] = decided(model, holding(model, its_pod(model)))
    assert isinstance(action, Stop)
    assert action.force


def lease(step: str, turn: int = 4) -> events.WorkloadObserved:
    """Return the group's Lease, held by llama."""
    held = GroupLease(
        namespace="default",
        group="card",
        version=9,
        holder="llama",
        holder_uid="uid-llama",
        step=step,
        turn=turn,
    )
    return events.WorkloadObserved(namespace="default", name="other", lease=held)


def test_a_turn_that_is_asked_back_is_a_stop_even_if_nothing_runs() -> None:
    """The arbiter waits for the status with that turn."""
    model = a_start(*IDLE, ready=STOPPED, gpu=SHARED, shared_group=SharedGroup(group="card", turn=4))
    [action] = decided(model, lease(RELEASING))
    assert isinstance(action, Stop)
    returned = a_start(
        *IDLE,
        ready=STOPPED,
        gpu=SHARED,
        shared_group=SharedGroup(group="card", turn=4),
        backend_status=BackendStatus(turn=4),
    )
    assert decided(returned, lease(RELEASING)) == []


def test_a_granted_turn_is_nothing_to_give_back() -> None:
    """A member is released by the arbiter."""
    model = a_start(*IDLE, ready=STOPPED, gpu=SHARED, shared_group=SharedGroup(group="card", turn=4))
    assert decided(model, lease(GRANTED)) == []


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


# --- messages


def test_ready_says_where_the_engine_is_and_how_long_it_loaded() -> None:
    """Measured from the last gate that opened."""
    model = a_start(ready=LOADING)
    pod = its_pod(model)
    [action] = decided(model, holding(model, pod), a_probe(model, pod), after=2.5)
    assert message(action) == f"engine healthy at {ADDRESS} (loaded in 2.5s)"


def test_a_drain_says_why_and_how_many_requests_it_waits_for() -> None:
    """With its deadline; the number is that of its beginning, so that it does not change."""
    model = a_start(*IDLE, ready=READY)
    [action] = decided(model, holding(model, its_pod(model)), traffic(model, "p", 2))
    assert message(action) == (
        "draining (Wanted is False): 2 requests were in flight when the drain began; "
        "the engine stops when they complete, after 30s at the latest"
    )


def with_messages(model: Model, **messages: str) -> Model:
    """Return a Model whose conditions of these types have these messages."""
    changed = tuple(
        msgspec.structs.replace(c, message=messages.get(c.type, c.message)) for c in model.status.conditions
    )
    return msgspec.structs.replace(model, status=msgspec.structs.replace(model.status, conditions=changed))


@pytest.mark.parametrize("condition", [None, READY, LOADING, STOPPED])
def test_ready_never_repeats_the_words_of_another_condition(condition: tuple[str, str] | None) -> None:
    """They would go stale: Ready is not written again when they change."""
    words = "idle for 5m (last request 14:03:12 by proxy-0)"
    model = with_messages(a_start(*IDLE, ready=condition), **dict.fromkeys(OPEN, words))
    pods = [holding(model, its_pod(model))] if condition in (READY, LOADING) else []
    for action in decided(model, *pods, after=2):
        if isinstance(action, Stop):
            assert words not in action.cause
        else:
            assert words not in message(action)


def test_the_error_of_a_failed_pull_is_kept_while_the_kubelet_backs_off() -> None:
    """It alternates between the two, every few seconds: no write for that."""
    model = a_start(ready=("False", Reason.IMAGE_PULL_FAILED))
    model = with_messages(model, Ready="image pull failed: ErrImagePull: no such tag")
    pod = its_pod(
        model, running=False, phase="Pending", reason="ImagePullBackOff", message="Back-off pulling image"
    )
    writes = [a for a in decided(model, holding(model, pod)) if not isinstance(a, RequeueAt)]
    assert [message(a) for a in writes] == [
        "image pull failed: ErrImagePull: no such tag"
    ]  # stage and restarts


def test_a_failed_pod_says_when_the_next_attempt_is() -> None:
    """Which of how many, and in how many seconds."""
    model = a_start(ready=LOADING, backend_status=BackendStatus(restarts=2))
    pod = its_pod(model, phase="Failed", running=False, exit_code=1, reason="Error")
    [action] = decided(model, holding(model, pod))
    assert message(action) == "Pod failed with exit code 1 (Error); back-off: attempt 4 of 6 in 4s"


def test_a_stop_that_does_not_end_keeps_its_message_while_the_pod_terminates() -> None:
    """Wanted again meanwhile: the Pod that hangs is still what it waits for."""
    model = a_start(ready=("False", Reason.STOPPING))
    assert decided(model, holding(model, its_pod(model, deleting=True))) == []
    assert decided(model) == [starting(model)]


# --- whatever happens


STATUSES = st.sampled_from(["True", "False", "Unknown"])
PODS = st.fixed_dictionaries(
    {},
    optional={
        "running": st.booleans(),
        "ip": st.sampled_from(["", "127.0.0.9"]),
        "restarts": st.integers(0, 3),
        "phase": st.sampled_from(["Pending", "Running", "Failed"]),
        "deleting": st.booleans(),
        "template": st.just("earlier"),
        "turn": st.integers(0, 1),
        "reason": st.sampled_from(["", "ErrImagePull", "ImagePullBackOff", "CrashLoopBackOff"]),
    },
)


@given(
    gates=st.tuples(*[STATUSES] * 5),
    ready=st.none()
    | st.tuples(
        STATUSES,
        st.sampled_from(
            [
                Reason.READY,
                Reason.LOADING,
                Reason.STOPPED,
                Reason.DRAINING,
                Reason.BACK_OFF,
                Reason.LOADING_TIMEOUT,
                Reason.RESTARTING,
                Reason.IMAGE_PULL_FAILED,
                Reason.STOPPING,
                Reason.NODE_UNREACHABLE,
            ]
        ),
    ),
    older=st.booleans(),
    pod=st.none() | PODS,
    healthy=st.none() | st.booleans(),
    after=st.sampled_from([0.0, 2.0, 100.0]),
)
def test_decides_the_same_again_and_comes_to_rest(
    *,
    gates: tuple[str, ...],
    ready: tuple[str, str] | None,
    older: bool,
    pod: dict[str, Any] | None,
    healthy: bool | None,
    after: float,
) -> None:
    """Equal inputs give equal actions, and what was written is not written again: a few writes later nothing is left to write."""
    model = a_start(
        *[(g, s, "Because") for g, s in zip(OPEN, gates, strict=True)],
        ready=ready,
        generation=2,
        ready_generation=1 if older else 2,
    )
    parts: list[Any] = [model]
    if pod is not None:
        facts = its_pod(model, **pod)
        parts.append(holding(model, facts))
        parts += [a_probe(model, facts, healthy=healthy)] if healthy is not None else []
    (state, memory), now = observed(*parts), NOW + after
    for _ in range(8):
        actions = list(decide(state, memory, now, settings=SETTINGS))
        assert actions == list(decide(state, memory, now, settings=SETTINGS))
        writes = [a for a in actions if isinstance(a, WriteStatus | Expose | Announce)]
        assert len(writes) <= 1
        if not writes:
            return
        state = after_writing(state, writes[0], now)
    raise AssertionError("it goes on writing")


def after_writing(state: ObservedState, action: Any, now: float) -> ObservedState:
    """Return the state after a status was written."""
    write, status = written(action), ready(action)
    kept = tuple(c for c in write.model.status.conditions if c.type != conditions.READY)
    changed = msgspec.structs.replace(
        write.model.status,
        conditions=(*kept, write.condition),
        endpoint=status.endpoint,
        backend=status.backend,
    )
    meta = write.model.metadata
    version: Metadata = msgspec.structs.replace(meta, resource_version=str(meta.version + 1))
    model = msgspec.structs.replace(write.model, status=changed, metadata=version)
    return apply_events(state, [Observation(events.ModelObserved(model=model), now)])
