"""AMD, by what the kernel's amdgpu driver shows in /sys, and by KFD, its part for computing.

Nothing of ROCm is needed. `amdsmi` is not used: it reads the same files, brings nothing that they lack here, needs ROCm's libraries in
the image, and its import prints and raises KeyError without them.

In a container that may not use a device, KFD refuses to describe it (kfd_devcgroup_check_permission() in the kernel). The architecture is
then that of the chip, and what a process holds by KFD is known where the node has one AMD device alone.

uuid: the `unique_id` that is burned into the chip, in the form in which ROCr accepts it (ROCR_VISIBLE_DEVICES=GPU-<16 digits>); without
one, the PCI address. Both outlast a reboot. A GPU that is part of a CPU (`gfx.is_integrated`) is left out: its memory is the node's own.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from flexinfer.agent import gfx, sysfs
from flexinfer.agent.drm import DrmClients
from flexinfer.agent.processes import Holdings, ProcessTable, smaller
from flexinfer.agent.vendors.base import ProbeResult, Vendor
from flexinfer.events.nodes import Device

_PCI_VENDOR, _DRIVER = "0x1002", "amdgpu"
_USED = "mem_info_vram_used"
_MIB = 2**20
_LOOK_UP_EVERY = 10
"""Probes; one is made each second."""
_UNLISTED_MB = 512
"""What driver and console hold on a device that is idle: more memory in use than that belongs to a process that was not seen."""
_NAMES = {
    ("0x744c", "0xc8"): "AMD Radeon RX 7900 XTX",
    ("0x744c", "0xcc"): "AMD Radeon RX 7900 XT",
    ("0x744c", "0xce"): "AMD Radeon RX 7900 GRE",
    ("0x73bf", "0xc0"): "AMD Radeon RX 6900 XT",
    ("0x73bf", "0xc1"): "AMD Radeon RX 6800 XT",
    ("0x66af", "0xc1"): "AMD Radeon VII",
    ("0x66a0", "0x00"): "AMD Instinct MI60 / MI50",
    ("0x66a1", "0x06"): "AMD Radeon Pro VII",
    ("0x66a1", "0x02"): "AMD Instinct MI50",
}
"""By PCI device and revision (amdgpu.ids of libdrm): consumer cards do not say their name."""


class _KfdNode(msgspec.Struct, frozen=True, kw_only=True):
    """What KFD says of a GPU; the defaults are those of a device that it does not describe."""

    gpu_id: str = ""
    architecture: str = ""
    cpu_cores: int = 0


class _Card(msgspec.Struct, frozen=True, kw_only=True):
    """A device with the driver; what does not change while it is there."""

    address: str
    folder: Path
    sensors: Path | None
    uuid: str
    name: str
    gpu_id: str
    architecture: str
    total_mb: int
    integrated: bool


class _Inventory(msgspec.Struct, frozen=True):
    """The devices that the driver serves, and why others are not used."""

    cards: tuple[_Card, ...]
    messages: tuple[str, ...]


class Tree:
    """The devices below a root of /sys, and the processes below one of /proc."""

    def __init__(self, proc: ProcessTable, sys: Path = sysfs.SYS) -> None:
        self._proc, self._sys = proc, sys
        self._clients = DrmClients(proc.root)
        self._inventory = _Inventory((), ())
        self._probes = 0

    def probe(self) -> ProbeResult:
        """Return the devices that the driver shows.

        Which there are is looked up once in so many probes, since that reads every device on the PCI bus, and as
        soon as one does not answer.
        """
        if self._probes % _LOOK_UP_EVERY == 0 or any(not _answers(card) for card in self._inventory.cards):
            self._inventory = self._look_up()
        self._probes += 1
        cards, messages = self._inventory.cards, list(self._inventory.messages)
        devices = self._devices(cards) if any(not card.integrated for card in cards) else []
        messages += [
            f"device {device.uuid}: the amdgpu driver does not report its memory, so it is not used"
            for device in devices
            if not device.healthy
        ]
        return ProbeResult(devices=tuple(devices), message="; ".join(messages))

    def _look_up(self) -> _Inventory:
        on_pci = list(sysfs.gpus_on_pci(self._sys, _PCI_VENDOR))
        if not on_pci:
            return _Inventory((), ("AMD: no GPU on the PCI bus",))
        nodes = dict(self._nodes())
        folders = [
            self._sys / "bus/pci/devices" / device.address for device in on_pci if device.driver == _DRIVER
        ]
        cards = [_card(folder, nodes.get(_minor(folder), _KfdNode())) for folder in folders]
        others = [device for device in on_pci if device.driver != _DRIVER]
        return _Inventory(tuple(cards), tuple(_left_out(others, cards)))

    def _nodes(self) -> Iterator[tuple[str, _KfdNode]]:
        """Yield the GPUs that KFD describes, by the minor number of their render node."""
        for folder in sysfs.entries(self._sys / "class/kfd/kfd/topology/nodes", "[0-9]*"):
            properties = _properties(folder / "properties")
            architecture = gfx.from_target_version(_number(properties.get("gfx_target_version", "")))
            if architecture:
                node = _KfdNode(
                    gpu_id=sysfs.text(folder / "gpu_id"),
                    architecture=architecture,
                    cpu_cores=_number(properties.get("cpu_cores_count", "")),
                )
                yield properties.get("drm_render_minor", ""), node

    def _devices(self, cards: Sequence[_Card]) -> list[Device]:
        """Return what may be used, with its processes as they were before and after the memory was read."""
        before, complete = self._holdings(cards)
        devices = [(card, _device(card)) for card in cards if not card.integrated]
        after, still_complete = self._holdings(cards)
        return [
            self._with_processes(
                device, smaller(before[card.address], after[card.address]), complete and still_complete
            )
            for card, device in devices
        ]

    def _with_processes(self, device: Device, holdings: Holdings, complete: bool) -> Device:  # noqa: FBT001
        """Return a device with its processes; they are known if no other can hold much of what is in use."""
        processes = tuple(self._proc.describe(*key, used_bytes or 0) for key, used_bytes in holdings.items())
        unlisted_mb = device.used_mb - sum(process.used_mb for process in processes)
        all_listed = complete or unlisted_mb <= _UNLISTED_MB
        return msgspec.structs.replace(device, processes=processes, processes_known=all_listed)

    def _holdings(self, cards: Sequence[_Card]) -> tuple[Mapping[str, Holdings], bool]:
        """Return who holds how many bytes, by PCI address, and whether another process may hold some."""
        usage = self._clients.read()
        holdings = {}
        for card in cards:
            by_kfd = dict(self._held_by_kfd(card, alone=len(cards) == 1))
            by_drm = usage.held.get(card.address, {})
            # What a process takes through KFD is shown by its graphics client too: the larger figure, not the sum.
            holdings[card.address] = {
                (pid, self._proc.started(pid)): size
                for pid in sorted(by_kfd.keys() | by_drm.keys())
                if (size := max(by_kfd.get(pid, 0), by_drm.get(pid, 0)))
            }
        return holdings, usage.complete

    def _held_by_kfd(self, card: _Card, *, alone: bool) -> Iterator[tuple[int, int]]:
        """Yield pid and bytes of the processes that compute on a device, as any user may read them."""
        pattern = f"vram_{card.gpu_id}" if card.gpu_id else "vram_*"
        if not (card.gpu_id or alone):
            return
        for folder in sysfs.entries(self._sys / "class/kfd/kfd/proc", "[0-9]*"):
            if folder.name.isdigit():
                files = sysfs.entries(folder, pattern)
                yield int(folder.name), sum(sysfs.number(file) or 0 for file in files)


def _card(folder: Path, node: _KfdNode) -> _Card:
    architecture = node.architecture or gfx.from_chip(_core(folder), sysfs.text(folder / "device"))
    total_mb = (sysfs.number(folder / "mem_info_vram_total") or 0) // _MIB
    return _Card(
        address=folder.name,
        folder=folder,
        sensors=next(iter(sysfs.entries(folder, "hwmon/hwmon*")), None),
        uuid=_uuid(folder),
        name=_name(folder),
        gpu_id=node.gpu_id,
        architecture=architecture,
        total_mb=total_mb,
        integrated=gfx.is_integrated(architecture, total_mb, node.cpu_cores),
    )


def _answers(card: _Card) -> bool:
    return sysfs.number(card.folder / _USED) is not None


def _device(card: _Card) -> Device:
    """Describe a device; one whose memory cannot be read is unhealthy, not free.

    The sensors of a device that is suspended are not read: that would resume it.
    """
    used_bytes = sysfs.number(card.folder / _USED)
    used_mb = (used_bytes or 0) // _MIB
    asleep = sysfs.text(card.folder / "power/runtime_status") == "suspended"
    sensors = None if asleep else card.sensors
    return Device(
        uuid=card.uuid,
        name=card.name,
        vendor="amd",
        architecture=card.architecture,
        total_mb=card.total_mb,
        free_mb=card.total_mb - used_mb,
        used_mb=used_mb,
        utilisation=0 if asleep else sysfs.number(card.folder / "gpu_busy_percent") or 0,
        power_watts=_sensor(sensors, "power1_average", "power1_input") // 1_000_000,
        temperature=_sensor(sensors, "temp1_input", "temp2_input") // 1000,
        pci=card.address,
        healthy=used_bytes is not None and card.total_mb > 0,
    )


def _left_out(others: Sequence[sysfs.PciDevice], cards: Sequence[_Card]) -> Iterator[str]:
    """Yield why devices are not used."""
    if others:
        yield (
            f"AMD: PCI has {sysfs.described(others)}, which the amdgpu driver does not serve: load it (modprobe amdgpu), "
            "or give the device back from vfio-pci"
        )
    for card in cards:
        if card.integrated:
            yield (
                f"AMD: {card.address} ({card.architecture or 'unknown architecture'}, {card.total_mb} MiB) is part of the CPU and left out: "
                "its memory is the node's own; run the Model on the CPU"
            )


def _uuid(folder: Path) -> str:
    unique = sysfs.number(folder / "unique_id", 16)
    return f"GPU-{unique:016x}" if unique else folder.name


def _name(folder: Path) -> str:
    device, revision = sysfs.text(folder / "device"), sysfs.text(folder / "revision")
    return sysfs.text(folder / "product_name") or _NAMES.get((device, revision), f"AMD GPU {device}")


def _core(folder: Path) -> tuple[int, int, int] | None:
    """Return the version of the graphics core, as the chip says it; None before 2019."""
    core = folder / "ip_discovery/die/0/GC/0"
    major, minor, revision = (sysfs.number(core / part) for part in ("major", "minor", "revision"))
    return None if major is None or minor is None or revision is None else (major, minor, revision)


def _minor(folder: Path) -> str:
    """Return the minor number of a device's render node; empty without one."""
    nodes = sysfs.entries(folder, "drm/renderD*")
    return nodes[0].name.removeprefix("renderD") if nodes else ""


def _properties(path: Path) -> Mapping[str, str]:
    """Return the names and values of a file with one of each a line."""
    lines = (line.partition(" ") for line in sysfs.text(path).splitlines())
    return {name: value.strip() for name, _, value in lines}


def _sensor(folder: Path | None, *names: str) -> int:
    """Return the first sensor that can be read; 0 if none can."""
    values = (sysfs.number(folder / name) for name in names) if folder is not None else ()
    return next((value for value in values if value is not None), 0)


def _number(value: str) -> int:
    with contextlib.suppress(ValueError):
        return int(value)
    return 0


VENDOR = Vendor(name="amd", probe=Tree(ProcessTable()).probe)
