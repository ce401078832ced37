"""What every vendor implements."""

from collections.abc import Callable

import msgspec

from flexinfer.events.nodes import Device


class ProbeResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one probe; `message` says why there are no devices, or what failed or was left out.

    `broken`: the library failed, so devices may exist that this result lacks; nothing may be concluded from
    their absence.
    """

    devices: tuple[Device, ...] = ()
    message: str = ""
    broken: bool = False


class Vendor(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU vendor. `probe` may block for milliseconds; it never raises for what a machine lacks."""

    name: str
    probe: Callable[[], ProbeResult]
