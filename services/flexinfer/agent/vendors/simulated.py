"""Simulated devices: read from a file that `flexinfer up --simulate-gpus` keeps, in the place of every vendor's library.

It is no vendor that a node may have beside others, so it has no `VENDOR`: the agent uses it alone, where the setting names the file.
"""

from functools import partial
from pathlib import Path

import msgspec

from flexinfer.agent.vendors.base import ProbeResult, Vendor
from flexinfer.events.nodes import Device

NAME = "simulated"


class _Content(msgspec.Struct, frozen=True):
    """What the file holds."""

    devices: tuple[Device, ...] = ()
    message: str = ""


def vendor(file: str) -> Vendor:
    """Return the vendor of the devices in a file."""
    return Vendor(name=NAME, probe=partial(_probe, Path(file)))


def _probe(file: Path) -> ProbeResult:
    try:
        content = msgspec.json.decode(file.read_bytes(), type=_Content)
    except (OSError, msgspec.MsgspecError) as error:
        return ProbeResult(message=f"simulated devices: {file} cannot be read: {error}")
    return ProbeResult(devices=content.devices, message=content.message)
