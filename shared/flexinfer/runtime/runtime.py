"""Runtime: everything that a service is given, and the seams that the simulation fills with its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeAlias

import msgspec

from flexinfer.contracts.events import AnyEvent, StateEvent
from flexinfer.contracts.fleet import Arrival
from flexinfer.runtime.api import Cluster
from flexinfer.runtime.settings import Settings


class Snapshot(msgspec.Struct, frozen=True):
    """Everything that the bus remembers, whole: a reader's former picture is replaced by it."""

    arrivals: Sequence[Arrival]


class Lost(msgspec.Struct, frozen=True):
    """The bus connection is gone: what is known grows old from here."""


Delivery: TypeAlias = Snapshot | Arrival | Lost


class Interests(msgspec.Struct, frozen=True, kw_only=True):
    """What a service folds: kinds of the state stream, live prefixes, and hints on core NATS."""

    state: tuple[str, ...] = ("model", "workload", "node")
    live: tuple[str, ...] = ()  # "gpu", "activity"
    hints: tuple[str, ...] = ()  # "wake", "ready"
    changed: tuple[str, ...] = ()  # owners whose status writes are heard of at once


class Bus(Protocol):
    """The bus as services see it: a memory to read, and facts to tell."""

    async def publish(self, event: AnyEvent) -> None:
        """Tell a fact beside the path: best effort, never raises for a bus that is away."""
        ...

    def deliveries(self, interests: Interests) -> AsyncIterator[Delivery]:
        """Yield a Snapshot, then what arrives; again from a Snapshot after any doubt."""
        ...


class StateWriter(Protocol):
    """The state stream as its one writer, the watcher, sees it."""

    async def publish_state(self, event: StateEvent) -> None:
        """Write one fact; raises StaleWriteError when somebody else wrote that subject meanwhile."""
        ...


async def _never() -> None:
    await asyncio.Event().wait()


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """What `main` of every service gets. Tests and the simulation build one by hand."""

    name: str
    settings: Settings
    cluster: Cluster
    bus: Bus
    connection: Any = None
    """The NATS connection under the bus, for the watcher's state stream alone; None in the simulation."""
    clock: Callable[[], float]
    """Monotonic seconds: what deadlines are counted by."""
    wall: Callable[[], datetime]
    """UTC, for people."""
    sleep: Callable[[float], Awaitable[None]]
    random: Callable[[], float]
    """0 <= x < 1, for jitter."""
    set_ready: Callable[[bool], None]
    beside: Callable[[Coroutine[Any, Any, object]], None]
    """Run something beside the path: nobody waits for it, and its failure is a log line."""
    holds_lease: Callable[[], bool]
    """Whether this replica may act by its own Lease and the monotonic clock."""
    stands_by: Callable[[], bool] = lambda: False
    """Whether another replica was last seen to hold the Lease."""
    lease_gained: Callable[[], Awaitable[None]] = _never
    """Returns the next time that a replica which might not act may act; never for who needs no Lease."""
