"""When the memory of a stopped holder counts as free: in doubt it does not."""

from typing import Any

import msgspec
import pytest

from flexinfer.api.labels import OUT_OF_SERVICE_TAINT
from flexinfer.api.placement import placed_devices
from flexinfer.api.sharedgroup import FREED, STOPPED, GroupProcess
from flexinfer.arbiter.memory_release import Seen, held_devices
from flexinfer.events import events
from flexinfer.events.nodes import DeviceProcess, Taint
from flexinfer.state.observed import ObservedState, Sample
from tests.builders import NOW, a_model, a_node, a_pod, a_state, running
from tests.unit.arbiter.groups import (
    IDLE,
    PLACED,
    blocked,
    changes,
    held,
    later,
    member,
    process,
    requeues,
    sample,
    steps,
)

FREE = [("Advance", FREED)]
XORG = GroupProcess(pid=99, name="Xorg")


def stopped(**changes_: Any) -> ObservedState:
    """Return the state in which `a` was seen stopped at NOW and `b` waits."""
    return later(a_state(member("a", IDLE), member("b"), a_node("a")), NOW, held("a", STOPPED, **changes_))


def test_a_later_sample_shows_that_the_device_is_free() -> None:
    """One from before the stop proves nothing, and memory in use is not free (reliability G1)."""
    before = later(a_state(member("a", IDLE), a_node("a"), sample(0)), NOW, held("a", STOPPED))
    assert steps(before, NOW + 9) == []
    used = later(before, NOW + 1, sample(6000, process(used_mb=6000)))
    assert steps(used, NOW + 9) == []
    assert steps(later(used, NOW + 2, sample(0)), NOW + 9) == FREE


def test_a_sample_is_as_old_as_the_agent_says() -> None:
    """An agent that was paused between its look and its message tells an old look as new."""
    state = stopped(before=0)
    old = msgspec.structs.replace(state, gpus={"a": Sample(sample(0), NOW - 1)})
    assert steps(old, NOW + 9) == []


def test_memory_in_use_without_a_process_list_is_not_free() -> None:
    """WSL, vGPU, MIG without rights, or memory that a driver leaked."""
    assert steps(later(stopped(), NOW + 1, sample(22000)), NOW + 9) == []
    unknown = sample(22000, processes_known=False)
    assert steps(later(stopped(), NOW + 1, unknown), NOW + 9) == []


def test_without_a_process_list_what_was_in_use_before_the_grant_is_the_measure() -> None:
    """It was noted with the grant."""
    assert steps(later(stopped(before=3000), NOW + 1, sample(3400, processes_known=False)), NOW + 9) == FREE
    assert steps(later(stopped(before=3000), NOW + 1, sample(3600, processes_known=False)), NOW + 9) == []


def test_processes_that_were_not_listed_before_the_grant_are_measured_by_what_was_in_use() -> None:
    """The list has come since: whose the processes of before were is not known."""
    state = stopped(before=600)
    assert steps(later(state, NOW + 1, sample(600, process(99, 600, "Xorg"))), NOW + 9) == FREE
    assert steps(later(state, NOW + 1, sample(1200, process(99, 1200, "Xorg"))), NOW + 9) == []
    listed = stopped(before=600, others=(XORG,))
    assert steps(later(listed, NOW + 1, sample(600, process(5, 600, "engine"))), NOW + 9) == []


def test_memory_that_no_process_is_seen_to_hold_counts_as_the_leavers() -> None:
    """Although the foreign process is seen, and something was in use before."""
    state = later(stopped(before=4000, others=(XORG,)), NOW + 1, sample(4000, process(99, 600, "Xorg")))
    assert steps(state, NOW + 9) == []


def test_memory_of_before_the_grant_does_not_excuse_the_leavers_once_its_process_is_gone() -> None:
    """The game that used 1,500 MiB at the grant has ended; the 2,000 that are in use without a process are not its own."""
    before = stopped(before=1500, others=(XORG,))
    assert steps(later(before, NOW + 1, sample(2000)), NOW + 9) == []
    assert steps(later(before, NOW + 1, sample(300)), NOW + 9) == FREE


def test_memory_of_before_the_grant_excuses_nothing_while_its_process_cannot_be_named() -> None:
    """The list is lost for a while, and the game may have ended: what is in use may as well be the leaver's, which comes back late."""
    before = stopped(before=3000, others=(XORG,))
    assert steps(later(before, NOW + 1, sample(3000, processes_known=False)), NOW + 9) == []
    assert steps(later(before, NOW + 1, sample(300, processes_known=False)), NOW + 9) == FREE


def test_a_device_that_is_not_in_the_sample_blocks_its_group() -> None:
    """It may have fallen off the bus: device, node and exits are named."""
    state = later(stopped(), NOW + 1, events.GpusObserved(node="a", boot="b", sample=2))
    assert steps(state, NOW + 9) == [("Report", "DeviceMissing")]
    assert blocked(state, NOW + 9) == (
        "DeviceMissing",
        (
            "device GPU-1 of a is no longer reported by node a, so its memory is unknown; "
            "restart node a, or, if the device is lost, delete the node: kubectl delete node a"
        ),
    )
    assert changes(state, NOW + 9)["default/b"] == ("False", "Blocked")


def test_a_device_that_is_not_healthy_blocks_its_group() -> None:
    """A lost card is reported with 0 MB in use (reliability G11)."""
    lost = sample(0, total_mb=0, free_mb=0, healthy=False)
    assert steps(later(stopped(), NOW + 1, lost), NOW + 9) == [("Report", "DeviceUnhealthy")]


def test_telemetry_that_fell_silent_while_memory_was_in_use_is_no_blind_grant() -> None:
    """Its last word stands; the exits are named."""
    state = later(stopped(), NOW + 1, sample(22000, process(used_mb=22000)))
    assert steps(state, NOW + 9) == []
    assert NOW + 31 in requeues(state, NOW + 9)
    assert steps(state, NOW + 33) == [("Report", "TelemetrySilent")]
    reason, message = blocked(state, NOW + 33) or ("", "")
    assert "node a" in message and "GPU-1" in message and "kubectl delete node a" in message
    assert blocked(state, NOW + 300) == (reason, message)


def test_telemetry_that_fell_silent_before_the_stop_is_no_blind_grant_either() -> None:
    """Also after a restart of the arbiter, when no sample is left: that there were some was noted with the grant (reliability G7)."""
    state = stopped(before=0)
    assert not state.gpus
    assert steps(state, NOW + 29) == []
    assert steps(state, NOW + 30) == [("Report", "TelemetrySilent")]


def test_a_device_that_telemetry_has_named_is_not_free_without_a_sample() -> None:
    """Also for an arbiter that has just started and has none, and whatever was known at the grant."""
    assert steps(stopped(), NOW + 29) == []
    assert steps(stopped(), NOW + 30) == [("Report", "TelemetrySilent")]


def test_a_node_that_never_had_telemetry_is_free_some_seconds_after_the_pod_was_deleted() -> None:
    """Five, unless set otherwise."""
    state = stopped(named=False)
    assert steps(state, NOW + 4.9) == []
    assert steps(state, NOW + 5) == FREE
    holder = member("a", IDLE)
    still = later(state, NOW, running(holder, a_pod(holder)))
    assert steps(still, NOW + 60) == []


def test_telemetry_that_came_during_a_turn_counts_for_a_holder_whose_device_is_not_known() -> None:
    """It was granted while the node had none."""
    used = later(stopped(named=False), NOW + 1, sample(6000, process(used_mb=6000)))
    assert steps(used, NOW + 9) == []
    assert steps(later(used, NOW + 10, sample(0)), NOW + 10) == FREE


@pytest.mark.parametrize(
    "gone",
    [
        pytest.param([events.NodeDeleted(name="a")], id="deleted"),
        pytest.param(
            [
                events.NodeObserved(
                    name="a", node=a_node("a", version=2, taints=(Taint(key=OUT_OF_SERVICE_TAINT),))
                )
            ],
            id="out of service",
        ),
    ],
)
def test_a_node_that_was_given_up_holds_no_memory(gone: list[Any]) -> None:
    """The exit of a group whose node is lost."""
    silent = later(stopped(before=0), NOW + 1, sample(22000))
    assert steps(later(silent, NOW + 40, *gone), NOW + 50) == FREE


def test_a_foreign_process_that_was_there_before_the_turn_does_not_block_for_ever() -> None:
    """600 MB of something else on the card, before, during and after the turn; also if it grows."""
    state = stopped(before=600, others=(XORG,))
    assert steps(later(state, NOW + 1, sample(600, process(99, 600, "Xorg"))), NOW + 9) == FREE
    assert steps(later(state, NOW + 1, sample(2000, process(99, 1900, "Xorg"))), NOW + 9) == FREE


def test_a_process_of_the_same_number_but_another_name_is_not_the_foreign_one() -> None:
    """Numbers are used again."""
    state = later(stopped(before=600, others=(XORG,)), NOW + 1, sample(6000, process(99, 6000)))
    assert steps(state, NOW + 9) == []


def test_a_game_that_was_started_during_the_turn_does_not_keep_the_memory_from_being_free() -> None:
    """The agent could read who it is, and it is in no Pod; one that it could not identify counts as the leaver's."""
    game = DeviceProcess(pid=99, used_mb=9000, name="game", started=5)
    state = stopped(before=0)
    assert steps(later(state, NOW + 1, sample(9000, game)), NOW + 9) == FREE
    for unknown in ({"name": ""}, {"started": 0}, {"pod_uid": "pod-of-a"}):
        process_ = msgspec.structs.replace(game, **unknown)
        assert steps(later(state, NOW + 1, sample(9000, process_)), NOW + 9) == []


def test_memory_that_does_not_come_back_is_blocked_with_process_and_node_named() -> None:
    """After drain, grace period and a minute; the message does not change while it lasts (reliability G1)."""
    state = stopped(before=0)
    for second in range(0, 300, 10):
        state = later(state, NOW + 1 + second, sample(6000 + second, process(7, 6000 + second)))
    text = (
        "memory of a is still in use on node a 120s after its step Stopped began: GPU-1 (process 7 llama-server); "
        "end the process that uses the device"
    )
    assert blocked(state, NOW + 292) == ("MemoryInUse", text)
    assert blocked(later(state, NOW + 300, sample(9000, process(7, 9000))), NOW + 301) == (
        "MemoryInUse",
        text,
    )


def test_memory_is_looked_at_where_the_turn_was_granted_though_the_holder_was_deleted() -> None:
    """It is in use for a moment longer, and no other Model may be granted the device before."""
    state = later(a_state(member("b"), a_node("a")), NOW, held("a", STOPPED))
    used = later(state, NOW + 1, sample(6000, process(used_mb=6000)))
    assert steps(used, NOW + 9) == []
    assert steps(later(used, NOW + 2, sample(0)), NOW + 9) == FREE


def test_memory_is_looked_at_where_the_turn_was_granted_though_the_holder_was_rescheduled() -> None:
    """A Model that no longer needs a device may be scheduled elsewhere while its engine still stops."""
    rescheduled = member("a", IDLE, placement=msgspec.structs.replace(PLACED, node="b", devices=()))
    state = later(a_state(rescheduled, member("b"), a_node("a")), NOW, held("a", STOPPED))
    assert steps(later(state, NOW + 1, sample(6000)), NOW + 9) == []


def test_a_step_of_a_namesakes_clock_is_not_inherited() -> None:
    """Another uid, or another SharedGroup of the same name, begins again."""
    state = stopped()
    again = later(state, NOW + 100, held("a", STOPPED, version=99, uid="made again"))
    assert again.step_since["default/card", "uid-a"].at == NOW + 100
    other = a_model("a", uid="another")
    assert later(state, NOW + 100, other).step_since["default/card", "uid-a"].at == NOW


def test_what_is_in_use_is_noted_with_a_grant() -> None:
    """By a recent sample of a healthy device; unknown otherwise."""
    seen = Sample(sample(700, process(99, 600, "Xorg")), NOW)
    [device] = held_devices(placed_devices(["GPU-1"], 4000), Seen(sample=seen, now=NOW + 1))
    assert (device.memory_mb, device.used_before_mb, device.other_processes) == (4000, 700, (XORG,))
    [stale] = held_devices(placed_devices(["GPU-1"], 4000), Seen(sample=seen, now=NOW + 31))
    assert (stale.used_before_mb, stale.other_processes) == (None, ())
    unhealthy = Sample(sample(0, healthy=False), NOW)
    [sick] = held_devices(placed_devices(["GPU-1"], 4000), Seen(sample=unhealthy, now=NOW))
    assert sick.used_before_mb is None


def test_what_other_models_use_at_a_grant_is_not_noted() -> None:
    """They may leave before this holder does: it would then count as free while its own memory is in use."""
    other = DeviceProcess(pid=8, used_mb=3000, name="llama-server", started=8, pod_uid="pod-b")
    seen = Seen(
        sample=Sample(sample(3600, other, process(99, 600, "Xorg")), NOW), now=NOW, pods=frozenset({"pod-b"})
    )
    [device] = held_devices(placed_devices(["GPU-1"], 1500), seen)
    assert (device.used_before_mb, [one.name for one in device.other_processes]) == (600, ["Xorg"])
