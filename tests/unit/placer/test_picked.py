"""A device plugin takes any device: the placement names the one that the engine has got."""

from typing import Any

import msgspec

from flexinfer.api.model import Gpu, Model
from flexinfer.api.placement import Placement, placed_devices
from flexinfer.api.status import PlacedStatus
from flexinfer.events import events
from flexinfer.events.nodes import Device
from flexinfer.events.workload import PodFacts
from flexinfer.placer import decide as deciding
from flexinfer.placer.keys import touched
from flexinfer.placer.picked import picked
from flexinfer.placer.state import PlacementState
from flexinfer.state.actions import WriteStatus
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from tests.builders import NOW, a_model, a_node, a_pod, a_state, all_true, devices_of, running

CARD = Gpu(vendor="nvidia", vram_estimate_mb=8000)
PLACED = Placement(
    node="a",
    vendor="nvidia",
    binding="DevicePlugin",
    devices=placed_devices(["GPU-1"], 8000),
    footprint_mb=8000,
)


def a_card(uuid: str, pci: str = "") -> Device:
    """Return an empty card of 24 GiB."""
    return Device(uuid=uuid, pci=pci, total_mb=24000, free_mb=24000)


def a_sample(*devices: Device) -> events.GpusObserved:
    """Return telemetry of node a."""
    return events.GpusObserved(node="a", boot="b", sample=1, devices=devices)


BOTH = a_sample(a_card("GPU-1", "0000:01:00.0"), a_card("GPU-2", "0000:02:00.0"))


def a_running(*devices: str, **changes: Any) -> tuple[Model, PodFacts]:
    """Return a Model that runs on node a, placed on GPU-1, and its Pod, which has these devices."""
    model = a_model("llama", **({"gpu": CARD, "conditions": all_true(), "placement": PLACED} | changes))
    return model, msgspec.structs.replace(a_pod(model), node="a", running=True, devices=devices)


def a_world(*devices: str, telemetry: events.GpusObserved = BOTH, **changes: Any) -> ObservedState:
    """Return the state in which that Pod runs."""
    model, pod = a_running(*devices, **changes)
    return a_state(model, running(model, pod), a_node("a", allocatable={"nvidia.com/gpu": 2000}), telemetry)


def placement(state: ObservedState) -> Placement | None:
    """Return the placement that is written; None if nothing is."""
    actions = deciding.decide(state, "default/llama", NOW)
    statuses = [
        a.status for a in actions if isinstance(a, WriteStatus) and isinstance(a.status, PlacedStatus)
    ]
    return statuses[0].placement if statuses else None


def test_the_placement_names_the_device_that_the_pod_has_got() -> None:
    """With its memory; node and architecture stay, so that the engine is not restarted."""
    written = placement(a_world("GPU-2"))
    assert written is not None
    assert (written.node, written.devices) == ("a", devices_of({"GPU-2": 24000}, 8000))
    assert (written.architecture, written.footprint_mb) == (PLACED.architecture, 8000)


def test_a_plugin_may_name_a_device_by_its_pci_address() -> None:
    """Telemetry knows both names."""
    written = placement(a_world("0000:02:00.0"))
    assert written is not None
    assert written.uuids == ("GPU-2",)


def test_nothing_is_written_while_the_device_is_the_expected_one_or_not_known() -> None:
    """A Pod without a status of its devices, a name that telemetry does not know, another number of devices."""
    for devices in (("GPU-1",), (), ("GPU-9",), ("GPU-1", "GPU-2")):
        assert placement(a_world(*devices)) is None


def test_a_pod_that_is_left_on_another_node_says_nothing_of_the_devices_of_this_one() -> None:
    """Cards of two nodes may have one PCI address."""
    model, pod = a_running("0000:02:00.0")
    state = a_state(model, running(model, msgspec.structs.replace(pod, node="b")), a_node("a"), BOTH)
    assert picked(model, PlacementState(state, model, NOW)) == ()


def test_a_device_that_telemetry_names_later_is_looked_up_then() -> None:
    """The sample touches the Models of its node."""
    before = a_world("GPU-2", telemetry=a_sample(a_card("GPU-1")))
    assert placement(before) is None
    after = apply_events(before, [Observation(BOTH, NOW)])
    assert "default/llama" in set(touched(before, after, BOTH))
    assert placement(after) is not None
