"""People who take leases: they start a process once their lease says Granted, and end it some time after it is over.

What they do is drawn from a stream of their own: a history without them stays as it was.
"""

import asyncio
import contextlib
import itertools
import random
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from flexinfer.api.groupversion import API_VERSION, GROUP, LEASE_KIND, LEASE_PLURAL, VERSION
from flexinfer.api.lease import GPULease
from flexinfer.events.nodes import DeviceProcess
from localkube.apiserver.errors import ApiError
from localkube.apiserver.requests import DeleteOptions, Options, Patch

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

SHARE = 0.35
"""The share of histories with leases."""
_NAMES, _GROUPS = ("game", "train"), ("g", "g", "h")
_RATE, _LOOK_SECONDS, _FIRST_PID = 0.35, 0.5, 5000


class Played(msgspec.Struct):
    """The process of a lease: how much memory it uses of which devices, and since when."""

    lease: str
    turn: int
    devices: Mapping[str, int]
    pid: int
    started: int


class People:
    """The leases of a history, and the processes on devices that belong to them."""

    def __init__(self, simulation: "Simulation", seed: int) -> None:
        self._simulation, self._chance = simulation, random.Random(f"{seed} leases")
        self._kind = simulation.named(GROUP, VERSION, LEASE_PLURAL)
        self._pids = itertools.count(_FIRST_PID)
        self.played: dict[tuple[str, int], Played] = {}
        self.calm = False

    def start(self) -> None:
        """Let people live, in some histories."""
        if self._chance.random() < SHARE:
            self._simulation.spawn_background(self._act())
            self._simulation.spawn_background(self._play())

    def on(self, device: str) -> Iterator[DeviceProcess]:
        """Yield the processes on a device, as its agent sees them."""
        for one in self.played.values():
            if device in one.devices:
                used = one.devices[device]
                yield DeviceProcess(pid=one.pid, used_mb=used, name="game", started=one.started)

    def used_mb(self, device: str) -> int:
        """Return what the processes use of a device."""
        return sum(process.used_mb for process in self.on(device))

    def lose(self, node: str) -> None:
        """End the processes on a machine that ends."""
        devices = set(self._simulation.machines.devices[node])
        self.played = {key: one for key, one in self.played.items() if not devices & set(one.devices)}

    def restored(self) -> None:
        """End every process: the API server went back to a backup, which tells the leases of a former life."""
        self.played.clear()

    def leases(self) -> dict[str, GPULease]:
        """Return the leases of the store, by uid."""
        listed = self._simulation.store.list(self._kind, "default").items
        leases = [msgspec.convert(item, GPULease) for item in listed]
        return {lease.uid: lease for lease in leases}

    # --- what they do

    async def _act(self) -> None:
        while not self.calm:
            await asyncio.sleep(self._chance.expovariate(_RATE))
            if not self.calm:
                name = self._chance.choice(_NAMES)
                self._chance.choice([self._take, self._take, self._take, self._give, self._extend])(name)

    def _take(self, name: str) -> None:
        chance = self._chance
        spec: dict[str, Any] = {
            "group": chance.choice(_GROUPS),
            "priority": chance.choice([1000, 1000, 100, 0]),
            "duration": chance.choice(["3s", "8s", "20s"]),
        }
        memory = chance.choice([1500, 3000, 5000, None])
        if memory is not None:
            spec["memoryMB"] = memory
        body = {"apiVersion": API_VERSION, "kind": LEASE_KIND, "metadata": {"name": name}, "spec": spec}
        with contextlib.suppress(ApiError):
            self._simulation.store.create(self._kind, "default", body, Options(manager="kubectl"))
            self._simulation.record(f"lease {name} {spec}")

    def _give(self, name: str) -> None:
        with contextlib.suppress(ApiError):
            self._simulation.store.delete(self._kind, "default", name, DeleteOptions())
            self._simulation.record(f"give back lease {name}")

    def _extend(self, name: str) -> None:
        patch = Patch("merge", {"spec": {"duration": self._chance.choice(["1s", "10s", "25s"])}})
        with contextlib.suppress(ApiError):
            self._simulation.store.patch(self._kind, "default", name, patch, Options(manager="kubectl"))

    async def _play(self) -> None:
        """Start and end processes, as the leases of the store say; at the end of the faults give all of them back."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS * (0.5 + self._chance.random()))
            leases = self.leases()
            for lease in leases.values():
                if self.calm:
                    self._give(lease.metadata.name)
                elif lease.granted and lease.status.node and self._chance.random() < 0.7:
                    self._begin(lease)
            over = [one for one in self.played.values() if not _granted(leases.get(one.lease), one.turn)]
            for one in over:
                if self._chance.random() < 0.4:
                    self._simulation.record(f"the process {one.pid} of a lease ends")
                    del self.played[one.lease, one.turn]

    def _begin(self, lease: GPULease) -> None:
        key, status = (lease.uid, lease.status.turn), lease.status
        most = sum(device.memory_mb for device in status.devices)
        if key in self.played or not most:
            return
        used = self._chance.choice([most, most, most // 2])
        played = Played(
            lease=lease.uid,
            turn=status.turn,
            devices={device.uuid: device.memory_mb * used // most for device in status.devices},
            pid=next(self._pids),
            started=int(self._simulation.clock()) + 1,
        )
        self._simulation.record(f"a process of lease {lease.metadata.name} starts: {used} MiB")
        self.played[key] = played
        self._simulation.checker.plays(played)


def _granted(lease: GPULease | None, turn: int) -> bool:
    return lease is not None and lease.granted and lease.status.turn == turn
