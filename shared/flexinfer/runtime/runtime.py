"""Runtime: everything that a component is given.

The simulation implements the same interfaces in virtual time. Components take time, chance, sleep and I/O
from here and from nowhere else: this is what makes a whole history of them reproducible.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from datetime import datetime
from typing import Protocol, TypeAlias

import msgspec

from flexinfer.api.services import STATE_KINDS, Component
from flexinfer.events.events import AnyEvent
from flexinfer.runtime.kubernetes.api import Cluster
from flexinfer.runtime.metrics import Source
from flexinfer.runtime.nats.connection import Connection
from flexinfer.runtime.readiness import ProblemReporter, no_reporter
from flexinfer.runtime.settings import Settings
from flexinfer.state.observed import Observation

Work: TypeAlias = Coroutine[object, object, object]
"""A coroutine whose result is not used."""


class Snapshot(msgspec.Struct, frozen=True):
    """Everything that the streams hold, complete: a reader replaces its state by it."""

    observations: Sequence[Observation]


class Disconnected(msgspec.Struct, frozen=True):
    """NATS is not connected: the observed state is aging from here on."""


class Replaying(msgspec.Struct, frozen=True):
    """NATS is connected, but a message may have been missed: nothing is heard until the next Snapshot."""


class CaughtUp(msgspec.Struct, frozen=True):
    """Everything that NATS had for this process at a time (monotonic seconds) was delivered before this."""

    at: float


Delivery: TypeAlias = Snapshot | Observation | Disconnected | Replaying | CaughtUp


class Subscriptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a component reads.

    Kinds of the state stream, prefixes of the live stream, hints, and owners whose `changed` hints it receives.
    """

    state: tuple[str, ...] = STATE_KINDS
    live: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


def subscriptions_of(component: Component) -> Subscriptions:
    """Return the subscriptions of a row of the table of components."""
    return Subscriptions(
        state=component.state, live=component.live, hints=component.hints, changed=component.hears
    )


class Bus(Protocol):
    """NATS as components see it: streams to read, and events to publish."""

    async def publish(self, event: AnyEvent) -> bool:
        """Publish an event, at most once: never raises, and drops the event, if NATS is unavailable.

        Returns whether NATS has it. For telemetry and activity that means that the live stream has stored it: until the watcher has
        created that stream, and after a restart of NATS, it is lost. Who publishes such state publishes it again, as it is then.
        """
        ...

    def deliveries(self, subscriptions: Subscriptions) -> AsyncIterator[Delivery]:
        """Yield a Snapshot, then each observation.

        Disconnected while NATS is; Replaying, then again a Snapshot, whenever one may have been missed; CaughtUp after
        `catch_up`. Never ends and never raises. A reader that is slow delays nothing but itself.
        """
        ...

    def hints(self, kind: str, name: str) -> AsyncIterator[AnyEvent]:
        """Yield the hints of a kind about a name as they come, for a component that keeps no state.

        They are kept nowhere, and one may be lost. Never ends and never raises.
        """
        ...

    def catch_up(self) -> None:
        """Ask for a CaughtUp of now or later; what comes in its place is Disconnected, Replaying or a Snapshot. Never blocks."""
        ...


async def _never() -> None:
    await asyncio.Event().wait()


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """What `main` of every component gets. Tests and the simulation build one by hand."""

    name: str
    settings: Settings
    cluster: Cluster
    """The Kubernetes API."""
    bus: Bus
    connection: Connection | None = None
    """The NATS connection behind the bus, for the watcher's state stream alone; None in the simulation."""
    clock: Callable[[], float]
    """Monotonic seconds, a suspend of the machine included: what deadlines are counted by."""
    utc_now: Callable[[], datetime]
    """Wall-clock time, UTC, for people."""
    sleep: Callable[[float], Awaitable[None]]
    """Wait for some seconds."""
    random: Callable[[], float]
    """0 <= x < 1, for jitter."""
    set_ready: Callable[[bool], None]
    """Set whether /readyz succeeds."""
    expose: Callable[[Source], None] = lambda _source: None
    """Have /metrics answer the component's own metrics too, which a source returns."""
    report_problem: ProblemReporter = no_reporter
    """Note what keeps the component from seeing or writing: after 30 s /readyz fails and says so."""
    spawn_background: Callable[[Work], None]
    """Run a coroutine that nothing waits for, cancelled when the component stops; its failure is logged.

    Must not block.
    """
    is_leader: Callable[[], bool]
    """Whether this replica may act, by its own Lease and the monotonic clock."""
    is_standby: Callable[[], bool] = lambda: False
    """Whether another replica was last seen to hold the Lease."""
    became_leader: Callable[[], Awaitable[None]] = _never
    """Return the next time that this replica becomes the leader.

    Never for a component without leader election.
    """
    report_failure: Callable[[str, Exception], None] = lambda _key, _error: None
    """Count an error that is not the API's, which cost a key its decision or effect."""

    def varied(self, seconds: float) -> float:
        """Return an interval varied by 20 %, so that replicas and resyncs do not come to act at the same moment."""
        return seconds * (0.8 + 0.4 * self.random())

    async def sleep_unless(self, event: asyncio.Event, seconds: float) -> bool:
        """Wait for some seconds, or until an event is set; returns whether it was."""
        pause = asyncio.ensure_future(self.sleep(seconds))
        change = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait((pause, change), return_when=asyncio.FIRST_COMPLETED)
            if pause.done():
                await pause
            return change.done()
        finally:
            pause.cancel()
            change.cancel()
