"""Whether what a library or driver says of a device can be true. Pure.

Memory that cannot be true is rejected: the device is unhealthy, since nothing is known of what is free on it. Figures that only inform
are replaced by 0, which means "not reported".
"""

import msgspec

from flexinfer.events.nodes import Device, DeviceProcess

PROCESSES_LISTED = 128
_WATTS, _CELSIUS = 5000, 150
"""No device draws or endures more."""


def checked(device: Device, previous: Device | None) -> tuple[Device, str]:
    """Return a device as far as it can be true, and why its memory is rejected; `previous` is its last sample.

    Of a device that is unhealthy for another reason no more is said. A total that differs from the last sample's is rejected once: it may be the reading that was wrong, or the last one.
    """
    device = _clamped(device)
    reason = _reason(device, previous if device.healthy else None)
    if not reason:
        return device, ""
    total_mb = max(0, device.total_mb)
    result = msgspec.structs.replace(device, healthy=False, total_mb=total_mb, free_mb=0, used_mb=0)
    message = f"device {device.uuid}: {reason}; it is not used until its driver reports plausible figures"
    return result, message if device.healthy else ""


def _reason(device: Device, previous: Device | None) -> str:
    total, free, used_mb = device.total_mb, device.free_mb, device.used_mb
    if total <= 0:
        return f"{total} MiB of memory in total"
    if used_mb < 0 or used_mb > total:
        return f"{used_mb} MiB in use of {total} MiB"
    if free < 0 or free + used_mb > total:
        return f"{free} MiB free beside {used_mb} MiB in use of {total} MiB"
    if previous is not None and previous.total_mb not in (0, total):
        return f"{total} MiB of memory in total, after {previous.total_mb} MiB"
    return ""


def _clamped(device: Device) -> Device:
    processes = tuple(_plausible(process, device.total_mb) for process in _largest(device.processes))
    return msgspec.structs.replace(
        device,
        utilisation=min(max(0, device.utilisation), 100),
        power_watts=device.power_watts if 0 <= device.power_watts <= _WATTS else 0,
        temperature=device.temperature if 0 <= device.temperature <= _CELSIUS else 0,
        processes_known=device.processes_known and processes == device.processes,
        processes=processes,
    )


def _largest(processes: tuple[DeviceProcess, ...]) -> tuple[DeviceProcess, ...]:
    """Return the processes that an event has room for, in their order: any user can start thousands that draw."""
    if len(processes) <= PROCESSES_LISTED:
        return processes
    largest = sorted(processes, key=lambda process: -process.used_mb)[:PROCESSES_LISTED]
    return tuple(sorted(largest, key=lambda process: process.pid))


def _plausible(process: DeviceProcess, total_mb: int) -> DeviceProcess:
    """Return a process without the memory that it cannot hold."""
    if 0 <= process.used_mb <= max(0, total_mb):
        return process
    return msgspec.structs.replace(process, used_mb=0)
