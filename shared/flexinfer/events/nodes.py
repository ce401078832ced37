"""Nodes and their devices: what a placement is decided from. Pure."""

import msgspec

from flexinfer.api.labels import OUT_OF_SERVICE_TAINT
from flexinfer.events.base import Count


class Device(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One GPU as its vendor's library reports it.

    Memory in units of 2^20 bytes, as the vendors' tools print it; of a device that is not healthy it says nothing.
    `processes_known` is False where the library does not report which processes use memory, and how much of it:
    under WSL, without the rights, or on some MIG devices. `processes` then proves nothing by what it lacks. It holds at most 128, those
    with the most memory, and `processes_known` is False if there are more.
    `pci` is the address of the device in the form of /sys/bus/pci (`0000:01:00.0`), empty where there is none. `temperature` is
    in degrees Celsius, 0 where it is not reported. `errors` are what the driver has reported of the device since the agent started,
    the newest last (`XID 79`); at most 8. `mig`: the device is divided into MIG devices. `out_of_use` is the error after which it must not be
    used until it was reset; empty if there is none. Such a device is not healthy.
    """

    uuid: str
    name: str = ""
    vendor: str = "nvidia"
    architecture: str = ""
    total_mb: Count = 0
    free_mb: Count = 0
    used_mb: Count = 0
    utilisation: Count = 0
    power_watts: Count = 0
    pci: str = ""
    temperature: Count = 0
    errors: tuple[str, ...] = ()
    mig: bool = False
    out_of_use: str = ""
    healthy: bool = True
    processes_known: bool = True
    processes: tuple["DeviceProcess", ...] = ()


class DeviceProcess(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A process that uses memory of a device.

    `started` is in clock ticks since the node was booted, as /proc/<pid>/stat says; with the pid it names one process. 0: not known.
    `pod_uid` is the uid of the Pod whose control group it is in; empty for a process outside Kubernetes.
    """

    pid: Count
    used_mb: Count = 0
    name: str = ""
    started: Count = 0
    pod_uid: str = ""


class Taint(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A taint of a node."""

    key: str
    value: str = ""
    effect: str = ""


class DraDevice(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A device of a node that a DRA driver offers, as its ResourceSlice says it.

    `uuid` and `pci` name it as telemetry does, as far as the driver says them. `shared`: several claims may have it at once, each with the
    part of its memory that it requests. Amounts of memory are in bytes: a request is rounded up to one of `choices` or, without any, to `least` and a
    whole number of `step` above it; more than `most` is refused. 0: no such limit. `tainted`: no claim gets it now.
    """

    driver: str
    name: str = ""
    uuid: str = ""
    pci: str = ""
    shared: bool = False
    tainted: bool = False
    memory: int = 0
    least: int = 0
    step: int = 0
    most: int = 0
    choices: tuple[int, ...] = ()


class DeviceClaim(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A device of a node that a ResourceClaim has which is not a Model's.

    `name` is `namespace/name` of the claim, `uuid` and `pci` name the device as its DraDevice does. `shared`: other claims may have it too, and
    this one has `memory` bytes of it. `part`: what it has is a part into which the device is divided (a MIG device, a partition). `pods` are the
    uids of the Pods that use it, at most 16.
    """

    name: str
    uuid: str = ""
    pci: str = ""
    shared: bool = False
    part: bool = False
    memory: int = 0
    pods: tuple[str, ...] = ()


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One node; `ready` is True, False or Unknown.

    Amounts are in thousandths (of cores, of bytes), as `api.quantity.milli` returns them. `dra` are the devices that DRA drivers offer
    on it, `device_claims` those that others than Models have of them. `runtime_classes`: vendor -> the RuntimeClass that the settings name for its GPUs, if the node's container runtime has a handler
    of that name.
    """

    name: str
    uid: str = ""
    version: int = 0
    ready: str = "Unknown"
    unschedulable: bool = False
    labels: dict[str, str] = {}
    taints: tuple[Taint, ...] = ()
    allocatable: dict[str, int] = {}
    requested: dict[str, int] = {}
    runtime_classes: dict[str, str] = {}
    dra: tuple[DraDevice, ...] = ()
    device_claims: tuple[DeviceClaim, ...] = ()

    @property
    def out_of_service(self) -> bool:
        """Whether it was marked out of service: nothing runs there any more."""
        return any(taint.key == OUT_OF_SERVICE_TAINT for taint in self.taints)
