"""`flexinfer gpus`: who holds the memory of each card."""

import msgspec
import pytest

from flexinfer.api.lease import GPULease
from flexinfer.api.lease_reasons import LeaseReason
from flexinfer.api.placement import Placement, placed_devices
from flexinfer.api.sharedgroup import GroupProcess, HeldDevice
from flexinfer.cli.gpu_usage import FOREIGN, LEASE, MODEL, POD, RELEASED, UNLISTED, NodeUsage, usage
from flexinfer.cli.gpus import bar, table
from flexinfer.events import events
from flexinfer.events.events import GpusObserved, WorkloadObserved
from flexinfer.events.nodes import Device, DeviceProcess, NodeFacts
from flexinfer.events.workload import PodFacts
from flexinfer.state.observed import ObservedState, Sample
from tests.builders import a_group, a_holder, a_lease, a_model, a_node
from tests.builders import a_state as state_of

CODER = DeviceProcess(pid=11, used_mb=14000, name="llama-server", pod_uid="pod-coder")
OTHER = DeviceProcess(pid=12, used_mb=1000, name="python", pod_uid="pod-of-somebody")
GAME = DeviceProcess(pid=13, used_mb=3000, name="game")


def a_device(*processes: DeviceProcess, used: int, **changes: object) -> Device:
    """Return a 24 GB card."""
    device = Device(
        uuid="GPU-1f2e3d4c-0000",
        name="NVIDIA GeForce RTX 3090",
        architecture="sm_86",
        total_mb=24000,
        free_mb=24000 - used,
        used_mb=used,
        temperature=61,
        power_watts=200,
        processes=processes,
    )
    return msgspec.structs.replace(device, **changes)


def a_state(*devices: Device, message: str = "") -> ObservedState:
    """Return what is observed of a node with these cards, and of one without telemetry."""
    sample = GpusObserved(node="tower", boot="b", sample=1, devices=devices, message=message)
    pods = (PodFacts(name="coder-0", uid="pod-coder"),)
    silent = NodeFacts(name="silent", allocatable={"nvidia.com/gpu": 2000})
    return ObservedState(
        workloads={"default/coder": WorkloadObserved(namespace="default", name="coder", pods=pods)},
        nodes={"tower": NodeFacts(name="tower"), "silent": silent},
        gpus={"tower": Sample(sample, 0.0)},
    )


def of_tower(state: ObservedState) -> NodeUsage:
    """Return what is shown of the node with cards."""
    return next(node for node in usage(state) if node.node == "tower")


def test_memory_is_attributed_to_models_pods_and_foreign_processes() -> None:
    """The rest is in use by no process that the driver lists."""
    [card] = of_tower(a_state(a_device(GAME, OTHER, CODER, used=18500))).cards
    assert [(holder.kind, holder.name, holder.memory_mb) for holder in card.holders] == [
        (MODEL, "default/coder", 14000),
        (POD, "pod-of-somebody", 1000),
        (FOREIGN, "game", 3000),
        (UNLISTED, "", 500),
    ]


def test_the_bar_shows_each_holder_by_its_share() -> None:
    """Foreign memory apart from that of Pods; a small holder is seen too."""
    [card] = of_tower(a_state(a_device(GAME, CODER, used=17000))).cards
    assert bar(card, ["a", "#"]) == "a" * 23 + "#" * 5 + "." * 12
    small = DeviceProcess(pid=11, used_mb=10, pod_uid="pod-coder")
    [card] = of_tower(a_state(a_device(small, used=10))).cards
    assert bar(card, ["a"]) == "a" + "." * 39
    [card] = of_tower(a_state(a_device(CODER, GAME, OTHER, used=18000, total_mb=14000))).cards
    assert bar(card, ["a", "b", "#"]) == "a" * 40


def test_the_table_names_card_temperature_power_and_holders() -> None:
    """One block a card."""
    lines = list(table([of_tower(a_state(a_device(GAME, CODER, used=17000)))]))
    assert lines == [
        "tower",
        "  GPU-1f2e3d4c  NVIDIA GeForce RTX 3090 (sm_86)  61 °C, 200 W, 0 % busy",
        f"    [{'a' * 23}{'#' * 5}{'.' * 12}]  17000 of 24000 MiB used, 7000 MiB free",
        "     a  14000 MiB  model default/coder (pid 11 llama-server)",
        "     #   3000 MiB  foreign process game (pid 13)",
    ]


def test_a_model_is_shown_with_what_it_was_placed_with() -> None:
    """Beside what it holds: one that outgrew its estimate is seen at once."""
    device = a_device(CODER, used=14000)
    placement = Placement(
        node="tower",
        devices=placed_devices([device.uuid], 9000),
        footprint_mb=9000,
        footprint_source="Headers",
    )
    model = a_model("coder", placement=placement)
    state = msgspec.structs.replace(a_state(device), models={"default/coder": model})
    [holder] = of_tower(state).cards[0].holders
    assert (holder.footprint_mb, holder.footprint_source) == (9000, "Headers")
    line = "default/coder (pid 11 llama-server), placed with 9000 MiB by the headers of its weights"
    assert any(text.endswith(line) for text in table(usage(state)))


def test_a_card_that_is_not_healthy_says_so_with_its_last_error() -> None:
    """Its memory is not known, so no bar is drawn."""
    broken = a_device(used=0, healthy=False, errors=("XID 48", "XID 79"))
    lines = list(table([of_tower(a_state(broken))]))
    assert lines[2:] == ["    unhealthy: its memory is not known; last error: XID 79"]


def test_a_card_whose_driver_tells_no_processes_says_so() -> None:
    """Its memory is in use by no holder then."""
    lines = list(table([of_tower(a_state(a_device(used=500, mig=True, processes_known=False)))]))
    assert lines[1].endswith(", 0 % busy, divided by MIG")
    assert lines[3] == "     its driver does not say which processes use memory, and how much of it"
    assert lines[4] == "     ~    500 MiB  in use by no process that the driver lists"


def test_a_node_without_cards_or_telemetry_says_why() -> None:
    """With what its device plugin offers nevertheless."""
    assert of_tower(a_state()).message == "no GPUs"
    assert of_tower(a_state(message="NVML: driver not loaded")).message == "NVML: driver not loaded"
    silent = next(node for node in usage(a_state()) if node.node == "silent")
    assert silent.message.startswith(
        "offers 2 nvidia.com/gpu, but no telemetry: its agent is starting, is not running, or cannot reach NATS"
    )


def test_nothing_observed_says_what_to_check() -> None:
    """No node at all."""
    [line] = table(usage(ObservedState()))
    assert "check that the watcher runs" in line


@pytest.mark.parametrize(
    ("leases", "kind", "line"),
    [
        ((a_lease("evening", told=LeaseReason.GRANTED),), LEASE, "lease default/evening (pid 7 game)"),
        (
            (a_lease("evening", told=LeaseReason.EXPIRED),),
            RELEASED,
            "process of the released lease default/evening",
        ),
        ((), RELEASED, "process of the released lease default/evening (pid 7 game)"),
    ],
)
def test_a_process_of_a_lease_is_named_after_the_lease(
    leases: tuple[GPULease, ...], kind: str, line: str
) -> None:
    """One that came since its grant, outside of Pods; of a lease that is over or was given back it is said. Another one is foreign."""
    game = DeviceProcess(pid=7, used_mb=8000, name="game", started=5)
    desktop = DeviceProcess(pid=8, used_mb=300, name="Xorg", started=4)
    device = Device(uuid="GPU-1", total_mb=24_000, used_mb=8300, free_mb=15_700, processes=(game, desktop))
    held = HeldDevice(uuid="GPU-1", memory_mb=8192, other_processes=(GroupProcess(pid=8, name="Xorg"),))
    group = a_group(a_holder("", lease="evening", devices=(held,)))
    sample = events.GpusObserved(node="a", boot="b", sample=1, devices=(device,))
    [node] = usage(state_of(a_node("a"), group, sample, *leases))
    assert [(holder.kind, holder.name, holder.memory_mb) for holder in node.cards[0].holders] == [
        (kind, "default/evening", 8000),
        ("Foreign", "Xorg", 300),
    ]
    assert any(line in text for text in table([node]))
