"""Member: one replica of a component, which can be killed at any of its calls, paused, or cut off NATS."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from flexinfer.api.services import SERVICES
from flexinfer.runtime.leader_election import LeaderElector
from flexinfer.runtime.nats.state_reader import NatsBus
from flexinfer.runtime.runtime import Runtime
from tests.simulation.backup import RestorableCluster
from tests.simulation.cluster import FaultyCluster
from tests.simulation.jetstream.client import SimulatedClient

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

Main = Callable[[Runtime], Awaitable[None]]
BLIND_SECONDS = 3.0
"""How long a replica that does not check its Lease keeps acting after a pause, as if it had checked just before."""


class Member:
    """One replica: when it is killed, until when it is paused, and its connections."""

    def __init__(self, simulation: "Simulation", name: str, identity: str, main: Main) -> None:
        self.simulation, self.name, self.main = simulation, name, main
        self.identity = f"{name}-{identity}"
        self.calls = 0
        self.dies_at: int | None = None
        self.paused_until = 0.0
        self.blind_until = 0.0
        self.is_deposed = False
        self.task: asyncio.Task[None] | None = None
        self.client = self.connect(name)
        self.clients = [self.client]
        self._elector = LeaderElector(name, identity) if name in SERVICES and SERVICES[name].elects else None

    def connect(self, name: str) -> SimulatedClient:
        """Open a connection to NATS."""
        return SimulatedClient(self.simulation.nats, name, lambda: self.paused_until)

    # --- points of a call

    async def step(self, *, quickly: bool = False) -> None:
        """Pass the point before a request leaves: the process may be killed or paused here."""
        await self.answered()
        if not quickly:
            await asyncio.sleep(self.simulation.chance.random() * self.simulation.latency)
            await self.resumed()

    async def answered(self) -> None:
        """Pass the point before an answer is seen."""
        self.calls += 1
        if self.dies_at is not None and self.calls >= self.dies_at and not self.is_deposed:
            self.simulation.kill(self)
            await asyncio.Event().wait()
        await self.resumed()

    async def resumed(self) -> None:
        """Return once the process is not paused."""
        while self.simulation.clock() < self.paused_until:
            await asyncio.sleep(self.paused_until - self.simulation.clock() + 0.001)

    # --- leader election

    def is_leader(self) -> bool:
        """Return whether it may act: by its Lease, or for a moment after a pause if nothing fences it."""
        now = self.simulation.clock()
        return self._elector is None or now < self.blind_until or self._elector.is_leader(now)

    def may_write(self) -> bool:
        """Return whether its client sends writes."""
        return self.is_leader()

    def pause(self, seconds: float, *, fenced: bool) -> None:
        """Pause it; without fencing it continues as if it had looked at its Lease just before."""
        now = self.simulation.clock()
        leads = self._elector is not None and self._elector.is_leader(now)
        self.paused_until = now + seconds
        if leads and not fenced:
            self.blind_until = self.paused_until + BLIND_SECONDS

    # --- life

    async def live(self) -> None:
        """Run the component until it is cancelled."""
        plain = self._runtime()
        elector = self._elector
        if elector is None:
            await self.main(plain)
            return
        fenced = msgspec.structs.replace(
            plain,
            cluster=FaultyCluster(RestorableCluster(self.simulation.store), self, fenced=True),
            is_leader=self.is_leader,
            is_standby=elector.is_standby,
            became_leader=elector.became_leader,
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(elector.run(plain))
            await self.main(fenced)

    def _runtime(self) -> Runtime:
        simulation = self.simulation
        return Runtime(
            name=self.name,
            settings=simulation.settings,
            cluster=FaultyCluster(RestorableCluster(simulation.store), self, fenced=False),
            bus=NatsBus(self.client.connection),
            connection=self.client.connection,
            clock=simulation.clock,
            utc_now=simulation.utc_now,
            sleep=asyncio.sleep,
            random=simulation.chance.random,
            set_ready=lambda _up: None,
            spawn_background=simulation.spawn_background,
            is_leader=lambda: True,
            report_failure=lambda key, error: simulation.failed(f"{self.name} on {key}", error),
        )

    def end(self) -> None:
        """End the process as SIGKILL does."""
        if self.task is not None:
            self.task.cancel()
        for client in self.clients:
            client.close()
