"""The order in which nodes are looked at: by the least that a Model could leave unused there. Pure.

The free memory of a node's devices is sorted once for each sample, and nodes once for what a Model asks, as long as nodes and
telemetry stay the same. A node is then evaluated only while it could still be better than the best one so far; all are where none fits.
What others will take only makes a fit tighter, so a node with such Models may be perfect, and comes first.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence

import msgspec

from flexinfer.events.nodes import Device, NodeFacts
from flexinfer.placer.requirements import Requirements
from flexinfer.state.observed import Sample

_MOST_CACHED = 16384
Ordered = Sequence[tuple[float, str]]
"""The least slack in MiB, and the node; best first."""


class _Shape(msgspec.Struct, frozen=True):
    """What of a Model's requirements the order depends on."""

    devices: int
    vendors: tuple[str, ...]
    device_mb: int


class _Orders(msgspec.Struct):
    """The orders that were computed for the present nodes and telemetry, by shape."""

    nodes: Mapping[str, NodeFacts]
    gpus: Mapping[str, Sample]
    by_shape: dict[_Shape, Ordered]
    samples: tuple[Sequence[float], Sequence[str]] | None = None


_orders = [_Orders({}, {}, {})]
_sorted: dict[
    int, tuple[Sequence[Device], Mapping[str, Sequence[int]]]
] = {}  # id of a sample's devices -> the devices, so that the id stays their own


def least_slack(
    requirements: Requirements, nodes: Mapping[str, NodeFacts], gpus: Mapping[str, Sample]
) -> Ordered:
    """Return all nodes by the least slack that measured memory allows; infinite where none is measured, or not enough."""
    current = _current(nodes, gpus)
    shape = _Shape(requirements.devices, requirements.vendors, requirements.device_mb)
    if shape not in current.by_shape:
        current.by_shape[shape] = sorted((_least(shape, gpus.get(name)), name) for name in nodes)
    return current.by_shape[shape]


def samples(
    nodes: Mapping[str, NodeFacts], gpus: Mapping[str, Sample]
) -> tuple[Sequence[float], Sequence[str]]:
    """Return when the samples of all nodes were taken, the oldest first, and the nodes without one."""
    current = _current(nodes, gpus)
    if current.samples is None:
        current.samples = sorted(sample.at for sample in gpus.values()), [n for n in nodes if n not in gpus]
    return current.samples


def _current(nodes: Mapping[str, NodeFacts], gpus: Mapping[str, Sample]) -> _Orders:
    if _orders[0].nodes is not nodes or _orders[0].gpus is not gpus:
        _orders[0] = _Orders(nodes, gpus, {})
    return _orders[0]


def _least(shape: _Shape, sample: Sample | None) -> float:
    if sample is None:
        return math.inf
    free = _sorted_free(sample.observed.devices)
    return min((_of_vendor(shape, free.get(vendor, ())) for vendor in shape.vendors), default=math.inf)


def _of_vendor(shape: _Shape, free: Sequence[int]) -> float:
    """Return the least slack on devices of one vendor, whose free memory is sorted; without an estimate most free memory is best."""
    first = bisect_left(free, shape.device_mb)
    if len(free) - first < shape.devices:
        return math.inf
    if not shape.device_mb:
        return -float(sum(free[len(free) - shape.devices :]))
    return float(sum(free[first : first + shape.devices]) - shape.device_mb * shape.devices)


def _sorted_free(devices: Sequence[Device]) -> Mapping[str, Sequence[int]]:
    """Return the free memory of devices by vendor, in MiB, the least first; computed once for each sample."""
    cached = _sorted.get(id(devices))
    if cached is not None and cached[0] is devices:
        return cached[1]
    if len(_sorted) >= _MOST_CACHED:
        _sorted.clear()
    free: dict[str, list[int]] = {}
    for device in devices:
        free.setdefault(device.vendor, []).append(max(0, min(device.free_mb, device.total_mb)))
    _sorted[id(devices)] = devices, {vendor: sorted(amounts) for vendor, amounts in free.items()}
    return _sorted[id(devices)][1]
