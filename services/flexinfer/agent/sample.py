"""Samples: what all vendors found in one look, and whether it is news. Pure, but for the look itself."""

from collections.abc import Sequence

import msgspec

from flexinfer.agent.vendors import Found, Vendor
from flexinfer.events.events import GpusObserved
from flexinfer.events.nodes import Device

HEARTBEAT_SECONDS = 10.0
_MEMORY_MB, _UTILISATION, _POWER_WATTS = 16, 10, 25
"""Smaller differences are not news: they come with the next heartbeat."""


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one look found."""

    devices: tuple[Device, ...] = ()
    message: str = ""


def look(vendors: Sequence[Vendor], former: Sight) -> Sight:
    """Ask every vendor; devices of a vendor that cannot be asked now stay known, as unhealthy."""
    found = [(vendor, vendor.probe()) for vendor in vendors]
    devices = [device for vendor, answer in found for device in _known(vendor, answer, former)]
    return Sight(
        devices=tuple(sorted(devices, key=lambda device: device.uuid)),
        message="; ".join(answer.message for _, answer in found if answer.message),
    )


def _known(vendor: Vendor, answer: Found, former: Sight) -> Sequence[Device]:
    if not answer.broken:
        return answer.devices
    mine = [device for device in former.devices if device.vendor == vendor.name]
    return [msgspec.structs.replace(device, healthy=False) for device in mine]


def is_news(former: Sight, now: Sight) -> bool:
    """Tell whether a sight differs enough from what was told to be told at once."""
    before = {device.uuid: device for device in former.devices}
    if former.message != now.message or len(before) != len(now.devices):
        return True
    return any(d.uuid not in before or _differs(before[d.uuid], d) for d in now.devices)


def _differs(before: Device, now: Device) -> bool:
    return (
        (before.healthy, before.total_mb) != (now.healthy, now.total_mb)
        or [p.pid for p in before.processes] != [p.pid for p in now.processes]
        or abs(before.free_mb - now.free_mb) >= _MEMORY_MB
        or abs(before.utilisation - now.utilisation) >= _UTILISATION
        or abs(before.power_watts - now.power_watts) >= _POWER_WATTS
    )


def observed(sight: Sight, node: str, boot: str, number: int) -> GpusObserved:
    """Return the event of a sight."""
    return GpusObserved(node=node, boot=boot, sample=number, devices=sight.devices, message=sight.message)
