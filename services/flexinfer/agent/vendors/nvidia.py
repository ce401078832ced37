"""NVIDIA, by its management library through `nvidia-ml-py`; old cards and drivers lack half of the calls.

The library stays open between looks, since opening it can wake a sleeping card. After any error it is closed and opened anew: a driver that
was reloaded underneath would else answer "unknown error" for ever.
"""

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from flexinfer.agent.vendors.base import Found, Vendor
from flexinfer.events.nodes import Device, DeviceProcess

_LIBRARY = "libnvidia-ml.so.1"
_NO_LIBRARY = "NVML: NVML Shared Library Not Found"
"""What pynvml itself would say."""
_MIB = 2**20
_ABSENT = ("NVMLError_LibraryNotFound", "NVMLError_DriverNotLoaded", "NVMLError_NoPermission")
T = TypeVar("T")


class Library:
    """The management library, open or not."""

    def __init__(self) -> None:
        self._open = False

    def probe(self) -> Found:
        """Return the devices that the library tells of."""
        if not (self._open or _loadable()):
            return Found(message=_NO_LIBRARY)
        try:
            import pynvml  # noqa: PLC0415 -- an extra, slow to import, and 2 MiB that a machine without the library does not pay
        except ImportError:
            return Found(message="nvidia-ml-py is not installed")
        try:
            self._ensure(pynvml)
            return Found(devices=tuple(_devices(pynvml)))
        except pynvml.NVMLError as error:
            self._close(pynvml)
            absent = tuple(getattr(pynvml, name) for name in _ABSENT)
            return Found(message=f"NVML: {error}", broken=not isinstance(error, absent))

    def _ensure(self, pynvml: ModuleType) -> None:
        if not self._open:
            pynvml.nvmlInit()
            self._open = True

    def _close(self, pynvml: ModuleType) -> None:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
        self._open = False


def _loadable() -> bool:
    """Tell whether there is a library: it comes with NVIDIA's driver."""
    try:
        ctypes.CDLL(_LIBRARY)
    except OSError:
        return False
    return True


def _devices(pynvml: ModuleType) -> Iterator[Device]:
    for index in range(pynvml.nvmlDeviceGetCount()):
        yield _device(pynvml, pynvml.nvmlDeviceGetHandleByIndex(index))


def _device(pynvml: ModuleType, handle: Any) -> Device:
    """Describe one device; one that has fallen off the bus is unhealthy, not absent."""

    def told(call: Callable[[], T], otherwise: T) -> T:
        try:
            return call()
        except pynvml.NVMLError:
            return otherwise

    uuid = str(pynvml.nvmlDeviceGetUUID(handle))
    name = told(lambda: str(pynvml.nvmlDeviceGetName(handle)), "")
    capability = told(lambda: pynvml.nvmlDeviceGetCudaComputeCapability(handle), None)
    memory = told(lambda: _memory(pynvml, handle), None)
    total, free, used = memory or (0, 0, 0)
    return Device(
        uuid=uuid,
        name=name,
        vendor="nvidia",
        architecture=f"sm_{capability[0]}{capability[1]}" if capability else "",
        total_mb=total,
        free_mb=free,
        used_mb=used,
        utilisation=told(lambda: int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu), 0),
        power_watts=told(lambda: int(pynvml.nvmlDeviceGetPowerUsage(handle) // 1000), 0),
        healthy=memory is not None and total > 0,
        processes=told(lambda: _processes(pynvml, handle), ()),
    )


def _memory(pynvml: ModuleType, handle: Any) -> tuple[int, int, int]:
    """Return total, free and used MB; version 2 of the call leaves out what the driver keeps for itself."""
    try:
        told = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except (pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_NotSupported):
        told = pynvml.nvmlDeviceGetMemoryInfo(handle)
    total = max(0, int(told.total))
    free, used = (min(max(0, int(value)), total) for value in (told.free, told.used))
    return total // _MIB, free // _MIB, used // _MIB


def _processes(pynvml: ModuleType, handle: Any) -> tuple[DeviceProcess, ...]:
    """Return who holds memory; a library that does not tell how much says None."""
    try:
        running = pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)
    except pynvml.NVMLError_FunctionNotFound:
        running = pynvml.nvmlDeviceGetComputeRunningProcesses_v2(handle)
    found = [
        DeviceProcess(pid=int(p.pid), used_mb=int(p.usedGpuMemory or 0) // _MIB, name=_name(int(p.pid)))
        for p in running
    ]
    return tuple(sorted(found, key=lambda process: process.pid))


def _name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    return ""


VENDOR = Vendor(name="nvidia", probe=Library().probe)
