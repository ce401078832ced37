"""DeviceSample: the devices of the node as all vendors report them, and which changes are significant."""

from collections.abc import Sequence

import msgspec

from flexinfer.agent.plausible import checked
from flexinfer.agent.vendors import ProbeResult, Vendor
from flexinfer.events.events import GpusObserved
from flexinfer.events.nodes import Device

HEARTBEAT_SECONDS = 10.0
_NOTEWORTHY = ("healthy", "total_mb", "processes_known", "errors", "mig", "pci", "out_of_use")
"""Fields of a device whose every change is published at once."""
_MEMORY_MB, _UTILISATION, _POWER_WATTS = 16, 10, 25
"""Smaller changes are published with the next heartbeat: MB, percent, watts."""


class DeviceSample(msgspec.Struct, frozen=True, kw_only=True):
    """All devices at one time; `message` says why there are none, or what failed.

    `blind`: the library of a vendor failed as a whole, and its devices are those of an earlier sample.
    """

    devices: tuple[Device, ...] = ()
    message: str = ""
    blind: bool = False


def sample(vendors: Sequence[Vendor], previous: DeviceSample) -> DeviceSample:
    """Probe every vendor; blocks for milliseconds.

    Devices that a failed probe of their vendor lacks are kept from the previous sample, as unhealthy; so is one
    whose memory cannot be true. That a vendor has no devices is worth a message only if no vendor has any.
    """
    probes = [(vendor, vendor.probe()) for vendor in vendors]
    before = {device.uuid: device for device in previous.devices}
    results = [
        checked(device, before.get(device.uuid))
        for vendor, probe in probes
        for device in _devices(vendor, probe, previous)
    ]
    messages = [probe.message for _, probe in probes if probe.devices or probe.broken or not results]
    return DeviceSample(
        devices=tuple(sorted((device for device, _ in results), key=lambda device: device.uuid)),
        message="; ".join(text for text in (*messages, *(reason for _, reason in results)) if text),
        blind=any(
            probe.broken and not probe.devices and _devices(vendor, probe, previous)
            for vendor, probe in probes
        ),
    )


def _devices(vendor: Vendor, probe: ProbeResult, previous: DeviceSample) -> Sequence[Device]:
    if not probe.broken:
        return probe.devices
    uuids = {device.uuid for device in probe.devices}
    missing = [d for d in previous.devices if d.vendor == vendor.name and d.uuid not in uuids]
    return [*probe.devices, *(msgspec.structs.replace(device, healthy=False) for device in missing)]


def is_significant(previous: DeviceSample, current: DeviceSample) -> bool:
    """Return whether a sample differs enough from the one published to be published at once."""
    before = {device.uuid: device for device in previous.devices}
    if previous.message != current.message or len(before) != len(current.devices):
        return True
    return any(d.uuid not in before or _differs(before[d.uuid], d) for d in current.devices)


def _differs(before: Device, now: Device) -> bool:
    return (
        any(getattr(before, name) != getattr(now, name) for name in _NOTEWORTHY)
        or [(p.pid, p.started) for p in before.processes] != [(p.pid, p.started) for p in now.processes]
        or abs(before.free_mb - now.free_mb) >= _MEMORY_MB
        or abs(before.utilisation - now.utilisation) >= _UTILISATION
        or abs(before.power_watts - now.power_watts) >= _POWER_WATTS
    )


def event_of(current: DeviceSample, node: str, boot: str, number: int, age: float) -> GpusObserved:
    """Return the event of a sample that was begun `age` seconds ago.

    `number` counts from 1 for each `boot` of the agent.
    """
    return GpusObserved(
        node=node,
        boot=boot,
        sample=number,
        age_seconds=max(0.0, age),
        devices=current.devices,
        message=current.message,
    )
