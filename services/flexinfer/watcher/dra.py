"""The cards that DRA drivers offer on a node, condensed from their ResourceSlices, and who has them by a ResourceClaim. Pure.

The claims of Models say nothing here: what a Model takes is known from its placement, its Pods and telemetry.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from flexinfer.api import resource_api
from flexinfer.api.dra import MEMORY, card_of_part, identity
from flexinfer.api.labels import MODEL_UID_LABEL
from flexinfer.api.quantity import Quantity, milli
from flexinfer.events.nodes import DeviceClaim, DraDevice

_MOST_DEVICES = 128
_MOST_CLAIMS = 256
_MOST_PODS = 16
"""What of a node's claims is published: more would not fit into a message. The scheduler keeps Pods from what is left out."""
_TEXT_LIMIT = 128
_REPELLING = ("NoSchedule", "NoExecute")
Names = Callable[[str, Mapping[str, str]], tuple[str, str]]
"""From a driver and the attributes of a device, uuid and PCI address of a card."""
_TWO = 2
"""A device that is shared is there for two claims at least."""


def dra_devices(slices: Sequence[resource_api.ResourceSlice], node: str) -> tuple[DraDevice, ...]:
    """Return the cards of a node that a uuid or a PCI address names, by driver and name; at most 128.

    Slices of a pool's older generation are void: their driver is about to delete them.
    """
    devices = [facts for _, facts in _named(slices, node)]
    return tuple(sorted(devices, key=lambda device: (device.driver, device.name))[:_MOST_DEVICES])


def device_claims(
    slices: Sequence[resource_api.ResourceSlice], claims: Iterable[resource_api.ResourceClaim], node: str
) -> tuple[DeviceClaim, ...]:
    """Return which cards of a node, or parts of them, claims have that are not a Model's, by the names of the claims; at most 256."""
    cards = {f"{pool}/{facts.name}": facts for pool, facts in _named(slices, node)}
    parts = {f"{pool}/{facts.name}": facts for pool, facts in _named(slices, node, card_of_part)}
    entries = [
        _taken(claim, result, card, part=name in parts)
        for claim in claims
        for result in devices_of(claim)
        if (
            card := cards.get(name := f"{_pool(result.driver, result.pool)}/{result.device}")
            or parts.get(name)
        )
    ]
    return tuple(sorted(entries, key=lambda one: (one.name, one.uuid, one.pci))[:_MOST_CLAIMS])


def nodes_of(resource_slice: resource_api.ResourceSlice) -> set[str]:
    """Return the nodes that a slice names; one for all nodes, or for those of a selector, names none."""
    spec = resource_slice.spec
    return {name for name in (spec.node_name, *(device.node_name for device in spec.devices)) if name}


def pool_of(resource_slice: resource_api.ResourceSlice) -> str:
    """Return the pool of a slice's devices, with its driver: what claims name devices by."""
    return _pool(resource_slice.spec.driver, resource_slice.spec.pool.name)


def pools_of(claim: resource_api.ResourceClaim) -> set[str]:
    """Return the pools, with their drivers, that a claim has devices of; none if it is a Model's."""
    return {_pool(result.driver, result.pool) for result in devices_of(claim)}


def devices_of(claim: resource_api.ResourceClaim) -> tuple[resource_api.AllocatedDevice, ...]:
    """Return the devices that a claim takes from Models; none if it is a Model's own."""
    return () if claim.metadata.labels.get(MODEL_UID_LABEL) else claim.status.devices


def _pool(driver: str, pool: str) -> str:
    return f"{driver}/{pool}"


def _named(
    slices: Sequence[resource_api.ResourceSlice], node: str, names: Names = identity
) -> Iterator[tuple[str, DraDevice]]:
    """Yield the devices of a node whose card a uuid or a PCI address names, each with its pool, of the newest generation of that."""
    newest: dict[str, int] = {}
    for one in slices:
        newest[pool_of(one)] = max(newest.get(pool_of(one), 0), one.spec.pool.generation)
    for one in slices:
        if one.spec.pool.generation == newest[pool_of(one)]:
            yield from ((pool_of(one), facts) for facts in _of_slice(one, node, names))


def _of_slice(resource_slice: resource_api.ResourceSlice, node: str, names: Names) -> Iterator[DraDevice]:
    spec = resource_slice.spec
    for device in spec.devices:
        attributes = {name: value.string[:_TEXT_LIMIT] for name, value in device.attributes.items()}
        uuid, pci = names(spec.driver, attributes)
        if node in (spec.node_name, device.node_name) and (uuid or pci):
            yield _facts(spec.driver, device, uuid, pci)


def _taken(
    claim: resource_api.ResourceClaim, result: resource_api.AllocatedDevice, card: DraDevice, *, part: bool
) -> DeviceClaim:
    """Return what a claim has of a card: all of it, unless the scheduler has counted what it consumes."""
    pods = sorted(one.uid for one in claim.status.reserved_for if one.resource == "pods")
    return DeviceClaim(
        name=claim.metadata.key,
        uuid=card.uuid,
        pci=card.pci,
        shared=bool(result.share_id) and not part,
        part=part,
        memory=_whole(result.consumed_capacity.get(MEMORY)),
        pods=tuple(pods[:_MOST_PODS]),
    )


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
    """Return whether two claims that request nothing but memory may have a device at once.

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
