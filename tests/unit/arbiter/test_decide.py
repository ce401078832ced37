"""The arbiter: one holder a group, each step in its order, and Granted of every member."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.api.model import BackendStatus, Gpu, Model, Placement
from flexinfer.api.reasons import Reason
from flexinfer.api.status import GrantedStatus
from flexinfer.arbiter.decide import GRACE_SECONDS, PATIENCE_SECONDS, Advance, Grant, decide
from flexinfer.events import events
from flexinfer.events.nodes import Device, DeviceProcess
from flexinfer.events.workload import FREED, GRANTED, RELEASING, STOPPED, GroupLease
from flexinfer.state.actions import WriteStatus
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from tests.builders import NOW, SHARED, a_condition, a_model, a_pod, a_state, running

WANTED = ("Accepted", "Placed", "Cached", ("Wanted", "True", Reason.REQUESTED))
IDLE = ("Accepted", "Placed", "Cached", ("Wanted", "False", Reason.IDLE))
PLACED = Placement(node="a", devices=("GPU-1",))


def member(name: str, conditions: Any = WANTED, since: str = "2026-11-24T10:00:00Z", **changes: Any) -> Model:
    """Return a member of the group `card`, with the transition time of its conditions."""
    model = a_model(name, gpu=SHARED, conditions=conditions, placement=PLACED, **changes)
    stamped = tuple(msgspec.structs.replace(c, last_transition_time=since) for c in model.status.conditions)
    return msgspec.structs.replace(model, status=msgspec.structs.replace(model.status, conditions=stamped))


def turn(holder: str = "a", step: str = GRANTED, number: int = 1) -> events.LeaseObserved:
    """Return the group's Lease."""
    lease = GroupLease(
        namespace="default",
        group="card",
        version=number * 10 + [GRANTED, RELEASING, STOPPED, FREED].index(step),
        holder=holder,
        holder_uid=f"uid-{holder}",
        step=step,
        turn=number,
    )
    return events.LeaseObserved(lease=lease)


def steps(state: ObservedState, now: float = NOW) -> list[tuple[str, str]]:
    """Return the effects on Leases: (Grant, Model) or (Advance, step)."""
    effects = []
    for action in decide(state, now):
        if isinstance(action, Grant):
            effects.append(("Grant", action.model.metadata.name))
        if isinstance(action, Advance):
            effects.append(("Advance", action.step))
    return effects


def changes(state: ObservedState, now: float = NOW) -> dict[str, tuple[str, str]]:
    """Return key -> (status, reason) of every condition that is written."""
    return {
        action.key: (action.condition.status, action.condition.reason)
        for action in decide(state, now)
        if isinstance(action, WriteStatus)
    }


def messages(state: ObservedState, now: float = NOW) -> dict[str, str]:
    """Return key -> message of every condition that is written."""
    return {a.key: a.condition.message for a in decide(state, now) if isinstance(a, WriteStatus)}


def test_a_model_in_no_group_needs_no_grant() -> None:
    """Whatever Wanted says."""
    model = a_model(conditions=("Accepted", "Placed", "Cached", ("Wanted", "False", Reason.IDLE)))
    assert changes(a_state(model)) == {"default/llama": ("True", Reason.NOT_SHARED)}


def test_the_first_of_the_queue_is_granted_the_free_device() -> None:
    """By when they became wanted; at equal times by name."""
    state = a_state(member("b"), member("c", since="2026-11-24T09:00:00Z"), member("a"))
    assert steps(state) == [("Grant", "c")]


def test_a_model_that_still_downloads_is_not_granted_the_device() -> None:
    """Nor any other that lacks a condition."""
    lacking = member("a", ("Accepted", "Placed", ("Cached", "False", Reason.FETCHING), "Wanted"))
    assert steps(a_state(lacking)) == []
    assert messages(a_state(lacking)) == {"default/a": "waiting for Cached"}


def test_members_show_the_holder_and_their_position() -> None:
    """The holder its turn, those that are queued their place, the others what they wait for."""
    state = a_state(member("a"), member("b"), member("c", IDLE), turn("a"))
    assert changes(state) == {
        "default/a": ("True", Reason.GRANTED),
        "default/b": ("False", Reason.QUEUED),
        "default/c": ("False", Reason.NOT_WANTED),
    }
    assert messages(state) == {
        "default/a": "turn 1 of group card",
        "default/b": "queued: position 1 of 1 in group card; holder: a",
        "default/c": "does not need the device: waiting for Wanted",
    }
    assert steps(state) == []


def test_a_holder_that_is_idle_releases_the_device() -> None:
    """The first step of a stop."""
    assert steps(a_state(member("a", IDLE), member("b"), turn("a"))) == [("Advance", RELEASING)]


@pytest.mark.parametrize(
    ("conditions", "changes", "reason"),
    [
        pytest.param(IDLE, {}, "idle", id="idle"),
        pytest.param(
            (*IDLE, "Granted"), {"deletion_timestamp": "2026-11-24T10:00:00Z"}, "being deleted", id="deleted"
        ),
        pytest.param(
            (*IDLE[:3], ("Wanted", "False", Reason.START_FAILED)), {}, "its start failed", id="failed"
        ),
        pytest.param(
            ("Accepted", ("Placed", "False", Reason.NODE_GONE), *WANTED[2:]),
            {},
            "its node is gone",
            id="node",
        ),
    ],
)
def test_the_lease_and_the_holder_name_the_reason_of_a_release(
    conditions: Any, changes: dict[str, Any], reason: str
) -> None:
    """In plain words of its own: the conditions behind it may change meanwhile."""
    holder = member("a", conditions, **changes)
    [advance] = [a for a in decide(a_state(holder, turn("a")), NOW) if isinstance(a, Advance)]
    assert advance.reason == reason
    lease = msgspec.structs.replace(turn("a", RELEASING).lease, reason=reason)
    state = a_state(holder, events.LeaseObserved(lease=lease))
    assert messages(state) == {"default/a": f"releasing turn 1: {reason}"}


def test_a_release_ends_only_when_the_engine_of_this_very_turn_has_stopped() -> None:
    """The stop of an earlier turn proves nothing."""
    stopped = (*IDLE, ("Granted", "False", Reason.RELEASED), ("Ready", "False", Reason.STOPPED))
    earlier = member("a", stopped, backend_status=BackendStatus(turn=1))
    assert steps(a_state(earlier, turn("a", RELEASING, 2))) == []
    current = member("a", stopped, backend_status=BackendStatus(turn=2))
    assert steps(a_state(current, turn("a", RELEASING, 2))) == [("Advance", STOPPED)]


def test_a_holder_that_was_deleted_counts_as_stopped() -> None:
    """Its finalizer outlived its Pods."""
    assert steps(a_state(member("b"), turn("a"))) == [("Advance", RELEASING)]
    assert steps(a_state(member("b"), turn("a", RELEASING))) == [("Advance", STOPPED)]


def test_without_telemetry_a_device_is_free_some_seconds_after_its_pod_was_deleted() -> None:
    """Five, unless set otherwise."""
    holder = member("a", IDLE)
    state = a_state(holder, turn("a", STOPPED))
    assert steps(state, NOW + 4.9) == []
    assert steps(state, NOW + 5) == [("Advance", FREED)]
    still = a_state(holder, turn("a", STOPPED), running(holder, a_pod(holder)))
    assert steps(still, NOW + 60) == []


def sample(number: int, used_mb: int) -> events.GpusObserved:
    """Return telemetry of the device."""
    processes = (DeviceProcess(pid=7, used_mb=used_mb),) if used_mb else ()
    device = Device(uuid="GPU-1", total_mb=8000, free_mb=8000 - used_mb, used_mb=used_mb, processes=processes)
    return events.GpusObserved(node="a", boot="b", sample=number, devices=(device,))


def test_a_device_is_free_when_a_later_sample_shows_it() -> None:
    """A sample from before the stop proves nothing, and memory in use is not free."""
    state = apply_events(a_state(member("a", IDLE), sample(1, 0)), [Observation(turn("a", STOPPED), NOW)])
    assert steps(state, NOW + 9) == []
    used = apply_events(state, [Observation(sample(2, 6000), NOW + 1)])
    assert steps(used, NOW + 9) == []
    free = apply_events(used, [Observation(sample(3, 0), NOW + 2)])
    assert steps(free, NOW + 9) == [("Advance", FREED)]


def on_its_device(event: events.LeaseObserved) -> events.LeaseObserved:
    """Return a Lease that holds the node and devices of its turn."""
    return events.LeaseObserved(lease=msgspec.structs.replace(event.lease, node="a", devices=PLACED.devices))


def test_memory_is_sampled_where_the_turn_was_granted_though_the_holder_was_deleted() -> None:
    """Its memory is in use for a moment longer, and no other Model may be granted the device before."""
    stopped = Observation(on_its_device(turn("a", STOPPED)), NOW)
    used = apply_events(a_state(member("b")), [stopped, Observation(sample(2, 6000), NOW + 1)])
    assert steps(used, NOW + 9) == []
    free = apply_events(used, [Observation(sample(3, 0), NOW + 2)])
    assert steps(free, NOW + 9) == [("Advance", FREED)]


def test_memory_is_sampled_where_the_turn_was_granted_though_the_holder_was_rescheduled() -> None:
    """A Model that no longer needs a device may be scheduled elsewhere while its engine still stops."""
    rescheduled = a_model("a", conditions=IDLE, placement=Placement(node="b"))
    stopped = Observation(on_its_device(turn("a", STOPPED)), NOW)
    used = apply_events(a_state(rescheduled, member("b")), [stopped, Observation(sample(2, 6000), NOW + 1)])
    assert steps(used, NOW + 9) == []


def test_a_device_that_is_not_released_in_time_blocks_the_group() -> None:
    """It is never granted blindly.

    The message names Pod, node and remedy, and stays the same while the group is blocked.
    """
    holder = member("a", IDLE)
    state = a_state(holder, member("b"), turn("a", RELEASING), running(holder, a_pod(holder)))
    now = NOW + 30 + GRACE_SECONDS + PATIENCE_SECONDS
    assert changes(state, now)["default/b"] == ("False", Reason.BLOCKED)
    text = (
        "Pod a-0 of a is still on node a after 120s (step Releasing); "
        "delete the Pod or end the process that uses the device"
    )
    assert messages(state, now)["default/b"] == text
    assert messages(state, now + 7)["default/b"] == text
    assert steps(state, now) == []


def test_a_model_that_leaves_a_group_stays_its_member_until_the_device_is_free() -> None:
    """No second device meanwhile."""
    leaver = msgspec.structs.replace(
        member("a"), spec=msgspec.structs.replace(member("a").spec, gpu=Gpu(vendor="nvidia", shared="other"))
    )
    state = a_state(leaver, turn("a"))
    assert steps(state) == [("Advance", RELEASING)]
    assert changes(state) == {"default/a": ("False", Reason.LEAVING_GROUP)}
    assert messages(state) == {"default/a": "leaving group card: turn 1 is not released yet"}


def test_a_group_belongs_to_one_namespace() -> None:
    """The same name elsewhere is another group."""
    state = a_state(member("a"), member("b", namespace="other"))
    assert steps(state) == [("Grant", "a"), ("Grant", "b")]


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), unique_by=lambda p: p[0]),
    st.sampled_from("abcd"),
    st.sampled_from([GRANTED, RELEASING, STOPPED, FREED]),
)
def test_there_is_never_more_than_one_holder(members: list[tuple[str, bool]], holder: str, step: str) -> None:
    """Granted is True for the Lease's holder alone, and a grant needs a free Lease."""
    models = [member(name, WANTED if wanted else IDLE) for name, wanted in members]
    state = a_state(*models, turn(holder, step))
    granted = [key for key, change in changes(state).items() if change == ("True", Reason.GRANTED)]
    assert granted in ([], [f"default/{holder}"])
    grants = [model for effect, model in steps(state) if effect == "Grant"]
    assert len(grants) <= (1 if step == FREED else 0)


def test_what_is_written_is_not_written_again() -> None:
    """A group at rest costs no write."""
    state = a_state(member("a"), member("b"), turn("a"))
    for write in [action for action in decide(state, NOW) if isinstance(action, WriteStatus)]:
        assert isinstance(write.status, GrantedStatus)
        model = write.model
        kept = tuple(c for c in model.status.conditions if c.type != write.condition.type)
        status = msgspec.structs.replace(
            model.status, conditions=(*kept, write.condition), shared_group=write.status.shared_group
        )
        metadata = msgspec.structs.replace(model.metadata, resource_version="2")
        newer = msgspec.structs.replace(model, status=status, metadata=metadata)
        state = apply_events(state, [Observation(events.ModelObserved(model=newer), NOW)])
    assert changes(state) == {}


def test_a_first_condition_waits_for_those_before_it_for_a_second_at_most() -> None:
    """Six writers at once would make ten conflicts."""
    model = a_model(conditions=[a_condition("Accepted")])
    assert changes(a_state(model)) == {}
    assert changes(a_state(model), NOW + 1) == {"default/llama": ("True", Reason.NOT_SHARED)}
