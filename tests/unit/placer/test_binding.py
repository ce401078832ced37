"""The way in which a Pod gets its devices: chosen by what the node offers, recorded in the placement, and whether it shares them."""

from typing import Any

import msgspec
import pytest

from flexinfer.api.model import Gpu, Model
from flexinfer.api.placement import Placement
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.nodes import Device, DraDevice, NodeFacts
from flexinfer.placer.offers import Offer, offer, rounded
from flexinfer.state.observed import ObservedState
from tests.builders import NOW, a_group, a_holder, a_node, a_pod, a_state, all_true, running
from tests.unit.placer.test_decide import CARD, TEAM, a_new, a_placed, later, only_write, placement_of, writes
from tests.unit.placer.test_memory import becomes_wanted, written

DRIVER = "gpu.flexinfer.test"
GIB = 2**30
FIRST = Device(uuid="GPU-1", name="RTX 3090", pci="0000:01:00.0", total_mb=24576, free_mb=24000)
SECOND = Device(uuid="GPU-2", name="GTX 980 Ti", pci="0000:02:00.0", total_mb=6144, free_mb=6000)
RADEON = Device(uuid="GPU-00112233445566aa", vendor="amd", pci="0000:03:00.0", total_mb=24560, free_mb=24500)
AMD = Gpu(vendor="amd", vram_estimate_mb=8000)


def a_box(*devices: Device, **facts: Any) -> tuple[NodeFacts, events.GpusObserved]:
    """Return a node with these cards, without a device plugin, and its telemetry."""
    plugin = facts.pop("plugin", {})
    node = a_node("a", allocatable={"cpu": 8000, "pods": 110_000} | plugin, **facts)
    return node, events.GpusObserved(node="a", boot="b", sample=1, devices=devices)


def by_dra(*devices: Device, **facts: Any) -> tuple[DraDevice, ...]:
    """Return what a DRA driver says of these cards."""
    known: dict[str, Any] = {"driver": DRIVER, "memory": 24 * GIB} | facts
    return tuple(DraDevice(**({"name": f"gpu-{i}", "uuid": d.uuid} | known)) for i, d in enumerate(devices))


def plugin(number: int, vendor: str = "nvidia") -> dict[str, int]:
    """Return what a device plugin with so many devices makes of a node."""
    return {f"{vendor}.com/gpu": number * 1000}


CHOICES = [
    pytest.param({"plugin": plugin(1)}, ("DevicePlugin", "", "", False), id="a device plugin"),
    pytest.param({"plugin": plugin(4)}, ("DevicePlugin", "", "", True), id="time slices"),
    pytest.param(
        {"plugin": plugin(1), "runtime_classes": {"nvidia": "nv", "amd": "other"}},
        ("DevicePlugin", "", "nv", False),
        id="a device plugin that needs a RuntimeClass",
    ),
    pytest.param({"dra": by_dra(FIRST)}, ("DRA", DRIVER, "", False), id="a DRA driver"),
    pytest.param({"dra": by_dra(FIRST, shared=True)}, ("DRA", DRIVER, "", True), id="DRA, several claims"),
    pytest.param({"runtime_classes": {"nvidia": "nv"}}, ("Visible", "", "nv", True), id="a RuntimeClass"),
    pytest.param(
        {"plugin": plugin(1), "dra": by_dra(FIRST), "runtime_classes": {"nvidia": "nv"}},
        ("DRA", DRIVER, "", False),
        id="all three",
    ),
    pytest.param(
        {"plugin": plugin(1), "dra": by_dra(SECOND)}, ("DevicePlugin", "", "", False), id="DRA of another card"
    ),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "chosen"), CHOICES)
def test_the_way_is_chosen_by_what_the_node_offers(
    facts: dict[str, Any], chosen: tuple[str, str, str, bool]
) -> None:
    """DRA, which alone gives the very device, before a device plugin, before a RuntimeClass (G20)."""
    placement = placement_of(only_write(*a_box(FIRST, **facts), a_new(gpu=CARD)))
    assert (
        placement.binding,
        placement.driver,
        placement.runtime_class_name,
        placement.shared,
    ) == chosen
    assert placement.uuids == ("GPU-1",)


def test_a_device_plugin_that_is_restarted_is_not_taken_for_none() -> None:
    """It offers 0 meanwhile: a RuntimeClass would hand out devices past it."""
    facts = {"plugin": plugin(0), "runtime_classes": {"nvidia": "nvidia"}}
    write = only_write(*a_box(FIRST, **facts), a_new(gpu=CARD))
    assert "offers 0 nvidia.com/gpu, 1 requested" in write.condition.message


def test_a_card_that_nothing_gives_to_pods_is_named_with_the_remedy() -> None:
    """Its agent sees it, so it is not the label or the vendor that is wrong."""
    write = only_write(*a_box(FIRST), a_new(gpu=CARD))
    assert write.condition.reason == Reason.NO_NODE_FITS
    assert (
        "a: has 1 nvidia device, but neither a device plugin nor a DRA driver gives Pods any"
        in write.condition.message
    )
    assert "set FLEXINFER_RUNTIME_CLASS_NVIDIA" in write.condition.message  # fmt: skip


def test_devices_of_a_dra_driver_without_telemetry_are_not_placed_on() -> None:
    """G3: a claim names a device, and nothing tells which one has room."""
    box, _ = a_box(dra=by_dra(FIRST))
    write = only_write(box, a_new(gpu=CARD))
    assert (
        f"offers devices by the DRA driver {DRIVER}, but has sent no GPU telemetry" in write.condition.message
    )


def test_a_card_of_both_a_dra_driver_and_a_device_plugin_is_named_in_a_warning() -> None:
    """The two count apart."""
    write = only_write(*a_box(FIRST, plugin=plugin(1), dra=by_dra(FIRST)), a_new(gpu=CARD))
    assert write.condition.true
    assert (
        f"GPU-1 on node a is offered by the DRA driver {DRIVER} and by a device plugin (nvidia.com/gpu): they count apart"
        in write.condition.message
    )


def test_cards_that_are_divided_between_the_two_are_no_warning() -> None:
    """One each."""
    both = a_box(FIRST, SECOND, plugin=plugin(1), dra=by_dra(FIRST))
    assert "count apart" not in only_write(*both, a_new(gpu=CARD)).condition.message


def test_a_card_is_found_by_its_address_where_its_driver_has_no_uuid() -> None:
    """AMD's: the claim needs the address too."""
    listed = DraDevice(driver="gpu.amd.com", name="gpu-0-128", pci="0000:03:00.0")
    placement = placement_of(only_write(*a_box(RADEON, dra=(listed,)), a_new(gpu=AMD)))
    [device] = placement.devices
    assert (placement.binding, device.uuid, device.pci_address) == ("DRA", RADEON.uuid, "0000:03:00.0")


def test_a_runtime_class_gives_no_card_that_its_runtime_has_no_name_for() -> None:
    """AMD's knows the number that is burned into a card, and without one an index alone."""
    classes = {"runtime_classes": {"amd": "amd"}}
    assert placement_of(only_write(*a_box(RADEON, **classes), a_new(gpu=AMD))).binding == "Visible"
    nameless = msgspec.structs.replace(RADEON, uuid="0000:03:00.0")
    assert only_write(*a_box(nameless, **classes), a_new(gpu=AMD)).condition.reason == Reason.NO_NODE_FITS


def test_a_tainted_card_is_refused_by_name() -> None:
    """G11: the scheduler would let the Pod wait without a word of the cause."""
    cards = (*by_dra(FIRST, tainted=True), *by_dra(SECOND))
    write = only_write(*a_box(FIRST, SECOND, dra=cards), a_new(gpu=CARD))
    assert f"RTX 3090 is tainted by the DRA driver {DRIVER}" in write.condition.message


def test_a_card_that_the_driver_does_not_list_is_refused_by_name() -> None:
    """The other one is too small."""
    write = only_write(*a_box(FIRST, SECOND, dra=by_dra(SECOND)), a_new(gpu=CARD))
    assert f"RTX 3090 is not given to Pods by {DRIVER}" in write.condition.message


def in_use(by: Model) -> tuple[Model, events.WorkloadObserved]:
    """Return a Model and its Pod, which runs on node a."""
    return by, running(by, a_pod(by))


def at(shared: bool, memory: int = 8000, **changes: Any) -> Placement:  # noqa: FBT001 -- what the placement says
    """Return a placement by DRA on the first card."""
    write = only_write(
        *a_box(FIRST, dra=by_dra(FIRST, shared=shared)), a_new(gpu=Gpu(vram_estimate_mb=memory or None))
    )
    return msgspec.structs.replace(placement_of(write), **changes)


def test_two_models_have_a_card_at_once_where_the_claim_takes_a_part_of_it() -> None:
    """Its memory is counted, by the placer as by the scheduler (G20)."""
    others = in_use(a_placed("other", gpu=CARD, placement=at(shared=True)))
    for shared, reason in ((True, Reason.PLACED), (False, Reason.NO_NODE_FITS)):
        write = only_write(*a_box(FIRST, dra=by_dra(FIRST, shared=shared)), *others, a_new(gpu=CARD))
        assert write.condition.reason == reason


def test_a_model_of_unknown_size_takes_a_card_whole_by_dra() -> None:
    """A claim that requests no part takes all: it shares with none, and none with it."""
    box = a_box(FIRST, dra=by_dra(FIRST, shared=True))
    unknown = Gpu(vendor="nvidia")
    assert not placement_of(only_write(*box, a_new(gpu=unknown))).shared
    sized, whole = at(shared=True), at(shared=True, memory=0)
    assert (sized.shared, whole.shared) == (True, False)
    for placement, gpu in ((sized, unknown), (whole, CARD)):
        write = only_write(*box, *in_use(a_placed("other", gpu=CARD, placement=placement)), a_new(gpu=gpu))
        assert "is used by default/other" in write.condition.message


def test_a_claim_for_a_shared_card_and_another_one_takes_both_whole() -> None:
    """So it waits until the shared one is free."""
    other = msgspec.structs.replace(FIRST, uuid="GPU-2", pci="0000:02:00.0")
    mixed = (*by_dra(FIRST, shared=True), *by_dra(other, name="gpu-9"))
    two = Gpu(vendor="nvidia", count=2, vram_estimate_mb=8000)
    assert not placement_of(only_write(*a_box(FIRST, other, dra=mixed), a_new(gpu=two))).shared
    holder = in_use(a_placed("other", gpu=CARD, placement=at(shared=True)))
    write = only_write(*a_box(FIRST, other, dra=mixed), *holder, a_new(gpu=two))
    assert "is used by default/other" in write.condition.message


def test_a_claim_for_a_shared_card_shares_it_beside_a_card_that_is_taken_whole() -> None:
    """What the driver says of the other card is no matter to a claim for one."""
    mixed = (*by_dra(FIRST, shared=True), *by_dra(SECOND, name="gpu-9", memory=6 * GIB))
    holder = in_use(a_placed("other", gpu=CARD, placement=at(shared=True)))
    placement = placement_of(only_write(*a_box(FIRST, SECOND, dra=mixed), *holder, a_new(gpu=CARD)))
    assert (placement.uuids, placement.shared) == (("GPU-1",), True)


STEPS = DraDevice(driver=DRIVER, memory=24 * GIB, least=4 * GIB, step=4 * GIB, most=16 * GIB)


@pytest.mark.parametrize(
    ("device", "need", "taken"),
    [
        (STEPS, 1024, 4096),
        (STEPS, 9216, 12288),
        (STEPS, 8192, 8192),
        (STEPS, 0, 0),
        (DraDevice(driver=DRIVER, choices=(6 * GIB, 12 * GIB)), 7000, 12288),
        (DraDevice(driver=DRIVER, choices=(6 * GIB,)), 7000, 7000),
        (DraDevice(driver=DRIVER, least=10**9, step=10**9), 1000, 1908),
        (DraDevice(driver=DRIVER), 7777, 7777),
    ],
)
def test_a_request_is_rounded_up_as_the_scheduler_does_it(device: DraDevice, need: int, taken: int) -> None:
    """Min and step 4Gi made 9Gi 12Gi and 1Gi 4Gi (seen with Kubernetes 1.37)."""
    assert rounded(need, device) == taken


def test_the_placement_has_what_the_scheduler_counts() -> None:
    """Not what the spec says: 8000 MiB take 8192."""
    dra = by_dra(FIRST, shared=True, least=4 * GIB, step=4 * GIB)
    placement = placement_of(only_write(*a_box(FIRST, dra=dra), a_new(gpu=CARD)))
    assert placement.devices[0].memory_mb == 8192
    assert placement.footprint_mb == 8000


def test_more_than_a_claim_may_take_is_refused() -> None:
    """The limit and the remedy are named."""
    dra = by_dra(FIRST, shared=True, least=4 * GIB, step=4 * GIB, most=8 * GIB)
    write = only_write(*a_box(FIRST, dra=dra), a_new(gpu=Gpu(vram_estimate_mb=9000)))
    assert (
        f"is given with at most 8192 MiB by {DRIVER}, which rounds the request to 12288 MiB"
        in write.condition.message
    )


def idle(placement: Placement, gpu: Gpu = CARD) -> Model:
    """Return a Model that is scaled to zero."""
    return a_placed(gpu=gpu, wanted=False, placement=placement)


PLUGGED = Placement(
    node="a", vendor="nvidia", binding="DevicePlugin", devices=at(shared=False).devices, footprint_mb=8000
)


def test_an_idle_model_follows_a_node_that_gives_its_devices_otherwise() -> None:
    """A DRA driver was installed: its next Pod would wait for a resource that is not there."""
    placement = placement_of(only_write(*a_box(FIRST, dra=by_dra(FIRST)), idle(PLUGGED)))
    assert (placement.binding, placement.driver, placement.uuids) == ("DRA", DRIVER, ("GPU-1",))


def test_a_start_gets_the_present_way_in_the_write_that_says_its_memory_is_checked() -> None:
    """One write."""
    model = idle(PLUGGED)
    state = becomes_wanted(a_state(*a_box(FIRST, plugin=plugin(1)), model), model, NOW + 1)
    box, _ = a_box(FIRST, dra=by_dra(FIRST))
    state = later(state, NOW + 1, events.NodeObserved(name="a", node=box))
    placement = placement_of(written(state, NOW + 1))
    assert placement.binding == "DRA"
    assert placement.checked_for


def test_a_running_model_keeps_the_way_in_which_its_pod_has_the_devices() -> None:
    """Another one is another template, and a restart for nothing."""
    model, workload = in_use(a_placed(gpu=CARD, placement=PLUGGED))
    assert writes(a_state(*a_box(FIRST, dra=by_dra(FIRST)), model, workload)) == {}


def test_a_member_that_holds_a_turn_and_has_no_pod_yet_gets_the_present_way() -> None:
    """Its turn is of node and devices, which stay."""
    member = a_placed(gpu=TEAM, placement=PLUGGED, conditions=all_true())
    group = a_group(a_holder(devices=("GPU-1",)), name=member.spec.group)
    placement = placement_of(only_write(*a_box(FIRST, dra=by_dra(FIRST)), group, member))
    assert (placement.binding, placement.uuids) == ("DRA", ("GPU-1",))


def test_slices_that_are_gone_for_a_moment_change_nothing_of_an_idle_model() -> None:
    """A kubelet that restarts deletes them, and its driver publishes them again within seconds."""
    assert writes(a_state(*a_box(FIRST), idle(at(shared=False)))) == {}


def test_a_group_by_dra_keeps_its_card_from_others() -> None:
    """There is no number of devices to count there: each is reserved by its uuid."""
    member = a_placed("member", gpu=TEAM, placement=at(shared=False), conditions=all_true())
    group = a_group(a_holder("member", devices=("GPU-1",)), name=member.spec.group)
    write = writes(a_state(*a_box(FIRST, dra=by_dra(FIRST)), group, *in_use(member), a_new("new", gpu=CARD)))
    assert f"is reserved for the shared group {member.spec.group}" in write["default/new"].condition.message


def test_of_two_drivers_the_one_with_most_of_the_cards_is_taken() -> None:
    """Then the first by name."""
    node, sample = a_box(FIRST, SECOND)
    one, other = by_dra(FIRST, driver="b"), by_dra(FIRST, SECOND, driver="c")
    assert chosen(node, sample, *one, *other).driver == "c"
    assert chosen(node, sample, *one, *by_dra(FIRST, driver="a")).driver == "a"


def chosen(node: NodeFacts, sample: events.GpusObserved, *dra: DraDevice) -> Offer:
    """Return what a node with these DRA devices offers of NVIDIA's."""
    return offer(msgspec.structs.replace(node, dra=dra), sample.devices, "nvidia")


def test_a_changed_slice_makes_the_models_dirty_that_it_concerns() -> None:
    """One that was refused, and one that starts there."""
    state: ObservedState = a_state(*a_box(FIRST), a_new(gpu=CARD))
    refused = later(state, NOW, *(events.ModelObserved(model=a_new(gpu=CARD)),))
    assert writes(refused)["default/llama"].condition.reason == Reason.NO_NODE_FITS
    box, _ = a_box(FIRST, dra=by_dra(FIRST))
    assert writes(later(state, NOW + 1, events.NodeObserved(name="a", node=box)))[
        "default/llama"
    ].condition.true
