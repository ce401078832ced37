"""The launcher's decision: when an engine starts, and what Ready says of it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.api import conditions
from flexinfer.api.membership import GroupMembership
from flexinfer.api.metadata import Metadata
from flexinfer.api.model import BackendStatus, Gpu, Model
from flexinfer.api.placement import Placement
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.launcher import decide as deciding
from flexinfer.launcher.effects import Announce, Expose, Start, Stop
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from tests.builders import NOW, a_condition, a_group, a_holder, a_node
from tests.keyed import on_all_models
from tests.unit.launcher.deciding import (
    LOADING,
    READY,
    SHARED,
    STOPPED,
    decided,
    message,
    outcome,
    ready,
    with_messages,
    written,
)
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

decide = on_all_models(deciding.decide)


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


def on_a_device(checked_for: str, wanted_since: str) -> Model:
    """Return a Model with a device of its own that is to start, and for which start its memory was checked."""
    model = a_start(gpu=Gpu(vendor="nvidia"), placement=Placement(node="a", checked_for=checked_for))
    wanted = msgspec.structs.replace(a_condition(conditions.WANTED), last_transition_time=wanted_since)
    kept = tuple(c for c in model.status.conditions if c.type != conditions.WANTED)
    status = msgspec.structs.replace(model.status, conditions=(*kept, wanted))
    return msgspec.structs.replace(model, status=status)


def test_a_model_with_devices_starts_once_their_memory_was_checked_for_this_start() -> None:
    """A check for a former start proves nothing; what takes longer than a second is said."""
    earlier, present = "2026-01-01T11:00:00Z", "2026-01-01T12:00:00Z"
    model = on_a_device(earlier, present)
    assert not [a for a in decided(model) if isinstance(a, Start)]
    [late] = decided(model, after=2.0)
    assert "has found room on its devices" in message(late)
    assert decided(on_a_device(present, present))[0] == starting(on_a_device(present, present))


def test_a_gate_of_an_older_generation_is_not_open() -> None:
    """A condition is of a generation."""
    model = a_start(*[a_condition(g, generation=1) for g in OPEN], generation=2)
    assert not [a for a in decided(model) if isinstance(a, Start)]


def test_a_member_of_a_group_starts_on_its_turn() -> None:
    """The turn goes into the Pod's gate."""
    model = a_start(gpu=SHARED, shared_group=GroupMembership(group="card", state="Holding", turn=7))
    assert decided(model, a_group(a_holder(turn=7))) == [starting(model, 7)]


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


def test_the_service_of_an_idle_model_follows_its_newer_spec() -> None:
    """With the one write of that generation, which waits until Accepted has judged it: not at the next audit of Services."""
    of_before = [a_condition(kind, generation=1) for kind in ("Accepted", "Placed", "Cached", "Granted")]
    changes = {"generation": 2, "ready_generation": 1, "litellm": {"aliases": ["gpt-4o"]}}
    assert decided(a_start(*of_before, ready=STOPPED, **changes)) == []
    [action] = decided(a_start(*IDLE, ready=STOPPED, **changes))
    assert isinstance(action, Expose)
    assert action.service["metadata"]["annotations"]["litellm.flexinfer.ai/aliases"] == "gpt-4o"


def test_the_service_of_an_idle_model_follows_a_spec_that_is_accepted_later() -> None:
    """A newer release may know its backend: of the refused spec Ready is written already, without an endpoint."""
    refused = a_condition(conditions.ACCEPTED, "False", Reason.UNKNOWN_BACKEND, 2)
    [write] = decided(a_start(refused, *IDLE[1:], ready=STOPPED, generation=2, ready_generation=1))
    assert ready(write).endpoint == ""
    [action] = decided(a_start(*IDLE, ready=STOPPED, generation=2, endpoint=""))
    assert isinstance(action, Expose)
    assert ready(action).endpoint


def test_the_service_follows_a_spec_that_is_accepted_while_the_engine_serves_an_older_one() -> None:
    """Ready with ServingOlderSpec is of this generation, and its Service of the one before."""
    model = a_start(ready=("True", Reason.SERVING_OLDER_SPEC), generation=2)
    pod = its_pod(model)
    [action] = decided(model, holding(model, pod), a_probe(model, pod))
    assert isinstance(action, Expose)


def test_a_first_condition_waits_for_those_before_it() -> None:
    """At most a second: six writers at once would make ten conflicts."""
    assert decided(a_start("Accepted")) == [RequeueAt(NOW + 1)]


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


def test_a_pod_last_read_in_service_and_deleted_since_is_replaced() -> None:
    """An evicted Pod: with the answer that its engine gave before, its Model was Ready without a Pod until the next probe."""
    model = a_start(ready=("False", Reason.RESTARTING))
    served = its_pod(model)
    leaving = msgspec.structs.replace(served, version=served.version + 1, deleting=True)
    gone = events.WorkloadDeleted(namespace="default", name="llama")
    for last in ((gone,), (holding(model),)):
        [start] = decided(
            model, holding(model, served), a_probe(model, served), holding(model, leaving), *last
        )
        assert isinstance(start, Start)


def test_a_pod_that_no_watch_has_reported_yet_is_known_from_its_probe() -> None:
    """The launcher read it itself; nothing says that it is gone."""
    model = a_start(ready=LOADING)
    [exposed] = decided(model, a_probe(model, its_pod(model)))
    assert outcome(exposed) == ("True", Reason.READY)


def test_a_node_that_is_not_ready_makes_readiness_unknown() -> None:
    """Nothing is routed there, and nothing is started elsewhere."""
    model = a_start(ready=READY)
    pod = its_pod(model)
    [action] = decided(model, holding(model, pod), a_probe(model, pod), a_node(ready="Unknown"))
    assert outcome(action) == ("Unknown", Reason.NODE_UNREACHABLE)


def test_an_idle_model_stays_idle_on_a_change_of_spec() -> None:
    """It is written once at the new generation."""
    model = a_start(*IDLE, ready=STOPPED, generation=2, ready_generation=1)
    [action] = decided(model)
    assert isinstance(action, Expose)
    assert outcome(action) == STOPPED


def test_ready_says_where_the_engine_is_and_how_long_it_loaded() -> None:
    """Measured from the last gate that opened."""
    model = a_start(ready=LOADING)
    pod = its_pod(model)
    [action] = decided(model, holding(model, pod), a_probe(model, pod), after=2.5)
    assert message(action) == f"engine healthy at {ADDRESS} (loaded in 2.5s)"


@pytest.mark.parametrize(
    ("before", "seconds"), [(LOADING, "2.5"), (("Unknown", Reason.NODE_UNREACHABLE), "9")]
)
def test_a_start_is_measured_and_an_engine_that_only_was_not_heard_keeps_its_figure(
    before: tuple[str, str], seconds: str
) -> None:
    """It has not loaded again."""
    model = a_start(ready=before, backend_status=BackendStatus(load_seconds=9.0))
    pod = its_pod(model)
    [action] = decided(model, holding(model, pod), a_probe(model, pod), after=2.5)
    assert message(action) == f"engine healthy at {ADDRESS} (loaded in {seconds}s)"


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
    raise AssertionError("it continues writing")


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
