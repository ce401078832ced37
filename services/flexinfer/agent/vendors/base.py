"""What every vendor answers."""

from collections.abc import Callable

import msgspec

from flexinfer.events.nodes import Device


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What one look found; `message` says why there is nothing, or what went wrong.

    `broken`: devices that were there a moment ago cannot be asked now, so nothing may be concluded from their absence.
    """

    devices: tuple[Device, ...] = ()
    message: str = ""
    broken: bool = False


class Vendor(msgspec.Struct, frozen=True, kw_only=True):
    """One maker. `probe` may block for milliseconds; it never raises for what a machine lacks."""

    name: str
    probe: Callable[[], Found]
