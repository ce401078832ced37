"""The placer: which node each Model is scheduled to, and the message when none fits."""

from typing import Any

import msgspec
import pytest

from flexinfer.api.labels import OUT_OF_SERVICE_TAINT
from flexinfer.api.model import Gpu, Model
from flexinfer.api.placement import Placement, placed_devices
from flexinfer.api.podspec import Resources
from flexinfer.api.reasons import Reason
from flexinfer.api.status import PlacedStatus
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.nodes import Device, NodeFacts, Taint
from flexinfer.placer import decide as deciding
from flexinfer.placer.health import GONE_SECONDS
from flexinfer.state.actions import CatchUp, RequeueAt, WriteStatus
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import STALE_SECONDS, Observation, ObservedState
from tests.builders import (
    NOW,
    a_condition,
    a_group,
    a_holder,
    a_model,
    a_node,
    a_pod,
    a_state,
    all_true,
    devices_of,
    running,
)
from tests.keyed import on_all_models
from tests.unit.placer.settling import settle

decide = on_all_models(deciding.decide)

CARD = Gpu(vendor="nvidia", vram_estimate_mb=8000)
TEAM = Gpu(vendor="nvidia", shared="card", vram_estimate_mb=8000)


def a_new(name: str = "llama", **changes: Any) -> Model:
    """Return a Model that was just accepted."""
    return a_model(name, **({"conditions": ["Accepted"], "placement": None} | changes))


def a_placed(name: str = "llama", *, node: str = "a", wanted: bool = True, **changes: Any) -> Model:
    """Return a Model that is scheduled to a node; without `wanted`, scaled to zero."""
    states = (
        all_true()
        if wanted
        else all_true(("Wanted", "False", Reason.IDLE), ("Ready", "False", Reason.STOPPED))
    )
    vendor = "nvidia" if changes.get("gpu") else "cpu"
    devices = changes.pop("devices", (f"{node}-0",) if changes.get("gpu") else ())
    footprint = 8000 if changes.get("gpu") else 0
    placement = Placement(
        node=node,
        vendor=vendor,
        binding="DevicePlugin" if devices else "",
        devices=placed_devices(devices, footprint),
        footprint_mb=footprint,
    )
    return a_model(name, **({"conditions": states, "placement": placement} | changes))


def a_gpu_node(name: str = "a", count: int = 1, **changes: Any) -> NodeFacts:
    """Return a ready node that offers NVIDIA devices."""
    amounts = {"cpu": 8_000, "memory": 2**40, "pods": 110_000, "nvidia.com/gpu": count * 1000}
    return a_node(name, **({"allocatable": amounts} | changes))


def telemetry(node: str = "a", *free: int, **changes: Any) -> events.GpusObserved:
    """Return a sample of a node: a device for each amount of free memory."""
    facts: dict[str, Any] = {"total_mb": 24576, "architecture": "sm_86", "name": "RTX 3090"} | changes
    devices = tuple(Device(uuid=f"{node}-{i}", free_mb=mb, **facts) for i, mb in enumerate(free))
    return events.GpusObserved(node=node, boot="b", sample=1, devices=devices)


def with_spec(model: Model, **changes: Any) -> Model:
    """Return the Model with a changed spec of the same generation."""
    return msgspec.structs.replace(model, spec=msgspec.structs.replace(model.spec, **changes))


def writes(state: ObservedState, now: float = NOW) -> dict[str, WriteStatus]:
    """Return the last status write of each key, once all is settled."""
    return {write.key: write for write in settle(state, now).writes}


def placed(write: WriteStatus) -> PlacedStatus:
    """Return the status of a write."""
    assert isinstance(write.status, PlacedStatus)
    return write.status


def placement_of(write: WriteStatus) -> Placement:
    """Return the placement of a status write; an empty one if it has none."""
    return placed(write).placement or Placement()


def node(write: WriteStatus) -> str:
    """Return the node of a status write."""
    return placement_of(write).node


def only_write(*parts: Any, now: float = NOW) -> WriteStatus:
    """Return the only status write for the observed parts."""
    (write,) = writes(a_state(*parts), now).values()
    return write


def later(state: ObservedState, now: float, *observed: AnyEvent) -> ObservedState:
    """Return the state after events at a later time."""
    return apply_events(state, [Observation(event, now) for event in observed])


def test_a_model_without_devices_gets_the_node_with_the_fewest_models() -> None:
    """Spread, then by name."""
    write = only_write(
        a_node("a"),
        a_node("b"),
        a_placed("other", node="a"),
        running(a_placed("other"), a_pod(a_placed("other"))),
        a_new(),
    )
    assert (write.condition.status, node(write)) == ("True", "b")


def test_the_tightest_device_is_taken() -> None:
    """Best fit: 10 GB free, not 24."""
    write = only_write(
        a_gpu_node("big"),
        telemetry("big", 24000),
        a_gpu_node("snug"),
        telemetry("snug", 10000),
        a_new(gpu=CARD),
    )
    assert placement_of(write) == Placement(
        node="snug",
        devices=devices_of({"snug-0": 24576}, 8000),
        vendor="nvidia",
        architecture="sm_86",
        binding="DevicePlugin",
        score=80,
        footprint_mb=8000,
        footprint_source="Estimate",
        reason="10000 MiB free on 1 device",
    )


def test_without_an_estimate_the_device_with_most_free_memory_is_taken() -> None:
    """Its size is unknown."""
    write = only_write(
        a_gpu_node("big"),
        telemetry("big", 24000),
        a_gpu_node("snug"),
        telemetry("snug", 10000),
        a_new(gpu=Gpu(vendor="auto")),
    )
    assert node(write) == "big"


def test_the_estimate_is_of_the_whole_model_and_divided_over_its_devices() -> None:
    """8001 MiB on two devices are 4001 on each."""
    two = Gpu(vendor="nvidia", count=2, vram_estimate_mb=8001)
    write = only_write(a_gpu_node("a", 2), telemetry("a", 15000, 4001), a_new(gpu=two))
    placement = placement_of(write)
    assert placement.devices == devices_of({"a-1": 24576, "a-0": 24576}, 4001)
    assert (placement.footprint_mb, placement.footprint_source) == (8001, "Estimate")


def test_several_devices_must_each_have_their_part_of_the_memory() -> None:
    """Free memory of two devices does not add up (reliability G20)."""
    two = Gpu(vendor="nvidia", count=2, vram_estimate_mb=8000)
    write = only_write(a_gpu_node("a", 2), telemetry("a", 15000, 3999), a_new(gpu=two))
    cause = (
        "a: model needs 4000 MiB on each of 2 devices, 1 device fits: RTX 3090 a-0 fits; "
        "RTX 3090 a-1 has 3999 MiB of 24576 MiB free"
    )
    assert write.condition.reason == Reason.NO_NODE_FITS
    assert cause in write.condition.message


REFUSALS = [
    pytest.param(a_node("a", ready="False"), a_new(), "a: is not ready", id="not ready"),
    pytest.param(a_node("a", unschedulable=True), a_new(), "a: is cordoned", id="cordoned"),
    pytest.param(
        a_node("a", taints=(Taint(key="team", value="x", effect="NoSchedule"),)),
        a_new(),
        "a: has the taint team=x:NoSchedule",
        id="taint",
    ),
    pytest.param(
        a_node("a"), a_new(node_selector={"disk": "ssd"}), "a: has no label disk=ssd", id="no label"
    ),
    pytest.param(
        a_node("a", labels={"disk": "hdd"}),
        a_new(node_selector={"disk": "ssd"}),
        "a: has the label disk=hdd, ssd required",
        id="label",
    ),
    pytest.param(a_node("a"), a_new(gpu=CARD), "a: offers 0 nvidia.com/gpu, 1 requested", id="no devices"),
    pytest.param(
        a_gpu_node("a"),
        a_new(gpu=Gpu(vendor="amd")),
        "a: offers 0 amd.com/gpu, 1 requested",
        id="other vendor",
    ),
    pytest.param(
        a_gpu_node("a", requested={"nvidia.com/gpu": 1000}),
        a_new(gpu=CARD),
        "a: has 0 of 1 nvidia.com/gpu free, 1 requested",
        id="devices taken",
    ),
    pytest.param(
        a_gpu_node("a", labels={"flexinfer.ai/gpu.vendor": "nvidia"}),
        a_new(gpu=CARD),
        "a: has sent no GPU telemetry yet",
        id="its agent is silent",
    ),
    pytest.param(
        a_node("a"),
        with_spec(a_new(), resources=Resources(requests={"cpu": "9"})),
        "a: has 8 cpu in total, 9 requested",
        id="too small",
    ),
    pytest.param(
        a_node("a", requested={"memory": 15 * 2**30 * 1000}),
        with_spec(a_new(), resources=Resources(limits={"memory": "2Gi"})),
        "a: has 1024Mi memory free, 2048Mi requested",
        id="memory taken",
    ),
]


@pytest.mark.parametrize(("facts", "model", "cause"), REFUSALS)
def test_the_message_says_for_each_node_what_is_missing(facts: NodeFacts, model: Model, cause: str) -> None:
    """With the numbers, and with a remedy."""
    condition = only_write(facts, model).condition
    assert (condition.status, condition.reason) == ("False", Reason.NO_NODE_FITS)
    assert condition.message.startswith(f"no node fits (1 node): {cause}")
    assert "Remedy: " in condition.message


def test_a_device_that_is_too_full_is_named_with_its_numbers() -> None:
    """Free memory is measured, by the agent; the remedy says how much is missing."""
    write = only_write(a_gpu_node("a"), telemetry("a", 3000), a_new(gpu=CARD))
    cause = "a: model needs 8000 MiB on 1 device: RTX 3090 (sm_86) has 3000 MiB of 24576 MiB free"
    assert cause in write.condition.message
    remedy = "Remedy: free 5000 MiB on node a, or lower spec.gpu.vramEstimateMB to 3000 MiB or less"
    assert write.condition.message.endswith(remedy)


@pytest.mark.parametrize("backend", ["vllm", "vllm-omni", "diffusers"])
def test_engines_without_maxwell_support_are_not_put_there(backend: str) -> None:
    """The message names the GPU before anything is started (reliability G21)."""
    maxwell = telemetry("a", 6000, architecture="sm_52", total_mb=6144, name="GTX 980 Ti")
    write = only_write(a_gpu_node("a"), maxwell, a_new(gpu=Gpu(vendor="nvidia"), backend=backend))
    assert f"GTX 980 Ti (sm_52) cannot run {backend}" in write.condition.message


def test_llamacpp_runs_on_maxwell() -> None:
    """It supports old GPUs."""
    maxwell = telemetry("a", 6000, architecture="sm_52", total_mb=6144)
    assert node(only_write(a_gpu_node("a"), maxwell, a_new(gpu=Gpu(vendor="auto")))) == "a"


def test_gpu_models_tolerate_the_taints_of_gpu_nodes() -> None:
    """As their Pods do."""
    taints = (
        Taint(key="nvidia.com/gpu", effect="NoSchedule"),
        Taint(key="dedicated", value="gpu", effect="NoSchedule"),
    )
    assert node(only_write(a_gpu_node("a", taints=taints), telemetry("a", 9000), a_new(gpu=CARD))) == "a"


def test_stale_telemetry_is_not_used_for_a_new_placement() -> None:
    """The device may have been filled since (reliability G3)."""
    state = a_state(a_gpu_node("a"), telemetry("a", 24000), a_new(gpu=CARD))
    (write,) = writes(state, NOW + 31).values()
    assert write.condition.reason == Reason.NO_NODE_FITS


def test_a_placed_model_is_left_as_it_is() -> None:
    """Running or scaled to zero."""
    state = a_state(
        a_node(),
        a_placed("active"),
        running(a_placed("active"), a_pod(a_placed("active"))),
        a_placed("idle", wanted=False),
    )
    assert list(decide(state, NOW)) == []


def test_the_first_status_waits_for_accepted_at_most_a_second() -> None:
    """First statuses are written in the order of the conditions: six writers at once would conflict."""
    state = a_state(a_node(), a_model(placement=None))
    assert list(decide(state, NOW + 0.5)) == [RequeueAt(NOW + 1.0)]
    (write,) = writes(state, NOW + 1.0).values()
    assert (write.condition.status, write.condition.reason) == ("False", Reason.NOT_ACCEPTED)


def test_a_placement_stays_while_a_newer_spec_is_not_accepted() -> None:
    """An unjudged spec revokes nothing."""
    model = a_placed(generation=2, wanted=False)
    assert list(decide(a_state(a_node(), model), NOW)) == []


def test_a_spec_change_without_new_requirements_keeps_the_node() -> None:
    """Also where nothing is free now."""
    states = [
        a_condition("Accepted", generation=2),
        a_condition("Placed"),
        a_condition("Wanted", "False", generation=2),
    ]
    idle = a_placed(generation=2, gpu=CARD, conditions=states)
    full = a_gpu_node("a", requested={"nvidia.com/gpu": 1000})
    write = only_write(full, telemetry("a", 100), a_gpu_node("b"), telemetry("b", 24000), idle)
    assert (node(write), write.condition.observed_generation) == ("a", 2)


def test_a_spec_change_that_the_node_cannot_run_moves_the_model() -> None:
    """The selector matches another node now."""
    states = [
        a_condition("Accepted", generation=2),
        a_condition("Placed"),
        a_condition("Wanted", "False", generation=2),
    ]
    model = a_placed(generation=2, conditions=states, node_selector={"disk": "ssd"})
    assert node(only_write(a_node("a"), a_node("b", labels={"disk": "ssd"}), model)) == "b"


def test_a_running_model_whose_newer_spec_fits_nowhere_keeps_its_placement_in_status() -> None:
    """Its engine still serves the older spec."""
    states = [a_condition(kind, generation=2) for kind in ("Accepted", "Wanted")] + [a_condition("Placed")]
    model = a_placed(generation=2, conditions=states, node_selector={"disk": "ssd"})
    write = only_write(a_node("a"), model, running(model, a_pod(model)))
    assert (write.condition.reason, node(write)) == (Reason.NO_NODE_FITS, "a")


def test_an_idle_model_keeps_its_node_while_others_use_it() -> None:
    """A placement is not a reservation."""
    idle = a_placed(gpu=CARD, wanted=False)
    state = a_state(a_gpu_node("a", requested={"nvidia.com/gpu": 1000}), telemetry("a", 0), idle)
    assert list(decide(state, NOW)) == []


def test_a_wanted_model_without_a_pod_moves_when_its_device_is_in_use() -> None:
    """And only then."""
    wanted = a_placed(gpu=CARD)
    write = only_write(
        a_gpu_node("a", requested={"nvidia.com/gpu": 1000}), a_gpu_node("b"), telemetry("b", 24000), wanted
    )
    assert node(write) == "b"


def test_memory_measured_before_the_model_became_wanted_moves_nothing() -> None:
    """It may show an engine that has just stopped."""
    state = a_state(telemetry("a", 100), a_gpu_node("a"))
    state = later(state, NOW + 1, events.ModelObserved(model=a_placed(gpu=CARD)))
    assert writes(state, NOW + 1) == {}
    after = later(state, NOW + 2, telemetry("a", 100))
    assert writes(after, NOW + 2)["default/llama"].condition.reason == Reason.NO_NODE_FITS


def test_the_model_that_was_wanted_first_starts_first_whatever_the_clocks_say() -> None:
    """The transition times were written by clocks that differ; the order of arrival is the reader's own."""
    card = Gpu(vendor="nvidia", vram_estimate_mb=8000)
    idle = {name: a_placed(name, gpu=card, wanted=False) for name in ("early", "late")}
    state = a_state(a_gpu_node("a"), telemetry("a", 24000), *idle.values())
    for at, (name, clock) in enumerate([("late", "2026-01-01T12:00:00Z"), ("early", "2026-01-01T11:00:00Z")]):
        wanted = msgspec.structs.replace(a_condition("Wanted"), last_transition_time=clock)
        ours = tuple(c for c in idle[name].status.conditions if c.type != "Wanted")
        status = msgspec.structs.replace(idle[name].status, conditions=(*ours, wanted))
        metadata = msgspec.structs.replace(idle[name].metadata, resource_version="2")
        model = msgspec.structs.replace(idle[name], status=status, metadata=metadata)
        state = later(state, NOW + 1 + at, events.ModelObserved(model=model))
    state = later(state, NOW + 3, telemetry("a", 24000))
    after = writes(state, NOW + 3)
    assert after["default/early"].condition.reason == Reason.NO_NODE_FITS
    assert placement_of(after["default/late"]).checked_for == "2026-01-01T12:00:00Z"


def test_a_namesake_inherits_no_wait() -> None:
    """A minute on a node that is not ready counts from when this very Model was seen there."""
    unhealthy = ("Placed", "True", Reason.NODE_NOT_READY)
    states = (unhealthy, "Accepted", "Wanted")
    old, new = a_model(conditions=states), a_model(conditions=states, uid="uid-newer", version=9)
    state = a_state(a_node("a", ready="Unknown"), a_node("b"), old, running(old, a_pod(old)))
    gone = events.ModelDeleted(namespace="default", name="llama", uid=old.uid, version=8)
    state = later(state, NOW + 59, gone, events.ModelObserved(model=new))
    assert list(decide(state, NOW + 61))[-1] == RequeueAt(NOW + 59 + GONE_SECONDS)


def test_telemetry_that_falls_silent_is_noticed_without_an_event() -> None:
    """Nothing is decided periodically: the decision says when it changes by itself."""
    state = a_state(
        a_gpu_node("a"), telemetry("a", 24000), a_gpu_node("b"), a_new(gpu=Gpu(vendor="nvidia", count=2))
    )
    settled = settle(state, NOW)
    assert RequeueAt(NOW + STALE_SECONDS) in settled.requeues


def test_two_always_on_models_do_not_get_the_same_device() -> None:
    """The second does not fit."""
    on = {"enabled": False}
    state = a_state(
        a_gpu_node("a"),
        telemetry("a", 24000),
        a_new("one", gpu=CARD, serverless=on),
        a_new("two", gpu=CARD, serverless=on),
    )
    reasons = {key: write.condition.reason for key, write in writes(state).items()}
    assert reasons == {"default/one": Reason.PLACED, "default/two": Reason.NO_NODE_FITS}


def test_members_of_a_group_share_one_node() -> None:
    """Although another node would be a tighter fit."""
    first = a_placed("first", gpu=TEAM, wanted=False)
    write = only_write(
        a_gpu_node("a"),
        telemetry("a", 24000),
        a_gpu_node("b"),
        telemetry("b", 9000),
        first,
        a_new("second", gpu=TEAM),
    )
    assert (node(write), placement_of(write).uuids) == ("a", ("a-0",))


def test_a_member_is_placed_while_another_fills_the_device() -> None:
    """The holder stops before the next member starts."""
    first = a_placed("first", gpu=TEAM)
    busy = a_gpu_node("a", requested={"nvidia.com/gpu": 1000})
    write = only_write(
        busy, telemetry("a", 500), first, running(first, a_pod(first)), a_new("second", gpu=TEAM)
    )
    assert node(write) == "a"


def test_the_devices_of_a_group_are_reserved_for_it() -> None:
    """Neither to another group nor to a Model without one; the message names the group."""
    first = a_placed("first", gpu=TEAM, wanted=False)
    write = only_write(a_gpu_node("a"), telemetry("a", 24000), first, a_new("other", gpu=CARD))
    assert "reserved for the shared group card" in write.condition.message


def test_a_model_that_left_a_group_but_holds_its_turn_keeps_the_devices_reserved() -> None:
    """Until its memory is free."""
    left = a_placed("left", gpu=Gpu(vendor="nvidia", shared="new", vram_estimate_mb=8000))
    held = a_group(a_holder("left"), name="old")
    busy = a_gpu_node("a", requested={"nvidia.com/gpu": 1000})
    other = a_new("other", gpu=Gpu(vendor="nvidia", shared="third"))
    assert (
        writes(a_state(busy, telemetry("a", 24000), left, running(left, a_pod(left)), held, other))[
            "default/other"
        ].condition.reason
        == Reason.NO_NODE_FITS
    )


def test_a_turn_keeps_devices_reserved_after_the_spec_of_its_holder_has_none() -> None:
    """The SharedGroup has them; another Model can be evaluated meanwhile."""
    left = a_placed("left", gpu=None)
    held = a_group(a_holder("left", devices=("a-0",)), name="old")
    parts = (a_gpu_node("a"), telemetry("a", 24000), left, running(left, a_pod(left)), held)
    write = writes(a_state(*parts, a_new("other", gpu=CARD)))["default/other"]
    assert "reserved for the shared group old" in write.condition.message


def test_a_turn_without_devices_or_telemetry_blocks_no_other_model() -> None:
    """A device of an unknown vendor is not reserved."""
    left = a_placed("left", gpu=None)
    other, held = a_new("other"), a_group(a_holder("left"), name="old")
    by_key = writes(a_state(a_gpu_node("a"), left, running(left, a_pod(left)), held, other))
    assert node(by_key["default/other"]) == "a"


def test_a_model_that_holds_a_turn_is_not_moved() -> None:
    """Neither because its node has nothing left or is silent, nor into the group that it goes to; once its turn is over it is."""
    holder = a_placed("left", gpu=Gpu(vendor="nvidia", shared="new", vram_estimate_mb=8000))
    first = a_placed("first", node="b", gpu=Gpu(vendor="nvidia", shared="new"), wanted=False)
    nodes = (a_gpu_node("a"), a_gpu_node("b"), telemetry("b", 24000), telemetry("a", 24000))
    held = a_group(a_holder("left", devices=("a-0",)), name="old")
    state = a_state(*nodes, holder, first, held)
    assert writes(state) == {}
    assert writes(state, NOW + STALE_SECONDS) == {}
    freed = later(state, NOW + 1, events.GroupObserved(group=a_group(name="old", version=2)))
    assert node(writes(freed, NOW + 1)["default/left"]) == "b"


@pytest.mark.parametrize("placed_on", ["", "b"])
def test_the_devices_of_a_turn_are_reserved_where_they_were_granted(placed_on: str) -> None:
    """Wherever its Model is placed now, and if it was deleted."""
    held = a_group(a_holder("left", devices=("a-0",)), name="card")
    models = [a_placed("left", node=placed_on, gpu=TEAM)] if placed_on else []
    nodes = (a_gpu_node("a"), telemetry("a", 24000), a_gpu_node("b", requested={"nvidia.com/gpu": 1000}))
    other = a_new("other", gpu=Gpu(vendor="nvidia", shared="third"))
    write = writes(a_state(*nodes, held, other, *models))["default/other"]
    assert "reserved for the shared group card" in write.condition.message


def test_a_model_that_leaves_a_group_does_not_take_its_devices_into_the_next() -> None:
    """Other members of that one are not bound to where it still runs."""
    left = a_placed("left", gpu=Gpu(vendor="nvidia", shared="new", vram_estimate_mb=8000))
    held = a_group(a_holder("left", devices=("a-0",)), name="old")
    nodes = (a_gpu_node("a"), telemetry("a", 24000), a_gpu_node("b"), telemetry("b", 24000))
    other = a_new("other", gpu=Gpu(vendor="nvidia", shared="new"))
    state = a_state(*nodes, left, running(left, a_pod(left)), held, other)
    assert node(writes(state)["default/other"]) == "b"


def test_two_groups_on_one_node_get_different_devices() -> None:
    """Also one that was assigned to those of the other; it moves when it is to start."""
    first = a_placed("first", gpu=TEAM, wanted=False)
    two = (a_gpu_node("a", 2), telemetry("a", 24000, 24000))
    other = Gpu(vendor="nvidia", shared="other", vram_estimate_mb=8000)
    assert placement_of(only_write(*two, first, a_new("other", gpu=other))).uuids == ("a-1",)
    assert placement_of(only_write(*two, first, a_placed("other", gpu=other))).uuids == ("a-1",)


def test_a_member_that_the_node_of_its_group_cannot_run_says_so() -> None:
    """A group does not move while a member runs."""
    first = a_placed("first", gpu=TEAM)
    large = a_new("large", gpu=Gpu(vendor="nvidia", shared="card", vram_estimate_mb=40000))
    state = a_state(
        a_gpu_node("a", requested={"nvidia.com/gpu": 1000}),
        telemetry("a", 9000),
        a_gpu_node("b"),
        telemetry("b", 48000, total_mb=49152),
        first,
        running(first, a_pod(first)),
        large,
    )
    message = writes(state)["default/large"].condition.message
    assert "no node fits (1 node; members of the shared group card run on a)" in message
    assert "40000 MiB" in message


def test_a_model_without_devices_leaves_a_node_that_is_not_ready_for_a_minute() -> None:
    """The condition announces it first."""
    model = a_placed()
    state = a_state(a_node("a", ready="Unknown"), a_node("b"), model, running(model, a_pod(model)))
    (write,) = writes(state).values()
    assert (write.condition.status, write.condition.reason) == ("True", Reason.NODE_NOT_READY)
    state = apply(state, write, NOW)
    assert list(decide(state, NOW + 1)) == [RequeueAt(NOW + GONE_SECONDS)]
    paused = msgspec.structs.replace(state, caught_up_at=NOW + 59)
    assert list(decide(paused, NOW + GONE_SECONDS)) == [CatchUp()]  # its return may not have been read yet
    (gone,) = writes(state, NOW + GONE_SECONDS).values()
    assert (gone.condition.status, gone.condition.reason, node(gone)) == ("False", Reason.NODE_GONE, "a")
    state = apply(state, gone, NOW + 61)
    assert writes(state, NOW + 61) == {}
    empty = events.WorkloadDeleted(namespace="default", name="llama")
    (moved,) = writes(later(state, NOW + 62, empty), NOW + 62).values()
    assert (moved.condition.status, node(moved)) == ("True", "b")


def test_a_model_with_devices_stays_on_a_node_that_is_not_ready_and_the_message_names_the_remedies() -> None:
    """Its process may still hold the device (reliability G7)."""
    model = a_placed(gpu=CARD)
    state = a_state(
        a_gpu_node("a", ready="Unknown"),
        a_gpu_node("b"),
        telemetry("b", 24000),
        model,
        running(model, a_pod(model)),
    )
    (write,) = writes(state).values()
    assert "kubectl delete node a" in write.condition.message
    assert OUT_OF_SERVICE_TAINT in write.condition.message
    assert list(decide(apply(state, write, NOW), NOW + 3600)) == []


@pytest.mark.parametrize("state", ["deleted", "tainted"])
def test_a_model_with_devices_leaves_a_node_that_is_deleted_or_out_of_service(state: str) -> None:
    """The administrator has said that nothing runs there."""
    model = a_placed(gpu=CARD)
    taint = Taint(key=OUT_OF_SERVICE_TAINT, value="nodeshutdown", effect="NoExecute")
    nodes = [a_gpu_node("a", ready="Unknown", taints=(taint,))] if state == "tainted" else []
    write = only_write(*nodes, model, running(model, a_pod(model)))
    assert (write.condition.reason, node(write)) == (Reason.NODE_GONE, "a")


def test_a_model_is_placed_as_before_when_its_node_is_ready_again() -> None:
    """Its assignment was kept."""
    states = [
        a_condition("Accepted"),
        a_condition("Placed", reason=Reason.NODE_NOT_READY),
        a_condition("Wanted"),
    ]
    model = a_placed(conditions=states)
    write = only_write(a_node("a"), model, running(model, a_pod(model)))
    assert (write.condition.reason, node(write)) == (Reason.PLACED, "a")


def test_a_deleted_model_is_left_alone() -> None:
    """It needs no node."""
    assert list(decide(a_state(a_node(), a_new(deletion_timestamp="2026-11-24T12:00:00Z")), NOW)) == []


def test_free_memory_that_hardly_moves_is_not_written_again() -> None:
    """Telemetry comes every second; status does not."""
    state = a_state(a_gpu_node("a"), telemetry("a", 3000), a_new(gpu=CARD))
    state = apply(state, writes(state)["default/llama"], NOW)
    assert writes(later(state, NOW + 1, telemetry("a", 3100)), NOW + 1) == {}
    assert writes(later(state, NOW + 1, telemetry("a", 5000)), NOW + 1) != {}


def apply(state: ObservedState, write: WriteStatus, now: float) -> ObservedState:
    """Return the state after a status was written."""
    model = state.models[write.key]
    others = tuple(c for c in model.status.conditions if c.type != write.condition.type)
    status = msgspec.structs.replace(
        model.status, conditions=(*others, write.condition), placement=placed(write).placement
    )
    meta = msgspec.structs.replace(model.metadata, resource_version=str(model.metadata.version + 1))
    written = msgspec.structs.replace(model, status=status, metadata=meta)
    return later(state, now, events.ModelObserved(model=written))


def test_a_node_whose_name_has_a_number_is_named_as_it_is() -> None:
    """Only amounts of memory are compared with a tolerance."""
    model = a_placed(node="gpu-10", gpu=CARD)
    model = apply_message(model, "scheduled to node gpu-10 (1 nvidia device, 8000 MiB)")
    full = a_gpu_node("gpu-10", requested={"nvidia.com/gpu": 1000})
    write = only_write(full, a_gpu_node("gpu-11"), telemetry("gpu-11", 24000), model)
    assert write.condition.message == "scheduled to node gpu-11 (1 nvidia device, 8000 MiB)"


def apply_message(model: Model, message: str) -> Model:
    """Return the Model with the message of its condition Placed."""
    changed = tuple(
        msgspec.structs.replace(c, message=message) if c.type == "Placed" else c
        for c in model.status.conditions
    )
    return msgspec.structs.replace(model, status=msgspec.structs.replace(model.status, conditions=changed))


def test_an_estimate_beyond_every_card_and_every_number_is_refused_and_fits_a_status() -> None:
    """Where the CRD of an earlier release let it through (reliability G22)."""
    for estimate in (2**31, 2**63 - 1, 2**64):
        write = only_write(
            a_gpu_node(), telemetry("a", 24000), a_new(gpu=Gpu(vendor="nvidia", vram_estimate_mb=estimate))
        )
        assert write.condition.reason == Reason.NO_NODE_FITS
        assert f"model needs {min(estimate, 2**63 - 1)} MiB on 1 device" in write.condition.message
