"""The cards that DRA drivers offer on a node, condensed from their ResourceSlices. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from flexinfer.api import resource_api
from flexinfer.api.dra import MEMORY, identity
from flexinfer.api.quantity import Quantity, milli
from flexinfer.events.nodes import DraDevice

_MOST_DEVICES = 128
_TEXT_LIMIT = 128
_REPELLING = ("NoSchedule", "NoExecute")
_TWO = 2
"""A device that is shared is there for two claims at least."""


def dra_devices(slices: Sequence[resource_api.ResourceSlice], node: str) -> tuple[DraDevice, ...]:
    """Return the cards of a node that a uuid or a PCI address names, by driver and name; at most 128.

    Slices of a pool's older generation are void: their driver is about to delete them.
    """
    newest: dict[tuple[str, str], int] = {}
    for one in slices:
        pool = (one.spec.driver, one.spec.pool.name)
        newest[pool] = max(newest.get(pool, 0), one.spec.pool.generation)
    current = [s for s in slices if s.spec.pool.generation == newest[s.spec.driver, s.spec.pool.name]]
    devices = [facts for one in current for facts in _of_slice(one, node)]
    return tuple(sorted(devices, key=lambda device: (device.driver, device.name))[:_MOST_DEVICES])


def nodes_of(resource_slice: resource_api.ResourceSlice) -> set[str]:
    """Return the nodes that a slice names; one for all nodes, or for those of a selector, names none."""
    spec = resource_slice.spec
    return {name for name in (spec.node_name, *(device.node_name for device in spec.devices)) if name}


def _of_slice(resource_slice: resource_api.ResourceSlice, node: str) -> Iterator[DraDevice]:
    spec = resource_slice.spec
    for device in spec.devices:
        attributes = {name: value.string[:_TEXT_LIMIT] for name, value in device.attributes.items()}
        uuid, pci = identity(spec.driver, attributes)
        if node in (spec.node_name, device.node_name) and (uuid or pci):
            yield _facts(spec.driver, device, uuid, pci)


def _facts(driver: str, device: resource_api.SliceDevice, uuid: str, pci: str) -> DraDevice:
    memory = device.capacity.get(MEMORY, resource_api.DeviceCapacity())
    policy = memory.request_policy or resource_api.CapacityPolicy()
    limits = policy.valid_range or resource_api.CapacityRange()
    return DraDevice(
        driver=driver,
        name=device.name,
        uuid=uuid,
        pci=pci,
        shared=device.allow_multiple_allocations and _room_for_two(device.capacity),
        tainted=any(taint.effect in _REPELLING for taint in device.taints),
        memory=_whole(memory.value),
        least=_whole(limits.min),
        step=_whole(limits.step),
        most=_whole(limits.max),
        choices=tuple(sorted(_amounts(policy.valid_values))),
    )


def _room_for_two(capacity: Mapping[str, resource_api.DeviceCapacity]) -> bool:
    """Tell whether two claims that request nothing but memory may have a device at once.

    A claim takes the default of each capacity that it does not request, or all of it if there is no default.
    """
    if MEMORY not in capacity or not _whole(
        capacity[MEMORY].value
    ):  # AMD's driver says 0 where it cannot read it
        return False
    return all(_leaves_half(amount) for name, amount in capacity.items() if name != MEMORY)


def _leaves_half(capacity: resource_api.DeviceCapacity) -> bool:
    policy = capacity.request_policy
    if policy is None or policy.default is None:
        return False
    return _whole(policy.default) * _TWO <= _whole(capacity.value)


def _amounts(quantities: Iterable[Quantity]) -> Iterator[int]:
    return (amount for amount in map(_whole, quantities) if amount > 0)


def _whole(quantity: Quantity | None) -> int:
    """Return an amount in its unit, rounded up; 0 for what is none."""
    try:
        return -(-milli(quantity or 0) // 1000)
    except ValueError:
        return 0
