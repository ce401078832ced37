"""Agent: the telemetry of one machine, true or not."""

import asyncio
from typing import TYPE_CHECKING

import msgspec

from flexinfer.events import events
from flexinfer.events.nodes import Device, DeviceProcess
from flexinfer.runtime.nats.state_reader import NatsBus
from tests.simulation.jetstream.client import SimulatedClient

if TYPE_CHECKING:
    from tests.simulation.machines import Machines

TOTAL_MB = 8000
_INTERVAL_SECONDS = 10.0


class Lies(msgspec.Struct):
    """What the agent says that is not so, each until a virtual time; `foreign_mb` is used by another process."""

    silent_until: float = 0.0
    old_until: float = 0.0
    without_processes_until: float = 0.0
    missing_until: float = 0.0
    unhealthy_until: float = 0.0
    foreign_mb: int = 0


class Agent:
    """The agent of one node."""

    def __init__(self, machines: "Machines", node: str, client: SimulatedClient) -> None:
        self._machines, self._node, self._bus = machines, node, NatsBus(client.connection)
        self.lies = Lies()
        self.displays: dict[str, int] = {}
        """Device -> what a display server uses of it now."""
        self._samples = 0
        self._last: events.GpusObserved | None = None
        self._taken_at = 0.0

    async def run(self) -> None:
        """Publish a sample at intervals, and when one is waited for, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_hints())
            while True:
                await self.publish()
                await asyncio.sleep(_INTERVAL_SECONDS)

    async def _follow_hints(self) -> None:
        async for _ in self._bus.hints("sample", self._node):
            await self.publish()

    async def publish(self) -> None:
        """Publish a sample now."""
        now, lies = self._machines.clock(), self.lies
        if now < lies.silent_until:
            return
        if now < lies.old_until and self._last is not None:
            age = now - self._taken_at
            await self._bus.publish(msgspec.structs.replace(self._last, age_seconds=age))
            return
        self._last, self._taken_at = self._sample(now), now
        await self._bus.publish(self._last)

    def _sample(self, now: float) -> events.GpusObserved:
        self._samples += 1
        devices = () if now < self.lies.missing_until else self._machines.devices[self._node]
        shown = tuple(self._device(device, now) for device in devices)
        return events.GpusObserved(node=self._node, boot="b", sample=self._samples, devices=shown)

    def _device(self, uuid: str, now: float) -> Device:
        lies = self.lies
        if now < lies.unhealthy_until:
            return Device(uuid=uuid, healthy=False)
        engines = enumerate(self._machines.engines.values(), start=1)  # a pid is that of one process alone
        here = [(pid, engine) for pid, engine in engines if uuid in engine.devices and engine.holds_memory]
        processes = [
            DeviceProcess(pid=pid, used_mb=engine.used_on(uuid), pod_uid=engine.pod)
            for pid, engine in here
            if not engine.ended
        ]
        if lies.foreign_mb:
            processes.append(DeviceProcess(pid=999, used_mb=lies.foreign_mb, name="Xorg", started=1))
        if uuid in self.displays:
            processes.append(DeviceProcess(pid=998, used_mb=self.displays[uuid], name="Xwayland", started=1))
        processes += self._machines.leased(uuid)
        # Given back after the process has ended.
        late = sum(engine.used_on(uuid) for _, engine in here if engine.ended)
        used = min(TOTAL_MB, sum(process.used_mb for process in processes) + late)
        unknown = now < lies.without_processes_until
        device = Device(
            uuid=uuid,
            total_mb=TOTAL_MB,
            free_mb=TOTAL_MB - used,
            used_mb=used,
            processes=() if unknown else tuple(processes),
        )
        known = "processes_known" in Device.__struct_fields__
        return msgspec.structs.replace(device, processes_known=False) if unknown and known else device
