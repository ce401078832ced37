"""Sorted free lists: the order in which nodes are looked at, by the least that a Model could leave unused there. Pure.

All devices of a vendor are in one list by their free memory: for a Model on one device the nodes follow from a search in it, whatever its
size. What needs several devices, or does not say its size, has an order of the nodes of its own. The lists belong to the last nodes and
telemetry that were asked about: where others come, what differs is moved, and the rest stays.

A node is then evaluated only while it could still be better than the best one so far; all are where none fits. What others will take only
makes a fit tighter, so a node with such Models may be perfect (`schedule`).
"""

import heapq
import math
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from flexinfer.events.nodes import NodeFacts
from flexinfer.placer.requirements import Requirements
from flexinfer.state.observed import Sample

_MOST_SHAPES = 64
_REBUILT_SHARE = 8
"""Where more than one node in so many has a new sample, the lists are sorted again."""
Slack = tuple[float, str]
"""The least slack in MiB, and the node."""


class _Shape(msgspec.Struct, frozen=True):
    """What of a Model's requirements the order depends on."""

    devices: int
    vendors: tuple[str, ...]
    device_mb: int


class _Listed(msgspec.Struct, frozen=True):
    """A node's sample, and the free memory of its devices by vendor in MiB, the least first."""

    sample: Sample
    free: Mapping[str, Sequence[int]]


class FreeLists:
    """The devices of some nodes by vendor and free memory, the least first."""

    def __init__(self) -> None:
        self._nodes: Mapping[str, NodeFacts] = {}
        self._gpus: Mapping[str, Sample] = {}
        self._names: Sequence[str] = ()
        self._claimed: frozenset[str] = frozenset()
        self._listed: dict[str, _Listed] = {}
        self._by_vendor: dict[str, list[tuple[int, str]]] = {}
        self._by_shape: dict[_Shape, Sequence[Slack]] = {}
        self._samples: tuple[Sequence[float], Sequence[str]] | None = None

    def of(self, nodes: Mapping[str, NodeFacts], gpus: Mapping[str, Sample]) -> "FreeLists":
        """Bring the lists to these nodes and telemetry; returns them."""
        if nodes is self._nodes and gpus is self._gpus:
            return self
        if nodes is not self._nodes:
            self._nodes, self._names = nodes, sorted(nodes)
            self._claimed = frozenset(name for name, facts in nodes.items() if facts.device_claims)
        if gpus is not self._gpus:
            self._take(gpus)
        self._by_shape, self._samples = {}, None
        return self

    def _take(self, gpus: Mapping[str, Sample]) -> None:
        listed = self._listed
        moved = [
            name for name, sample in gpus.items() if name not in listed or listed[name].sample is not sample
        ]
        moved += [name for name in listed if name not in gpus]
        self._gpus = gpus
        if len(moved) * _REBUILT_SHARE > len(gpus):
            self._listed = {name: _listed(sample) for name, sample in gpus.items()}
            self._sort()
            return
        for name in moved:
            self._drop(name)
            if name in gpus:
                self._add(name, gpus[name])

    def _sort(self) -> None:
        self._by_vendor = {}
        for name, listed in self._listed.items():
            for vendor, amounts in listed.free.items():
                self._by_vendor.setdefault(vendor, []).extend((mb, name) for mb in amounts)
        for entries in self._by_vendor.values():
            entries.sort()

    def _drop(self, name: str) -> None:
        listed = self._listed.pop(name, None)
        for vendor, amounts in listed.free.items() if listed is not None else ():
            entries = self._by_vendor[vendor]
            for mb in amounts:
                del entries[bisect_left(entries, (mb, name))]

    def _add(self, name: str, sample: Sample) -> None:
        listed = self._listed[name] = _listed(sample)
        for vendor, amounts in listed.free.items():
            for mb in amounts:
                insort(self._by_vendor.setdefault(vendor, []), (mb, name))

    @property
    def names(self) -> Sequence[str]:
        """The names of all nodes, sorted."""
        return self._names

    @property
    def claimed(self) -> frozenset[str]:
        """The names of the nodes with devices that ResourceClaims of others have: a fit there may be tighter than measured memory says."""
        return self._claimed

    @property
    def samples(self) -> tuple[Sequence[float], Sequence[str]]:
        """When the samples of all nodes were taken, the oldest first, and the nodes without one."""
        if self._samples is None:
            taken = sorted(sample.at for sample in self._gpus.values())
            self._samples = taken, [name for name in self._names if name not in self._gpus]
        return self._samples

    def least_slack(self, requirements: Requirements) -> Iterator[Slack]:
        """Yield all nodes by the least slack that measured memory allows; infinite where none is measured, or not enough."""
        need_mb = requirements.device_mb
        if requirements.devices > 1 or not need_mb:
            yield from self._by_node(_Shape(requirements.devices, requirements.vendors, need_mb))
            return
        listed = [
            self._by_device(vendor, need_mb) for vendor in requirements.vendors if vendor in self._by_vendor
        ]
        seen: set[str] = set()
        for slack, name in listed[0] if len(listed) == 1 else heapq.merge(*listed):
            if name not in seen and name in self._nodes:
                seen.add(name)
                yield slack, name
        yield from ((math.inf, name) for name in self._names if name not in seen)

    def _by_device(self, vendor: str, need_mb: int) -> Iterator[Slack]:
        """Yield what would be left of each device that is large enough, the least first."""
        entries = self._by_vendor[vendor]
        for index in range(bisect_left(entries, (need_mb, "")), len(entries)):
            free, name = entries[index]
            yield float(free - need_mb), name

    def _by_node(self, shape: _Shape) -> Sequence[Slack]:
        if shape not in self._by_shape:
            if len(self._by_shape) >= _MOST_SHAPES:
                self._by_shape.clear()
            self._by_shape[shape] = sorted((self._least(shape, name), name) for name in self._names)
        return self._by_shape[shape]

    def _least(self, shape: _Shape, name: str) -> float:
        listed = self._listed.get(name)
        if listed is None:
            return math.inf
        slacks = (_of_vendor(shape, listed.free.get(vendor, ())) for vendor in shape.vendors)
        return min(slacks, default=math.inf)


def _listed(sample: Sample) -> _Listed:
    free: dict[str, list[int]] = {}
    for device in sample.observed.devices:
        free.setdefault(device.vendor, []).append(max(0, min(device.free_mb, device.total_mb)))
    return _Listed(sample, {vendor: sorted(amounts) for vendor, amounts in free.items()})


def _of_vendor(shape: _Shape, free: Sequence[int]) -> float:
    """Return the least slack on devices of one vendor, whose free memory is sorted; without an estimate most free memory is best."""
    first = bisect_left(free, shape.device_mb)
    if len(free) - first < shape.devices:
        return math.inf
    if not shape.device_mb:
        return -float(sum(free[len(free) - shape.devices :]))
    return float(sum(free[first : first + shape.devices]) - shape.device_mb * shape.devices)


_lists = FreeLists()


def free_lists(nodes: Mapping[str, NodeFacts], gpus: Mapping[str, Sample]) -> FreeLists:
    """Return the lists of these nodes and their telemetry; they are valid until the next call."""
    return _lists.of(nodes, gpus)
