"""The arbiter: one holder a group, each step in its order, and what members are told."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.api.model import BackendStatus, Gpu, Model, Placement
from flexinfer.api.reasons import Reason
from flexinfer.arbiter.decide import GRACE_SECONDS, PATIENCE_SECONDS, Advance, Grant, decide
from flexinfer.events import events
from flexinfer.events.nodes import Device, DeviceProcess
from flexinfer.events.workload import FREED, GRANTED, RELEASING, STOPPED, GroupLease
from flexinfer.state.actions import WriteStatus
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from tests.builders import NOW, SHARED, a_condition, a_fleet, a_model, a_pod, running

NEED = ("Accepted", "Placed", "Cached", ("Wanted", "True", Reason.REQUESTED))
ASLEEP = ("Accepted", "Placed", "Cached", ("Wanted", "False", Reason.IDLE))
PLACED = Placement(node="a", devices=("GPU-1",))


def member(name: str, conditions: Any = NEED, since: str = "2026-11-24T10:00:00Z", **changes: Any) -> Model:
    """Return a member of the group `card`, wanted since a moment."""
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
    """Return the effects on Leases: (Grant, who) or (Advance, to which step)."""
    found = []
    for action in decide(state, now):
        if isinstance(action, Grant):
            found.append(("Grant", action.model.metadata.name))
        if isinstance(action, Advance):
            found.append(("Advance", action.step))
    return found


def told(state: ObservedState, now: float = NOW) -> dict[str, tuple[str, str]]:
    """Return key -> (status, reason) of every verdict that changes."""
    return {
        action.key: (action.condition.status, action.condition.reason)
        for action in decide(state, now)
        if isinstance(action, WriteStatus)
    }


def test_a_model_in_no_group_is_granted_at_once() -> None:
    """Whatever Wanted says."""
    model = a_model(conditions=("Accepted", "Placed", "Cached", ("Wanted", "False", Reason.IDLE)))
    assert told(a_fleet(model)) == {"default/llama": ("True", Reason.NOT_SHARED)}


def test_the_first_that_came_is_granted_the_free_device() -> None:
    """Equal moments are told apart by name."""
    state = a_fleet(member("b"), member("c", since="2026-11-24T09:00:00Z"), member("a"))
    assert steps(state) == [("Grant", "c")]


def test_nobody_is_granted_who_lacks_something() -> None:
    """A download never holds a card."""
    lacking = member("a", ("Accepted", "Placed", ("Cached", "False", Reason.FETCHING), "Wanted"))
    assert steps(a_fleet(lacking)) == []


def test_the_holder_is_told_and_so_are_those_who_wait() -> None:
    """With a position."""
    state = a_fleet(member("a"), member("b"), member("c", ASLEEP), turn("a"))
    assert told(state) == {
        "default/a": ("True", Reason.GRANTED),
        "default/b": ("False", Reason.QUEUED),
        "default/c": ("False", Reason.NOT_WANTED),
    }
    assert steps(state) == []


def test_a_holder_that_nobody_wants_is_released() -> None:
    """The first step of a stop."""
    assert steps(a_fleet(member("a", ASLEEP), member("b"), turn("a"))) == [("Advance", RELEASING)]


def test_a_release_ends_only_with_the_report_of_this_very_turn() -> None:
    """A stop of a former turn proves nothing."""
    stopped = (*ASLEEP, ("Granted", "False", Reason.RELEASED), ("Ready", "False", Reason.STOPPED))
    former = member("a", stopped, backend_status=BackendStatus(turn=1))
    assert steps(a_fleet(former, turn("a", RELEASING, 2))) == []
    present = member("a", stopped, backend_status=BackendStatus(turn=2))
    assert steps(a_fleet(present, turn("a", RELEASING, 2))) == [("Advance", STOPPED)]


def test_a_holder_that_is_gone_from_the_api_counts_as_stopped() -> None:
    """Its finalizer outlived its Pods."""
    assert steps(a_fleet(member("b"), turn("a"))) == [("Advance", RELEASING)]
    assert steps(a_fleet(member("b"), turn("a", RELEASING))) == [("Advance", STOPPED)]


def test_without_telemetry_a_device_is_free_a_stated_time_after_its_pod_is_gone() -> None:
    """Five seconds, unless set otherwise."""
    holder = member("a", ASLEEP)
    state = a_fleet(holder, turn("a", STOPPED))
    assert steps(state, NOW + 4.9) == []
    assert steps(state, NOW + 5) == [("Advance", FREED)]
    still = a_fleet(holder, turn("a", STOPPED), running(holder, a_pod(holder)))
    assert steps(still, NOW + 60) == []


def sample(number: int, used_mb: int) -> events.GpusObserved:
    """Return telemetry of the device."""
    processes = (DeviceProcess(pid=7, used_mb=used_mb),) if used_mb else ()
    device = Device(uuid="GPU-1", total_mb=8000, free_mb=8000 - used_mb, used_mb=used_mb, processes=processes)
    return events.GpusObserved(node="a", boot="b", sample=number, devices=(device,))


def test_a_device_is_free_when_a_later_sample_says_so() -> None:
    """A sample from before the stop proves nothing, and memory in use is not free."""
    state = apply_events(a_fleet(member("a", ASLEEP), sample(1, 0)), [Observation(turn("a", STOPPED), NOW)])
    assert steps(state, NOW + 9) == []
    used = apply_events(state, [Observation(sample(2, 6000), NOW + 1)])
    assert steps(used, NOW + 9) == []
    free = apply_events(used, [Observation(sample(3, 0), NOW + 2)])
    assert steps(free, NOW + 9) == [("Advance", FREED)]


def on_its_device(event: events.LeaseObserved) -> events.LeaseObserved:
    """Return a Lease that says where its turn was granted."""
    return events.LeaseObserved(lease=msgspec.structs.replace(event.lease, node="a", devices=PLACED.devices))


def test_memory_is_looked_for_where_the_turn_was_granted_though_the_holder_is_gone() -> None:
    """A Model that was deleted leaves its memory behind for a moment, and nobody may be granted into it."""
    stopped = Observation(on_its_device(turn("a", STOPPED)), NOW)
    used = apply_events(a_fleet(member("b")), [stopped, Observation(sample(2, 6000), NOW + 1)])
    assert steps(used, NOW + 9) == []
    free = apply_events(used, [Observation(sample(3, 0), NOW + 2)])
    assert steps(free, NOW + 9) == [("Advance", FREED)]


def test_memory_is_looked_for_where_the_turn_was_granted_though_the_holder_has_moved() -> None:
    """Who no longer asks for a device has another home while its engine still goes."""
    moved = a_model("a", conditions=ASLEEP, placement=Placement(node="b"))
    stopped = Observation(on_its_device(turn("a", STOPPED)), NOW)
    used = apply_events(a_fleet(moved, member("b")), [stopped, Observation(sample(2, 6000), NOW + 1)])
    assert steps(used, NOW + 9) == []


def test_a_device_that_does_not_come_free_is_said_to_be_blocked() -> None:
    """Never a blind grant; the message names Pod and node."""
    holder = member("a", ASLEEP)
    state = a_fleet(holder, member("b"), turn("a", RELEASING), running(holder, a_pod(holder)))
    now = NOW + 30 + GRACE_SECONDS + PATIENCE_SECONDS
    assert told(state, now)["default/b"] == ("False", Reason.BLOCKED)
    [message] = [
        a.condition.message for a in decide(state, now) if isinstance(a, WriteStatus) and a.key == "default/b"
    ]
    assert "a-0" in message
    assert "on a" in message
    assert steps(state, now) == []


def test_who_leaves_a_group_stays_its_member_until_the_device_is_free() -> None:
    """No second device meanwhile."""
    leaver = msgspec.structs.replace(
        member("a"), spec=msgspec.structs.replace(member("a").spec, gpu=Gpu(vendor="nvidia", shared="other"))
    )
    state = a_fleet(leaver, turn("a"))
    assert steps(state) == [("Advance", RELEASING)]
    assert told(state) == {"default/a": ("False", Reason.LEAVING_GROUP)}


def test_a_group_is_of_one_namespace() -> None:
    """The same name elsewhere is another group."""
    state = a_fleet(member("a"), member("b", namespace="other"))
    assert steps(state) == [("Grant", "a"), ("Grant", "b")]


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), unique_by=lambda p: p[0]),
    st.sampled_from("abcd"),
    st.sampled_from([GRANTED, RELEASING, STOPPED, FREED]),
)
def test_there_is_never_more_than_one_holder(members: list[tuple[str, bool]], holder: str, step: str) -> None:
    """Granted is told to the Lease's holder alone, and a grant needs a free Lease."""
    models = [member(name, NEED if wanted else ASLEEP) for name, wanted in members]
    state = a_fleet(*models, turn(holder, step))
    granted = [key for key, verdict in told(state).items() if verdict == ("True", Reason.GRANTED)]
    assert granted in ([], [f"default/{holder}"])
    grants = [who for what, who in steps(state) if what == "Grant"]
    assert len(grants) <= (1 if step == FREED else 0)


def test_a_verdict_once_written_is_not_written_again() -> None:
    """Nobody writes about a group at rest."""
    state = a_fleet(member("a"), member("b"), turn("a"))
    for report in [a for a in decide(state, NOW) if isinstance(a, WriteStatus)]:
        model = report.model
        kept = tuple(c for c in model.status.conditions if c.type != report.condition.type)
        status = msgspec.structs.replace(
            model.status, conditions=(*kept, report.condition), shared_group=report.fields["sharedGroup"]
        )
        metadata = msgspec.structs.replace(model.metadata, resource_version="2")
        newer = msgspec.structs.replace(model, status=status, metadata=metadata)
        state = apply_events(state, [Observation(events.ModelObserved(model=newer), NOW)])
    assert told(state) == {}


def test_a_first_verdict_waits_its_turn_for_a_second_at_most() -> None:
    """Six writers at once would make ten conflicts."""
    model = a_model(conditions=[a_condition("Accepted")])
    assert told(a_fleet(model)) == {}
    assert told(a_fleet(model), NOW + 1) == {"default/llama": ("True", Reason.NOT_SHARED)}
