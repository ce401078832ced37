"""The bus of the simulation: a memory with the promises of NATS and the faults of a bad day.

State messages may be lost, doubled or late; the watermark, which a reader compares, then brings a fresh snapshot as it does on
the real bus. Hints may be lost, doubled or late without any remedy. The store can be wiped or rolled back.
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
    """How likely a message meets each fault, and how late it may be in seconds."""

    def __init__(self, *, lost: float = 0.0, doubled: float = 0.0, late: float = 0.0) -> None:
        self.lost, self.doubled, self.late = lost, doubled, late


class Reader:
    """One service's subscription."""

    def __init__(self, name: str, interests: Subscriptions) -> None:
        self.name, self.interests = name, interests
        self.queue: asyncio.Queue[Delivery] = asyncio.Queue()
        self.behind = True


class Broker:
    """Streams and subscribers."""

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
        """Break a service's connection: it hears so, and neither reads nor publishes until `reconnect`."""
        self._cut_off.add(name)
        for reader in self._readers:
            if reader.name == name:
                reader.queue.put_nowait(Disconnected())

    def reconnect(self, name: str) -> None:
        """Restore a service's connection; it gets a snapshot at the next watermark."""
        self._cut_off.discard(name)
        for reader in self._readers:
            if reader.name == name:
                reader.behind = True

    async def publish(self, event: AnyEvent, name: str = "") -> None:
        """Take in what the service `name` publishes."""
        if name in self._cut_off:
            return
        if isinstance(event, events.HistoryRecorded):
            self.history.append(event)
            return
        kind = subjects.kind_of(subjects.subject_of(event))
        arrival = Observation(event, self._clock())
        if kind in ("gpu", "activity"):
            self.live[subjects.subject_of(event)] = arrival
        for reader in self._readers:
            if reader.name not in self._cut_off and self._hears(reader, event, kind):
                self._deliver(reader, arrival)

    @staticmethod
    def _hears(reader: Reader, event: AnyEvent, kind: str) -> bool:
        if isinstance(event, events.StatusChanged):
            return event.owner in reader.interests.changed
        return kind in reader.interests.live or kind in reader.interests.hints

    def store(self, event: StateEvent) -> int:
        """Take in what the watcher publishes; returns its sequence."""
        self._sequence += 1
        subject = subjects.subject_of(event)
        self.state[subject] = (self._sequence, event)
        if self._sequence % 10 == 0:
            self._past = [*self._past[-3:], dict(self.state)]
        for reader in self._readers:
            if reader.name in self._cut_off:
                continue
            if subjects.kind_of(subject) in reader.interests.state and not reader.behind:
                if self._chance.random() < self.faults.lost:
                    reader.behind = True
                else:
                    self._deliver(reader, Observation(event, self._clock()), lossless=True)
        return self._sequence

    def mark(self) -> None:
        """Tell the watermark: whoever is behind replays."""
        self._marked = True
        for reader in self._readers:
            if reader.behind and reader.name not in self._cut_off:
                reader.behind = False
                reader.queue.put_nowait(self._snapshot(reader))

    def _snapshot(self, reader: Reader) -> Snapshot:
        now = self._clock()
        held = [
            Observation(event, now)
            for _, event in sorted(self.state.values(), key=lambda pair: pair[0])
            if subjects.kind_of(subjects.subject_of(event)) in reader.interests.state
        ]
        live = [a for s, a in sorted(self.live.items()) if subjects.kind_of(s) in reader.interests.live]
        return Snapshot([*held, *(a for a in live if now - a.at < 30)])

    def _deliver(self, reader: Reader, arrival: Observation, *, lossless: bool = False) -> None:
        if not lossless and self._chance.random() < self.faults.lost:
            return
        copies = 2 if self._chance.random() < self.faults.doubled else 1
        for _ in range(copies):
            delay = self._chance.random() * self.faults.late
            if delay and not lossless:
                asyncio.get_running_loop().call_later(delay, reader.queue.put_nowait, arrival)
            else:
                reader.queue.put_nowait(arrival)

    async def read(self, name: str, interests: Subscriptions) -> AsyncIterator[Delivery]:
        """Yield a snapshot at the next watermark, then what arrives."""
        reader = Reader(name, interests)
        self._readers.append(reader)
        try:
            while True:
                yield await reader.queue.get()
        finally:
            self._readers.remove(reader)

    def wipe(self) -> None:
        """Lose everything, as a deleted store does."""
        self.state = {}
        self._remade()

    def roll_back(self) -> None:
        """Go back to an older copy, as a restored volume does."""
        self.state = dict(self._past[0]) if self._past else {}
        self._remade()

    def _remade(self) -> None:
        self.created += 1
        self.suspect.set()
        for reader in self._readers:
            reader.behind = True


class SimulatedBus:
    """`runtime.Bus` on the broker."""

    def __init__(self, broker: Broker, name: str) -> None:
        self._broker, self._name = broker, name

    async def publish(self, event: AnyEvent) -> None:
        """Publish a fact."""
        await self._broker.publish(event, self._name)

    def deliveries(self, interests: Subscriptions) -> AsyncIterator[Delivery]:
        """Yield what the broker delivers."""
        return self._broker.read(self._name, interests)


class SimulatedStream:
    """The state stream as the watcher sees it, with the interface of `runtime.stream.StateStream`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.held: dict[str, StreamEntry] = {}
        self.created = ""

    async def suspect(self) -> None:
        """Return when the store was lost or rolled back."""
        await self._broker.suspect.wait()

    def mark_suspect(self) -> None:
        """Say that what is held may not be true."""
        self._broker.suspect.set()

    async def open(self) -> None:
        """Read back what the stream holds."""
        self._broker.suspect.clear()
        self.created = str(self._broker.created)
        self.held = {}
        for subject, (sequence, event) in self._broker.state.items():
            gone = isinstance(event, events.DELETIONS)
            self.held[subject] = StreamEntry(sequence, None if gone else codec.encode(event))

    async def publish(self, event: StateEvent) -> bool:
        """Publish a fact unless it is held already."""
        subject, body = subjects.subject_of(event), codec.encode(event)
        gone, known = isinstance(event, events.DELETIONS), self.held.get(subject)
        if known is not None and (known.body is None if gone else known.body == body):
            return False
        if known is None and gone:
            return False
        self.held[subject] = StreamEntry(self._broker.store(event), None if gone else body)
        return True

    async def watermark(self) -> None:
        """Tell the watermark."""
        self._broker.mark()
