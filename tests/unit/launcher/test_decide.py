"""The launcher's decision: when an engine starts, stops, and what is said of it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.api import conditions, kube
from flexinfer.api.labels import RUNNING_FINALIZER
from flexinfer.api.model import BackendStatus, Gpu, Metadata, Model, SharedGroup
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.workload import GRANTED, RELEASING, GroupLease, PodFacts, pod_facts
from flexinfer.launcher.decide import CLEAR, RENEW, STOP, Announce, Expose, Start, Stop, decide
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from tests.builders import NOW, a_condition, a_fleet, a_node
from tests.unit.launcher.models import ADDRESS, ASLEEP, OPEN, TERMS, a_start, answers, holding, its_pod

CARD = Gpu(vendor="cpu")
SHARED = Gpu(vendor="nvidia", shared="card")
READY, LOADING, STOPPED = ("True", Reason.READY), ("False", Reason.LOADING), ("False", Reason.STOPPED)


def decided(*parts: Any, after: float = 0.0) -> list[Any]:
    """Return what is decided, some seconds after everything was seen."""
    return list(decide(a_fleet(*parts), NOW + after, settings=TERMS))


def said(action: Any) -> tuple[str, str]:
    """Return status and reason of what an action writes."""
    told = action.report if isinstance(action, Expose | Announce) else action
    assert isinstance(told, WriteStatus)
    return told.condition.status, told.condition.reason


# --- starting


def test_starts_once_every_gate_is_open() -> None:
    """All five True at this generation: nothing else is waited for."""
    model = a_start()
    assert decided(model) == [Start(model=model, turn=0)]


@pytest.mark.parametrize("closed", OPEN)
@pytest.mark.parametrize("status", ["False", "Unknown"])
def test_starts_nothing_while_a_gate_is_closed(closed: str, status: str) -> None:
    """Whichever it is."""
    model = a_start(*[(g, status, "Because") if g == closed else g for g in OPEN])
    assert not [a for a in decided(model) if isinstance(a, Start)]


def test_a_gate_of_an_older_generation_is_not_open() -> None:
    """A verdict is of a generation."""
    model = a_start(*[a_condition(g, generation=1) for g in OPEN], generation=2)
    assert not [a for a in decided(model) if isinstance(a, Start)]


def test_a_member_of_a_group_starts_on_its_turn() -> None:
    """The turn goes into the Pod's gate."""
    model = a_start(gpu=SHARED, shared_group=SharedGroup(group="card", turn=7))
    assert decided(model) == [Start(model=model, turn=7)]


def test_a_gated_pod_is_gone_on_with() -> None:
    """A launcher that died between two steps of a start has a successor."""
    model = a_start()
    assert decided(
        model, holding(model, its_pod(model, gates=("flexinfer.ai/turn-0",), running=False, ip=""))
    ) == [Start(model=model, turn=0)]


def test_a_sleeping_model_is_not_written_about() -> None:
    """It owns its Service and its claim, nothing else."""
    assert decided(a_start(*ASLEEP, ready=STOPPED)) == []


def test_a_new_model_learns_its_address_before_it_ever_started() -> None:
    """Endpoint is there as soon as Accepted, and the Service with it."""
    model = a_start(
        "Accepted",
        "Placed",
        ("Cached", "False", Reason.FETCHING),
        ("Wanted", "False", Reason.FIRST_START_QUEUED),
    )
    [action] = decided(model, after=2)
    assert isinstance(action, Expose)
    assert said(action) == ("False", Reason.NOT_STARTED)
    assert action.report.fields["endpoint"] == f"{TERMS.proxy_base_url}/model/default/llama/v1"


def test_a_first_verdict_waits_for_those_before_it() -> None:
    """At most a second: six writers at once would make ten conflicts."""
    assert decided(a_start("Accepted")) == [RequeueAt(NOW + 1)]


# --- loading and ready


def test_a_pod_that_waits_for_its_process_is_starting() -> None:
    """The wait has a name and a node."""
    model = a_start(ready=STOPPED)
    [action] = decided(model, holding(model, its_pod(model, running=False, ip="", phase="Pending")))
    assert said(action) == ("False", Reason.STARTING)
    assert action.condition.message == "its Pod starts on node a"


def test_a_running_engine_that_does_not_answer_loads() -> None:
    """Until the first probe says otherwise."""
    model = a_start(ready=("False", Reason.STARTING))
    [action] = decided(model, holding(model, its_pod(model)))
    assert said(action) == ("False", Reason.LOADING)


def test_an_engine_that_answers_is_ready_and_the_proxies_hear_of_it() -> None:
    """With its address, in one announcement."""
    model = a_start(ready=LOADING)
    pod = its_pod(model)
    [action] = decided(model, holding(model, pod), answers(model, pod))
    assert isinstance(action, Announce)
    assert said(action) == READY
    assert action.report.fields["backend"].address == ADDRESS


def test_a_ready_engine_is_left_alone() -> None:
    """Nothing new is nothing said."""
    model = a_start(ready=READY)
    pod = its_pod(model)
    told = decided(model, holding(model, pod), answers(model, pod))
    again = [a for a in told if said(a) != READY]
    assert again == []


def test_a_restarted_launcher_leaves_a_ready_engine_ready() -> None:
    """No probe yet is no bad news."""
    model = a_start(ready=READY)
    assert decided(model, holding(model, its_pod(model))) == []


def test_a_probe_of_another_pod_says_nothing() -> None:
    """Each answer belongs to the Pod that gave it."""
    model = a_start(ready=LOADING)
    former = its_pod(model, uid="pod-0", version=1)
    told = decided(model, holding(model, its_pod(model)), answers(model, former))
    assert not [a for a in told if isinstance(a, Announce)]


def test_the_launchers_own_read_counts_before_the_watchers_word() -> None:
    """The wake does not wait for the bus."""
    model = a_start(ready=LOADING)
    pod = its_pod(model)
    [action] = decided(model, answers(model, pod))
    assert said(action) == READY


def test_an_engine_that_died_is_restarting() -> None:
    """The node starts it again; the proxies stop routing."""
    model = a_start(ready=READY)
    pod = its_pod(model, restarts=1, exit_code=137)
    [action] = decided(model, holding(model, pod), answers(model, pod, healthy=False, detail="no connection"))
    assert said(action) == ("False", Reason.RESTARTING)
    assert "exit code 137" in action.condition.message


def test_an_engine_without_memory_says_what_to_raise() -> None:
    """The back-off that the node is in explains nothing; the end of the last process does."""
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
    assert said(action) == ("False", Reason.RESTARTING)
    assert "OOMKilled" in action.condition.message
    assert "spec.resources.limits.memory" in action.condition.message


def test_an_image_for_another_machine_is_said() -> None:
    """The kernel's words alone help nobody."""
    model = a_start(ready=LOADING)
    last = "Error: exec /usr/bin/python: exec format error"
    pod = its_pod(model, running=False, restarts=1, exit_code=255, last=last)
    [action] = decided(model, holding(model, pod))
    assert "another architecture than that of node a" in action.condition.message


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


def test_an_image_that_cannot_be_had_is_said_in_the_nodes_words() -> None:
    """So that the user knows what to install."""
    model = a_start(ready=("False", Reason.STARTING))
    pod = its_pod(
        model, running=False, ip="", phase="Pending", reason="ErrImagePull", message="no runtime for vllm"
    )
    [action] = decided(model, holding(model, pod))
    assert said(action) == ("False", Reason.IMAGE_PULL_FAILED)
    assert "no runtime for vllm" in action.condition.message


def test_a_fetch_that_fails_before_the_engine_is_said() -> None:
    """The cause is in the Pod's first container."""
    words = {"exitCode": 1, "reason": "Error", "message": "noise\nthe hub is away"}
    status = {
        "phase": "Pending",
        "initContainerStatuses": [{"name": "fetch", "lastState": {"terminated": words}}],
    }
    pod = pod_facts(msgspec.convert({"metadata": {"name": "llama-0"}, "status": status}, kube.Pod))
    assert (pod.reason, pod.message) == ("InitError", "the hub is away")


def test_loading_has_a_deadline() -> None:
    """No progress for loading_seconds ends the start."""
    model = a_start(ready=LOADING)
    early, late = (
        decided(model, holding(model, its_pod(model)), after=TERMS.loading_seconds + x) for x in (-1, 1)
    )
    assert early[0] == RequeueAt(NOW + TERMS.loading_seconds)
    assert said(late[0]) == ("False", Reason.LOADING_TIMEOUT)


def test_progress_extends_the_deadline() -> None:
    """From Starting to Loading the count begins anew."""
    model = a_start(ready=("False", Reason.STARTING))
    [action] = decided(model, holding(model, its_pod(model)), after=TERMS.loading_seconds + 1)
    assert said(action) == ("False", Reason.LOADING)


def test_a_crash_loop_is_no_progress() -> None:
    """However often it restarts, the deadline runs on."""
    model = a_start(ready=("False", Reason.RESTARTING))
    pod = its_pod(model, restarts=9, exit_code=1)
    [action] = decided(model, holding(model, pod), after=TERMS.loading_seconds + 1)
    assert said(action) == ("False", Reason.LOADING_TIMEOUT)


def test_a_start_that_was_given_up_is_put_away_and_not_tried_again() -> None:
    """Final until the spec changes or somebody asks."""
    model = a_start(ready=("False", Reason.LOADING_TIMEOUT))
    pod = its_pod(model)
    [action] = decided(model, holding(model, pod))
    assert isinstance(action, Stop)
    assert action.purpose == CLEAR
    assert decided(model) == []


def test_a_request_after_a_failed_start_tries_again() -> None:
    """Wanted turned True after Ready turned LoadingTimeout. That is said first: what is started under a failure is put away as one."""
    failed = a_start(*ASLEEP, ready=("False", Reason.LOADING_TIMEOUT))
    asked = a_start(ready=("False", Reason.LOADING_TIMEOUT), version=2)
    state = apply_events(a_fleet(failed), [Observation(events.ModelObserved(model=asked), NOW + 5)])
    assert [said(action) for action in decide(state, NOW + 5, settings=TERMS)] == [("False", Reason.STARTING)]
    told = a_start(ready=("False", Reason.STARTING))
    assert decided(told) == [Start(model=told, turn=0)]


def test_a_failed_pod_is_made_anew_after_a_pause() -> None:
    """Said, put away, waited, started."""
    model = a_start(ready=LOADING)
    pod = its_pod(model, phase="Failed", running=False, reason="Evicted", message="low on memory")
    [first] = decided(model, holding(model, pod))
    assert said(first) == ("False", Reason.BACK_OFF)
    assert first.fields["backend"].restarts == 1
    backing_off = a_start(ready=("False", Reason.BACK_OFF), backend_status=BackendStatus(restarts=3))
    [second] = decided(backing_off, holding(backing_off, pod))
    assert isinstance(second, Stop)
    assert second.purpose == CLEAR
    assert decided(backing_off) == [RequeueAt(NOW + 4)]
    assert decided(backing_off, after=4) == [Start(model=backing_off, turn=0)]


def test_pods_that_fail_without_end_are_given_up() -> None:
    """Nothing waits for ever."""
    model = a_start(ready=LOADING, backend_status=BackendStatus(restarts=5))
    [action] = decided(model, holding(model, its_pod(model, phase="Failed", running=False)))
    assert said(action) == ("False", Reason.LOADING_TIMEOUT)


def test_a_pod_that_vanished_is_made_anew() -> None:
    """First the routing ends, then it starts."""
    model = a_start(ready=READY)
    assert [said(a) for a in decided(model)] == [("False", Reason.RESTARTING)]
    assert decided(a_start(ready=("False", Reason.RESTARTING)))[0].turn == 0


def test_a_pod_last_read_on_its_way_out_and_gone_since_is_made_anew() -> None:
    """An evicted Pod: nobody reads it again, so the read must not keep its successor waiting for ever."""
    model = a_start(ready=("False", Reason.RESTARTING))
    leaving = its_pod(model, version=99, deleting=True)
    (action,) = decided(model, answers(model, leaving, healthy=False), holding(model))
    assert isinstance(action, Start)


def test_a_silent_node_makes_readiness_unknown() -> None:
    """Nothing is routed there, and nothing is started elsewhere."""
    model = a_start(ready=READY)
    pod = its_pod(model)
    [action] = decided(model, holding(model, pod), answers(model, pod), a_node(ready="Unknown"))
    assert said(action) == ("Unknown", Reason.NODE_UNREACHABLE)


# --- stopping


def test_an_idle_model_drains_before_it_stops() -> None:
    """The proxies hear it first."""
    model = a_start(*ASLEEP, ready=READY)
    [action] = decided(model, holding(model, its_pod(model)))
    assert said(action) == ("False", Reason.DRAINING)


def draining(*said: Any, **changes: Any) -> Model:
    """Return a Model whose stop is published."""
    return a_start(*(said or ASLEEP), ready=("False", Reason.DRAINING), **changes)


def traffic(model: Model, proxy: str, in_flight: int) -> events.ActivityObserved:
    """Return a proxy's word on a Model."""
    return events.ActivityObserved(
        proxy=proxy,
        namespace="default",
        name=model.metadata.name,
        uid=model.uid,
        idle_seconds=0.0,
        in_flight=in_flight,
        waiting=0,
    )


def quiet(model: Model, pod: PodFacts, **changes: Any) -> events.EngineProbed:
    """Return an engine that says how many requests it works on."""
    return answers(model, pod, **({"in_flight": 0} | changes))


def test_a_stop_waits_for_the_requests_under_way() -> None:
    """A proxy that counts one holds it back, up to the drain's deadline."""
    model = draining()
    pod = its_pod(model)
    parts = (model, holding(model, pod), quiet(model, pod), traffic(model, "p", 1))
    assert decided(*parts, after=1) == [RequeueAt(NOW + TERMS.drain_seconds)]
    assert isinstance(decided(*parts, after=TERMS.drain_seconds)[0], Stop)


def test_a_stop_goes_on_once_every_proxy_let_go() -> None:
    """Each live one has said so since."""
    model = draining()
    pod = its_pod(model)
    [action] = decided(model, holding(model, pod), quiet(model, pod), traffic(model, "p", 0))
    assert action == Stop(model=model, pods=(pod,), purpose=STOP, why=Idle)


def test_a_stop_waits_for_a_proxy_that_has_not_spoken_since() -> None:
    """Its last word is older than the stop."""
    model = draining()
    pod = its_pod(model)
    early = events.ProxyObserved(proxy="p")
    assert decided(early, model, holding(model, pod), quiet(model, pod)) == [
        RequeueAt(NOW + TERMS.drain_seconds)
    ]


def test_a_heartbeat_after_the_stop_is_a_word_too() -> None:
    """A proxy that had a request would have told of it by then."""
    model = draining()
    pod = its_pod(model)
    state = apply_events(
        a_fleet(model, holding(model, pod), quiet(model, pod), events.ProxyObserved(proxy="p")),
        [Observation(events.ProxyObserved(proxy="p"), NOW + 3)],
    )
    assert isinstance(next(iter(decide(state, NOW + 3, settings=TERMS))), Stop)


def test_a_stop_waits_for_the_engine_itself() -> None:
    """Whoever reached it past the proxies counts as well."""
    model = draining()
    pod = its_pod(model)
    busy = (model, holding(model, pod), quiet(model, pod, in_flight=2))
    assert decided(*busy) == [RequeueAt(NOW + TERMS.drain_seconds)]


def test_a_wake_in_the_middle_of_a_drain_serves_on() -> None:
    """The engine never stopped."""
    model = draining(*OPEN)
    pod = its_pod(model)
    [action] = decided(model, holding(model, pod), answers(model, pod))
    assert isinstance(action, Announce)


def test_a_loading_engine_that_nobody_wants_stops_at_once() -> None:
    """There is nothing to drain."""
    model = a_start(*ASLEEP, ready=LOADING)
    [action] = decided(model, holding(model, its_pod(model)))
    assert isinstance(action, Stop)


def test_a_refused_newer_spec_does_not_stop_the_engine() -> None:
    """It serves the older one, and says so."""
    model = a_start(
        ("Accepted", "False", Reason.INVALID_CONFIG),
        ("Wanted", "False", Reason.NOT_ACCEPTED),
        ready=READY,
        generation=2,
        ready_generation=1,
    )
    pod = its_pod(model, template="former", generation=1)
    [action] = decided(model, holding(model, pod), answers(model, pod))
    assert said(action) == ("True", Reason.SERVING_OLDER_SPEC)


def test_a_changed_template_is_stop_then_start() -> None:
    """Only once everything the newer spec needs is there."""
    model = a_start(ready=READY, generation=2, ready_generation=1)
    pod = its_pod(model, template="former", generation=1)
    [action] = decided(model, holding(model, pod), answers(model, pod))
    assert said(action) == ("False", Reason.DRAINING)
    model = draining(*OPEN, generation=2)
    told = decided(model, holding(model, pod), quiet(model, pod))
    assert isinstance(told[0], Stop)
    assert told[0].purpose == RENEW


def test_a_change_that_keeps_the_template_keeps_the_engine() -> None:
    """Ready is rewritten for the newer generation, nothing else happens."""
    model = a_start(ready=READY, generation=2, ready_generation=1, serverless={"idle_timeout": "5s"})
    pod = its_pod(model, generation=1)
    [action] = decided(model, holding(model, pod), answers(model, pod))
    assert isinstance(action, Expose)
    assert said(action) == READY


@pytest.mark.parametrize("judged", [(), ("Accepted",), ("Accepted", "Placed", "Cached")])
def test_a_change_that_keeps_the_template_is_not_talked_about_while_it_is_judged(
    judged: tuple[str, ...],
) -> None:
    """The verdicts of the newer generation arrive one by one."""
    gates = [a_condition(g, generation=2 if g in judged else 1) for g in OPEN]
    model = a_start(*gates, ready=READY, generation=2, ready_generation=1)
    pod = its_pod(model, generation=1)
    assert decided(model, holding(model, pod), answers(model, pod)) == []


def test_an_upgrade_of_ours_restarts_no_engine() -> None:
    """What was Ready at this generation stays, whatever template we would render now."""
    model = a_start(ready=READY)
    pod = its_pod(model, template="rendered by a former release")
    assert not [a for a in decided(model, holding(model, pod), answers(model, pod)) if isinstance(a, Stop)]


def test_a_sleeping_model_stays_asleep_on_a_change_of_spec() -> None:
    """It is said once at the new generation."""
    model = a_start(*ASLEEP, ready=STOPPED, generation=2, ready_generation=1)
    [action] = decided(model)
    assert isinstance(action, Expose)
    assert said(action) == STOPPED


def test_a_node_that_is_gone_takes_its_pod_by_force() -> None:
    """Nobody is left to drain."""
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


def test_a_turn_that_is_asked_back_is_stopped_for_even_when_nothing_runs() -> None:
    """The arbiter waits for the report with that turn."""
    model = a_start(*ASLEEP, ready=STOPPED, gpu=SHARED, shared_group=SharedGroup(group="card", turn=4))
    [action] = decided(model, lease(RELEASING))
    assert isinstance(action, Stop)
    returned = a_start(
        *ASLEEP,
        ready=STOPPED,
        gpu=SHARED,
        shared_group=SharedGroup(group="card", turn=4),
        backend_status=BackendStatus(turn=4),
    )
    assert decided(returned, lease(RELEASING)) == []


def test_a_granted_turn_is_nothing_to_give_back() -> None:
    """Sleep of a member is the arbiter's to begin."""
    model = a_start(*ASLEEP, ready=STOPPED, gpu=SHARED, shared_group=SharedGroup(group="card", turn=4))
    assert decided(model, lease(GRANTED)) == []


def test_a_deleted_model_lets_go_of_its_finalizer_through_a_stop() -> None:
    """Also an idle one, at once."""
    model = a_start(
        *ASLEEP,
        ready=STOPPED,
        finalizers=(RUNNING_FINALIZER,),
        deletion_timestamp="2026-11-24T10:00:00Z",
    )
    [action] = decided(model)
    assert isinstance(action, Stop)


def test_a_deleted_model_that_never_started_is_left_to_the_api_server() -> None:
    """No finalizer, no write."""
    assert decided(a_start(deletion_timestamp="2026-11-24T10:00:00Z")) == []


# --- whatever happens


Idle = "Wanted is False"
STATUSES = st.sampled_from(["True", "False", "Unknown"])
PODS = st.fixed_dictionaries(
    {},
    optional={
        "running": st.booleans(),
        "ip": st.sampled_from(["", "127.0.0.9"]),
        "restarts": st.integers(0, 3),
        "phase": st.sampled_from(["Pending", "Running", "Failed"]),
        "deleting": st.booleans(),
        "template": st.just("former"),
        "turn": st.integers(0, 1),
        "reason": st.sampled_from(["", "ErrImagePull", "CrashLoopBackOff"]),
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
    """Equal inputs give equal actions, and what was said is not said again: a few reports later nothing is left to write."""
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
        parts += [answers(model, facts, healthy=healthy)] if healthy is not None else []
    state, now = a_fleet(*parts), NOW + after
    for _ in range(8):
        actions = list(decide(state, now, settings=TERMS))
        assert actions == list(decide(state, now, settings=TERMS))
        reports = [a for a in actions if isinstance(a, WriteStatus | Expose | Announce)]
        assert len(reports) <= 1
        if not reports:
            return
        state = folded(state, reports[0], now)
    raise AssertionError("it goes on writing")


def folded(state: ObservedState, action: Any, now: float) -> ObservedState:
    """Return the fleet after a report was written."""
    told: WriteStatus = action.report if isinstance(action, Expose | Announce) else action
    status = told.model.status
    kept = tuple(c for c in status.conditions if c.type != conditions.READY)
    written = msgspec.structs.replace(
        status,
        conditions=(*kept, told.condition),
        endpoint=told.fields["endpoint"],
        backend=told.fields["backend"],
    )
    meta = told.model.metadata
    version: Metadata = msgspec.structs.replace(meta, resource_version=str(meta.version + 1))
    model = msgspec.structs.replace(told.model, status=written, metadata=version)
    return apply_events(state, [Observation(events.ModelObserved(model=model), now)])
