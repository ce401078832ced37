"""Xids: the errors that NVIDIA's driver reports of its devices, and which devices they put out of use.

An XID is the number of an error in the driver's catalogue (https://docs.nvidia.com/deploy/xid-errors). Most concern the process that
caused them. After some the device computes wrongly, or not at all, until it is reset: such a device is out of use until a probe has
seen it gone, which a reset, a reload of the driver or a reboot does. Old devices and drivers report none.
"""

import contextlib
import ctypes
from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import Any, TypeAlias

Handles: TypeAlias = Mapping[str, object]
"""The library's handles (ctypes pointers) of devices, by uuid."""
ERRORS_KEPT = 8
OUT_OF_USE = MappingProxyType(
    {
        48: "double bit ECC error",
        62: "internal micro-controller halt",
        64: "memory page or row could not be retired",
        74: "NVLink error",
        79: "fallen off the bus",
        95: "uncontained ECC error",
        119: "timeout of the GPU system processor",
        120: "error of the GPU system processor",
        140: "unrecovered ECC error",
    }
)
"""Those whose immediate action in the catalogue is a reset of the device or a restart of the machine."""


class Xids:
    """The errors of all devices by uuid, from an event set of the library that is read without waiting."""

    def __init__(self) -> None:
        self._errors: dict[str, tuple[str, ...]] = {}
        self._out: dict[str, int] = {}
        self._uuids: dict[int | None, str] = {}
        self._set: object = None
        self._registered = False

    def of(self, uuid: str) -> tuple[str, ...]:
        """Return the errors of a device, the newest last."""
        return self._errors.get(uuid, ())

    def out_of_use(self, uuid: str) -> str:
        """Return why a device must not be used; empty if it may be."""
        code = self._out.get(uuid)
        return "" if code is None else f"XID {code} ({OUT_OF_USE[code]})"

    def read(self, nvml: ModuleType, handles: Handles) -> None:
        """Take what the driver has reported since the last call; `handles` are those of all devices, by uuid.

        A device that is out of use and no longer listed may be used once it is listed again. Raises NVMLError
        where events are supported, and fail.
        """
        for uuid in handles.keys() - self._uuids.values():
            self._uuids[_address(handles[uuid])] = uuid
            self._register(nvml, handles[uuid])
        while self._registered and self._next(nvml):
            pass
        self._out = {uuid: code for uuid, code in self._out.items() if uuid in handles}

    def close(self, nvml: ModuleType) -> None:
        """Release the event set, to be called before the library is closed; the errors stay. Raises NVMLError."""
        events, self._set, self._registered = self._set, None, False
        self._uuids.clear()
        if events is not None:
            nvml.nvmlEventSetFree(events)

    def driver_unloaded(self) -> None:
        """Forget which devices were out of use: the driver that is loaded next has reset them."""
        self._out.clear()

    def _register(self, nvml: ModuleType, handle: object) -> None:
        unsupported_errors = (
            nvml.NVMLError_NotSupported,
            nvml.NVMLError_FunctionNotFound,
            nvml.NVMLError_NoPermission,
        )
        with contextlib.suppress(*unsupported_errors):
            if self._set is None:
                self._set = nvml.nvmlEventSetCreate()
            nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, self._set)
            self._registered = True

    def _next(self, nvml: ModuleType) -> bool:
        """Take one event; returns False if there is none."""
        try:
            event = nvml.nvmlEventSetWait_v2(self._set, 0)
        except nvml.NVMLError_Timeout:
            return False
        for uuid in self._concerned(event.device):
            self._note(uuid, int(event.eventData))
        return True

    def _concerned(self, device: object) -> list[str]:
        """Return the device of an event; all devices if the event names none of them.

        Handles are compared, also with those of devices that no longer answer: these do not tell their uuid.
        """
        uuid = self._uuids.get(_address(device))
        return [uuid] if uuid is not None else list(self._uuids.values())

    def _note(self, uuid: str, code: int) -> None:
        self._errors[uuid] = (*self.of(uuid), f"XID {code}")[-ERRORS_KEPT:]
        if code in OUT_OF_USE:
            self._out[uuid] = code


def _address(handle: Any) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value
