"""NVIDIA, by its management library (NVML) through `nvidia-ml-py`.

Old devices and drivers lack half of its calls; what one lacks is left out of the sample.

The library stays open between probes, since opening it can power up a suspended device. After any error it is
closed and opened again: else a driver that was reloaded would answer "Unknown Error" to every later probe.
"""

import contextlib
import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import msgspec

from flexinfer.agent import sysfs
from flexinfer.agent.processes import Holdings, ProcessTable, smaller
from flexinfer.agent.vendors.base import ProbeResult, Vendor
from flexinfer.agent.xid import Xids
from flexinfer.events.nodes import Device

_LIBRARY = "libnvidia-ml.so.1"
_NO_LIBRARY = "NVML: NVML Shared Library Not Found"
"""pynvml's own message for this."""
_PCI_VENDOR = "0x10de"
_MIB = 2**20
_ABSENT = ("NVMLError_LibraryNotFound", "NVMLError_DriverNotLoaded", "NVMLError_NoPermission")
_UNSUPPORTED = ("NVMLError_NotSupported", "NVMLError_FunctionNotFound", "NVMLError_NoPermission")
T = TypeVar("T")


class Library:
    """The management library; `proc` tells whose the processes are."""

    def __init__(self, proc: ProcessTable) -> None:
        self._open = False
        self._proc = proc
        self._xids = Xids()

    def probe(self) -> ProbeResult:
        """Return the devices that the library lists."""
        if not (self._open or _loadable()):
            return ProbeResult(message=f"{_NO_LIBRARY}{self._remedy()}")
        try:
            # An extra, slow to import, and 2 MiB that a machine without the library need not spend.
            import pynvml  # noqa: PLC0415
        except ImportError:
            return ProbeResult(message="nvidia-ml-py is not installed; install flexinfer[agent]")
        try:
            return self._probe(pynvml)
        except pynvml.NVMLError as error:
            return self._failed(pynvml, error)

    def _probe(self, nvml: ModuleType) -> ProbeResult:
        """Return the devices. Raises NVMLError if they cannot be counted."""
        if not self._open:
            nvml.nvmlInit()
            self._open = True
        snapshot = _Snapshot(nvml, self._proc)
        devices = snapshot.devices()
        try:
            self._xids.read(nvml, snapshot.handles)
        except nvml.NVMLError as error:
            snapshot.failures.append(f"NVML: errors of devices cannot be read: {error}")
        if snapshot.failures:
            self._close(nvml)
        checked_devices = [self._judged(device, snapshot.messages) for device in devices]
        return ProbeResult(
            devices=tuple(checked_devices),
            message="; ".join([*snapshot.failures, *snapshot.messages]),
            broken=bool(snapshot.failures),
        )

    def _judged(self, device: Device, messages: list[str]) -> Device:
        """Return a device with the errors of its driver, which may put it out of use."""
        reason = self._xids.out_of_use(device.uuid)
        if reason:
            messages.append(
                f"device {device.uuid}: {reason}; reset it (nvidia-smi --gpu-reset) or restart the node, then restart the agent"
            )
        errors = self._xids.of(device.uuid)
        healthy = device.healthy and not reason
        return msgspec.structs.replace(device, errors=errors, healthy=healthy, out_of_use=reason)

    def _failed(self, nvml: ModuleType, error: Exception) -> ProbeResult:
        self._close(nvml)
        absent = isinstance(error, tuple(getattr(nvml, name) for name in _ABSENT))
        if isinstance(error, nvml.NVMLError_DriverNotLoaded):
            self._xids.driver_unloaded()
        remedy = self._remedy() if absent else ""
        return ProbeResult(message=f"NVML: {error}{remedy}", broken=not absent)

    def _close(self, nvml: ModuleType) -> None:
        for close in (lambda: self._xids.close(nvml), nvml.nvmlShutdown):
            with contextlib.suppress(nvml.NVMLError):
                close()
        self._open = False

    def _remedy(self) -> str:
        """Return what to do if there are devices that the library does not see, or that there is none."""
        present = sysfs.described(sysfs.gpus_on_pci(sysfs.SYS, _PCI_VENDOR))
        if not present:
            return "" if _in_wsl() else "; no NVIDIA GPU is on the PCI bus"
        return (
            f", but PCI has {present}: install NVIDIA's driver; if `nvidia-smi` works on the node, the agent's container lacks the library: "
            "set runtimeClassName: nvidia on the DaemonSet flexinfer-agent"
        )


def _loadable() -> bool:
    """Return whether the library is installed: it comes with NVIDIA's driver."""
    try:
        ctypes.CDLL(_LIBRARY)
    except OSError:
        return False
    return True


class _Snapshot:
    """One look at all devices: `failures` are devices that did not answer, `messages` what else is worth saying."""

    def __init__(self, nvml: ModuleType, proc: ProcessTable) -> None:
        self._nvml, self._proc = nvml, proc
        self._unsupported = tuple(getattr(nvml, name) for name in _UNSUPPORTED)
        self.handles: dict[str, object] = {}
        self.failures: list[str] = []
        self.messages: list[str] = []

    def devices(self) -> list[Device]:
        """Return the devices that can be described.

        One that has fallen off the PCI bus must not hide the others. Raises NVMLError if they cannot be counted.
        """
        devices = []
        for index in range(self._nvml.nvmlDeviceGetCount()):
            try:
                devices.append(self._device(self._nvml.nvmlDeviceGetHandleByIndex(index)))
            except self._nvml.NVMLError as error:
                self.failures.append(f"NVML: device {index}: {error}{self._remedy(error)}")
        return devices

    def _remedy(self, error: Exception) -> str:
        lost_errors = self._nvml.NVMLError_GpuIsLost, self._nvml.NVMLError_ResetRequired
        return (
            "; reset it (nvidia-smi --gpu-reset) or restart the node"
            if isinstance(error, lost_errors)
            else ""
        )

    def _optional(self, call: Callable[[], T], otherwise: T) -> T:
        """Return what a call returns, or a substitute if it fails: whether a device answers is seen by its memory."""
        try:
            return call()
        except self._nvml.NVMLError:
            return otherwise

    def _device(self, handle: object) -> Device:
        """Describe one device; one whose memory cannot be read is unhealthy, not free.

        Raises NVMLError without a uuid, and if the device does not answer.
        """
        nvml = self._nvml
        uuid = str(nvml.nvmlDeviceGetUUID(handle))
        capability = self._optional(lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle), None)
        mig = self._optional(lambda: nvml.nvmlDeviceGetMigMode(handle)[0] == 1, otherwise=False)
        before = self._optional(lambda: self._processes(handle), None)
        memory = self._memory(handle)
        after = self._optional(lambda: self._processes(handle), None)
        processes = None if before is None or after is None else smaller(before, after)
        if memory is None:
            self.messages.append(f"device {uuid}: its driver does not report its memory, so it is not used")
        total, free, in_use = memory or (0, 0, 0)
        self.handles[uuid] = handle
        return Device(
            uuid=uuid,
            name=self._optional(lambda: str(nvml.nvmlDeviceGetName(handle)), ""),
            vendor="nvidia",
            architecture=f"sm_{capability[0]}{capability[1]}" if capability else "",
            total_mb=total,
            free_mb=free,
            used_mb=in_use,
            utilisation=self._optional(lambda: int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu), 0),
            power_watts=self._optional(lambda: int(nvml.nvmlDeviceGetPowerUsage(handle) // 1000), 0),
            temperature=self._optional(lambda: self._temperature(handle), 0),
            pci=self._optional(lambda: _address(nvml.nvmlDeviceGetPciInfo(handle)), ""),
            mig=mig,
            healthy=memory is not None,
            processes_known=processes is not None and not mig and _complete(processes),
            processes=tuple(
                self._proc.describe(*key, in_use or 0) for key, in_use in (processes or {}).items()
            ),
        )

    def _memory(self, handle: object) -> tuple[int, int, int] | None:
        """Return total, free and used memory in MiB; None where device, driver or rights do not tell it.

        Version 2 of the call does not count the driver's own share as used. Raises NVMLError if the device does not answer.
        """
        nvml = self._nvml
        for version in (nvml.nvmlMemory_v2, None):
            with contextlib.suppress(*self._unsupported):
                memory = nvml.nvmlDeviceGetMemoryInfo(handle, version=version)
                return int(memory.total) // _MIB, int(memory.free) // _MIB, int(memory.used) // _MIB
        return None

    def _temperature(self, handle: object) -> int:
        """Return degrees Celsius; the older of two calls goes with CUDA 14, old drivers lack the other."""
        nvml = self._nvml
        try:
            return int(nvml.nvmlDeviceGetTemperatureV(handle, nvml.NVML_TEMPERATURE_GPU))
        except self._unsupported:
            return int(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))

    def _processes(self, handle: object) -> Holdings:
        """Return the processes that hold memory, for computing or for graphics (a desktop, a game).

        Raises NVMLError where the driver does not list those that compute; without the others, none of them hold any.
        """
        compute_processes = self._list("Compute", handle)
        processes: dict[tuple[int, int], int | None] = {}
        for process in [*compute_processes, *self._optional(lambda: self._list("Graphics", handle), [])]:
            pid, used_bytes = int(process.pid), process.usedGpuMemory
            key = pid, self._proc.started(pid)
            # One that does both is in both lists, with the same figure.
            processes[key] = None if used_bytes is None else max(processes.get(key) or 0, int(used_bytes))
        return processes

    def _list(self, kind: str, handle: object) -> list[Any]:
        name = f"nvmlDeviceGet{kind}RunningProcesses"
        try:
            return list(getattr(self._nvml, f"{name}_v3")(handle))
        except self._nvml.NVMLError_FunctionNotFound:
            return list(getattr(self._nvml, f"{name}_v2")(handle))


def _address(pci: Any) -> str:
    """Return a PCI address as /sys/bus/pci writes it: the library's own form has eight digits of the domain."""
    return f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0"


def _complete(processes: Holdings) -> bool:
    return not _in_wsl() and None not in processes.values()


@cache
def _in_wsl() -> bool:
    """Return whether Windows owns the devices: then the list of processes succeeds and stays empty."""
    return Path("/dev/dxg").exists()


VENDOR = Vendor(name="nvidia", probe=Library(ProcessTable()).probe)
