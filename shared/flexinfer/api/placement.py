"""Where a Model is scheduled to, and what it takes there. Pure."""

from collections.abc import Iterable

import msgspec

from flexinfer.api.base import Resource


class PlacedDevice(Resource, frozen=True, kw_only=True):
    """A device that the Model is scheduled to, what it takes there, and what the device has in all, in MiB; 0: not known.

    `pci_address` is set where its DRA driver knows devices by that alone.
    """

    uuid: str
    memory_mb: int = msgspec.field(name="memoryMB", default=0)
    total_mb: int = msgspec.field(name="totalMB", default=0)
    pci_address: str = ""


class Placement(Resource, frozen=True, kw_only=True):
    """The node and devices that the Model is scheduled to.

    `footprint_mb` is its memory over all devices, in MiB; `footprint_source` says where that number is from. `binding` is how its Pod gets
    the devices (`api.bindings`): by a claim of `driver`, by a device plugin, or by `runtime_class_name` alone; a device plugin may need that
    class too. `shared`: several Pods may have the devices at once; without it, the Model has them alone.
    """

    node: str = ""
    devices: tuple[PlacedDevice, ...] = ()
    vendor: str = "cpu"
    architecture: str = ""
    binding: str = ""
    driver: str = ""
    runtime_class_name: str = ""
    shared: bool = False
    score: int = 0
    footprint_mb: int = msgspec.field(name="footprintMB", default=0)
    footprint_source: str = ""
    measured_at: str = ""
    """When the engine whose memory was measured became ready, as RFC 3339; empty unless the footprint is measured."""
    measured_for: str = ""
    """A digest of what a measured footprint depends on: it is valid while that stays the same."""
    checked_for: str = ""
    """`lastTransitionTime` of the condition Wanted for which free memory was checked last: a start needs a check of its own."""
    reason: str = ""

    @property
    def uuids(self) -> tuple[str, ...]:
        """The uuids of its devices, as far as telemetry named them."""
        return tuple(device.uuid for device in self.devices)


ESTIMATE, HEADERS, MEASURED = "Estimate", "Headers", "Measured"
"""A footprint that the spec states (`spec.gpu.vramEstimateMB`); that follows from the headers of the weights; that an engine was seen to hold."""


def placed_devices(uuids: Iterable[str], memory_mb: int = 0) -> tuple[PlacedDevice, ...]:
    """Return devices on each of which a Model takes `memory_mb`, in MiB."""
    return tuple(PlacedDevice(uuid=uuid, memory_mb=memory_mb) for uuid in uuids)
