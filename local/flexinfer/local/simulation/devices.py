"""SimulatedDevices: which memory of which simulated card is in use, by whom, and what comes back when. Pure: no clock, no I/O.

A process takes its share of each of its cards when it is first seen. Once it is gone its memory stays in use for the release delay of
the card, without a process, as a driver gives memory back late. Nothing keeps processes off a card that is full: it then has no free
memory, as a real one would have.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from flexinfer.api.durations import seconds
from flexinfer.events.nodes import Device, DeviceProcess
from flexinfer.local.simulation.description import Description, Gpu, Node

FOREIGN_PIDS = 1 << 22
"""Pids from here on are those of no process: Linux gives lower ones."""
_IDLE_CELSIUS, _BUSY_CELSIUS = 35, 62
_BUSY_SHARE = 0.6


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """A process and the memory, in MiB, that it holds on all its cards together. `pod_uid` is empty for a foreign process."""

    devices: tuple[str, ...]
    pid: int
    started: int
    memory_mb: int
    name: str = ""
    pod_uid: str = ""

    @property
    def share_mb(self) -> int:
        """Its memory on each of its cards."""
        return -(-self.memory_mb // max(1, len(self.devices)))


class _Held(msgspec.Struct, frozen=True):
    """The memory of one process on one card, and how late it comes back."""

    process: DeviceProcess
    delay: float


class _Releasing(msgspec.Struct, frozen=True):
    memory_mb: int
    until: float


class SimulatedDevices:
    """The memory of all simulated cards, from one step to the next."""

    def __init__(self) -> None:
        self._held: dict[str, dict[tuple[int, int], _Held]] = {}  # uuid -> pid and start -> memory
        self._releasing: dict[str, list[_Releasing]] = {}

    @property
    def due(self) -> float:
        """When memory that is late comes back next; infinity if none is."""
        return min((one.until for late in self._releasing.values() for one in late), default=math.inf)

    def step(
        self, description: Description, holders: Iterable[Holder], now: float
    ) -> Mapping[str, tuple[Device, ...]]:
        """Return the cards of each node at a time, in seconds of a monotonic clock; `holders` are the processes that run then."""
        running = list(holders)
        return {node.name: tuple(self._cards(node, running, now)) for node in description.nodes}

    def _cards(self, node: Node, running: Sequence[Holder], now: float) -> Iterator[Device]:
        for index, gpu in enumerate(node.gpus):
            uuid = node.uuid(index)
            entries = {
                (holder.pid, holder.started): _Held(_process(holder), seconds(gpu.release_delay))
                for holder in running
                if uuid in holder.devices
            }
            self._release(uuid, entries, now)
            yield _device(gpu, uuid, index, entries, self._releasing[uuid])

    def _release(self, uuid: str, entries: dict[tuple[int, int], _Held], now: float) -> None:
        """Note what the processes that have ended since the last step leave behind for a while."""
        last_entries = [was for key, was in self._held.get(uuid, {}).items() if key not in entries]
        leaving = [_Releasing(was.process.used_mb, now + was.delay) for was in last_entries]
        self._held[uuid] = entries
        self._releasing[uuid] = [r for r in (*self._releasing.get(uuid, ()), *leaving) if r.until > now]


def _process(holder: Holder) -> DeviceProcess:
    return DeviceProcess(
        pid=holder.pid,
        started=holder.started,
        used_mb=holder.share_mb,
        name=holder.name,
        pod_uid=holder.pod_uid,
    )


def _device(
    gpu: Gpu, uuid: str, index: int, entries: Mapping[tuple[int, int], _Held], releasing: Sequence[_Releasing]
) -> Device:
    in_use = sum(one.process.used_mb for one in entries.values()) + sum(one.memory_mb for one in releasing)
    used_mb = min(gpu.total_mb, in_use)
    card, busy = gpu.card, bool(entries)
    return Device(
        uuid=uuid,
        name=card.name,
        vendor=card.vendor,
        architecture=card.architecture,
        pci=f"0000:{index + 1:02x}:00.0",
        total_mb=gpu.total_mb,
        free_mb=gpu.total_mb - used_mb,
        used_mb=used_mb,
        power_watts=round(_BUSY_SHARE * card.limit_watts) if busy else card.idle_watts,
        temperature=_BUSY_CELSIUS if busy else _IDLE_CELSIUS,
        processes=tuple(entries[key].process for key in sorted(entries)),
    )
