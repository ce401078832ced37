"""Which devices of a node several Pods may have at once. Pure."""

from collections import Counter
from collections.abc import Sequence

from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.events.nodes import Device, NodeFacts


def shared_vendors(node: NodeFacts, devices: Sequence[Device]) -> frozenset[str]:
    """Return the vendors of whose devices a node offers more than it has: several Pods may have one (time slices)."""
    numbers = Counter(device.vendor for device in devices)
    offered = {
        vendor: node.allocatable.get(resource, 0) // 1000 for vendor, resource in GPU_RESOURCES.items()
    }
    return frozenset(vendor for vendor, number in numbers.items() if offered.get(vendor, 0) > number)
