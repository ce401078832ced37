"""The arbiter: one holder a group, each step in its order, and Granted of every member."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.api.membership import GroupMembership
from flexinfer.api.model import BackendStatus, Gpu
from flexinfer.api.placement import Placement, placed_devices
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import GRANTED, RELEASING, STOPPED, GroupDevice, HeldDevice
from flexinfer.api.status import GrantedStatus
from flexinfer.arbiter.decide import GRACE_SECONDS, PATIENCE_SECONDS
from flexinfer.arbiter.effects import Advance, Rebind
from flexinfer.events import events
from flexinfer.state.actions import WriteStatus
from tests.builders import NOW, a_condition, a_group, a_holder, a_model, a_node, a_pod, a_state, running
from tests.unit.arbiter.groups import (
    IDLE,
    STOPPED_READY,
    WANTED,
    blocked,
    changes,
    decided,
    held,
    later,
    member,
    messages,
    queued,
    steps,
)


def test_a_model_in_no_group_needs_no_grant() -> None:
    """Whatever Wanted says."""
    model = a_model(conditions=("Accepted", "Placed", "Cached", ("Wanted", "False", Reason.IDLE)))
    assert changes(a_state(model)) == {"default/llama": ("True", Reason.NOT_SHARED)}


def test_the_first_of_the_queue_is_granted_the_free_device() -> None:
    """By when they became wanted; at equal times by name."""
    state = later(a_state(member("c"), a_group()), NOW + 1, member("b"), member("a"))
    assert steps(state) == [("Grant", "c")]
    assert steps(later(a_state(a_group()), NOW, member("b"), member("a"))) == [("Grant", "a")]


def test_a_wall_clock_that_was_wrong_does_not_order_the_queue() -> None:
    """The reaper's clock was an hour fast when `a` became wanted."""
    state = a_state(member("a", since="2026-11-24T11:00:00Z"), a_group())
    for i in range(5):
        state = later(state, NOW + i, member(f"b{i}", since=f"2026-11-24T10:0{i}:00Z"))
    assert steps(state) == [("Grant", "a")]


def test_a_place_in_the_queue_survives_a_restart_of_the_arbiter() -> None:
    """It is in the Model's status; who came meanwhile goes behind."""
    state = a_state(
        member("new"), member("b", shared_group=queued(2)), member("c", shared_group=queued(1)), a_group()
    )
    assert steps(state) == [("Grant", "c")]
    assert messages(state)["default/new"].startswith("position 3 of 3")


def test_a_model_that_still_downloads_is_not_granted_the_device() -> None:
    """Nor any other that lacks a condition (reliability G17)."""
    lacking = member("a", ("Accepted", "Placed", ("Cached", "False", Reason.FETCHING), "Wanted"))
    assert steps(a_state(lacking, a_group())) == []
    assert messages(a_state(lacking, a_group())) == {"default/a": "waiting for Cached"}


def test_members_show_the_holder_and_their_position() -> None:
    """The holder its turn, those that are queued their place, the others what they wait for."""
    state = a_state(member("a"), member("b"), member("c", IDLE), held("a"))
    assert changes(state) == {
        "default/a": ("True", Reason.GRANTED),
        "default/b": ("False", Reason.QUEUED),
        "default/c": ("False", Reason.NOT_WANTED),
    }
    assert messages(state) == {
        "default/a": "turn 1 of group card",
        "default/b": "position 1 of 1 in group card; holder: a; one holder at a time: telemetry of node a does not tell which "
        "process uses how much of GPU-1; a stays: it is loading",
        "default/c": "does not need the device: waiting for Wanted",
    }
    assert steps(state) == []


def test_a_holder_that_is_idle_releases_the_device() -> None:
    """The first step of a stop."""
    assert steps(a_state(member("a", IDLE), member("b"), held("a"))) == [("Advance", RELEASING)]


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
def test_the_group_and_the_holder_name_the_reason_of_a_release(
    conditions: Any, changes: dict[str, Any], reason: str
) -> None:
    """In plain words of its own: the conditions behind it may change meanwhile."""
    holder = member("a", conditions, **changes)
    [advance] = [a for a in decided(a_state(holder, held("a"))) if isinstance(a, Advance)]
    assert advance.reason == reason
    state = a_state(holder, held("a", RELEASING, reason=reason))
    assert messages(state) == {"default/a": f"releasing turn 1: {reason}"}


@pytest.mark.parametrize("lacks", ["Placed", "Cached"])
def test_a_turn_that_has_opened_no_pod_is_released_when_it_cannot(lacks: str) -> None:
    """Its weights were deleted, or the spec has other ones, between grant and start: a download holds no device."""
    gates = tuple((gate, "False", Reason.NOT_PLACED) if gate == lacks else gate for gate in WANTED)
    [advance] = [a for a in decided(a_state(member("a", gates), held("a"))) if isinstance(a, Advance)]
    assert (advance.step, advance.reason) == (RELEASING, f"waiting for {lacks}")
    opened = member("a", gates, backend_status=BackendStatus(turn=1, pod_uid="its Pod"))
    assert steps(a_state(opened, held("a"))) == []
    serves = member("a", (*gates, "Ready"))
    assert steps(a_state(serves, held("a"))) == []
    not_judged = member("a", WANTED[:1])
    assert steps(a_state(not_judged, held("a"))) == []


def test_a_release_ends_only_when_the_engine_of_this_very_turn_has_stopped() -> None:
    """The stop of an earlier turn proves nothing."""
    stopped = (*IDLE, ("Granted", "False", Reason.RELEASED), ("Ready", "False", Reason.STOPPED))
    earlier = member("a", stopped, backend_status=BackendStatus(turn=1))
    assert steps(a_state(earlier, held("a", RELEASING, 2))) == []
    running_on = member("a", stopped, backend_status=BackendStatus(turn=2, pod_uid="its Pod"))
    assert steps(a_state(running_on, held("a", RELEASING, 2))) == []
    current = member("a", stopped, backend_status=BackendStatus(turn=2))
    assert steps(a_state(current, held("a", RELEASING, 2))) == [("Advance", STOPPED)]


def test_a_holder_that_was_deleted_counts_as_stopped() -> None:
    """Its finalizer outlived its Pods."""
    assert steps(a_state(member("b"), held("a"))) == [("Advance", RELEASING)]
    assert steps(a_state(member("b"), held("a", RELEASING))) == [("Advance", STOPPED)]


def test_a_device_that_is_not_released_in_time_blocks_the_group() -> None:
    """It is never granted blindly (reliability G15).

    The message names Pod, node and remedy, and stays the same while the group is blocked.
    """
    holder = member("a", IDLE)
    state = a_state(holder, member("b"), held("a", RELEASING), running(holder, a_pod(holder)))
    now = NOW + 30 + GRACE_SECONDS + PATIENCE_SECONDS
    assert changes(state, now)["default/b"] == ("False", Reason.BLOCKED)
    text = "Pod a-0 of a on node a has not ended 120s after its step Releasing began; delete it or end its process"
    assert messages(state, now)["default/b"] == text
    assert messages(state, now + 7)["default/b"] == text
    assert blocked(state, now + 7) == ("NotStopped", text)
    assert steps(state, now) == [("Report", "NotStopped")]


def test_a_blocked_group_is_not_written_about_again_while_nothing_happens() -> None:
    """One decision a second for a minute, as telemetry causes them: each member and the group are written once."""
    holder = member("a", IDLE)
    state = a_state(
        holder, *(member(f"m{i}") for i in range(9)), held("a", RELEASING), running(holder, a_pod(holder))
    )
    begin, writes = NOW + 30 + GRACE_SECONDS + PATIENCE_SECONDS, 0
    for second in range(60):
        for write in [a for a in decided(state, begin + second) if isinstance(a, WriteStatus)]:
            writes += 1
            state = later(state, begin + second, as_written(write))
    assert writes == 10


def as_written(write: WriteStatus) -> Any:
    """Return the Model after a write of Granted."""
    model = write.model
    assert isinstance(write.status, GrantedStatus)
    kept = tuple(c for c in model.status.conditions if c.type != write.condition.type)
    status = msgspec.structs.replace(
        model.status, conditions=(*kept, write.condition), shared_group=write.status.shared_group
    )
    metadata = msgspec.structs.replace(model.metadata, resource_version=str(model.metadata.version + 1))
    return msgspec.structs.replace(model, status=status, metadata=metadata)


def test_a_model_that_leaves_a_group_stays_its_member_until_the_device_is_free() -> None:
    """No second device meanwhile (reliability G18)."""
    leaver = msgspec.structs.replace(
        member("a"), spec=msgspec.structs.replace(member("a").spec, gpu=Gpu(vendor="nvidia", shared="other"))
    )
    state = a_state(leaver, held("a"))
    assert steps(state) == [("Advance", RELEASING), ("Create", "other")]
    assert changes(state) == {"default/a": ("False", Reason.LEAVING_GROUP)}
    assert messages(state) == {"default/a": "leaving group card: turn 1 is not released yet"}


def test_a_group_belongs_to_one_namespace() -> None:
    """The same name elsewhere is another group (reliability G23)."""
    groups = (a_group(), a_group(namespace="other", uid="uid-other"))
    state = a_state(member("a"), member("b", namespace="other"), *groups)
    assert steps(state) == [("Grant", "a"), ("Grant", "b")]


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), unique_by=lambda p: p[0]),
    st.sampled_from("abcd"),
    st.sampled_from([GRANTED, RELEASING, STOPPED, ""]),
)
def test_there_is_never_more_than_one_holder(members: list[tuple[str, bool]], holder: str, step: str) -> None:
    """Granted is True for the holder that the SharedGroup names alone, and a grant needs one without a holder."""
    models = [member(name, WANTED if wanted else IDLE) for name, wanted in members]
    state = a_state(*models, held(holder, step) if step else a_group())
    granted = [key for key, change in changes(state).items() if change == ("True", Reason.GRANTED)]
    assert granted in ([], [f"default/{holder}"])
    grants = [model for effect, model in steps(state) if effect == "Grant"]
    assert len(grants) <= (0 if step else 1)


def test_what_is_written_is_not_written_again() -> None:
    """A group at rest costs no write."""
    state = a_state(member("a"), member("b"), held("a"))
    for write in [action for action in decided(state) if isinstance(action, WriteStatus)]:
        state = later(state, NOW, as_written(write))
    assert changes(state) == {}


def test_a_first_condition_waits_for_those_before_it_for_a_second_at_most() -> None:
    """Six writers at once would make ten conflicts."""
    model = a_model(conditions=[a_condition("Accepted")])
    assert changes(a_state(model)) == {}
    assert changes(a_state(model), NOW + 1) == {"default/llama": ("True", Reason.NOT_SHARED)}


def test_the_object_is_created_when_a_model_names_a_group() -> None:
    """Nothing is granted before it was initialised."""
    assert steps(a_state(member("a"))) == [("Create", "card")]
    assert steps(a_state(member("a"), a_group(initialized=False))) == [("Initialize", "card")]


def test_an_object_that_was_deleted_is_gone() -> None:
    """And made again, since a Model names the group; what its members show stays as it was until then."""
    holder = member(
        "a", (*WANTED, "Granted"), shared_group=GroupMembership(group="card", state="Holding", turn=5)
    )
    state = a_state(holder, held("a", turn=5))
    gone = later(
        state,
        NOW + 1,
        events.GroupDeleted(namespace="default", name="card", uid="uid-group-card", version=99),
    )
    assert not (gone.groups or gone.holding or gone.step_since)
    assert steps(gone) == [("Create", "card")]
    assert changes(gone) == {}


def test_a_model_that_may_hold_devices_of_a_group_without_an_object_gets_no_others() -> None:
    """It left the group `card`, and that was deleted before it was released."""
    left = member(
        "a",
        gpu=Gpu(vendor="nvidia", shared="other"),
        shared_group=GroupMembership(group="card", state="Holding", turn=5),
    )
    state = a_state(left, a_group(name="other"))
    assert steps(state) == [("Create", "card")]
    unshared = member("a", gpu=None, shared_group=GroupMembership(group="card", state="Holding", turn=5))
    assert steps(a_state(unshared)) == [("Create", "card")]
    assert changes(a_state(unshared)) == {}


def test_an_object_of_another_name_is_ignored_and_says_so() -> None:
    """Written once."""
    wrong = a_group()
    wrong = msgspec.structs.replace(wrong, metadata=msgspec.structs.replace(wrong.metadata, name="mine"))
    state = a_state(wrong, member("a"), a_group(uid="right"))
    assert steps(state) == [("Grant", "a"), ("Report", "WrongName")]


def test_a_name_that_is_taken_by_an_object_of_another_group_is_named_with_the_remedy() -> None:
    """Its own object cannot be created."""
    taken = a_group(name="other")
    taken = msgspec.structs.replace(taken, metadata=msgspec.structs.replace(taken.metadata, name="card"))
    state = a_state(member("a"), taken)
    assert changes(state) == {"default/a": ("False", Reason.BLOCKED)}
    assert messages(state)["default/a"].endswith("delete it: kubectl delete sharedgroup card -n default")


def test_a_group_that_is_deleted_in_use_is_drained_and_then_let_go() -> None:
    """Nothing is granted any more; its finalizer goes when it has no holder."""
    deleting: dict[str, Any] = {"deletion_timestamp": "2026-11-24T10:00:00Z"}
    [advance] = [a for a in decided(a_state(member("a"), held("a", **deleting))) if isinstance(a, Advance)]
    assert (advance.step, advance.reason) == (RELEASING, "the SharedGroup is being deleted")
    assert steps(a_state(member("a"), a_group(**deleting))) == [("Unprotect", "card")]
    assert steps(a_state(member("a"), a_group(initialized=False, **deleting))) == [("Unprotect", "card")]


def test_a_group_whose_object_others_keep_says_so() -> None:
    """Nothing is granted by an object that is being deleted: its members waited for a device that was never granted. Its finalizer is removed once."""
    deleting: dict[str, Any] = {
        "deletion_timestamp": "2026-11-24T10:00:00Z",
        "finalizers": ("example.com/theirs",),
    }
    state = a_state(member("a"), a_group(**deleting))
    assert messages(state)["default/a"] == (
        "position 1 of 1 in group card; its SharedGroup is being deleted, and is created again once the controllers of its finalizers "
        "have removed them: example.com/theirs"
    )
    assert steps(state) == steps(a_state(member("a"), a_group(initialized=False, **deleting))) == []
    waits = messages(a_state(member("a"), member("b"), held("a", **deleting)))["default/b"]
    assert waits.endswith(
        "its SharedGroup is being deleted, and is created again once its holders have stopped"
    )


@pytest.mark.parametrize("reason", [Reason.STOPPED, Reason.BACK_OFF])
def test_a_turn_ends_when_its_pod_is_gone(reason: Reason) -> None:
    """It opens one Pod; the memory of that one must be seen free before the next one loads (reliability G6)."""
    ended = (*WANTED, "Granted", ("Ready", "False", reason))
    opened = BackendStatus(turn=1, pod_uid="its Pod")
    assert steps(a_state(member("a", ended, backend_status=opened), held("a"))) == [("Advance", RELEASING)]
    assert steps(a_state(member("a", ended, backend_status=BackendStatus(turn=1)), held("a"))) == []
    earlier = BackendStatus(turn=1, pod_uid="its Pod")
    assert steps(a_state(member("a", ended, backend_status=earlier), held("a", turn=2))) == []


def test_two_holders_that_were_found_are_each_brought_to_their_end() -> None:
    """An object that was lost is initialised from the Pods that there are; no member is granted before all have left."""
    devices = ("GPU-1",)
    found = a_group(
        a_holder("a", step=RELEASING, turn=4, devices=devices), a_holder("b", turn=5, devices=devices)
    )
    gone = (*IDLE, ("Granted", "False", Reason.RELEASED), STOPPED_READY)
    a = member("a", gone, backend_status=BackendStatus(turn=4))
    state = a_state(a, member("b"), member("c"), found)
    assert steps(state) == [("Advance", STOPPED)]
    assert changes(state)["default/b"] == ("True", Reason.GRANTED)
    assert messages(state)["default/c"].startswith(
        "position 1 of 1 in group card; holders: a, b; one holder at a time"
    )


# --- the placement of a turn, and devices of another group

ELSEWHERE = Placement(node="b", devices=placed_devices(["GPU-2"]))


def test_a_holder_that_is_placed_elsewhere_is_released() -> None:
    """Its turn is of node a: there its memory is looked for, so nothing starts on b by it. Once it could: what runs keeps running before."""
    state = a_state(member("a", placement=ELSEWHERE), held("a"))
    [advance] = [action for action in decided(state) if isinstance(action, Advance)]
    assert (advance.step, advance.reason) == (
        RELEASING,
        "placed on node b (GPU-2), but its turn is of node a (GPU-1)",
    )
    caching = ("Accepted", "Placed", ("Cached", "False", Reason.FETCHING), "Wanted")
    runs = BackendStatus(turn=1, pod_uid="its Pod")
    assert steps(a_state(member("a", caching, placement=ELSEWHERE, backend_status=runs), held("a"))) == []


def test_a_holder_that_needs_more_than_its_entry_before_its_start_is_released() -> None:
    """Its estimate was raised after the grant: others would count on memory that its engine takes. Once its Pod is open, it has grown."""
    larger = Placement(node="a", devices=placed_devices(["GPU-1"], 6000))
    granted = a_group(a_holder("a", devices=(HeldDevice(uuid="GPU-1", memory_mb=3000),)))
    [advance] = [
        a for a in decided(a_state(member("a", placement=larger), granted)) if isinstance(a, Advance)
    ]
    assert (advance.step, advance.reason) == (RELEASING, "it needs 6000 MiB now, but its turn is of 3000")
    opened = BackendStatus(turn=1, pod_uid="uid-a-0")
    assert steps(a_state(member("a", placement=larger, backend_status=opened), granted)) == []
    larger_entry = a_group(a_holder("a", devices=(HeldDevice(uuid="GPU-1", memory_mb=9000),)))
    assert steps(a_state(member("a", placement=larger), larger_entry)) == []


OPENED = BackendStatus(turn=1, pod_uid="uid-a-0")
OTHER_CARD = Placement(node="a", devices=placed_devices(["GPU-2"], 4000))


def test_a_turn_follows_the_device_that_its_pod_has_got() -> None:
    """A device plugin takes any device of the node: the holder is not released for it, its devices are written again."""
    model = member("a", placement=OTHER_CARD, backend_status=OPENED)
    assert steps(a_state(model, held("a"))) == []
    pod = msgspec.structs.replace(a_pod(model), turn=1, node="a", devices=("GPU-2",))
    [rebind] = [a for a in decided(a_state(model, held("a"), running(model, pod))) if isinstance(a, Rebind)]
    assert (rebind.uuids, rebind.pod_uid) == (("GPU-2",), pod.uid)
    gated = msgspec.structs.replace(pod, gates=("flexinfer.ai/turn-1",))
    assert not [a for a in decided(a_state(model, held("a"), running(model, gated))) if isinstance(a, Rebind)]


def test_a_device_that_another_group_holds_is_not_granted() -> None:
    """Whatever the placer wrote: until that group's memory is seen free; Granted names the group."""
    other = a_group(a_holder("x", step=STOPPED, turn=7, devices=("GPU-1",)), name="other")
    state = a_state(member("a"), a_group(), other)
    assert [step for step in steps(state) if step[0] == "Grant"] == []
    assert messages(state)["default/a"] == (
        "position 1 of 1 in group card; node a (GPU-1) is held by x of group other of namespace default (turn 7)"
    )
    assert ("Grant", "a") in steps(later(state, NOW + 1, a_group(name="other", version=2)))


def test_a_member_on_other_devices_is_granted_before_one_whose_device_another_group_holds() -> None:
    """The placer brings the first to the others."""
    other = a_group(a_holder("x", devices=("GPU-1",)), name="other")
    state = a_state(member("a"), member("b", placement=ELSEWHERE), a_group(), other)
    assert ("Grant", "b") in steps(state)


@pytest.mark.parametrize(("count", "granted"), [(1, False), (2, True)])
def test_devices_that_telemetry_did_not_name_are_counted(count: int, granted: bool) -> None:  # noqa: FBT001
    """One for each turn: the node hands out no device twice."""
    other = a_group(a_holder("x"), name="other")
    node = a_node("a", allocatable={"nvidia.com/gpu": 1000 * count})
    assert (("Grant", "a") in steps(a_state(member("a"), a_group(), other, node))) is granted


@pytest.mark.parametrize(("budget_mb", "granted"), [(7488, False), (None, True)])
def test_shares_of_a_device_are_not_counted_as_devices(budget_mb: int | None, granted: bool) -> None:  # noqa: FBT001
    """What a device plugin offers of one GPU that several Pods may have does not tell how many GPUs there are."""
    other = a_group(a_holder("x", devices=("GPU-1",)), name="other")
    listed = (GroupDevice(uuid="GPU-1", total_mb=8000, budget_mb=budget_mb),)
    status = msgspec.structs.replace(other.status, devices=listed)
    node = a_node("a", allocatable={"nvidia.com/gpu": 8000})
    unnamed = member("a", placement=Placement(vendor="nvidia", node="a"))
    state = a_state(unnamed, a_group(), msgspec.structs.replace(other, status=status), node)
    assert (("Grant", "a") in steps(state)) is granted
