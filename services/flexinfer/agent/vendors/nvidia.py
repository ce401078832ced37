"""NVIDIA, by its management library (NVML) through `nvidia-ml-py`.

Old devices and drivers lack half of its calls.

The library stays open between probes, since opening it can power up a suspended device. After any error it is
closed and opened again: else a driver that was reloaded would answer "Unknown Error" to every later probe.
"""

import contextlib
import ctypes
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TypeAlias, TypeVar

from flexinfer.agent.vendors.base import ProbeResult, Vendor
from flexinfer.events.nodes import Device, DeviceProcess

_LIBRARY = "libnvidia-ml.so.1"
_NO_LIBRARY = "NVML: NVML Shared Library Not Found"
"""pynvml's own message for this."""
_MIB = 2**20
_ABSENT = ("NVMLError_LibraryNotFound", "NVMLError_DriverNotLoaded", "NVMLError_NoPermission")
T = TypeVar("T")


class Library:
    """The management library."""

    def __init__(self) -> None:
        self._open = False

    def probe(self) -> ProbeResult:
        """Return the devices that the library lists."""
        if not (self._open or _loadable()):
            return ProbeResult(message=_NO_LIBRARY)
        try:
            # An extra, slow to import, and 2 MiB that a machine without the library need not spend.
            import pynvml  # noqa: PLC0415
        except ImportError:
            return ProbeResult(message="nvidia-ml-py is not installed; install flexinfer[agent]")
        try:
            self._ensure_open(pynvml)
            devices, failures = _devices(pynvml)
        except pynvml.NVMLError as error:
            self._close(pynvml)
            absent = tuple(getattr(pynvml, name) for name in _ABSENT)
            return ProbeResult(message=f"NVML: {error}", broken=not isinstance(error, absent))
        if failures:
            self._close(pynvml)
        return ProbeResult(devices=tuple(devices), message="; ".join(failures), broken=bool(failures))

    def _ensure_open(self, pynvml: ModuleType) -> None:
        if not self._open:
            pynvml.nvmlInit()
            self._open = True

    def _close(self, pynvml: ModuleType) -> None:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
        self._open = False


def _loadable() -> bool:
    """Tell whether the library is installed: it comes with NVIDIA's driver."""
    try:
        ctypes.CDLL(_LIBRARY)
    except OSError:
        return False
    return True


def _devices(pynvml: ModuleType) -> tuple[list[Device], list[str]]:
    """Return the devices that can be described, and why others cannot.

    One that has fallen off the PCI bus must not hide the others. Raises NVMLError if the devices cannot be counted.
    """
    devices, failures = [], []
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            devices.append(_device(pynvml, pynvml.nvmlDeviceGetHandleByIndex(index)))
        except pynvml.NVMLError as error:
            failures.append(f"NVML: device {index}: {error}")
    return devices, failures


def _device(pynvml: ModuleType, handle: object) -> Device:
    """Describe one device; one whose memory cannot be read is unhealthy, not free.

    Raises NVMLError without a uuid.
    """

    def supported(call: Callable[[], T], otherwise: T) -> T:
        try:
            return call()
        except pynvml.NVMLError:
            return otherwise

    uuid = str(pynvml.nvmlDeviceGetUUID(handle))
    name = supported(lambda: str(pynvml.nvmlDeviceGetName(handle)), "")
    capability = supported(lambda: pynvml.nvmlDeviceGetCudaComputeCapability(handle), None)
    before = supported(lambda: _processes(pynvml, handle), None)
    memory = supported(lambda: _memory(pynvml, handle), None)
    total, free, used = memory or (0, 0, 0)
    after = supported(lambda: _processes(pynvml, handle), None)
    processes = None if before is None or after is None else _smaller(before, after)
    return Device(
        uuid=uuid,
        name=name,
        vendor="nvidia",
        architecture=f"sm_{capability[0]}{capability[1]}" if capability else "",
        total_mb=total,
        free_mb=free,
        used_mb=used,
        utilisation=supported(lambda: int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu), 0),
        power_watts=supported(lambda: int(pynvml.nvmlDeviceGetPowerUsage(handle) // 1000), 0),
        healthy=memory is not None and total > 0,
        processes_known=processes is not None and _complete(processes),
        processes=tuple(_process(pid, used) for pid, used in (processes or {}).items()),
    )


def _memory(pynvml: ModuleType, handle: object) -> tuple[int, int, int]:
    """Return total, free and used memory in MB.

    Version 2 of the call does not count the driver's own share as used.
    """
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except (pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_NotSupported):
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    total = max(0, int(memory.total))
    free, used = (min(max(0, int(value)), total) for value in (memory.free, memory.used))
    return total // _MIB, free // _MIB, used // _MIB


Processes: TypeAlias = Mapping[int, int | None]
"""pid -> the memory that it holds, in bytes; None where the driver does not report how much."""


def _processes(pynvml: ModuleType, handle: object) -> Processes:
    """Return the processes that hold memory. Raises NVMLError where the driver does not list them."""
    try:
        running = pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)
    except pynvml.NVMLError_FunctionNotFound:
        running = pynvml.nvmlDeviceGetComputeRunningProcesses_v2(handle)
    return {int(p.pid): None if p.usedGpuMemory is None else int(p.usedGpuMemory) for p in running}


def _smaller(before: Processes, after: Processes) -> Processes:
    """Return the processes of two lists, each with the smaller figure.

    The memory in use was read between the two. What a process took or freed meanwhile must not be taken for its share
    of that: memory in use without a process is waited for, memory that is counted twice would look free.
    """
    pids = sorted(before.keys() | after.keys())
    pairs = ((pid, before.get(pid, 0), after.get(pid, 0)) for pid in pids)
    return {pid: None if one is None or two is None else min(one, two) for pid, one, two in pairs}


def _complete(processes: Processes) -> bool:
    return not _in_wsl() and None not in processes.values()


def _process(pid: int, used: int | None) -> DeviceProcess:
    return DeviceProcess(pid=pid, used_mb=(used or 0) // _MIB, name=_name(pid))


@cache
def _in_wsl() -> bool:
    """Tell whether Windows owns the devices: then the list of processes succeeds and stays empty."""
    return Path("/dev/dxg").exists()


def _name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    return ""


VENDOR = Vendor(name="nvidia", probe=Library().probe)
