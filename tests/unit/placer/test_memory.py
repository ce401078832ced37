"""Memory: what a Model may count on of each device, at its first placement and at every start."""

from typing import Any

import msgspec
import pytest

from flexinfer.api.model import Gpu, Model
from flexinfer.api.placement import Placement, placed_devices
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import GroupProcess, HeldDevice
from flexinfer.events import events
from flexinfer.events.nodes import Device, DeviceProcess, NodeFacts
from flexinfer.state.actions import WriteStatus
from flexinfer.state.actions import written as applied
from flexinfer.state.observed import STALE_SECONDS, ObservedState
from tests.builders import NOW, a_condition, a_group, a_holder, a_pod, a_state, all_true, running
from tests.unit.placer.settling import settle
from tests.unit.placer.test_decide import (
    CARD,
    TEAM,
    a_gpu_node,
    a_new,
    a_placed,
    later,
    node,
    only_write,
    placement_of,
    writes,
)

LOADING = ("Ready", "False", Reason.LOADING)
SINCE = "2026-01-01T12:00:00Z"


def a_sample(
    *processes: DeviceProcess, name: str = "a", used: int | None = None, **facts: Any
) -> events.GpusObserved:
    """Return a sample of a node with one card of 24000 MiB and these processes."""
    in_use = sum(process.used_mb for process in processes) if used is None else used
    card = Device(
        uuid=f"{name}-0",
        name="RTX 3090",
        total_mb=24000,
        free_mb=24000 - in_use,
        used_mb=in_use,
        processes=processes,
    )
    return events.GpusObserved(
        node=name, boot="b", sample=1, devices=(msgspec.structs.replace(card, **facts),)
    )


def a_process(used: int, pod: Model | None = None, **facts: Any) -> DeviceProcess:
    """Return a process that holds memory: of a Model's Pod, or of none."""
    defaults: dict[str, Any] = {"pid": 4242, "name": "/usr/bin/python3", "used_mb": used}
    return DeviceProcess(**({"pod_uid": a_pod(pod).uid if pod is not None else ""} | defaults | facts))


def wanted(model: Model, since: str = SINCE) -> Model:
    """Return a Model with the time since when it is wanted."""
    condition = msgspec.structs.replace(a_condition("Wanted"), last_transition_time=since)
    kept = tuple(c for c in model.status.conditions if c.type != "Wanted")
    status = msgspec.structs.replace(model.status, conditions=(*kept, condition))
    metadata = msgspec.structs.replace(model.metadata, resource_version=str(model.metadata.version + 1))
    return msgspec.structs.replace(model, status=status, metadata=metadata)


def becomes_wanted(state: ObservedState, model: Model, at: float) -> ObservedState:
    """Return the state in which a Model is wanted since a time."""
    return later(state, at, events.ModelObserved(model=wanted(model)))


def sliced(name: str = "a") -> NodeFacts:
    """Return a node that gives one card to as many as four Pods."""
    return a_gpu_node(name, 4)


def with_pod(model: Model) -> tuple[Model, events.WorkloadObserved]:
    """Return a Model and its running Pod."""
    return model, running(model, a_pod(model))


def written_model(write: WriteStatus) -> Model:
    """Return the Model once a write has arrived."""
    model = applied(write)
    metadata = msgspec.structs.replace(model.metadata, resource_version=str(model.metadata.version + 1))
    return msgspec.structs.replace(model, metadata=metadata)


def written(state: ObservedState, now: float, key: str = "default/llama") -> WriteStatus:
    """Return what is written of a Model."""
    return writes(state, now)[key]


def test_a_start_is_checked_and_the_placement_says_for_which() -> None:
    """The launcher waits for that: a check for a former start proves nothing."""
    idle = a_placed(gpu=CARD, wanted=False)
    state = becomes_wanted(a_state(a_gpu_node(), a_sample(), idle), idle, NOW + 1)
    placement = placement_of(written(state, NOW + 1))
    assert (placement.node, placement.checked_for) == ("a", SINCE)


def test_a_member_of_a_group_needs_no_check() -> None:
    """Its turn says that it may start; no write is made for it."""
    idle = a_placed(gpu=TEAM, wanted=False)
    assert writes(becomes_wanted(a_state(a_gpu_node(), a_sample(), idle), idle, NOW + 1), NOW + 1) == {}


def test_a_cold_start_on_a_card_that_was_filled_since_waits_and_names_the_process() -> None:
    """Not for a sample that may be outdated, but from the first that is newer than the wish (reliability G2)."""
    idle = a_placed(gpu=CARD, wanted=False)
    full = a_sample(a_process(17000))
    state = becomes_wanted(a_state(a_gpu_node(), full, idle), idle, NOW + 1)
    assert writes(state, NOW + 1) == {}
    write = written(later(state, NOW + 2, full), NOW + 2)
    assert write.condition.reason == Reason.NO_NODE_FITS
    assert "has 7000 MiB of 24000 MiB free (python3 (pid 4242) 17000 MiB)" in write.condition.message
    assert (
        "Remedy: stop python3 (pid 4242) on node a, or lower spec.gpu.vramEstimateMB"
        in write.condition.message
    )


def test_a_cold_start_moves_to_a_card_with_room() -> None:
    """A foreign process makes the placer avoid a card."""
    idle = a_placed(gpu=CARD, wanted=False)
    nodes = (a_gpu_node("a"), a_gpu_node("b"), a_sample(name="b"))
    state = becomes_wanted(a_state(*nodes, idle), idle, NOW + 1)
    moved = written(later(state, NOW + 2, a_sample(a_process(17000))), NOW + 2)
    assert (node(moved), placement_of(moved).checked_for) == ("b", SINCE)


def test_memory_that_its_own_last_engine_held_is_waited_for() -> None:
    """A sample from before the stop of its own engine moves nothing."""
    idle = a_placed(gpu=CARD)
    state = becomes_wanted(a_state(a_gpu_node(), a_sample(), idle), idle, NOW + 1)
    state = later(state, NOW + 2, a_sample(a_process(20000)))
    stopped = wanted(wanted(a_placed(gpu=CARD, conditions=all_true(("Ready", "False", Reason.STOPPED)))))
    state = later(state, NOW + 3, events.ModelObserved(model=stopped))
    assert writes(state, NOW + 3) == {}
    assert written(later(state, NOW + 4, a_sample()), NOW + 4).condition.true


def test_a_model_whose_engine_has_not_loaded_counts_with_its_footprint() -> None:
    """Its processes are seen to hold 3000 MiB; 13000 more will follow."""
    big = Gpu(vendor="nvidia", vram_estimate_mb=16000)
    loads = a_placed("loads", gpu=big, conditions=all_true(LOADING), placement=at_card(16000))
    write = written(
        a_state(sliced(), a_sample(a_process(3000, loads)), *with_pod(loads), a_new(gpu=big)), NOW
    )
    assert "has 8000 MiB of 24000 MiB free (default/loads 16000 MiB)" in write.condition.message


def test_a_model_that_has_loaded_counts_as_it_is_measured() -> None:
    """Once a sample is newer than its Ready: an older one may not show all that it holds."""
    big = Gpu(vendor="nvidia", vram_estimate_mb=16000)
    ready = a_placed("ready", gpu=big, placement=at_card(16000))
    sample = a_sample(a_process(5000, ready))
    state = a_state(sliced(), sample, *with_pod(ready), a_new(gpu=big))
    assert written(state, NOW).condition.reason == Reason.NO_NODE_FITS
    assert written(later(state, NOW + 1, sample), NOW + 1).condition.true


def at_card(memory: int) -> Placement:
    """Return a placement on the card of node a."""
    return Placement(
        node="a",
        vendor="nvidia",
        binding="DevicePlugin",
        devices=placed_devices(["a-0"], memory),
        footprint_mb=memory,
    )


def test_a_model_that_outgrew_its_footprint_counts_with_what_it_holds() -> None:
    """The larger of the two."""
    loads = a_placed("loads", gpu=CARD, conditions=all_true(LOADING), placement=at_card(8000))
    sample = a_sample(a_process(17000, loads))
    write = written(a_state(sliced(), sample, *with_pod(loads), a_new(gpu=CARD)), NOW)
    assert "has 7000 MiB of 24000 MiB free" in write.condition.message


def test_a_card_that_is_not_sliced_has_one_model_at_a_time() -> None:
    """However much of its memory is free; the message names the Model."""
    small = Gpu(vendor="nvidia", vram_estimate_mb=1000)
    runs = a_placed("runs", gpu=small, placement=at_card(1000))
    devices = (
        Device(uuid="a-0", total_mb=24000, free_mb=23000),
        Device(uuid="a-1", total_mb=24000, free_mb=24000),
    )
    sample = events.GpusObserved(node="a", boot="b", sample=1, devices=devices)
    two = a_gpu_node("a", 2, requested={"nvidia.com/gpu": 1000})
    state = a_state(two, sample, *with_pod(runs), a_new(gpu=small))
    assert placement_of(written(state, NOW)).uuids == ("a-1",)
    message = written(a_state(two, sample, *with_pod(runs), a_new(gpu=Gpu(count=2))), NOW).condition.message
    assert "(used by default/runs)" in message


MEMBER = a_placed("member", gpu=TEAM, placement=at_card(8000))
GROUP_MEMORY = [
    pytest.param((a_process(20000, MEMBER),), True, id="all of it is the member's"),
    pytest.param((a_process(4000, MEMBER), a_process(17000, pid=7)), False, id="a foreign process has most"),
    pytest.param((a_process(17000, MEMBER), a_process(4000, pid=7)), True, id="a foreign process has some"),
]


@pytest.mark.parametrize(("processes", "fits"), GROUP_MEMORY)
def test_what_members_of_its_group_hold_is_free_for_a_model_and_nothing_else_is(
    processes: tuple[DeviceProcess, ...], *, fits: bool
) -> None:
    """The holder stops before the next member starts; a foreign process does not."""
    busy = a_gpu_node(requested={"nvidia.com/gpu": 1000})
    state = a_state(busy, a_sample(*processes), *with_pod(MEMBER), a_new(gpu=TEAM))
    assert written(state, NOW).condition.true == fits


def test_memory_of_a_holder_whose_pod_is_gone_is_free_for_its_group() -> None:
    """Until its entry is off the SharedGroup, its memory is about to come back."""
    held = a_group(a_holder("gone", devices=("a-0",)), name="card")
    full = a_sample(a_process(20000, pod_uid="pod-gone"))
    assert written(a_state(a_gpu_node(), full, held, a_new(gpu=TEAM)), NOW).condition.true
    freed = a_state(a_gpu_node(), full, a_group(name="card"), a_new(gpu=TEAM))
    assert written(freed, NOW).condition.reason == Reason.NO_NODE_FITS


def test_the_process_of_a_lease_is_free_for_its_group_and_no_foreign_process() -> None:
    """The lease holds the devices until it ends: a Model of the group waits in its queue, not for another card. One of before its grant stays."""
    game = a_process(20000, name="game", started=7)
    entry = a_holder(
        "", lease="game", uid="uid-lease-game", devices=(HeldDevice(uuid="a-0", memory_mb=20000),)
    )
    held = a_group(entry, name="card")
    assert written(a_state(a_gpu_node(), a_sample(game), held, a_new(gpu=TEAM)), NOW).condition.true
    [device] = entry.devices
    before = msgspec.structs.replace(device, other_processes=(GroupProcess(pid=4242, name="game"),))
    older = a_group(msgspec.structs.replace(entry, devices=(before,)), name="card")
    refused = written(a_state(a_gpu_node(), a_sample(game), older, a_new(gpu=TEAM)), NOW).condition
    assert refused.reason == Reason.NO_NODE_FITS
    assert "game (pid 4242) 20000 MiB" in refused.message


def test_a_node_without_an_agent_is_placed_by_count_with_a_warning() -> None:
    """After the time in which an agent would have sent something; the message says why nothing is known."""
    state = a_state(a_gpu_node(), a_new(gpu=CARD))
    assert "a: has sent no GPU telemetry yet" in written(state, NOW).condition.message
    settled = settle(state, NOW)
    assert settled.due["default/llama"] == NOW + STALE_SECONDS
    write = written(settled.state, NOW + STALE_SECONDS)
    assert (node(write), placement_of(write).devices) == ("a", ())
    warning = (
        "its free GPU memory is not checked: the agent of a reports no nvidia device (it has sent nothing)"
    )
    assert warning in write.condition.message


def test_an_agent_that_sees_nothing_says_why_in_the_warning() -> None:
    """At once: it has spoken."""
    blind = events.GpusObserved(node="a", boot="b", sample=1, message="libnvidia-ml.so.1 is missing")
    write = only_write(a_gpu_node(), blind, a_new(gpu=CARD))
    assert write.condition.true
    assert "reports no nvidia device (libnvidia-ml.so.1 is missing)" in write.condition.message


def test_a_silent_agent_is_no_missing_agent() -> None:
    """A node that it has labelled had telemetry once: no start on a device whose memory may have been filled since (reliability G3)."""
    node_ = a_gpu_node(labels={"flexinfer.ai/gpu.vendor": "nvidia"})
    write = written(a_state(node_, a_new(gpu=CARD)), NOW + STALE_SECONDS)
    assert "a: has sent no GPU telemetry for 30s" in write.condition.message


def test_stale_telemetry_leaves_a_running_model_where_it_is() -> None:
    """It says nothing of an engine that runs (reliability G3)."""
    state = a_state(a_gpu_node(), a_sample(), *with_pod(a_placed(gpu=CARD)))
    assert writes(state, NOW + 3600) == {}


OUT: dict[str, Any] = {"healthy": False, "out_of_use": "XID 79 (fallen off the bus)", "errors": ("XID 79",)}


def test_a_model_leaves_a_device_that_is_out_of_use_while_it_runs() -> None:
    """For another node, at once: the engine computes wrongly, or not at all (reliability G11)."""
    model = a_placed(gpu=CARD)
    nodes = (a_gpu_node("a"), a_gpu_node("b"), a_sample(name="b"))
    state = a_state(*nodes, a_sample(), *with_pod(model))
    assert writes(state, NOW + 1) == {}
    moved = written(later(state, NOW + 2, a_sample(**OUT)), NOW + 2)
    assert (moved.condition.reason, node(moved), placement_of(moved).uuids) == (Reason.PLACED, "b", ("b-0",))


def test_a_device_that_is_out_of_use_is_named_where_its_model_cannot_leave() -> None:
    """With the error and the remedy, until the agent sees it well again (reliability G11)."""
    model = a_placed(gpu=CARD)
    state = a_state(a_gpu_node(), a_sample(**OUT), *with_pod(model))
    write = written(state, NOW + 1)
    assert (write.condition.status, write.condition.reason, node(write)) == (
        "True",
        Reason.DEVICE_OUT_OF_USE,
        "a",
    )
    assert (
        "device a-0 of node a is out of use: XID 79 (fallen off the bus); reset it" in write.condition.message
    )
    reported = later(state, NOW + 1, events.ModelObserved(model=written_model(write)))
    assert writes(reported, NOW + 1) == {}
    well = written(later(reported, NOW + 2, a_sample()), NOW + 2)
    assert (well.condition.reason, "out of use" in well.condition.message) == (Reason.PLACED, False)


def test_another_device_of_the_same_node_is_for_a_new_pod() -> None:
    """A Pod keeps the device that it was given; what starts it on the other one is said (reliability G11)."""
    model = a_placed(gpu=CARD)
    sample = a_sample(**OUT)
    spare = Device(uuid="a-1", total_mb=24000, free_mb=24000)
    both = msgspec.structs.replace(sample, devices=(*sample.devices, spare))
    write = written(a_state(a_gpu_node(count=2), both, *with_pod(model)), NOW + 1)
    assert (write.condition.reason, placement_of(write).uuids) == (Reason.DEVICE_OUT_OF_USE, ("a-0",))
    assert "kubectl delete pod -n default llama-0 starts it there" in write.condition.message


def test_a_device_that_only_does_not_answer_moves_no_running_model() -> None:
    """Unknown is not broken: the library may have lost its access for a moment (reliability G9)."""
    model = a_placed(gpu=CARD)
    nodes = (a_gpu_node("a"), a_gpu_node("b"), a_sample(name="b"))
    state = a_state(*nodes, a_sample(healthy=False, errors=("XID 43",)), *with_pod(model))
    assert writes(state, NOW + 1) == {}


@pytest.mark.parametrize("number", [13, 31, 43, 45])
def test_an_error_of_a_process_moves_nothing_and_keeps_nothing_away(number: int) -> None:
    """It is the Pod's own matter (reliability G10)."""
    model, sample = a_placed(gpu=CARD), a_sample(errors=(f"XID {number}",))
    assert writes(a_state(a_gpu_node(), sample, *with_pod(model)), NOW + 1) == {}
    assert node(only_write(a_gpu_node(), sample, a_new(gpu=CARD))) == "a"


def test_memory_that_no_process_is_seen_to_hold_is_in_use() -> None:
    """Placement refuses, and the condition says whose it is not (reliability G2)."""
    write = only_write(a_gpu_node(), a_sample(used=20000), a_new(gpu=CARD))
    assert write.condition.reason == Reason.NO_NODE_FITS
    assert (
        "has 4000 MiB of 24000 MiB free (20000 MiB in use by no process that is seen)"
        in write.condition.message
    )
    assert "Remedy: free 4000 MiB on node a, or lower spec.gpu.vramEstimateMB" in write.condition.message


def test_a_device_that_has_another_uuid_since_a_reboot_is_found_at_the_next_start() -> None:
    """The old one is on no node; the placement names the new one before anything starts (reliability G4)."""
    idle = a_placed(gpu=CARD, wanted=False)
    state = becomes_wanted(a_state(a_gpu_node(), a_sample(), idle), idle, NOW + 1)
    write = written(later(state, NOW + 2, a_sample(uuid="a-new")), NOW + 2)
    assert (node(write), placement_of(write).uuids) == ("a", ("a-new",))
