"""The memory of simulated cards: taken at once, given back late."""

from flexinfer.events.nodes import Device, DeviceProcess
from flexinfer.local.simulation.description import Description, Gpu, Node
from flexinfer.local.simulation.devices import Holder, SimulatedDevices

NODE = Node(
    name="tower",
    gpus=(Gpu(profile="rtx-3090", release_delay="2s"), Gpu(profile="rx-7900-xtx", release_delay="0s")),
)
DESCRIBED = Description(nodes=(NODE,))
FIRST, SECOND = NODE.uuid(0), NODE.uuid(1)


def holder(*devices: str, memory: int, pid: int = 7) -> Holder:
    """Return a process on these cards."""
    return Holder(devices=devices, pid=pid, started=70, memory_mb=memory, name="engine", pod_uid="pod")


def cards(devices: SimulatedDevices, now: float, *holders: Holder) -> dict[str, Device]:
    """Return the cards of the node at a time, by uuid."""
    return {device.uuid: device for device in devices.step(DESCRIBED, holders, now)["tower"]}


def test_a_card_is_described_as_its_vendor_would() -> None:
    """Idle: all of its memory is free."""
    device = cards(SimulatedDevices(), 0.0)[FIRST]
    assert (device.vendor, device.architecture, device.pci) == ("nvidia", "sm_86", "0000:01:00.0")
    assert (device.total_mb, device.free_mb, device.used_mb) == (24576, 24576, 0)
    assert device.processes == ()


def test_a_process_takes_its_memory_from_its_card_alone() -> None:
    """Under its own pid, start and Pod, and the card draws more power."""
    now = cards(SimulatedDevices(), 0.0, holder(FIRST, memory=14000))
    assert (now[FIRST].free_mb, now[SECOND].used_mb) == (10576, 0)
    assert now[FIRST].processes == (
        DeviceProcess(pid=7, used_mb=14000, name="engine", started=70, pod_uid="pod"),
    )
    assert now[FIRST].power_watts > now[SECOND].power_watts


def test_the_memory_of_an_engine_on_several_cards_is_divided() -> None:
    """Rounded up, so that none is lost."""
    now = cards(SimulatedDevices(), 0.0, holder(FIRST, SECOND, memory=10001))
    assert (now[FIRST].used_mb, now[SECOND].used_mb) == (5001, 5001)


def test_memory_comes_back_when_the_release_delay_is_over() -> None:
    """Until then it is in use by no process."""
    devices = SimulatedDevices()
    cards(devices, 0.0, holder(FIRST, memory=14000))
    ended = cards(devices, 1.0)[FIRST]
    assert (ended.used_mb, ended.processes) == (14000, ())
    assert cards(devices, 2.9)[FIRST].used_mb == 14000
    assert cards(devices, 3.0)[FIRST].used_mb == 0


def test_without_a_delay_memory_comes_back_at_once() -> None:
    """As some drivers do."""
    devices = SimulatedDevices()
    cards(devices, 0.0, holder(SECOND, memory=14000))
    assert cards(devices, 0.1)[SECOND].used_mb == 0


def test_a_restarted_engine_is_another_process() -> None:
    """Its predecessor's memory is still to come back, so the card holds both."""
    devices = SimulatedDevices()
    cards(devices, 0.0, holder(FIRST, memory=6000))
    assert cards(devices, 1.0, holder(FIRST, memory=6000, pid=8))[FIRST].used_mb == 12000
    assert cards(devices, 3.0, holder(FIRST, memory=6000, pid=8))[FIRST].used_mb == 6000


def test_a_card_never_holds_more_than_it_has() -> None:
    """It is full."""
    now = cards(SimulatedDevices(), 0.0, holder(FIRST, memory=20000), holder(FIRST, memory=20000, pid=8))
    assert (now[FIRST].used_mb, now[FIRST].free_mb) == (24576, 0)
