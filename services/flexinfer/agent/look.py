"""What the readers see on this machine, as text: `flexinfer gpus --here`, and `python -m flexinfer.agent.look` in the agent's container.

It takes one sample as the agent does, without NATS or a cluster, and says why nothing is seen where nothing is. Errors that a driver
reported before are not in it: the agent collects them while it runs.
"""

import sys
from collections.abc import Iterator, Sequence

import msgspec

from flexinfer.agent import cpu
from flexinfer.agent.cpu import CpuFacts
from flexinfer.agent.sample import DeviceSample, sample
from flexinfer.agent.vendors import Vendor, all_vendors
from flexinfer.api.conditions import one_line
from flexinfer.events.nodes import Device, DeviceProcess

_GUIDE = "docs/how-to/find-a-gpu.md"


class VendorReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the reader of one vendor sees; `message` says why it sees nothing, or what is wrong."""

    name: str
    devices: tuple[Device, ...]
    message: str


class MachineReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the readers see on this machine."""

    vendors: Sequence[VendorReport]
    cpu: CpuFacts


def report(vendors: Sequence[Vendor], facts: CpuFacts) -> MachineReport:
    """Return what the readers of these vendors see."""
    return MachineReport(vendors=[_look(vendor) for vendor in vendors], cpu=facts)


def here() -> MachineReport:
    """Return what all readers see on this machine."""
    return report(all_vendors(), cpu.read())


def _look(vendor: Vendor) -> VendorReport:
    result = sample([vendor], DeviceSample())
    return VendorReport(name=vendor.name, devices=result.devices, message=result.message)


def lines(report: MachineReport) -> Iterator[str]:
    """Yield the report as text."""
    for vendor in report.vendors:
        for device in vendor.devices:
            yield from _device(device)
        if vendor.message or not vendor.devices:
            yield one_line(vendor.message) or f"{vendor.name}: no device"
    yield _cpu(report.cpu)
    if not any(vendor.devices for vendor in report.vendors):
        yield f"No GPU is usable here. What each line means, and what to do: {_GUIDE}"


def _device(device: Device) -> Iterator[str]:
    name = device.name or "unknown card"
    yield f"{device.vendor}: {one_line(name)}, {device.architecture or 'architecture unknown'}, {device.pci or 'no PCI address'}, {device.uuid}"
    yield f"  memory: {_memory(device)}"
    yield f"  {device.utilisation} % busy, {_figure(device.temperature, '°C')}, {_figure(device.power_watts, 'W')}"
    if device.mig:
        yield "  divided into MIG devices: its processes are not known"
    if device.errors:
        yield f"  errors: {', '.join(device.errors)}"
    yield from (f"  {_process(process)}" for process in device.processes)
    if not device.processes_known:
        yield "  which processes use its memory is not known for all of them: the driver does not report it, or not to this user"


def _memory(device: Device) -> str:
    if not device.healthy:
        return "unknown: the device is not healthy, and is not used"
    return f"{device.free_mb} MiB free of {device.total_mb} MiB, {device.used_mb} MiB in use"


def _process(process: DeviceProcess) -> str:
    whose = f"Pod {process.pod_uid}" if process.pod_uid else "outside Kubernetes"
    return f"{process.used_mb} MiB  pid {process.pid} {one_line(process.name)} ({whose})"


def _figure(value: int, unit: str) -> str:
    return f"{value} {unit}" if value else f"? {unit}"


def _cpu(facts: CpuFacts) -> str:
    flags = " ".join(facts.vector_flags) or "no vector extensions known"
    return f"cpu: {facts.cores} cores, {facts.available_mb} MiB free of {facts.memory_mb} MiB, {flags}"


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines(here())) + "\n")
