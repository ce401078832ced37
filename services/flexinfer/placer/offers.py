"""How Pods get the devices of a node: by a DRA driver, by a device plugin, or by naming them to the container runtime. Pure.

Of one vendor's devices on one node a single way is used. A DRA driver that lists the very devices that telemetry shows comes first: it is the
only way in which the scheduler itself knows which device a Pod has. Then a device plugin; then a RuntimeClass that the settings name and that
the node's container runtime can run, where there is neither.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from flexinfer.api.bindings import DEVICE_PLUGIN, DRA, VISIBLE, visible_name
from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.api.placement import PlacedDevice, Placement
from flexinfer.events.nodes import Device, DraDevice, NodeFacts

MIB = 2**20


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """How Pods get the devices of one vendor on a node; without a `binding`, in no way.

    `number` is how many there are, counted as the binding counts them. `uuids` are the devices that it can give, and `shared` those that
    several Pods may have at once. `dra` is what the DRA driver says of each of them, by uuid; `twice` are those that a device plugin offers too.
    """

    binding: str = ""
    number: int = 0
    uuids: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()
    driver: str = ""
    runtime_class: str = ""
    dra: Mapping[str, DraDevice] = {}
    twice: tuple[str, ...] = ()

    def memory(self, uuid: str, need_mb: int) -> int:
        """Return what a Model takes of a device, in MiB, once the driver has rounded up what is requested."""
        device = self.dra.get(uuid)
        return rounded(need_mb, device) if device is not None and uuid in self.shared else need_mb

    def excess(self, uuid: str, need_mb: int) -> int:
        """Return by how much a claim would request more of a device than its driver gives to one, in MiB; 0 if it does not."""
        if uuid not in self.dra or uuid not in self.shared:
            return 0
        device = self.dra[uuid]
        largest = min(device.most or device.memory, device.memory) // MIB
        return max(0, self.memory(uuid, need_mb) - largest)

    def sized(self, placement: Placement) -> Placement:
        """Return a placement on devices of this offer with the memory that is taken of each once it is rounded up."""
        devices = tuple(
            msgspec.structs.replace(device, memory_mb=self.memory(device.uuid, device.memory_mb))
            for device in placement.devices
        )
        return msgspec.structs.replace(placement, devices=devices)

    def bound(self, placement: Placement) -> Placement:
        """Return a placement on devices of this offer with the way in which its Pod gets them."""
        devices = tuple(
            msgspec.structs.replace(device, pci_address=self._address(device.uuid))
            for device in self.sized(placement).devices
        )
        return msgspec.structs.replace(
            placement,
            devices=devices,
            binding=self.binding,
            driver=self.driver,
            runtime_class_name=self.runtime_class,
            shared=self.shares(placement.devices),
        )

    def placed(
        self, uuids: Sequence[str], each_mb: int, totals: Mapping[str, int]
    ) -> tuple[PlacedDevice, ...]:
        """Return devices of this offer for a Model that takes so much of each, in MiB; `totals`: what a device has in all, by uuid."""
        return tuple(
            [
                PlacedDevice(
                    uuid=uuid,
                    memory_mb=self.memory(uuid, each_mb),
                    total_mb=totals.get(uuid, 0),
                    pci_address=self._address(uuid),
                )
                for uuid in uuids
            ]
        )

    def agrees(self, placement: Placement) -> bool:
        """Return whether a placement on devices of this offer says how its Pod gets them; asked of every Model that is scaled to zero."""
        way = (placement.binding, placement.driver, placement.runtime_class_name, placement.shared)
        same = way == (self.binding, self.driver, self.runtime_class, self.shares(placement.devices))
        return same and (self.binding != DRA or self.bound(placement) == placement)

    def shares(self, devices: Sequence[PlacedDevice]) -> bool:
        """Return whether several Pods may have these devices; a claim that requests no part of a device takes all of it."""
        if not devices or (self.binding == DRA and not all(device.memory_mb for device in devices)):
            return False
        return self.shared.issuperset([device.uuid for device in devices])

    def _address(self, uuid: str) -> str:
        """Return the PCI address of a device that its driver does not know by the uuid of telemetry."""
        device = self.dra.get(uuid)
        return device.pci if device is not None and device.uuid != uuid else ""


Offers = Mapping[str, Offer]
"""Vendor -> how Pods get its devices on a node."""


def counts_by_number(offers: Offers, vendors: Iterable[str]) -> bool:
    """Return whether free devices of these vendors are counted as an extended resource, not one by one."""
    ways = [offers[vendor].binding for vendor in vendors if vendor in offers]
    return all(way in ("", DEVICE_PLUGIN) for way in ways)


def offer(node: NodeFacts, devices: Sequence[Device], vendor: str) -> Offer:
    """Return how Pods get a vendor's devices on a node; `devices` are all that its telemetry shows."""
    own = [device for device in devices if device.vendor == vendor]
    resource = GPU_RESOURCES[vendor]
    plugin_count = node.allocatable.get(resource, 0) // 1000
    drivers = _by_driver(node, own) if node.dra else {}
    if drivers:
        return _by_dra(drivers, len(own), plugin_count)
    if resource in node.allocatable:
        uuids = frozenset(device.uuid for device in own)
        shared = uuids if own and plugin_count > len(own) else frozenset[str]()
        runtime = node.runtime_classes.get(vendor, "")
        return Offer(
            binding=DEVICE_PLUGIN, number=plugin_count, uuids=uuids, shared=shared, runtime_class=runtime
        )
    nameable = frozenset(device.uuid for device in own if visible_name(vendor, device.uuid))
    if vendor in node.runtime_classes and nameable:
        return Offer(
            binding=VISIBLE,
            number=len(nameable),
            uuids=nameable,
            shared=nameable,
            runtime_class=node.runtime_classes[vendor],
        )
    return Offer()


def _by_dra(drivers: Mapping[str, Mapping[str, DraDevice]], present: int, plugin_count: int) -> Offer:
    """Return the offer of the driver that lists most of the devices that are present, the first by name."""
    driver = min(drivers, key=lambda name: (-len(drivers[name]), name))
    dra = drivers[driver]
    usable = frozenset(uuid for uuid, device in dra.items() if not device.tainted)
    # Where plugin and driver together offer more devices than there are, some are offered twice.
    twice = tuple(sorted(dra)) if plugin_count and plugin_count + len(dra) > present else ()
    return Offer(
        binding=DRA,
        number=len(usable),
        uuids=usable,
        shared=frozenset(uuid for uuid in usable if dra[uuid].shared),
        driver=driver,
        dra=dra,
        twice=twice,
    )


def _by_driver(node: NodeFacts, devices: Sequence[Device]) -> dict[str, dict[str, DraDevice]]:
    """Return driver -> uuid of telemetry -> what the driver says of that device; devices that are known by neither name are left out."""
    uuids = by_name(devices)
    drivers: dict[str, dict[str, DraDevice]] = {}
    for dra_device in node.dra:
        if uuid := uuids.get(dra_device.uuid) or uuids.get(dra_device.pci.lower(), ""):
            of_driver = drivers.setdefault(dra_device.driver, {})
            if uuid not in of_driver or of_driver[uuid].tainted:
                of_driver[uuid] = dra_device
    return drivers


def by_name(devices: Sequence[Device]) -> dict[str, str]:
    """Return the uuids of devices by the names that a driver may know them by: the uuid and the PCI address, in small letters."""
    by_pci = {device.pci.lower(): device.uuid for device in devices if device.pci}
    return by_pci | {device.uuid: device.uuid for device in devices}


def rounded(need_mb: int, device: DraDevice) -> int:
    """Return what the driver makes of a request of memory, in MiB, rounded up; unchanged where it has no rule, or no amount is as large.

    https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/#consumable-capacity
    """
    need = need_mb * MIB
    if not need:
        return 0
    if device.choices:
        need = next((choice for choice in device.choices if choice >= need), need)
    elif need <= device.least:
        need = device.least
    elif device.step:
        need = device.least + -(-(need - device.least) // device.step) * device.step
    return -(-need // MIB)
