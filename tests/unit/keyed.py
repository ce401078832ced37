"""Two promises of a decision by key: an event touches every key whose decision it alters, and time alone alters none unannounced."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st

from flexinfer.api.membership import GroupMembership
from flexinfer.api.model import BackendStatus, Gpu, Model
from flexinfer.api.placement import Placement
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import GRANTED, RELEASING
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from tests.builders import NOW, a_group, a_holder, a_model, a_node, a_pod
from tests.keyed import check_unaltered, due_at, effects
from tests.unit.watched_time import altered_at

NAMES, NODES, PROXIES = ("a", "b", "c"), ("n1", "n2"), ("p", "q")
Decide = Callable[[ObservedState, str, float], Iterable[Any]]
Touched = Callable[[ObservedState, ObservedState, AnyEvent], Iterable[str]]
_MOMENTS_FOLLOWED = 8
_LATE = 5
"""A drawn version up to which a Model comes late."""
GATE = st.sampled_from(["True", "False", "Unknown"])
OPEN = st.just(("True",) * 3)
WANTED = st.sampled_from(
    [
        ("True", Reason.REQUESTED), ("True", Reason.ACTIVE), ("True", Reason.FIRST_START), ("True", Reason.ALWAYS_ON),
        ("False", Reason.IDLE), ("False", Reason.FIRST_START_QUEUED), ("False", Reason.START_FAILED),
        ("False", Reason.FIRST_START_FAILED),
    ]
)  # fmt: skip
READY = st.sampled_from(
    [
        ("True", Reason.READY), ("False", Reason.LOADING), ("False", Reason.STARTING), ("False", Reason.RESTARTING),
        ("False", Reason.DRAINING), ("False", Reason.STOPPED), ("False", Reason.STOPPING), ("False", Reason.BACK_OFF),
        ("False", Reason.LOADING_TIMEOUT), ("False", Reason.CREATE_REFUSED), ("False", Reason.IMAGE_PULL_FAILED),
        ("Unknown", Reason.NODE_UNREACHABLE),
    ]
)  # fmt: skip


@st.composite
def models(draw: st.DrawFn) -> events.ModelObserved:
    """Return a Model in any state of its life."""
    name, gates = draw(st.sampled_from(NAMES)), draw(OPEN | st.tuples(*[GATE] * 3))
    conditions: list[Any] = [
        *zip(("Accepted", "Placed", "Cached"), gates, ("", Reason.NODE_GONE, ""), strict=True),
        ("Wanted", *draw(WANTED)),
        ("Granted", draw(GATE), ""),
        ("Ready", *draw(READY)),
    ]
    model = a_model(
        name,
        uid=f"uid-{name}-{draw(st.sampled_from([0, 0, 1]))}",
        version=draw(st.integers(1, 40)),
        generation=draw(st.sampled_from([1, 1, 2])),
        conditions=conditions[: draw(st.sampled_from([*range(6), *[6] * 6]))],
        placement=Placement(node=draw(st.sampled_from(NODES))),
        serverless={"enabled": draw(st.booleans()), "idle_timeout": "20s"},
        gpu=draw(st.sampled_from([None, Gpu(vendor="nvidia", shared="card")])),
        backend_status=BackendStatus(
            restarts=draw(st.integers(0, 7)),
            turn=draw(st.integers(0, 2)),
            pod_uid=draw(st.sampled_from(["", "p"])),
        ),
        shared_group=draw(st.sampled_from([None, GroupMembership(group="card", state="Holding", turn=1)])),
        deletion_timestamp=draw(st.sampled_from([None, None, None, "2026-11-24T12:00:00Z"])),
    )
    return events.ModelObserved(model=model)


@st.composite
def workloads(draw: st.DrawFn) -> events.WorkloadObserved:
    """Return the Pods of a Model."""
    name = draw(st.sampled_from(NAMES))
    model: Model = a_model(name, uid=f"uid-{name}-{draw(st.integers(0, 1))}")
    pod = a_pod(
        model,
        version=draw(st.integers(1, 9)),
        node=draw(st.sampled_from(NODES)),
        deleting=draw(st.booleans()),
        phase=draw(st.sampled_from(["Running", "Failed"])),
        running=draw(st.booleans()),
        gates=draw(st.sampled_from([(), ("flexinfer.ai/turn-0",)])),
    )
    return events.WorkloadObserved(namespace="default", name=name, pods=draw(st.sampled_from([(), (pod,)])))


@st.composite
def groups(draw: st.DrawFn) -> AnyEvent:
    """Return the SharedGroup of the group, held by a Model or by none, or its deletion."""
    name, version = draw(st.sampled_from(NAMES)), draw(st.integers(1, 9))
    step, turn = draw(st.sampled_from([GRANTED, RELEASING])), draw(st.integers(1, 2))
    holder = a_holder(name, uid=f"uid-{name}-0", step=step, turn=turn)
    choices: list[AnyEvent] = [
        events.GroupObserved(group=a_group(holder, version=version)),
        events.GroupObserved(group=a_group(version=version, initialized=draw(st.booleans()))),
        events.GroupDeleted(namespace="default", name="card", uid="uid-group-card", version=9),
    ]
    return draw(st.sampled_from(choices))


@st.composite
def live(draw: st.DrawFn) -> AnyEvent:
    """Return what a proxy publishes, or a node's state."""
    name, proxy = draw(st.sampled_from(NAMES)), draw(st.sampled_from(PROXIES))
    uid, version = f"uid-{name}-{draw(st.integers(0, 1))}", draw(st.integers(0, 40))
    activity = events.ActivityObserved(
        proxy=proxy, namespace="default", name=name, uid=uid, idle_seconds=draw(st.integers(0, 9)),
        in_flight=draw(st.integers(0, 1)), waiting=draw(st.integers(0, 2)), version=version,
    )  # fmt: skip
    node = draw(st.sampled_from(NODES))
    choices: list[AnyEvent] = [
        activity,
        events.ProxyObserved(proxy=proxy, version=version, final=draw(st.booleans())),
        events.WakeRequested(namespace="default", name=name, uid=uid),
        events.NodeObserved(name=node, node=a_node(node, ready=draw(st.sampled_from(["True", "Unknown"])))),
        events.ModelDeleted(namespace="default", name=name, uid=uid, version=41),
    ]
    return draw(st.sampled_from(choices))


EVENTS = models() | models() | workloads() | groups() | live()
HEARTBEAT_SECONDS = 5
HISTORIES = st.builds(
    lambda history, proxies, beats: [
        *_with_heartbeats(_in_order(history), proxies),
        *_heartbeats(proxies) * beats,
    ],
    st.lists(st.tuples(EVENTS, st.integers(0, 20)), min_size=1, max_size=14),
    st.sampled_from([(), ("p",), ("p", "q")]),
    st.integers(0, 6),
)
"""Histories in which most versions grow, and proxies are heard in time, or only now and then."""


def _heartbeats(proxies: Sequence[str]) -> list[tuple[AnyEvent, int]]:
    return [(events.ProxyObserved(proxy=p), 0 if i else HEARTBEAT_SECONDS) for i, p in enumerate(proxies)]


def _with_heartbeats(
    history: Iterable[tuple[AnyEvent, int]], proxies: Sequence[str]
) -> Iterator[tuple[AnyEvent, int]]:
    """Yield a history in which proxies are heard every five seconds."""
    for event, seconds in history:
        beats = seconds // HEARTBEAT_SECONDS if proxies else 0
        yield from _heartbeats(proxies) * beats
        yield event, seconds - beats * HEARTBEAT_SECONDS


def _in_order(history: Iterable[tuple[AnyEvent, int]]) -> Iterator[tuple[AnyEvent, int]]:
    """Yield a history in which a Model is newer each time it is observed, but for some that come late."""
    for number, (event, seconds) in enumerate(history, start=1):
        if isinstance(event, events.ModelObserved) and event.model.metadata.version > _LATE:
            metadata = msgspec.structs.replace(event.model.metadata, resource_version=str(40 * number))
            yield events.ModelObserved(model=msgspec.structs.replace(event.model, metadata=metadata)), seconds
        else:
            yield event, seconds


def observed(history: Iterable[tuple[AnyEvent, int]]) -> tuple[ObservedState, float]:
    """Return the state after a history of events and the seconds before each, and when it ends."""
    state, now = ObservedState(connected_since=NOW), NOW
    for event, seconds in history:
        now += seconds
        state = apply_events(state, [Observation(event, now)])
    return state, now


def check_touched(
    decide: Decide, touched: Touched, history: list[tuple[AnyEvent, int]], event: AnyEvent
) -> None:
    """Fail if an event alters the decision on a key that it does not touch."""
    before, now = observed(history)
    after = apply_events(before, [Observation(event, now)])
    keys = set(touched(before, after, event))
    for key in {*before.models, *after.models} - keys:
        check_unaltered(decide(before, key, now), decide(after, key, now), key)


def check_time(decide: Decide, history: list[tuple[AnyEvent, int]]) -> None:
    """Fail if time alone alters a decision before the moment that the key asked to be decided on again, now and from that moment on."""
    state, now = observed(history)
    for key in state.models:
        check_key(decide, state, key, now)


def check_key(decide: Decide, state: ObservedState, key: str, now: float) -> None:
    """Fail if time alone alters the decision on a key unannounced, up to the last of so many moments that it asks for."""
    for _ in range(_MOMENTS_FOLLOWED):
        due = due_at(decide(state, key, now))
        altered = altered_at(lambda at: effects(decide(state, key, at)), now, due)
        assert altered is None, f"{key} at {altered}, decided at {now} for the time until {due}"
        if due == math.inf:
            return
        now = max(due, math.nextafter(now, math.inf))
