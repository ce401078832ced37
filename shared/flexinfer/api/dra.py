"""DRA drivers: how each says which card a device is, and the CEL selector that picks one. Pure.

One table. A driver that is not in it is read by the default row: its DeviceClass has its own name, a device is named by the driver's
attribute `uuid` or by the PCI address that Kubernetes has a standard attribute for.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

CLAIM = "gpu"
"""The name of an engine's ResourceClaim within its Pod."""
MEMORY = "memory"
"""The capacity that is a device's memory; both vendors' drivers name it so."""
_PCI_DOMAIN, _PCI_NAME = "resource.kubernetes.io", "pciBusID"


class Driver(msgspec.Struct, frozen=True, kw_only=True):
    """What is particular to a driver.

    `vendor` is that of its cards, empty if it is not known. `uuid` is the attribute that holds the uuid as telemetry has it, empty if the driver has none. `whole` is the value of the attribute
    `type` of a whole card, `part` that of a part of one: others are a card that is handed to a virtual machine. `parent` is the attribute of a part that holds
    the uuid of its card; without one, a part has the PCI address of its card.
    """

    vendor: str = ""
    uuid: str = "uuid"
    whole: str = ""
    part: str = ""
    parent: str = ""


DRIVERS: Mapping[str, Driver] = MappingProxyType(
    {
        # https://github.com/NVIDIA/k8s-dra-driver-gpu: VFIO devices and MIG devices have a uuid too.
        # `parentUUID` of a MIG device: https://github.com/NVIDIA/k8s-dra-driver-gpu/blob/main/cmd/gpu-kubelet-plugin/deviceinfo.go
        "gpu.nvidia.com": Driver(vendor="nvidia", whole="gpu", part="mig", parent="parentUUID"),
        # https://github.com/ROCm/k8s-gpu-dra-driver/blob/main/docs/driver-attributes.md: no uuid; partitions have their card's address.
        "gpu.amd.com": Driver(vendor="amd", uuid="", whole="amdgpu", part="amdgpu-partition"),
    }
)
_DEFAULT = Driver()


def driver_of(name: str) -> Driver:
    """Return what is known of a driver."""
    return DRIVERS.get(name, _DEFAULT)


def identity(driver: str, attributes: Mapping[str, str]) -> tuple[str, str]:
    """Return uuid and PCI address of a device by its attributes, each empty if it says none; of what is not a whole card both are."""
    row = driver_of(driver)
    if row.whole and _of(driver, attributes, "type") != row.whole:
        return "", ""
    uuid = _of(driver, attributes, row.uuid) if row.uuid else ""
    return uuid, attributes.get(f"{_PCI_DOMAIN}/{_PCI_NAME}", "")


def card_of_part(driver: str, attributes: Mapping[str, str]) -> tuple[str, str]:
    """Return uuid and PCI address of the card that a device is a part of, each empty if it says none; of what is no part both are."""
    row = driver_of(driver)
    if not row.part or _of(driver, attributes, "type") != row.part:
        return "", ""
    uuid = _of(driver, attributes, row.parent) if row.parent else ""
    return uuid, attributes.get(f"{_PCI_DOMAIN}/{_PCI_NAME}", "")


def _of(driver: str, attributes: Mapping[str, str], name: str) -> str:
    """Return an attribute of the driver's own domain, which a slice may leave out of the name."""
    return attributes.get(name) or attributes.get(f"{driver}/{name}", "")


def selector(driver: str, *, uuid: str, pci: str = "") -> str:
    """Return the CEL expression that is true for one card alone: by its PCI address if one is given, else by its uuid.

    Each attribute may be missing: an expression that fails on one device makes the Pod unschedulable on every node.
    """
    row = driver_of(driver)
    terms = [(driver, "type", row.whole)] if row.whole else []
    terms.append((_PCI_DOMAIN, _PCI_NAME, pci) if pci else (driver, row.uuid or "uuid", uuid))
    return " && ".join(
        f'device.attributes[{json.dumps(domain)}].?{name}.orValue("") == {json.dumps(value)}'
        for domain, name, value in terms
    )
