"""The placer: where each Model lives, and what it says when there is no place."""

from typing import Any

import msgspec
import pytest

from flexinfer.api.labels import OUT_OF_SERVICE_TAINT
from flexinfer.api.model import Gpu, Model, Placement, Resources
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.nodes import Device, NodeFacts, Taint
from flexinfer.events.workload import FREED, GRANTED, GroupLease
from flexinfer.placer.decide import GONE_SECONDS, decide
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from tests.builders import NOW, a_condition, a_fleet, a_model, a_node, a_pod, all_true, running

CARD = Gpu(vendor="nvidia", vram_estimate_mb=8000)
TEAM = Gpu(vendor="nvidia", shared="card", vram_estimate_mb=8000)


def a_new(name: str = "llama", **changes: Any) -> Model:
    """Return a Model that was just accepted."""
    return a_model(name, **({"conditions": ["Accepted"], "placement": None} | changes))


def a_housed(name: str = "llama", *, node: str = "a", wanted: bool = True, **changes: Any) -> Model:
    """Return a Model with a home, awake or asleep."""
    said = (
        all_true()
        if wanted
        else all_true(("Wanted", "False", Reason.IDLE), ("Ready", "False", Reason.STOPPED))
    )
    vendor = "nvidia" if changes.get("gpu") else "cpu"
    devices = changes.pop("devices", (f"{node}-0",) if changes.get("gpu") else ())
    footprint = 8000 if changes.get("gpu") else 0
    placement = Placement(node=node, vendor=vendor, devices=devices, footprint=footprint)
    return a_model(name, **({"conditions": said, "placement": placement} | changes))


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


def told(state: ObservedState, now: float = NOW) -> dict[str, WriteStatus]:
    """Return key -> report."""
    return {a.key: a for a in decide(state, now) if isinstance(a, WriteStatus)}


def home(report: WriteStatus) -> str:
    """Return the node of a report."""
    placement = report.fields["placement"]
    return placement.node if placement is not None else ""


def sole(*parts: Any, now: float = NOW) -> WriteStatus:
    """Return the only report on a fleet of the parts."""
    (report,) = told(a_fleet(*parts), now).values()
    return report


def later(state: ObservedState, now: float, *facts: AnyEvent) -> ObservedState:
    """Return the fleet after facts at a later moment."""
    return apply_events(state, [Observation(fact, now) for fact in facts])


def test_a_model_without_devices_gets_the_node_with_the_fewest_models() -> None:
    """Spread, then by name."""
    report = sole(
        a_node("a"),
        a_node("b"),
        a_housed("other", node="a"),
        running(a_housed("other"), a_pod(a_housed("other"))),
        a_new(),
    )
    assert (report.condition.status, home(report)) == ("True", "b")


def test_the_tightest_device_is_taken() -> None:
    """Best fit: 10 GB free, not 24."""
    report = sole(
        a_gpu_node("big"),
        telemetry("big", 24000),
        a_gpu_node("snug"),
        telemetry("snug", 10000),
        a_new(gpu=CARD),
    )
    assert report.fields["placement"] == Placement(
        node="snug",
        devices=("snug-0",),
        vendor="nvidia",
        architecture="sm_86",
        binding="DevicePlugin",
        score=80,
        footprint=8000,
        reason="10000 MB free on 1 device(s)",
    )


def test_without_an_estimate_the_device_with_most_room_is_taken() -> None:
    """Nobody knows how large it is."""
    report = sole(
        a_gpu_node("big"),
        telemetry("big", 24000),
        a_gpu_node("snug"),
        telemetry("snug", 10000),
        a_new(gpu=Gpu(vendor="auto")),
    )
    assert home(report) == "big"


def test_several_devices_must_each_have_the_room() -> None:
    """The sum of two halves is no whole."""
    two = Gpu(vendor="nvidia", count=2, vram_estimate_mb=8000)
    report = sole(a_gpu_node("a", 2), telemetry("a", 15000, 4000), a_new(gpu=two))
    assert (report.condition.reason, "15000 MB free at most" in report.condition.message) == (
        Reason.NO_NODE_FITS,
        True,
    )


REFUSALS = [
    pytest.param(a_node("a", ready="False"), a_new(), "a is not ready", id="not ready"),
    pytest.param(a_node("a", unschedulable=True), a_new(), "a is cordoned", id="cordoned"),
    pytest.param(
        a_node("a", taints=(Taint(key="team", value="x", effect="NoSchedule"),)),
        a_new(),
        "a has the taint team=x:NoSchedule",
        id="taint",
    ),
    pytest.param(
        a_node("a"), a_new(node_selector={"disk": "ssd"}), "a lacks the label disk=ssd", id="no label"
    ),
    pytest.param(
        a_node("a", labels={"disk": "hdd"}),
        a_new(node_selector={"disk": "ssd"}),
        "a has disk=hdd, not ssd",
        id="label",
    ),
    pytest.param(a_node("a"), a_new(gpu=CARD), "a offers 0 nvidia.com/gpu, 1 asked for", id="no devices"),
    pytest.param(
        a_gpu_node("a"),
        a_new(gpu=Gpu(vendor="amd")),
        "a offers 0 amd.com/gpu, 1 asked for",
        id="other vendor",
    ),
    pytest.param(
        a_gpu_node("a", requested={"nvidia.com/gpu": 1000}),
        a_new(gpu=CARD),
        "a has 0 of 1 nvidia.com/gpu free, 1 asked for",
        id="devices taken",
    ),
    pytest.param(
        a_gpu_node("a"), a_new(gpu=CARD), "a has sent no telemetry of its devices for 30 s", id="silence"
    ),
    pytest.param(
        a_node("a"),
        with_spec(a_new(), resources=Resources(requests={"cpu": "9"})),
        "a has 8 cpu in all, 9 asked for",
        id="too small",
    ),
    pytest.param(
        a_node("a", requested={"memory": 15 * 2**30 * 1000}),
        with_spec(a_new(), resources=Resources(limits={"memory": "2Gi"})),
        "a has 1024Mi memory free, 2048Mi asked for",
        id="memory taken",
    ),
]


@pytest.mark.parametrize(("node", "model", "says"), REFUSALS)
def test_a_refusal_says_for_each_node_what_is_missing(node: NodeFacts, model: Model, says: str) -> None:
    """With the numbers, and with what would help."""
    condition = sole(node, model).condition
    assert (condition.status, condition.reason) == ("False", Reason.NO_NODE_FITS)
    assert says in condition.message
    assert "What helps:" in condition.message


def test_a_device_that_is_too_full_is_named_with_its_numbers() -> None:
    """What is free is what was measured."""
    report = sole(a_gpu_node("a"), telemetry("a", 3000), a_new(gpu=CARD))
    assert "a needs 8000 MB on each of 1 device(s), 3000 MB free at most" in report.condition.message


@pytest.mark.parametrize("backend", ["vllm", "vllm-omni", "diffusers"])
def test_engines_without_maxwell_support_are_not_put_there(backend: str) -> None:
    """A GTX 980 Ti says so before anything is started."""
    maxwell = telemetry("a", 6000, architecture="sm_52", total_mb=6144, name="GTX 980 Ti")
    report = sole(a_gpu_node("a"), maxwell, a_new(gpu=Gpu(vendor="nvidia"), backend=backend))
    assert f"its GTX 980 Ti (sm_52) cannot run {backend}" in report.condition.message


def test_llamacpp_runs_on_maxwell() -> None:
    """Old cards are welcome."""
    maxwell = telemetry("a", 6000, architecture="sm_52", total_mb=6144)
    assert home(sole(a_gpu_node("a"), maxwell, a_new(gpu=Gpu(vendor="auto")))) == "a"


def test_gpu_models_tolerate_the_taints_of_gpu_nodes() -> None:
    """As their Pods do."""
    taints = (
        Taint(key="nvidia.com/gpu", effect="NoSchedule"),
        Taint(key="dedicated", value="gpu", effect="NoSchedule"),
    )
    assert home(sole(a_gpu_node("a", taints=taints), telemetry("a", 9000), a_new(gpu=CARD))) == "a"


def test_stale_telemetry_is_not_believed_for_a_new_home() -> None:
    """Somebody else may have filled the device since."""
    state = a_fleet(a_gpu_node("a"), telemetry("a", 24000), a_new(gpu=CARD))
    (report,) = told(state, NOW + 31).values()
    assert report.condition.reason == Reason.NO_NODE_FITS


def test_nothing_is_said_of_a_model_that_has_its_home() -> None:
    """Neither awake nor asleep."""
    state = a_fleet(
        a_node(),
        a_housed("awake"),
        running(a_housed("awake"), a_pod(a_housed("awake"))),
        a_housed("asleep", wanted=False),
    )
    assert list(decide(state, NOW)) == []


def test_a_first_verdict_waits_for_accepted_but_not_for_ever() -> None:
    """The row is Accepted, Placed, ...: six writers at once would conflict."""
    state = a_fleet(a_node(), a_model(placement=None))
    assert list(decide(state, NOW + 0.5)) == [RequeueAt(NOW + 1.0)]
    (report,) = told(state, NOW + 1.0).values()
    assert (report.condition.status, report.condition.reason) == ("False", Reason.NOT_ACCEPTED)


def test_a_home_is_not_taken_back_because_a_newer_spec_is_not_accepted() -> None:
    """Gates open; they do not close."""
    housed = a_housed(generation=2, wanted=False)
    assert list(decide(a_fleet(a_node(), housed), NOW)) == []


def test_a_generation_that_changes_nothing_gets_the_same_home_at_once() -> None:
    """Even where nothing is free now."""
    said = [
        a_condition("Accepted", generation=2),
        a_condition("Placed"),
        a_condition("Wanted", "False", generation=2),
    ]
    asleep = a_housed(generation=2, gpu=CARD, conditions=said)
    full = a_gpu_node("a", requested={"nvidia.com/gpu": 1000})
    report = sole(full, telemetry("a", 100), a_gpu_node("b"), telemetry("b", 24000), asleep)
    assert (home(report), report.condition.observed_generation) == ("a", 2)


def test_a_generation_that_no_longer_fits_its_home_moves() -> None:
    """The selector names another node now."""
    said = [
        a_condition("Accepted", generation=2),
        a_condition("Placed"),
        a_condition("Wanted", "False", generation=2),
    ]
    model = a_housed(generation=2, conditions=said, node_selector={"disk": "ssd"})
    assert home(sole(a_node("a"), a_node("b", labels={"disk": "ssd"}), model)) == "b"


def test_a_running_model_whose_newer_spec_fits_nowhere_says_where_it_runs() -> None:
    """Its engine goes on with the older spec."""
    said = [a_condition(kind, generation=2) for kind in ("Accepted", "Wanted")] + [a_condition("Placed")]
    model = a_housed(generation=2, conditions=said, node_selector={"disk": "ssd"})
    report = sole(a_node("a"), model, running(model, a_pod(model)))
    assert (report.condition.reason, home(report)) == (Reason.NO_NODE_FITS, "a")


def test_a_sleeping_model_keeps_its_home_while_others_use_it() -> None:
    """Placement is a home, not a reservation."""
    asleep = a_housed(gpu=CARD, wanted=False)
    state = a_fleet(a_gpu_node("a", requested={"nvidia.com/gpu": 1000}), telemetry("a", 0), asleep)
    assert list(decide(state, NOW)) == []


def test_a_wanted_model_without_a_pod_moves_when_its_home_is_taken() -> None:
    """Only then."""
    wanted = a_housed(gpu=CARD)
    report = sole(
        a_gpu_node("a", requested={"nvidia.com/gpu": 1000}), a_gpu_node("b"), telemetry("b", 24000), wanted
    )
    assert home(report) == "b"


def test_memory_measured_before_the_wish_to_run_moves_nobody() -> None:
    """It may still show the engine that has just stopped."""
    state = a_fleet(telemetry("a", 100), a_gpu_node("a"))
    state = later(state, NOW + 1, events.ModelObserved(model=a_housed(gpu=CARD)))
    assert list(decide(state, NOW + 1)) == []
    after = later(state, NOW + 2, telemetry("a", 100))
    assert told(after, NOW + 2)["default/llama"].condition.reason == Reason.NO_NODE_FITS


def test_two_always_on_models_do_not_count_on_the_same_device() -> None:
    """The second is told why."""
    on = {"enabled": False}
    state = a_fleet(
        a_gpu_node("a"),
        telemetry("a", 24000),
        a_new("one", gpu=CARD, serverless=on),
        a_new("two", gpu=CARD, serverless=on),
    )
    verdicts = {key: report.condition.reason for key, report in told(state).items()}
    assert verdicts == {"default/one": Reason.PLACED, "default/two": Reason.NO_NODE_FITS}


def test_members_of_a_group_share_one_home() -> None:
    """Although another node would be tighter."""
    first = a_housed("first", gpu=TEAM, wanted=False)
    report = sole(
        a_gpu_node("a"),
        telemetry("a", 24000),
        a_gpu_node("b"),
        telemetry("b", 9000),
        first,
        a_new("second", gpu=TEAM),
    )
    assert (home(report), report.fields["placement"].devices) == ("a", ("a-0",))


def test_a_member_gets_its_home_while_another_fills_the_device() -> None:
    """Whoever fills it leaves before the next starts."""
    first = a_housed("first", gpu=TEAM)
    busy = a_gpu_node("a", requested={"nvidia.com/gpu": 1000})
    report = sole(busy, telemetry("a", 500), first, running(first, a_pod(first)), a_new("second", gpu=TEAM))
    assert home(report) == "a"


def test_the_home_of_a_group_is_offered_to_no_other() -> None:
    """Neither to another group nor to a Model without one; the message names the group."""
    first = a_housed("first", gpu=TEAM, wanted=False)
    report = sole(a_gpu_node("a"), telemetry("a", 24000), first, a_new("other", gpu=CARD))
    assert "home of the shared group card" in report.condition.message


def test_who_left_a_group_but_holds_its_turn_still_keeps_its_home() -> None:
    """Until that Lease is Freed."""
    left = a_housed("left", gpu=Gpu(vendor="nvidia", shared="new", vram_estimate_mb=8000))
    lease = GroupLease(
        namespace="default", group="old", holder="left", holder_uid=left.uid, step=GRANTED, turn=1
    )
    held = running(left, a_pod(left), lease=lease)
    busy = a_gpu_node("a", requested={"nvidia.com/gpu": 1000})
    other = a_new("other", gpu=Gpu(vendor="nvidia", shared="third"))
    assert (
        told(a_fleet(busy, telemetry("a", 24000), left, held, other))["default/other"].condition.reason
        == Reason.NO_NODE_FITS
    )
    assert lease.step != FREED


def test_who_wants_no_device_any_more_but_holds_a_turn_keeps_it_for_the_group() -> None:
    """Its spec says nothing of devices now; its turn's Lease does, and another Model can be judged meanwhile."""
    left = a_housed("left", gpu=None)
    lease = GroupLease(
        namespace="default",
        group="old",
        holder="left",
        holder_uid=left.uid,
        step=GRANTED,
        turn=1,
        node="a",
        devices=("a-0",),
    )
    parts = (a_gpu_node("a"), telemetry("a", 24000), left, running(left, a_pod(left), lease=lease))
    report = told(a_fleet(*parts, a_new("other", gpu=CARD)))["default/other"]
    assert "home of the shared group old" in report.condition.message


def test_who_left_a_group_without_telemetry_of_its_device_troubles_nobody() -> None:
    """What cannot be known of a kept device is not guessed."""
    left = a_housed("left", gpu=None)
    lease = GroupLease(
        namespace="default", group="old", holder="left", holder_uid=left.uid, step=GRANTED, turn=1
    )
    other = a_new("other")
    found = told(a_fleet(a_gpu_node("a"), left, running(left, a_pod(left), lease=lease), other))
    assert home(found["default/other"]) == "a"


def test_a_member_that_the_groups_home_cannot_take_is_told_so() -> None:
    """While a member lives there nobody moves."""
    first = a_housed("first", gpu=TEAM)
    large = a_new("large", gpu=Gpu(vendor="nvidia", shared="card", vram_estimate_mb=40000))
    state = a_fleet(
        a_gpu_node("a", requested={"nvidia.com/gpu": 1000}),
        telemetry("a", 9000),
        a_gpu_node("b"),
        telemetry("b", 48000, total_mb=49152),
        first,
        running(first, a_pod(first)),
        large,
    )
    message = told(state)["default/large"].condition.message
    assert "members of the shared group card live on a" in message
    assert "40000 MB" in message


def test_a_silent_node_moves_a_model_without_devices_after_a_minute() -> None:
    """First it is said, then it is done."""
    model = a_housed()
    state = a_fleet(a_node("a", ready="Unknown"), a_node("b"), model, running(model, a_pod(model)))
    (report,) = told(state).values()
    assert (report.condition.status, report.condition.reason) == ("True", Reason.NODE_NOT_READY)
    state = apply(state, report, NOW)
    assert list(decide(state, NOW + 1)) == [RequeueAt(NOW + GONE_SECONDS)]
    (gone,) = told(state, NOW + GONE_SECONDS).values()
    assert (gone.condition.status, gone.condition.reason, home(gone)) == ("False", Reason.NODE_GONE, "a")
    state = apply(state, gone, NOW + 61)
    assert told(state, NOW + 61) == {}
    empty = events.WorkloadDeleted(namespace="default", name="llama")
    (moved,) = told(later(state, NOW + 62, empty), NOW + 62).values()
    assert (moved.condition.status, home(moved)) == ("True", "b")


def test_a_silent_node_keeps_a_model_with_devices_and_its_message_names_the_exits() -> None:
    """Its process may still hold the card."""
    model = a_housed(gpu=CARD)
    state = a_fleet(
        a_gpu_node("a", ready="Unknown"),
        a_gpu_node("b"),
        telemetry("b", 24000),
        model,
        running(model, a_pod(model)),
    )
    (report,) = told(state).values()
    assert "kubectl delete node a" in report.condition.message
    assert OUT_OF_SERVICE_TAINT in report.condition.message
    assert list(decide(apply(state, report, NOW), NOW + 3600)) == []


@pytest.mark.parametrize("exit_", ["deleted", "tainted"])
def test_a_model_with_devices_leaves_a_node_that_is_deleted_or_out_of_service(exit_: str) -> None:
    """The administrator vouches for it."""
    model = a_housed(gpu=CARD)
    taint = Taint(key=OUT_OF_SERVICE_TAINT, value="nodeshutdown", effect="NoExecute")
    nodes = [a_gpu_node("a", ready="Unknown", taints=(taint,))] if exit_ == "tainted" else []
    report = sole(*nodes, model, running(model, a_pod(model)))
    assert (report.condition.reason, home(report)) == (Reason.NODE_GONE, "a")


def test_a_node_that_returns_is_home_again() -> None:
    """Nothing was given away."""
    said = [
        a_condition("Accepted"),
        a_condition("Placed", reason=Reason.NODE_NOT_READY),
        a_condition("Wanted"),
    ]
    model = a_housed(conditions=said)
    report = sole(a_node("a"), model, running(model, a_pod(model)))
    assert (report.condition.reason, home(report)) == (Reason.PLACED, "a")


def test_a_deleted_model_is_left_alone() -> None:
    """It needs no home."""
    assert list(decide(a_fleet(a_node(), a_new(deletion_timestamp="2026-11-24T12:00:00Z")), NOW)) == []


def test_free_memory_that_hardly_moves_is_not_written_again() -> None:
    """Telemetry comes every second; status does not."""
    state = a_fleet(a_gpu_node("a"), telemetry("a", 3000), a_new(gpu=CARD))
    state = apply(state, told(state)["default/llama"], NOW)
    assert told(later(state, NOW + 1, telemetry("a", 3100)), NOW + 1) == {}
    assert told(later(state, NOW + 1, telemetry("a", 5000)), NOW + 1) != {}


def apply(state: ObservedState, report: WriteStatus, now: float) -> ObservedState:
    """Return the fleet after a report was written."""
    former = state.models[report.key]
    others = tuple(c for c in former.status.conditions if c.type != report.condition.type)
    status = msgspec.structs.replace(
        former.status, conditions=(*others, report.condition), placement=report.fields["placement"]
    )
    meta = msgspec.structs.replace(former.metadata, resource_version=str(former.metadata.version + 1))
    written = msgspec.structs.replace(former, status=status, metadata=meta)
    return later(state, now, events.ModelObserved(model=written))
