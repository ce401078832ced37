"""Bindings: the ways in which a Pod gets the devices of its placement (`status.placement.binding`). Pure."""

import re
from collections.abc import Mapping
from types import MappingProxyType

DRA, DEVICE_PLUGIN, VISIBLE = "DRA", "DevicePlugin", "Visible"
"""By a ResourceClaim; by an extended resource; by a variable that the vendor's container runtime reads."""
VISIBLE_VARIABLES: Mapping[str, str] = MappingProxyType(
    {"nvidia": "NVIDIA_VISIBLE_DEVICES", "amd": "AMD_VISIBLE_DEVICES"}
)
"""Read by the vendor's container runtime alone: under another binding the variable would undo what the plugin or driver has given."""
_AMD_UUID = re.compile(r"GPU-([0-9a-fA-F]{16})")


def visible_name(vendor: str, uuid: str) -> str:
    """Return what a vendor's container runtime calls a device; empty if it has no name for it that outlasts a reboot.

    NVIDIA's takes the uuid as it is. AMD's writes the same number as 0x and 16 capital digits:
    https://github.com/ROCm/container-toolkit/blob/main/docs/container-runtime/running-workloads.rst. A card without that number has an index alone.
    """
    if vendor != "amd":
        return uuid
    number = _AMD_UUID.fullmatch(uuid)
    return f"0x{number[1].upper()}" if number is not None else ""
