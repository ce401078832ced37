"""AMD devices, from trees of /sys and /proc as amdgpu and KFD write them."""

from pathlib import Path

import msgspec
import pytest

from flexinfer.agent import gfx
from flexinfer.agent.processes import ProcessTable
from flexinfer.agent.sample import DeviceSample, sample
from flexinfer.agent.vendors import Vendor
from flexinfer.agent.vendors.amd import Tree
from flexinfer.events.nodes import Device, DeviceProcess
from tests.machines import LAPTOP_IGPU, MI50, RX_7900_XTX, AmdGpu, Sys, a_process, draw

UID = "0c5d8f3a-91f6-4a3e-8d1c-3b6a7f0e2d11"
XTX_UUID = "GPU-8a5c1f2b3d4e5f60"


class Machine:
    """A machine with an agent that reads it."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        self.sys = Sys(folder / "sys")
        self.proc.mkdir()
        self.tree = Tree(ProcessTable(self.proc), self.sys.root)

    def devices(self) -> list[Device]:
        """Return what the agent sees."""
        return list(self.tree.probe().devices)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine with a CPU and nothing else."""
    machine = Machine(tmp_path)
    machine.sys.add_processor()
    return machine


def test_a_card_is_described_by_driver_and_kfd(machine: Machine) -> None:
    """The uuid is the one that ROCr accepts."""
    machine.sys.add(RX_7900_XTX)
    assert machine.devices() == [
        Device(
            uuid=XTX_UUID,
            name="AMD Radeon RX 7900 XTX",
            vendor="amd",
            architecture="gfx1100",
            total_mb=24560,
            free_mb=24534,
            used_mb=26,
            utilisation=7,
            power_watts=23,
            temperature=41,
            pci="0000:03:00.0",
        )
    ]


def test_an_mi50_is_gfx906(machine: Machine) -> None:
    """Whether KFD says so or not."""
    machine.sys.add(MI50)
    assert [(d.name, d.architecture) for d in machine.devices()] == [("AMD Instinct MI50", "gfx906")]


@pytest.mark.parametrize(("gpu", "architecture"), [(RX_7900_XTX, "gfx1100"), (MI50, "gfx906")])
def test_without_the_right_to_use_a_device_its_architecture_is_that_of_the_chip(
    machine: Machine, gpu: AmdGpu, architecture: str
) -> None:
    """KFD refuses to describe a device to a container that may not use it."""
    machine.sys.add(gpu, kfd=False)
    assert [d.architecture for d in machine.devices()] == [architecture]


def test_a_gpu_that_is_part_of_the_cpu_is_left_out_and_said_to_be(machine: Machine) -> None:
    """Its memory is the node's own."""
    machine.sys.add(LAPTOP_IGPU)
    result = machine.tree.probe()
    assert (result.devices, result.broken) == ((), False)
    assert "0000:c1:00.0 (gfx1103, 512 MiB) is part of the CPU and left out" in result.message


def test_a_laptop_with_both_shows_its_card_alone(machine: Machine) -> None:
    """And says why not the other."""
    machine.sys.add(LAPTOP_IGPU)
    machine.sys.add(RX_7900_XTX)
    assert [d.uuid for d in machine.devices()] == [XTX_UUID]
    assert "left out" in machine.tree.probe().message


@pytest.mark.parametrize(
    ("architecture", "total_mb", "cpu_cores", "integrated"),
    [
        ("gfx1100", 24560, 0, False),
        ("gfx1151", 98304, 0, True),
        ("gfx942", 131072, 24, True),
        ("", 512, 0, True),
        ("", 8176, 0, False),
        ("gfx1100", 0, 0, False),
    ],
)
def test_what_is_part_of_a_cpu(architecture: str, total_mb: int, cpu_cores: int, integrated: bool) -> None:  # noqa: FBT001
    """By architecture, by cores on the same node, or by size."""
    assert gfx.is_integrated(architecture, total_mb, cpu_cores) is integrated


@pytest.mark.parametrize(
    ("version", "name"),
    [
        (110000, "gfx1100"),
        (90010, "gfx90a"),
        (90006, "gfx906"),
        (90402, "gfx942"),
        (100300, "gfx1030"),
        (90012, "gfx90c"),
        (120001, "gfx1201"),
        (0, ""),
        (-1, ""),
    ],
)
def test_architectures_are_named_as_rocm_does(version: int, name: str) -> None:
    """From KFD's gfx_target_version."""
    assert gfx.from_target_version(version) == name


def test_processes_are_known_by_kfd_with_their_pods(machine: Machine) -> None:
    """Of each device apart."""
    machine.sys.add(RX_7900_XTX)
    machine.sys.add(MI50)
    a_process(machine.proc, 4711, "llama-server", started=77, cgroup=f"0::/kubepods/pod{UID}/abc")
    machine.sys.compute(RX_7900_XTX, 4711, 20000)
    machine.sys.use(RX_7900_XTX, 20100)
    by_name = {d.architecture: d for d in machine.devices()}
    assert by_name["gfx1100"].processes == (
        DeviceProcess(pid=4711, used_mb=20000, name="llama-server", started=77, pod_uid=UID),
    )
    assert (by_name["gfx906"].processes, by_name["gfx906"].processes_known) == ((), True)


@pytest.mark.parametrize(("cards", "held"), [((RX_7900_XTX,), [[20000]]), ((RX_7900_XTX, MI50), [[], []])])
def test_without_the_right_to_use_the_only_card_its_processes_are_known(
    machine: Machine, cards: tuple[AmdGpu, ...], held: list[list[int]]
) -> None:
    """What they hold by KFD can only be on this one; with two cards it is not known on which."""
    for card in cards:
        machine.sys.add(card, kfd=False)
    a_process(machine.proc, 4711, "llama-server")
    machine.sys.compute(RX_7900_XTX, 4711, 20000)
    assert [[p.used_mb for p in d.processes] for d in machine.devices()] == held


def test_a_card_that_is_added_is_seen_within_ten_samples(machine: Machine) -> None:
    """The PCI bus is looked through that often."""
    machine.sys.add(RX_7900_XTX)
    machine.devices()
    machine.sys.add(MI50)
    assert [len(machine.devices()) for _ in range(10)][-1] == 2


def test_a_game_is_seen_by_its_open_files(machine: Machine) -> None:
    """A client with two files counts once; what clients share counts for neither; kernels before 6.13 say less."""
    machine.sys.add(RX_7900_XTX)
    for pid, name in ((10, "game"), (11, "Xorg"), (12, "bash")):
        a_process(machine.proc, pid, name)
    for fd in (5, 6):
        draw(machine.proc, RX_7900_XTX, 10, fd, 1, "drm-resident-vram:\t6 MiB\ndrm-shared-vram:\t2048 KiB")
    draw(machine.proc, RX_7900_XTX, 10, 7, 2, "drm-memory-vram:\t102400 KiB")
    draw(machine.proc, RX_7900_XTX, 11, 4, 3, "drm-memory-vram:\t51200 KiB")
    draw(machine.proc, RX_7900_XTX, 12, 4, 4, "drm-memory-vram:\t0")
    (device,) = machine.devices()
    assert [(p.name, p.used_mb) for p in device.processes] == [("game", 104), ("Xorg", 50)]
    assert device.processes_known


def test_what_a_process_takes_for_computing_is_not_counted_twice(machine: Machine) -> None:
    """Its graphics client shows it too."""
    machine.sys.add(RX_7900_XTX)
    a_process(machine.proc, 10, "vllm")
    machine.sys.compute(RX_7900_XTX, 10, 8000)
    draw(machine.proc, RX_7900_XTX, 10, 5, 1, f"drm-memory-vram:\t{8050 << 10} KiB")
    assert [p.used_mb for p in machine.devices()[0].processes] == [8050]


def test_a_process_that_starts_is_seen_within_ten_samples(machine: Machine) -> None:
    """All processes are looked through that often; until then its memory is in use by none."""
    machine.sys.add(RX_7900_XTX)
    machine.devices()
    a_process(machine.proc, 10, "game")
    draw(machine.proc, RX_7900_XTX, 10, 5, 1, "drm-memory-vram:\t102400 KiB")
    assert [len(machine.devices()[0].processes) for _ in range(10)][-1] == 1


def test_a_device_without_the_driver_is_named_with_what_to_do(machine: Machine) -> None:
    """As one that is passed to a virtual machine."""
    machine.sys.on_pci("0000:0b:00.0", "0x1002", driver="vfio-pci")
    result = machine.tree.probe()
    assert "0000:0b:00.0 (driver vfio-pci)" in result.message
    assert "modprobe amdgpu" in result.message


def test_a_machine_without_a_device_says_so(machine: Machine) -> None:
    """And reads nothing else."""
    assert machine.tree.probe().message == "AMD: no GPU on the PCI bus"


def test_a_device_whose_memory_cannot_be_read_is_unhealthy(machine: Machine) -> None:
    """Not free."""
    machine.sys.add(RX_7900_XTX)
    (machine.sys.root / "bus/pci/devices/0000:03:00.0/mem_info_vram_used").write_text("")
    result = machine.tree.probe()
    assert [d.healthy for d in result.devices] == [False]
    assert "does not report its memory" in result.message


def test_the_sensors_of_a_suspended_card_are_not_read(machine: Machine) -> None:
    """Reading them would resume it every second."""
    machine.sys.add(RX_7900_XTX)
    folder = machine.sys.root / "bus/pci/devices/0000:03:00.0"
    (folder / "power/runtime_status").write_text("suspended\n")
    (device,) = machine.devices()
    assert (device.free_mb, device.utilisation, device.power_watts, device.temperature) == (24534, 0, 0, 0)


def test_a_device_that_is_unplugged_is_gone_and_the_other_keeps_its_uuid(machine: Machine) -> None:
    """Devices are known by what is burned into them, not by their order."""
    machine.sys.add(RX_7900_XTX)
    machine.sys.add(MI50)
    vendor = Vendor(name="amd", probe=machine.tree.probe)
    both = sample([vendor], DeviceSample())
    machine.sys.unplug(RX_7900_XTX)
    one = sample([vendor], both)
    assert [d.uuid for d in one.devices] == ["GPU-21ab4a1c2b3d4e5f"]


def test_after_a_reboot_with_swapped_slots_each_device_keeps_its_uuid(tmp_path: Path) -> None:
    """Addresses and numbers of render nodes are new (reliability G4)."""
    seen = []
    for name, order in (("one", (RX_7900_XTX, MI50)), ("two", (MI50, RX_7900_XTX))):
        (tmp_path / name).mkdir()
        machine = Machine(tmp_path / name)
        for slot, gpu in enumerate(order):
            swapped = msgspec.structs.replace(gpu, address=f"0000:0{slot}:00.0", minor=128 + slot)
            machine.sys.add(swapped)
        seen.append(sample([Vendor(name="amd", probe=machine.tree.probe)], DeviceSample()).devices)
    assert [(d.uuid, d.architecture) for d in seen[0]] == [(d.uuid, d.architecture) for d in seen[1]]


def test_a_card_without_a_serial_number_is_known_by_its_address(machine: Machine) -> None:
    """Before Vega."""
    machine.sys.add(msgspec.structs.replace(RX_7900_XTX, unique_id=0))
    assert [d.uuid for d in machine.devices()] == ["0000:03:00.0"]


@pytest.mark.parametrize("content", ["", "x", "gfx_target_version", "gfx_target_version x\n\n 7", "\x00\xff"])
def test_garbage_of_kfd_costs_the_architecture_at_most(machine: Machine, content: str) -> None:
    """Whatever a kernel writes there."""
    machine.sys.add(RX_7900_XTX)
    (machine.sys.root / "class/kfd/kfd/topology/nodes/1/properties").write_text(content)
    assert [d.architecture for d in machine.devices()] == ["gfx1100"]


GARBAGE = ("", "-1", "nan", "99999999999999999999999999", "9" * 5000, "0x", "\x00\n\n", "é" * 100)


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_in_any_file_never_makes_memory_free_that_is_not_there(
    machine: Machine, garbage: str
) -> None:
    """One file after the other; what is healthy is plausible."""
    machine.sys.add(RX_7900_XTX)
    a_process(machine.proc, 10, "game")
    machine.sys.compute(RX_7900_XTX, 10, 100)
    draw(machine.proc, RX_7900_XTX, 10, 5, 1, "drm-memory-vram:\t102400 KiB")
    folders = (machine.sys.root / "bus/pci/devices", machine.sys.root / "class", machine.proc)
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        content = path.read_text()
        path.write_text(garbage)
        tree = Tree(ProcessTable(machine.proc), machine.sys.root)
        for device in sample([Vendor(name="amd", probe=tree.probe)], DeviceSample()).devices:
            assert 0 <= device.free_mb <= device.free_mb + device.used_mb <= max(0, device.total_mb)
            assert all(0 <= p.used_mb <= device.total_mb for p in device.processes)
        path.write_text(content)
