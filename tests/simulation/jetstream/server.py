"""NatsServer: what of nats-server and its JetStream the components use, in virtual time and with its faults.

Core messages reach who is subscribed at that moment. A stream keeps the last message of each subject; a
consumer pushes its messages in order, then heartbeats. A restart ends every connection and consumer, and
empties what is in memory. The rules are those that nats-server was seen to follow; the tests in
`tests/integration/runtime` hold reader and writer against the real one.
"""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import msgspec
from nats.aio.msg import Msg

from flexinfer.events import subjects
from tests.simulation.jetstream.stream import Headers, StoredMessage, Stream, matches

if TYPE_CHECKING:
    from tests.simulation.jetstream.client import SimulatedClient

EXPECTED_HEADER = "Nats-Expected-Last-Subject-Sequence"
NO_STREAM, STALE, PURGE_FAILED = 10059, 10071, 10051
_HEARTBEAT_SECONDS = 4.0
_REPLY = "$JS.ACK."
Reply = dict[str, Any]


class Chances(msgspec.Struct):
    """The probability of each fault of a message; `late` is the greatest delay of a hint, in seconds.

    `lost` is a message of the state stream that a consumer skips without a gap, or a hint that no subscriber gets.
    """

    lost: float = 0.0
    gap: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    unacknowledged: float = 0.0


class _Consumer(msgspec.Struct):
    stream: str
    pattern: str
    client: "SimulatedClient"
    inbox: str
    sequence: int = 0


class _Sequence(msgspec.Struct, frozen=True):
    """Msg.Metadata.SequencePair in a tenth of its time."""

    consumer: int
    stream: int


class _Metadata(msgspec.Struct, frozen=True):
    """What is read of a Msg.Metadata."""

    sequence: _Sequence
    timestamp: datetime


class NatsServer:
    """The server; `published` is called with every message that it accepts, before any subscriber gets it."""

    def __init__(self, chance: random.Random, clock: Callable[[], float], epoch: float) -> None:
        self.chance, self._clock, self._epoch = chance, clock, epoch
        self.step = 0.0
        """By how much the server's wall clock is wrong, in seconds."""
        self.up = True
        self.frozen_until = 0.0
        self.full_until = 0.0
        self.faults = Chances()
        self.streams: dict[str, Stream] = {}
        self.clients: list[SimulatedClient] = []
        self.published: list[Callable[[str, bytes, StoredMessage | None], None]] = []
        self._consumers: list[_Consumer] = []
        self._created = 0

    def wall(self) -> float:
        """Return the server's own wall-clock time, in seconds."""
        return self._epoch + self._clock() + self.step

    @property
    def available(self) -> bool:
        """Whether it answers now."""
        return self.up and self._clock() >= self.frozen_until

    # --- publishing

    def publish(self, subject: str, data: bytes, headers: Headers, sender: str = "") -> Reply | None:
        """Take a message: deliver it, and store it where a stream takes its subject; returns the ack."""
        stream = next((s for s in self.streams.values() if s.takes(subject)), None)
        if stream is None:
            self._deliver(subject, data, headers, sender)
            return None
        if stream.name == subjects.STATE_STREAM and self._clock() < self.full_until:
            stream.broken = True
        if stream.broken:
            return None
        expected = headers.get(EXPECTED_HEADER)
        if expected is not None and int(expected) != stream.sequence_of(subject):
            return _refused(STALE, f"wrong last sequence: {stream.sequence_of(subject)}")
        message = stream.store(subject, data, headers)
        for observer in self.published:
            observer(subject, data, message)
        for consumer in tuple(self._consumers):
            if consumer.stream == stream.name and matches(consumer.pattern, subject):
                self._push(consumer, message)
        return {"stream": stream.name, "seq": message.sequence}

    def _deliver(self, subject: str, data: bytes, headers: Headers, sender: str) -> None:
        """Deliver a core message: it is not stored, and nothing repeats it."""
        for observer in self.published:
            observer(subject, data, None)
        faults, chance = self.faults, self.chance
        for client in tuple(self.clients):
            for subscription in client.matching(subject):
                if client.name != sender and chance.random() < faults.lost:
                    continue
                copies = 2 if chance.random() < faults.doubled else 1
                for _ in range(copies):
                    message = Msg(client.nats, subject, "", data, dict(headers))
                    client.receive(subscription, message, chance.random() * faults.late)

    def _push(self, consumer: _Consumer, message: StoredMessage) -> None:
        subscription = consumer.client.subscriptions.get(consumer.inbox)
        if subscription is None:
            return
        state, chance = consumer.stream == subjects.STATE_STREAM, self.chance
        if state and self.faults.lost and chance.random() < self.faults.lost / 4:
            return  # lost in the server: only the watermark shows it
        consumer.sequence += 1
        if self.faults.gap and chance.random() < self.faults.gap:
            return
        taken = Msg(consumer.client.nats, message.subject, _REPLY, message.data, dict(message.headers))
        sequence = _Sequence(consumer.sequence, message.sequence)
        taken._metadata = cast("Msg.Metadata", _Metadata(sequence, message.time))
        consumer.client.receive(subscription, taken)

    # --- requests

    def answer(self, subject: str, data: bytes, headers: Headers, client: "SimulatedClient") -> Reply | None:
        """Return the reply to a request; None if there is none."""
        if not subject.startswith("$JS.API."):
            return self.publish(subject, data, headers, client.name)
        match subject.removeprefix("$JS.API.").split("."):
            case ["CONSUMER", "CREATE", name, *_]:
                return self._consume(name, msgspec.json.decode(data)["config"], client)
            case ["STREAM", "CREATE", name]:
                self._created += 1
                created = f"{_rfc3339(self.wall())}.{self._created:09d}Z"
                stream = self.streams[name] = Stream(msgspec.json.decode(data), created, self.wall)
                return {"created": created, "config": stream.config}
            case ["STREAM", verb, name]:
                return self._stream(verb, name)
            case _:
                return _refused(400, f"{subject} is not simulated")

    def _stream(self, verb: str, name: str) -> Reply:
        """Answer a call about a stream: INFO, UPDATE, PURGE of nothing, or DELETE."""
        stream = self.streams.get(name)
        if stream is None:
            return _refused(NO_STREAM, "stream not found")
        if verb == "PURGE" and stream.broken:
            return _refused(PURGE_FAILED, "no space left on device")
        if verb == "DELETE":
            del self.streams[name]
            self._consumers = [c for c in self._consumers if c.stream != name]
        return {"created": stream.created, "config": stream.config}

    def _consume(self, name: str, config: Reply, client: "SimulatedClient") -> Reply:
        stream = self.streams.get(name)
        if stream is None:
            return _refused(NO_STREAM, "stream not found")
        consumer = _Consumer(name, config["filter_subject"], client, config["deliver_subject"])
        self._consumers.append(consumer)
        held = list(stream.matching(consumer.pattern))
        for message in held:
            self._push(consumer, message)
        return {"ts": f"{_rfc3339(self.wall())}.{int(self.wall() % 1 * 1e6):06d}Z", "num_pending": len(held)}

    async def send_heartbeats(self) -> None:
        """Send a heartbeat to every consumer, until cancelled."""
        while True:
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            for consumer in tuple(self._consumers):
                subscription = consumer.client.subscriptions.get(consumer.inbox)
                if subscription is None:
                    self._consumers.remove(consumer)
                elif self.up:
                    consumer.client.receive(subscription, Msg(consumer.client.nats, consumer.inbox))

    # --- connections

    def drop(self, client: "SimulatedClient") -> None:
        """End the connection of a client; its consumers get nothing any more."""
        self._consumers = [c for c in self._consumers if c.client is not client]

    def stop(self) -> None:
        """End the server: every connection breaks, and what is in memory is lost."""
        self.up, self._consumers = False, []
        self.streams = {name: stream for name, stream in self.streams.items() if not stream.in_memory}
        for client in tuple(self.clients):
            client.break_connection()

    def start(self) -> None:
        """Start the server again: clients reconnect, each a moment later."""
        self.up = True
        for client in tuple(self.clients):
            client.reconnect_after(self.chance.random() * 0.5)

    def wipe(self) -> None:
        """Lose the state stream, as when its folder is deleted; the server is restarted."""
        self.stop()
        self.streams.pop(subjects.STATE_STREAM, None)
        self.start()

    def roll_back(self) -> None:
        """Return to an older copy of the state stream, as when a volume is restored; the server is restarted."""
        self.stop()
        if subjects.STATE_STREAM in self.streams:
            self.streams[subjects.STATE_STREAM].roll_back()
        self.start()


def _refused(code: int, description: str) -> Reply:
    return {"error": {"err_code": code, "description": description}}


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%S")
