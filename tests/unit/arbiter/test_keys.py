"""What an event touches: for every other key the decision is the same before and after it, and between two times only time passed."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from flexinfer.api.lease_reasons import LeaseReason
from flexinfer.api.membership import GroupMembership
from flexinfer.api.model import BackendStatus, Gpu
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import GRANTED, RELEASING, STOPPED, GroupDevice, HeldDevice
from flexinfer.api.status import GrantedStatus
from flexinfer.arbiter import decide as deciding
from flexinfer.arbiter.keys import group_in, keys, touched
from flexinfer.events import events
from flexinfer.events.nodes import DeviceProcess
from flexinfer.state.actions import WriteStatus
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from tests.builders import NOW, SHARED, a_group, a_holder, a_lease, a_node, a_pod, a_state, running
from tests.keyed import check_unaltered
from tests.unit.arbiter.groups import (
    FIRST,
    IDLE,
    STOPPED_READY,
    WANTED,
    member,
    process,
    queued,
    sample,
)
from tests.unit.keyed import check_key

NAMES = st.sampled_from("abc")
GROUPS = st.sampled_from(["card", "other", "My Card!", ""])
HELD = st.sampled_from([GRANTED, RELEASING, STOPPED])
MEMBERSHIPS = st.sampled_from(
    [None, queued(1), *(GroupMembership(group=g, state="Holding", turn=3) for g in ("card", "other"))]
)


@st.composite
def models(draw: Any) -> events.ModelObserved:
    """Return a Model in some group, in some state."""
    name, group = draw(NAMES), draw(GROUPS)
    ready = draw(st.sampled_from([(), (STOPPED_READY,), ("Ready",), (("Ready", "False", Reason.BACK_OFF),)]))
    granted = draw(st.sampled_from([(), (("Granted", "False", Reason.PREEMPTED),)]))
    backend = draw(st.sampled_from([None, BackendStatus(turn=3), BackendStatus(turn=3, pod_uid="p")]))
    model = member(
        name,
        (*draw(st.sampled_from([WANTED, FIRST, IDLE])), *ready, *granted),
        gpu=Gpu(vendor="nvidia", shared=group, priority=draw(st.sampled_from([50, 100]))) if group else None,
        shared_group=draw(MEMBERSHIPS),
        backend_status=backend,
        uid=f"uid-{name}{draw(st.sampled_from(['', '2']))}",
        version=draw(st.integers(1, 10_000)),
    )
    return events.ModelObserved(model=model)


@st.composite
def groups(draw: Any) -> events.GroupObserved:
    """Return a SharedGroup, perhaps one that does not count."""
    holders = draw(st.lists(st.tuples(NAMES, HELD), max_size=2, unique_by=lambda pair: pair[0]))
    device = HeldDevice(uuid="GPU-1", memory_mb=4000)
    entries = [
        a_holder(
            "" if leased else name,
            lease=name if leased else "",
            uid=f"uid-lease-{name}" if leased else f"uid-{name}",
            step=step,
            turn=3,
            devices=(device,),
            away_seconds=draw(st.sampled_from([None, 0, 40])),
        )
        for name, step in holders
        for leased in [draw(st.booleans())]
    ]
    changes: dict[str, Any] = {"deletion_timestamp": "x"} if draw(st.booleans()) else {}
    shared = a_group(
        *entries,
        name=draw(GROUPS.filter(bool)),
        version=draw(st.integers(1, 10_000)),
        initialized=draw(st.booleans()),
        uid=draw(st.sampled_from(["one", "two"])),
        **changes,
    )
    return events.GroupObserved(group=shared)


@st.composite
def leases(draw: Any) -> Any:
    """Return a lease in some state of its life, its deletion, or when it ends."""
    name, reason = draw(st.sampled_from("ab")), draw(st.sampled_from(["", *LeaseReason]))
    lease = a_lease(
        name,
        told=reason,
        version=draw(st.integers(1, 10_000)),
        uid=f"uid-lease-{name}",
        spec={
            "group": draw(GROUPS.filter(bool)),
            "memory_mb": draw(st.sampled_from([None, 4000])),
            "priority": draw(st.sampled_from([50, 1000])),
        },
        status={"turn": 3, "expires_at": draw(st.sampled_from(["", "2026-11-24T22:00:00Z"]))},
    )
    timed = events.LeaseTimed(
        namespace="default",
        name=name,
        uid=f"uid-lease-{name}",
        expires_at="2026-11-24T22:00:00Z",
        remaining_seconds=draw(st.floats(-10, 100)),
    )
    gone = events.LeaseDeleted(namespace="default", name=name, uid=f"uid-lease-{name}", version=9_999)
    observed = events.LeaseObserved(lease=lease)
    return draw(st.sampled_from([observed, observed, timed, gone]))


PODS = [a_pod(member(name)).uid for name in "ab"]
NODES = (a_node("a"), a_node("a", version=2, allocatable={"nvidia.com/gpu": 8000}))
EVENTS = st.one_of(
    models(),
    groups(),
    leases(),
    st.builds(
        lambda n: events.ModelDeleted(namespace="default", name=n, uid=f"uid-{n}", version=9_999), NAMES
    ),
    st.builds(
        lambda n: events.GroupDeleted(namespace="default", name=n, uid="one", version=9_999),
        GROUPS.filter(bool),
    ),
    st.builds(lambda n: running(member(n), a_pod(member(n))), NAMES),
    st.builds(lambda n: events.WorkloadDeleted(namespace="default", name=n), NAMES),
    st.sampled_from(
        [
            sample(0),
            sample(9000),
            sample(9000, process(used_mb=9000)),
            sample(9000, *(DeviceProcess(pid=i, used_mb=4500, pod_uid=uid) for i, uid in enumerate(PODS))),
            sample(0, healthy=False),
        ]
    ),
    st.sampled_from([events.NodeDeleted(name="a"), *(events.NodeObserved(name="a", node=n) for n in NODES)]),
    st.sampled_from([events.ProxyObserved(proxy="p"), events.ProxyObserved(proxy="p", final=True)]),
    st.builds(
        lambda name, idle, requests: events.ActivityObserved(
            proxy="p", namespace="default", name=name, uid=f"uid-{name}", idle_seconds=idle, **requests
        ),
        NAMES,
        st.floats(0, 20),
        st.sampled_from(
            [{"in_flight": 0, "waiting": 0}, {"in_flight": 1, "waiting": 0}, {"in_flight": 0, "waiting": 1}]
        ),
    ),
)


def decided(state: ObservedState, key: str, now: float) -> list[Any]:
    """Return what is decided on one key, without expected times: they follow the clock, and alone cause no write."""
    return [_without_expected_time(action) for action in deciding.decide(state, key, now)]


def _without_expected_time(action: Any) -> Any:
    if isinstance(action, WriteStatus) and isinstance(action.status, GrantedStatus):
        return msgspec.structs.replace(
            action, status=msgspec.structs.replace(action.status, expected_at=None)
        )
    return action


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(EVENTS, st.floats(0, 60)), min_size=1, max_size=12))
def test_an_event_touches_every_key_whose_decision_it_alters(history: list[tuple[Any, float]]) -> None:
    """A key that is not touched is decided on as before."""
    state, now = a_state(), NOW
    for event, pause in history:
        now += pause
        after = apply_events(state, [Observation(event, now)])
        untouched = {*keys(state), *keys(after)} - set(touched(state, after, event))
        for key in untouched:
            check_unaltered(decided(state, key, now), decided(after, key, now), (key, event))
        state = after


def test_a_heartbeat_that_is_on_time_alters_only_when_a_group_is_due() -> None:
    """To later: the proxy may fall silent later."""
    holds = member("a", (*WANTED, "Ready"), gpu=SHARED)
    state = a_state(events.ModelObserved(model=holds), events.ProxyObserved(proxy="p"))
    heartbeat = events.ProxyObserved(proxy="p")
    after = apply_events(state, [Observation(heartbeat, NOW + 1)])
    key = "group/default/card"
    assert key not in set(touched(state, after, heartbeat))
    check_unaltered(decided(state, key, NOW + 1), decided(after, key, NOW + 1), heartbeat)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(EVENTS, st.floats(0, 20)), min_size=1, max_size=10))
def test_time_alone_changes_nothing_before_the_time_that_was_asked_for(
    history: list[tuple[Any, float]],
) -> None:
    """Nothing is decided on periodically, and also that an agent or a proxy falls silent is decided on when it has."""
    state, now = a_state(), NOW
    for event, pause in history:
        now += pause
        state = apply_events(state, [Observation(event, now)])
    for key in keys(state):
        check_key(decided, state, key, now)


def test_a_group_of_any_name_has_a_key_that_is_read_back() -> None:
    """Also one with slashes."""
    model = member("a", gpu=Gpu(vendor="nvidia", shared="My/Card!/x"))
    assert ("default", "My/Card!/x") in [group_in(key) for key in keys(a_state(model))]


def test_a_node_that_is_deleted_alters_where_a_lease_is_whose_group_was_there_last() -> None:
    """No Model of the group says where it is."""
    group = a_group()
    last = GroupDevice(uuid="GPU-1")
    group = msgspec.structs.replace(
        group, status=msgspec.structs.replace(group.status, node="a", devices=(last,))
    )
    state = a_state(a_node("a"), group, a_lease(spec={"memory_mb": 100}))
    deleted, key = events.NodeDeleted(name="a"), "group/default/card"
    after = apply_events(state, [Observation(deleted, NOW)])
    assert decided(state, key, NOW) != decided(after, key, NOW)
    assert key in set(touched(state, after, deleted))
    assert key in set(touched(after, state, events.NodeObserved(name="a", node=a_node("a"))))


def test_telemetry_touches_only_the_groups_that_wait_for_it() -> None:
    """For memory that comes back, or for room: a sample of an idle node, or of a running engine, decides nothing."""
    stopped = a_group(a_holder("a", step=STOPPED, devices=("GPU-1",)))
    granted = a_group(a_holder("b", devices=("GPU-1",)), name="other", uid="u")
    state = a_state(member("a", IDLE), member("b", (*WANTED, "Granted"), gpu=SHARED), stopped, granted)
    assert list(touched(state, state, sample(0))) == ["group/default/card"]
    assert list(touched(state, state, events.GpusObserved(node="b", boot="b", sample=1))) == []
    waiting = a_state(member("a"), a_group())
    assert list(touched(waiting, waiting, sample(0))) == ["group/default/card"]
