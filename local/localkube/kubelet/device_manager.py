"""Device manager: which Pod has which device of this node; kubelet's device manager without plugins.

A device is an index of an extended resource (`nvidia.com/gpu` 0, 1, ...) and may have an id of its own, such as a uuid, as a device plugin
lists it. A Pod requests a number of them, may name those that it was placed on, and waits while other Pods still run on them, deleted or force-deleted ones included: a device is
allocated again only once no process of its last Pod runs. A node may offer each device several times, as NVIDIA's device plugin does with
time-slicing: then so many Pods have it at once.
"""

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from localkube.kubelet.client import Object

Allocation: TypeAlias = dict[str, list[int]]  # resource -> indices
Devices: TypeAlias = Mapping[str, Sequence[str]]  # resource -> ids, by index
NVIDIA, AMD = "nvidia.com/gpu", "amd.com/gpu"
_HIP = "HIP_VISIBLE_DEVICES"
_UUID = re.compile(r"^GPU UUID:\s*(\S+)$", re.MULTILINE)
_MINOR = re.compile(r"^Device Minor:\s*(\d+)$", re.MULTILINE)
_VISIBLE: Mapping[str, tuple[str, ...]] = {
    NVIDIA: ("NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
    AMD: (_HIP, "ROCR_VISIBLE_DEVICES"),
}


class DeviceManager:
    """The devices of one node and their allocations."""

    def __init__(self, devices: Devices, replicas: int = 1) -> None:
        """Offer devices, each `replicas` times."""
        self._devices, self._replicas = {resource: tuple(ids) for resource, ids in devices.items()}, replicas
        self.capacity = {resource: len(ids) * replicas for resource, ids in self._devices.items()}
        self._allocations: dict[str, Allocation] = {}  # by Pod uid
        self._changed = asyncio.Event()

    async def allocate(
        self, uid: str, requests: Mapping[str, int], preferred_ids: Collection[str] = ()
    ) -> Allocation:
        """Allocate a Pod's devices, those named by their ids if the node has them; waits until they are free."""
        while (allocation := self.available(requests, preferred_ids)) is None:
            self._changed.clear()
            await self._changed.wait()
        if allocation:
            self._allocations[uid] = allocation
        return allocation

    def available(
        self, requests: Mapping[str, int], preferred_ids: Collection[str] = ()
    ) -> Allocation | None:
        """Return devices that could be allocated now; None if there are too few."""
        allocation: Allocation = {}
        for resource, number in requests.items():
            free = self._free(resource, self._eligible(resource, number, preferred_ids))
            if len(free) < number:
                return None
            allocation[resource] = free[:number]
        return allocation

    def _free(self, resource: str, eligible: Sequence[int]) -> list[int]:
        """Return devices as often as they are free: a Pod gets each of its devices once, as far as there are enough, the least used first."""
        use_counts = Counter(
            index for allocation in self._allocations.values() for index in allocation.get(resource, ())
        )
        slots = [
            (n, use_counts[index], index)
            for index in eligible
            for n in range(self._replicas - use_counts[index])
        ]
        return [index for _, _, index in sorted(slots)]

    def _eligible(self, resource: str, number: int, preferred_ids: Collection[str]) -> list[int]:
        """Return the devices that may be allocated: the named ones where they are as many as requested, else all."""
        ids = self._devices.get(resource, ())
        selection = [index for index, name in enumerate(ids) if name in preferred_ids]
        return selection if len(selection) == number else list(range(len(ids)))

    def holders(self, requests: Mapping[str, int]) -> list[str]:
        """Return the uids of the Pods that hold devices of the requested resources."""
        return sorted(
            uid
            for uid, allocation in self._allocations.items()
            if any(resource in allocation for resource in requests)
        )

    def ids(self, allocation: Allocation) -> dict[str, list[str]]:
        """Return the ids of allocated devices; one that the node offers no more is named by its index."""
        return {
            resource: [_id(self._devices.get(resource, ()), index) for index in indices]
            for resource, indices in allocation.items()
        }

    def restore(self, uid: str, allocation: Allocation) -> None:
        """Record the devices of a Pod that an earlier kubelet process started."""
        if allocation:
            self._allocations[uid] = allocation

    def release(self, uid: str) -> None:
        """Free the devices of a Pod of which no process runs any more."""
        self._allocations.pop(uid, None)
        self._changed.set()


def requested(pod: Object, capacity: Mapping[str, int]) -> dict[str, int]:
    """Return how many devices of each resource a Pod requests."""
    total: dict[str, int] = {}
    for container in pod["spec"]["containers"]:
        resources = container.get("resources") or {}
        amounts = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
        for resource, number in amounts.items():
            if resource in capacity or resource in _VISIBLE:
                total[resource] = total.get(resource, 0) + int(number)
    return {resource: number for resource, number in total.items() if number}


def _id(ids: Sequence[str], index: int) -> str:
    return ids[index] if index < len(ids) else str(index)


def variables(device_ids: Mapping[str, Sequence[str]], capacity: Mapping[str, int]) -> dict[str, str]:
    """Return the variables that make only these devices, named by their ids, visible to a process."""
    values: dict[str, str] = {}
    for resource, names in _VISIBLE.items():
        if resource in capacity:
            values |= dict.fromkeys(names, ",".join(device_ids.get(resource, ())))
    if AMD in capacity:  # HIP counts the devices that ROCR has left, from 0 (ROCm: GPU isolation techniques)
        values[_HIP] = ",".join(numbered(len(device_ids.get(AMD, ()))))
    return values


def parsed(pairs: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return extended resources written as NAME=NUMBER or NAME=ID,ID. Raises ValueError."""
    split = [text.partition("=") for text in pairs]
    return {name: _parsed_ids(value) for name, _, value in split}


def _parsed_ids(text: str) -> tuple[str, ...]:
    if text.isdigit():
        return numbered(int(text))
    ids = tuple(text.split(","))
    if not all(ids) or len(set(ids)) < len(ids):
        raise ValueError(f"{text!r} is neither a number of devices nor a list of different ids")
    return ids


def numbered(count: int) -> tuple[str, ...]:
    """Return the ids of devices that have none of their own: their indices."""
    return tuple(map(str, range(count)))


def detected(root: Path = Path("/dev"), proc: Path = Path("/proc")) -> dict[str, tuple[str, ...]]:
    """Return the GPUs whose device files this machine has: NVIDIA's by uuid, as its driver tells, others by index."""
    nvidia = sum(path.name.removeprefix("nvidia").isdigit() for path in root.glob("nvidia*"))
    amd = len(list((root / "dri").glob("renderD*"))) if (root / "kfd").exists() else 0
    devices = {NVIDIA: _nvidia_uuids(proc, nvidia) or numbered(nvidia), AMD: numbered(amd)}
    return {resource: ids for resource, ids in devices.items() if ids}


def _nvidia_uuids(proc: Path, number: int) -> tuple[str, ...]:
    """Return the uuids of the GPUs in the order of their device files; empty if the driver does not tell all of them."""
    uuids: dict[int, str] = {}
    for path in (proc / "driver" / "nvidia" / "gpus").glob("*/information"):
        with contextlib.suppress(OSError):
            text = path.read_text(errors="replace")
            uuid, minor = _UUID.search(text), _MINOR.search(text)
            if uuid and minor and "?" not in uuid[1]:  # question marks: no process has opened the device yet
                uuids[int(minor[1])] = uuid[1]
    return tuple(uuids[minor] for minor in sorted(uuids)) if len(uuids) == number else ()
