"""Which node and which cards: vendors, generations, tolerations, where the data is; and what a refusal says of each."""

import msgspec
import pytest

from flexinfer.api.conditions import MESSAGE_LIMIT
from flexinfer.api.labels import ALLOW_UNSUPPORTED_ANNOTATION
from flexinfer.api.model import Gpu, Model
from flexinfer.api.podspec import Toleration
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import SharedGroup
from flexinfer.events.events import GpusObserved, GroupObserved, ModelObserved, WorkloadObserved
from flexinfer.events.nodes import Device, DeviceProcess, NodeFacts, Taint
from flexinfer.events.workload import ClaimFacts
from flexinfer.placer.keys import touched
from flexinfer.state.observed import ObservedState
from tests.builders import NOW, a_condition, a_group, a_node, a_state
from tests.unit.placer.settling import Settled, settle
from tests.unit.placer.test_decide import (
    CARD,
    a_gpu_node,
    a_new,
    later,
    node,
    only_write,
    placement_of,
    telemetry,
    with_spec,
    writes,
)

MAXWELL = Device(
    uuid="GPU-1", name="GTX 980 Ti", vendor="nvidia", architecture="sm_52", total_mb=6144, free_mb=6000
)
RDNA3 = Device(
    uuid="GPU-2", name="RX 7900 XTX", vendor="amd", architecture="gfx1100", total_mb=24560, free_mb=24500
)
VEGA = Device(uuid="GPU-3", name="MI50", vendor="amd", architecture="gfx906", total_mb=16368, free_mb=16300)


def a_box(name: str, *devices: Device) -> tuple[NodeFacts, GpusObserved]:
    """Return a node with these cards, and its telemetry."""
    amounts = {f"{v}.com/gpu": 1000 * sum(d.vendor == v for d in devices) for v in ("nvidia", "amd")}
    facts = a_node(name, allocatable={"pods": 9000} | amounts)
    return facts, GpusObserved(node=name, boot="b", sample=1, devices=devices)


HOMELAB = (*a_box("old", MAXWELL), *a_box("new", RDNA3), a_node("cpu"))


@pytest.mark.parametrize(
    ("gpu", "where"),
    [
        (Gpu(vendor="auto", vram_estimate_mb=20000), ("new", "amd", ("GPU-2",))),
        (Gpu(vendor="auto", vram_estimate_mb=4000), ("old", "nvidia", ("GPU-1",))),
        (Gpu(vendor="auto"), ("new", "amd", ("GPU-2",))),
        (Gpu(vendor="amd", vram_estimate_mb=4000), ("new", "amd", ("GPU-2",))),
        (Gpu(vendor="nvidia", vram_estimate_mb=20000), ("", "cpu", ())),
    ],
)
def test_auto_takes_the_best_card_of_either_vendor_and_a_named_vendor_never_falls_back(
    gpu: Gpu, where: tuple[str, str, tuple[str, ...]]
) -> None:
    """A 6 GB Maxwell beside a 24 GB RDNA3 (reliability G21)."""
    placement = placement_of(only_write(*HOMELAB, a_new(gpu=gpu)))
    assert (placement.node, placement.vendor, placement.uuids) == where


def test_auto_takes_the_better_card_of_one_node_with_both_vendors() -> None:
    """The tightest that is large enough."""
    both = a_box("box", MAXWELL, RDNA3)
    for estimate, uuid in ((4000, "GPU-1"), (9000, "GPU-2")):
        gpu = Gpu(vendor="auto", vram_estimate_mb=estimate)
        assert placement_of(only_write(*both, a_new(gpu=gpu))).uuids == (uuid,)


def test_a_backend_without_a_vendor_is_not_put_on_its_cards() -> None:
    """Auto means: that the backend supports."""
    write = only_write(*a_box("old", MAXWELL), a_new(gpu=Gpu(vendor="auto"), backend="vllm"))
    cause = "GTX 980 Ti (sm_52) cannot run vllm: vLLM needs compute capability 7.0, Maxwell has 5.x"
    assert cause in write.condition.message
    assert f"{ALLOW_UNSUPPORTED_ANNOTATION}: <why>" in write.condition.message


def test_two_cards_are_of_one_vendor_on_one_node() -> None:
    """One of each vendor does not do."""
    two = Gpu(vendor="auto", count=2, vram_estimate_mb=8000)
    write = only_write(*a_box("box", MAXWELL, RDNA3), a_new(gpu=two))
    assert write.condition.reason == Reason.NO_NODE_FITS
    assert (
        "offers 1 amd.com/gpu, 2 requested. Remedy: lower spec.gpu.count to 1, or" in write.condition.message
    )


def excused(why: str) -> Model:
    """Return a Model for an engine that is said not to run on Maxwell, with an annotation."""
    annotations = {ALLOW_UNSUPPORTED_ANNOTATION: why}
    return a_new(gpu=Gpu(vendor="nvidia"), backend="vllm", annotations=annotations)


def test_the_annotation_allows_what_the_table_refuses_and_placed_repeats_why() -> None:
    """An empty reason is none."""
    write = only_write(*a_box("old", MAXWELL), excused("own image with CUDA 11.8"))
    assert node(write) == "old"
    assert "vllm is said not to run on sm_52 (vLLM needs compute capability 7.0" in write.condition.message
    assert write.condition.message.endswith("allowed by annotation: own image with CUDA 11.8")
    assert only_write(*a_box("old", MAXWELL), excused(" ")).condition.reason == Reason.NO_NODE_FITS


def test_an_experimental_card_is_used_with_a_warning_and_one_of_which_nothing_is_said_without() -> None:
    """The warning has the reason."""
    model = a_new(gpu=Gpu(vendor="amd"), backend="vllm")
    warned = only_write(*a_box("box", VEGA), model).condition
    assert warned.true
    assert "; vllm is experimental on gfx906: vLLM's list of AMD GPUs has" in warned.message
    assert only_write(*a_box("box", RDNA3), model).condition.message == "scheduled to node box (1 amd device)"


TEAM_TAINT = Taint(key="team", value="ml", effect="NoSchedule")
TOLERATIONS = [
    pytest.param(Toleration(key="team", value="ml"), True, id="equal"),
    pytest.param(Toleration(key="team", operator="Exists", effect="NoSchedule"), True, id="exists"),
    pytest.param(Toleration(operator="Exists"), True, id="every taint"),
    pytest.param(Toleration(key="team", value="web"), False, id="another value"),
    pytest.param(Toleration(key="team", operator="Exists", effect="NoExecute"), False, id="another effect"),
]


@pytest.mark.parametrize(("toleration", "fits"), TOLERATIONS)
def test_a_taint_keeps_a_model_away_unless_its_spec_tolerates_it(
    toleration: Toleration, *, fits: bool
) -> None:
    """As the scheduler decides of its Pod."""
    tainted = a_node("a", taints=(TEAM_TAINT,))
    write = only_write(tainted, with_spec(a_new(), tolerations=(toleration,)))
    assert write.condition.true == fits
    assert fits or "add it to spec.tolerations" in write.condition.message


def test_a_model_goes_where_its_data_is_although_another_card_is_a_tighter_fit() -> None:
    """The node that its volume was made for; a node without room is no help."""
    nodes = (a_gpu_node("data"), a_gpu_node("snug"), telemetry("snug", 9000))
    model = a_new(gpu=CARD)
    claim = ClaimFacts(name="models", node="data")
    workload = WorkloadObserved(namespace="default", name="llama", claims=(claim,))
    for free, where in ((24000, "data"), (3000, "snug")):
        state = a_state(*nodes, telemetry("data", free), model, workload)
        assert node(writes(state)["default/llama"]) == where


def test_a_refusal_names_every_node_and_card_with_its_reason_and_the_change_that_helps_most() -> None:
    """What lacks least is the remedy; nodes of one reason stand together."""
    game = DeviceProcess(pid=77, name="game", used_mb=15000)
    busy = msgspec.structs.replace(RDNA3, free_mb=9000, processes=(game,))
    sick = msgspec.structs.replace(VEGA, healthy=False, errors=("XID 79",))
    lab = (*a_box("old", MAXWELL), *a_box("new", busy), *a_box("sick", sick), a_node("cpu"), a_node("web"))
    gpu = Gpu(vendor="auto", vram_estimate_mb=20000)
    message = only_write(*lab, a_new(gpu=gpu)).condition.message
    assert message == (
        "no node fits (5 nodes): "
        "new: model needs 20000 MiB on 1 device: RX 7900 XTX (gfx1100) has 9000 MiB of 24560 MiB free (game (pid 77) 15000 MiB); "
        "old: model needs 20000 MiB on 1 device: GTX 980 Ti (sm_52) has 6144 MiB in all; "
        "sick: model needs 20000 MiB on 1 device: MI50 (gfx906) is unhealthy (XID 79); "
        "cpu, web: offers 0 nvidia.com/gpu, 1 requested. "
        "Remedy: stop game (pid 77) on node new, or lower spec.gpu.vramEstimateMB to 9000 MiB or less"
    )


def test_a_refusal_by_very_many_nodes_keeps_its_remedy() -> None:
    """The nearest nodes are named, the others counted."""
    nodes = [
        part for n in range(60) for part in a_box(f"n{n:02}", msgspec.structs.replace(RDNA3, free_mb=n * 300))
    ]
    message = only_write(*nodes, a_new(gpu=Gpu(vendor="amd", vram_estimate_mb=20000))).condition.message
    assert len(message) <= MESSAGE_LIMIT
    assert "more nodes. Remedy: free 2300 MiB on node n59, or lower" in message


def a_card(uuid: str, memory: int) -> Device:
    """Return a card with all of its memory free."""
    return Device(uuid=uuid, total_mb=memory, free_mb=memory)


def a_member(name: str, memory: int) -> Model:
    """Return a new member of a group."""
    return a_new(name, gpu=Gpu(vendor="nvidia", shared="team", vram_estimate_mb=memory))


@pytest.mark.parametrize("separate", [True, False], ids=["two nodes", "one node"])
@pytest.mark.parametrize(
    ("sizes", "uuid"),
    [
        pytest.param((8000, 20000), "GPU-24", id="each member must fit alone"),
        pytest.param((8000, 8000), "GPU-24", id="most fit together"),
        pytest.param((8000, 30000), "GPU-9", id="one that fits nowhere does not count"),
        pytest.param((8000,), "GPU-9", id="one alone takes the tightest"),
    ],
)
def test_a_group_goes_to_a_card_on_which_each_member_fits_and_most_fit_together(
    sizes: tuple[int, ...], uuid: str, *, separate: bool
) -> None:
    """Whichever of them is placed first."""
    cards = (a_card("GPU-9", 9000), a_card("GPU-24", 24000))
    nodes = (*a_box("a", cards[0]), *a_box("b", cards[1])) if separate else a_box("a", *cards)
    members = [a_member(f"m{number}", size) for number, size in enumerate(sizes)]
    placed = writes(a_state(*nodes, *members))
    assert placement_of(placed["default/m0"]).uuids == (uuid,)


def a_reserve(reserve_mb: int, version: int = 1) -> SharedGroup:
    """Return the object of the members' group, with so much of each device in reserve."""
    group = a_group(name="team", version=version)
    spec = msgspec.structs.replace(group.spec, reserve_mb=reserve_mb)
    return msgspec.structs.replace(group, spec=spec)


def test_a_member_larger_than_a_device_without_the_reserve_of_its_group_is_refused_with_the_figures() -> None:
    """It would be queued without end: the reserve is never given out. Without a SharedGroup its default counts."""
    card, member = a_card("GPU-24", 24000), a_member("big", 23600)
    for known in ([], [a_reserve(512)]):
        condition = only_write(*a_box("a", card), *known, member).condition
        assert condition.reason == Reason.NO_NODE_FITS
        assert condition.message == (
            "no node fits (1 node): a: model needs 23600 MiB on 1 device: GPU-24 has 24000 MiB in all, 512 of them in reserve. "
            "Remedy: lower spec.gpu.vramEstimateMB to 23488 MiB or less, for instance with a smaller quantization, "
            "or set spec.reserveMB of its SharedGroup to 400 or less, or add a larger device"
        )
    alone = a_new("alone", gpu=Gpu(vendor="nvidia", vram_estimate_mb=23600))
    assert only_write(*a_box("a", card), alone).condition.true


def test_a_lower_reserve_lets_a_refused_member_be_placed_and_a_higher_one_refuses_its_next_start() -> None:
    """The remedy works as it is named, without another change."""
    state = settle(
        a_state(*a_box("a", a_card("GPU-24", 24000)), a_reserve(512), a_member("big", 23600)), NOW
    ).state
    placed = after_reserve(state, 400, version=2)
    assert [placement_of(write).uuids for write in placed.writes] == [("GPU-24",)]
    raised = after_reserve(with_wanted(placed.state), 401, version=3)
    assert {write.condition.reason for write in raised.writes} == {Reason.NO_NODE_FITS}


def after_reserve(state: ObservedState, reserve_mb: int, version: int) -> Settled:
    """Return what is decided once the reserve of the group was changed, about the Models alone that this event concerns."""
    event = GroupObserved(group=a_reserve(reserve_mb, version))
    changed = later(state, NOW + version, event)
    return settle(changed, NOW + version, touched(state, changed, event))


def with_wanted(state: ObservedState) -> ObservedState:
    """Return the state in which the member is to start."""
    model = state.models["default/big"]
    wanted = (*model.status.conditions, a_condition("Wanted"))
    status = msgspec.structs.replace(model.status, conditions=wanted)
    meta = msgspec.structs.replace(model.metadata, resource_version="900")
    return later(
        state, NOW + 2, ModelObserved(model=msgspec.structs.replace(model, metadata=meta, status=status))
    )
