"""The bus of the simulation: in memory, with the guarantees of NATS and with faults.

State messages may be lost, duplicated or late; the next watermark then makes the reader replay, as on the
real bus. Hints may be lost, duplicated or late without a remedy. The store can be wiped or rolled back.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable

from flexinfer.events import codec, events, subjects
from flexinfer.events.codec import StreamEntry
from flexinfer.events.events import AnyEvent, StateEvent
from flexinfer.runtime.runtime import Delivery, Disconnected, Snapshot, Subscriptions
from flexinfer.state.observed import Observation


class Chances:
    """The probability of each fault of a message; `late` is the greatest delay in seconds."""

    def __init__(self, *, lost: float = 0.0, doubled: float = 0.0, late: float = 0.0) -> None:
        self.lost, self.doubled, self.late = lost, doubled, late


class Reader:
    """The subscription of one component; `behind` while it needs a replay."""

    def __init__(self, name: str, subscriptions: Subscriptions) -> None:
        self.name, self.subscriptions = name, subscriptions
        self.queue: asyncio.Queue[Delivery] = asyncio.Queue()
        self.behind = True


class Broker:
    """The streams and their subscribers."""

    def __init__(self, chance: random.Random, clock: Callable[[], float]) -> None:
        self._chance, self._clock = chance, clock
        self.faults = Chances()
        self.state: dict[str, tuple[int, StateEvent]] = {}
        self.live: dict[str, Observation] = {}
        self.history: list[events.HistoryRecorded] = []
        self.created = 1
        self.suspect = asyncio.Event()
        self._sequence = 0
        self._past: list[dict[str, tuple[int, StateEvent]]] = []
        self._readers: list[Reader] = []
        self._marked = False
        self._cut_off: set[str] = set()

    def cut_off(self, name: str) -> None:
        """Disconnect a component: it gets `Disconnected`, and nothing passes until `reconnect`."""
        self._cut_off.add(name)
        for reader in self._readers:
            if reader.name == name:
                reader.queue.put_nowait(Disconnected())

    def reconnect(self, name: str) -> None:
        """Reconnect a component; it gets a snapshot at the next watermark."""
        self._cut_off.discard(name)
        for reader in self._readers:
            if reader.name == name:
                reader.behind = True

    async def publish(self, event: AnyEvent, name: str = "") -> None:
        """Publish an event of the component `name`."""
        if name in self._cut_off:
            return
        if isinstance(event, events.HistoryRecorded):
            self.history.append(event)
            return
        kind = subjects.kind_of(subjects.subject_of(event))
        observation = Observation(event, self._clock())
        if kind in ("gpu", "activity"):
            self.live[subjects.subject_of(event)] = observation
        for reader in self._readers:
            if reader.name not in self._cut_off and self._is_subscribed(reader, event, kind):
                self._deliver(reader, observation)

    @staticmethod
    def _is_subscribed(reader: Reader, event: AnyEvent, kind: str) -> bool:
        if isinstance(event, events.StatusChanged):
            return event.owner in reader.subscriptions.changed
        return kind in reader.subscriptions.live or kind in reader.subscriptions.hints

    def store(self, event: StateEvent) -> int:
        """Publish an event to the state stream; return its sequence."""
        self._sequence += 1
        subject = subjects.subject_of(event)
        self.state[subject] = (self._sequence, event)
        if self._sequence % 10 == 0:
            self._past = [*self._past[-3:], dict(self.state)]
        for reader in self._readers:
            if reader.name in self._cut_off:
                continue
            if subjects.kind_of(subject) in reader.subscriptions.state and not reader.behind:
                if self._chance.random() < self.faults.lost:
                    reader.behind = True
                else:
                    self._deliver(reader, Observation(event, self._clock()), lossless=True)
        return self._sequence

    def mark(self) -> None:
        """Publish the watermark: every reader that is behind gets a snapshot."""
        self._marked = True
        for reader in self._readers:
            if reader.behind and reader.name not in self._cut_off:
                reader.behind = False
                reader.queue.put_nowait(self._snapshot(reader))

    def _snapshot(self, reader: Reader) -> Snapshot:
        now = self._clock()
        retained = [
            Observation(event, now)
            for _, event in sorted(self.state.values(), key=lambda pair: pair[0])
            if subjects.kind_of(subjects.subject_of(event)) in reader.subscriptions.state
        ]
        live = [a for s, a in sorted(self.live.items()) if subjects.kind_of(s) in reader.subscriptions.live]
        return Snapshot([*retained, *(a for a in live if now - a.at < 30)])

    def _deliver(self, reader: Reader, observation: Observation, *, lossless: bool = False) -> None:
        if not lossless and self._chance.random() < self.faults.lost:
            return
        copies = 2 if self._chance.random() < self.faults.doubled else 1
        for _ in range(copies):
            delay = self._chance.random() * self.faults.late
            if delay and not lossless:
                asyncio.get_running_loop().call_later(delay, reader.queue.put_nowait, observation)
            else:
                reader.queue.put_nowait(observation)

    async def read(self, name: str, subscriptions: Subscriptions) -> AsyncIterator[Delivery]:
        """Yield a snapshot at the next watermark, then the deliveries."""
        reader = Reader(name, subscriptions)
        self._readers.append(reader)
        try:
            while True:
                yield await reader.queue.get()
        finally:
            self._readers.remove(reader)

    def wipe(self) -> None:
        """Lose all state, as when the store is deleted."""
        self.state = {}
        self._replace()

    def roll_back(self) -> None:
        """Return to an older copy, as when a volume is restored."""
        self.state = dict(self._past[0]) if self._past else {}
        self._replace()

    def _replace(self) -> None:
        self.created += 1
        self.suspect.set()
        for reader in self._readers:
            reader.behind = True


class SimulatedBus:
    """`runtime.runtime.Bus` on the broker."""

    def __init__(self, broker: Broker, name: str) -> None:
        self._broker, self._name = broker, name

    async def publish(self, event: AnyEvent) -> None:
        """Publish an event."""
        await self._broker.publish(event, self._name)

    def deliveries(self, subscriptions: Subscriptions) -> AsyncIterator[Delivery]:
        """Yield the deliveries of the broker."""
        return self._broker.read(self._name, subscriptions)


class SimulatedStream:
    """The state stream of the watcher, with the interface of `runtime.nats.state_writer.StateStream`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.held: dict[str, StreamEntry] = {}
        self.created = ""

    async def suspect(self) -> None:
        """Return when the store has been lost or rolled back."""
        await self._broker.suspect.wait()

    def mark_suspect(self) -> None:
        """Mark the content of the stream as doubtful."""
        self._broker.suspect.set()

    async def open(self) -> None:
        """Read the content of the stream."""
        self._broker.suspect.clear()
        self.created = str(self._broker.created)
        self.held = {}
        for subject, (sequence, event) in self._broker.state.items():
            deleted = isinstance(event, events.DELETIONS)
            self.held[subject] = StreamEntry(sequence, None if deleted else codec.encode(event))

    async def publish(self, event: StateEvent) -> bool:
        """Publish an event unless the stream has it already; return whether it was published."""
        subject, body = subjects.subject_of(event), codec.encode(event)
        deleted, entry = isinstance(event, events.DELETIONS), self.held.get(subject)
        if entry is not None and (entry.body is None if deleted else entry.body == body):
            return False
        if entry is None and deleted:
            return False
        self.held[subject] = StreamEntry(self._broker.store(event), None if deleted else body)
        return True

    async def watermark(self) -> None:
        """Publish the watermark."""
        self._broker.mark()
