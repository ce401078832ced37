"""Sorted free lists: the order in which nodes are looked at, by the least that a Model could leave unused there. Pure.

All healthy devices of a vendor and architecture are in one list by their free memory: for a Model on one device the nodes follow from a search in
those that its engine can run on, whatever its size. What needs several devices, or does not say its size, has an order of the nodes of its own. The lists belong to the last nodes and
telemetry that were asked about: where others come, what differs is moved, and the rest stays.

A node is then evaluated only while it could still be better than the best one so far; all are where none fits. What others will take only
makes a fit tighter, so a node with such Models may be perfect (`schedule`).
"""

import heapq
import math
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, tee

import msgspec

from flexinfer.events.nodes import NodeFacts
from flexinfer.placer.requirements import Requirements
from flexinfer.state.observed import STALE_SECONDS, Sample

_MOST_CLASSES = 64
_REBUILT_SHARE = 8
"""Where more than one node in so many has a new sample, the lists are sorted again."""
Slack = tuple[float, str]
"""The least slack in MiB, and the node."""


_Class = tuple[str, str]
"""Vendor and architecture: what an engine can run on, or not."""
_Entry = tuple[int, str]
"""The free memory of a device in MiB, and its node."""


class _Listed(msgspec.Struct, frozen=True):
    """A node's sample, and the free memory of its healthy devices in MiB by class."""

    sample: Sample
    free: Mapping[_Class, Sequence[int]]


class FreeLists:
    """The healthy devices of some nodes by vendor, architecture and free memory, the least first."""

    def __init__(self) -> None:
        self._nodes: Mapping[str, NodeFacts] = {}
        self._gpus: Mapping[str, Sample] = {}
        self._names: Sequence[str] = ()
        self._claimed: frozenset[str] = frozenset()
        self._listed: dict[str, _Listed] = {}
        self._by_class: dict[_Class, list[_Entry]] = {}
        # The nodes in order by the id of requirements; with these, so that the id stays their own.
        self._orders: dict[int, tuple[Requirements, Iterator[Slack]]] = {}
        self._deadlines: tuple[Mapping[str, float], tuple[Sequence[float], Sequence[float]]] | None = None

    def of(self, nodes: Mapping[str, NodeFacts], gpus: Mapping[str, Sample]) -> "FreeLists":
        """Bring the lists to these nodes and telemetry; returns them."""
        if nodes is self._nodes and gpus is self._gpus:
            return self
        if nodes is not self._nodes:
            self._nodes, self._names = nodes, sorted(nodes)
            self._claimed = frozenset(name for name, facts in nodes.items() if facts.device_claims)
        if gpus is not self._gpus:
            self._take(gpus)
        self._orders, self._deadlines = {}, None
        return self

    def _take(self, gpus: Mapping[str, Sample]) -> None:
        entries = self._listed
        changed_names = [
            name for name, sample in gpus.items() if name not in entries or entries[name].sample is not sample
        ]
        changed_names += [name for name in entries if name not in gpus]
        self._gpus = gpus
        if len(changed_names) * _REBUILT_SHARE > len(gpus):
            self._listed = {name: _listed(sample) for name, sample in gpus.items()}
            self._sort()
            return
        for name in changed_names:
            self._drop(name)
            if name in gpus:
                self._add(name, gpus[name])

    def _sort(self) -> None:
        self._by_class = {}
        for name, entry in self._listed.items():
            for kind, amounts in entry.free.items():
                self._by_class.setdefault(kind, []).extend((mb, name) for mb in amounts)
        for entries in self._by_class.values():
            entries.sort()

    def _drop(self, name: str) -> None:
        entry = self._listed.pop(name, None)
        for kind, amounts in entry.free.items() if entry is not None else ():
            entries = self._by_class[kind]
            for mb in amounts:
                del entries[bisect_left(entries, (mb, name))]

    def _add(self, name: str, sample: Sample) -> None:
        entry = self._listed[name] = _listed(sample)
        for kind, amounts in entry.free.items():
            for mb in amounts:
                insort(self._by_class.setdefault(kind, []), (mb, name))

    @property
    def names(self) -> Sequence[str]:
        """The names of all nodes, sorted."""
        return self._names

    @property
    def claimed(self) -> frozenset[str]:
        """The names of the nodes with devices that ResourceClaims of others have: a fit there may be tighter than measured memory says."""
        return self._claimed

    def deadlines(self, node_since: Mapping[str, float]) -> tuple[Sequence[float], Sequence[float]]:
        """Return, both sorted, when the samples of all nodes become stale, and until when the others may still send one, by when they were first seen."""
        entry = self._deadlines
        if entry is None or entry[0] is not node_since:
            stale = sorted(sample.stale_at for sample in self._gpus.values())
            silent = [name for name in self._names if name not in self._gpus]
            waits = sorted(node_since.get(name, 0.0) + STALE_SECONDS for name in silent)
            entry = self._deadlines = node_since, (stale, waits)
        return entry[1]

    def least_slack(self, requirements: Requirements) -> Iterator[Slack]:
        """Return all nodes by the least slack that measured memory allows; infinite where none is measured, or not enough.

        As far as it was looked at, the order is kept for all Models of the class.
        """
        order = self._orders.get(id(requirements))
        if order is None and len(self._orders) >= _MOST_CLASSES:
            self._orders.clear()
        start, following = tee(order[1] if order is not None else self._in_order(requirements))
        self._orders[id(requirements)] = requirements, start
        return following

    def _in_order(self, requirements: Requirements) -> Iterator[Slack]:
        need_mb = requirements.device_mb
        if requirements.devices > 1 or not need_mb:
            yield from sorted((self._least(requirements, name), name) for name in self._names)
            return
        visited_names: set[str] = set()
        nodes = self._nodes
        for free, name in self._from(need_mb, requirements):
            if name not in visited_names and name in nodes:
                visited_names.add(name)
                yield float(free - need_mb), name
        yield from [(math.inf, name) for name in self._names if name not in visited_names]

    def _from(self, need_mb: int, requirements: Requirements) -> Iterator[_Entry]:
        """Yield the free memory of each device that has so much and that the engine can run on, with its node, the least first."""
        parts = [
            map(entries.__getitem__, range(bisect_left(entries, (need_mb, "")), len(entries)))
            for kind, entries in self._by_class.items()
            if requirements.can_use(*kind)
        ]
        return parts[0] if len(parts) == 1 else heapq.merge(*parts)

    def _least(self, requirements: Requirements, name: str) -> float:
        entry = self._listed.get(name)
        if entry is None:
            return math.inf
        usable = {kind: amounts for kind, amounts in entry.free.items() if requirements.can_use(*kind)}
        slacks = (
            _of_vendor(
                requirements, sorted(chain.from_iterable(a for k, a in usable.items() if k[0] == vendor))
            )
            for vendor in requirements.vendors
        )
        return min(slacks, default=math.inf)


def _listed(sample: Sample) -> _Listed:
    free: dict[_Class, list[int]] = {}
    for device in sample.observed.devices:
        if device.healthy:
            kind = device.vendor, device.architecture
            free.setdefault(kind, []).append(max(0, min(device.free_mb, device.total_mb)))
    return _Listed(sample, free)


def _of_vendor(requirements: Requirements, free: Sequence[int]) -> float:
    """Return the least slack on devices of one vendor, whose free memory is sorted; without an estimate most free memory is best."""
    count, need_mb = requirements.devices, requirements.device_mb
    first = bisect_left(free, need_mb)
    if len(free) - first < count:
        return math.inf
    if not need_mb:
        return -float(sum(free[len(free) - count :]))
    return float(sum(free[first : first + count]) - need_mb * count)


_lists = FreeLists()


def free_lists(nodes: Mapping[str, NodeFacts], gpus: Mapping[str, Sample]) -> FreeLists:
    """Return the lists of these nodes and their telemetry; they are valid until the next call."""
    return _lists.of(nodes, gpus)
