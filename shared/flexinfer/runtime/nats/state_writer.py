"""The state stream as its one writer, the watcher, uses it.

Each publish carries the sequence that the writer last saw for the subject, so that a second or late writer is
rejected (10071). The watermark is published while no publish is in flight, so that it never counts less or
more than what was acked. What to publish is decided in `flexinfer.watcher`; readers use `state_reader`.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import msgspec
from nats.errors import Error as NatsError

from flexinfer.api.services import STATE_KINDS
from flexinfer.events import events, subjects
from flexinfer.events.codec import StreamEntry
from flexinfer.events.events import StateEvent
from flexinfer.runtime.nats import codec
from flexinfer.runtime.nats.connection import Connection, NatsUnavailableError, StreamError
from flexinfer.runtime.nats.consumer import OrderedConsumer, ReplayRequiredError
from flexinfer.runtime.nats.state_reader import StateDigest

log = logging.getLogger(__name__)
_NO_STREAM = 10059
_NANO = 1_000_000_000
_ACK_SECONDS = 5.0
_RETRY_SECONDS = 0.25
_LIVE_SECONDS, _HISTORY_SECONDS = 30, 7 * 24 * 3600
_STORAGE: dict[str, dict[str, object]] = {
    subjects.STATE_STREAM: {"storage": "file", "max_msgs_per_subject": 1, "max_bytes": 1 << 30},
    subjects.LIVE_STREAM: {
        "storage": "memory",
        "max_msgs_per_subject": 1,
        "max_age": _LIVE_SECONDS * _NANO,
        "max_bytes": 1 << 26,
    },
    subjects.HISTORY_STREAM: {"storage": "file", "max_age": _HISTORY_SECONDS * _NANO, "max_bytes": 1 << 28},
    subjects.DEAD_STREAM: {"storage": "file", "max_age": _HISTORY_SECONDS * _NANO, "max_bytes": 1 << 26},
}


class StaleWriteError(Exception):
    """Another writer wrote the subject, or the stream is another one.

    Replay, compare, publish the difference.
    """


class _Ack(msgspec.Struct):
    class Error(msgspec.Struct):
        description: str = ""

    error: Error | None = None
    seq: int = 0


class StateStream:
    """Creates the streams, knows what the state stream holds, publishes what differs.

    `writer` is the watcher's own connection, `bootstrap` that of the identity which may create streams.
    `replicas` is set on streams that are created; one that exists keeps its number.
    """

    def __init__(self, writer: Connection, bootstrap: Connection, *, replicas: int = 1) -> None:
        self._writer, self._bootstrap, self._replicas = writer, bootstrap, replicas
        self.held: dict[str, StreamEntry] = {}  # subject -> what the stream holds
        self.created = ""
        self._digest = StateDigest()
        self._last = 0  # the highest sequence that was seen
        self._in_flight = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._exclusive_lock = asyncio.Lock()
        self._suspect = asyncio.Event()
        for connection in (writer, bootstrap):
            connection.notify(self._connection_changed)

    def _connection_changed(self, up: bool) -> None:  # noqa: FBT001 -- the value itself
        self._suspect.set()
        if not up:
            log.info("NATS is unavailable: the state stream is compared again after the reconnection")

    async def suspect(self) -> None:
        """Return when `held` may no longer be what the stream holds: `open` again, and compare."""
        await self._suspect.wait()

    def mark_suspect(self) -> None:
        """Declare that `held` may no longer be what the stream holds."""
        self._suspect.set()

    async def open(self) -> None:
        """Create missing streams and read back what the state stream holds; retries until NATS answers."""
        async with self._exclusive():
            while True:
                self._suspect.clear()
                try:
                    for name in subjects.STREAMS:
                        await self._ensure(name)
                    await self._replay()
                except (
                    ReplayRequiredError,
                    NatsUnavailableError,
                    StreamError,
                    NatsError,
                    TimeoutError,
                ) as error:
                    log.info("state stream not read: %s; retrying", error)
                    await asyncio.sleep(_RETRY_SECONDS)
                else:
                    return

    async def _ensure(self, name: str) -> None:
        config = {
            "name": name,
            "subjects": list(subjects.STREAMS[name]),
            "retention": "limits",
            "discard": "old",
            "num_replicas": self._replicas,
            **_STORAGE[name],
        }
        try:
            info = await self._bootstrap.api(f"STREAM.INFO.{name}")
        except StreamError as error:
            if error.code != _NO_STREAM:
                raise
            info = await self._bootstrap.api(f"STREAM.CREATE.{name}", config)
            log.info("created the stream %s", name)
        if name == subjects.STATE_STREAM:
            self.created = info.created

    async def _replay(self) -> None:
        self.held, self._digest, self._last = {}, StateDigest(), 0
        consumer = OrderedConsumer(self._writer, subjects.STATE_STREAM, f"{subjects.ROOT}.>")
        async with consumer.opened():
            if not consumer.pending:
                return
            async with asyncio.timeout(_ACK_SECONDS + consumer.pending / 1000):
                await self._read(consumer)

    async def _read(self, consumer: OrderedConsumer) -> None:
        left = consumer.pending
        async for message in consumer.messages():
            sequence = message.metadata.sequence.stream
            if subjects.kind_of(message.subject) in STATE_KINDS:
                deletion = codec.DELETED_HEADER in (message.headers or {})
                self._hold(message.subject, sequence, None if deletion else message.data)
            self._last = max(self._last, sequence)
            left -= 1
            if left <= 0:
                return

    def _hold(self, subject: str, sequence: int, body: bytes | None) -> None:
        self.held[subject] = StreamEntry(sequence, body)
        self._last = max(self._last, sequence)
        self._digest.take(subject, sequence, deletion=body is None)

    async def publish(self, event: StateEvent) -> bool:
        """Publish an event unless the stream holds it; returns whether it was published.

        Raises StaleWriteError if the stream is not as it was last seen, NatsUnavailableError without an ack:
        the event may or may not have been stored.
        """
        subject = subjects.subject_of(event)
        data = codec.encode(event)
        body = None if isinstance(event, events.DELETIONS) else data
        while self._exclusive_lock.locked():  # a replay, or the watermark
            async with self._exclusive_lock:
                pass
        entry = self.held.get(subject)
        if (entry.body if entry is not None else None) == body:
            return False
        self._in_flight += 1
        self._quiet.clear()
        try:
            expected = str(entry.sequence if entry else 0)
            headers = codec.headers(event) | {"Nats-Expected-Last-Subject-Sequence": expected}
            sequence = await self._store(subject, data, headers)
            self._hold(subject, sequence, body)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._quiet.set()
        return True

    async def _store(self, subject: str, body: bytes, headers: dict[str, str]) -> int:
        """Publish and return the sequence of the ack. Raises StaleWriteError, NatsUnavailableError."""
        try:
            reply = await self._writer.request(subject, body, seconds=_ACK_SECONDS, headers=headers)
        except (NatsError, TimeoutError, OSError) as error:
            self._suspect.set()
            raise NatsUnavailableError(f"{subject}: {type(error).__name__}") from error
        ack = msgspec.json.decode(reply.data, type=_Ack)
        if ack.error is not None:
            self._suspect.set()
            raise StaleWriteError(f"{subject}: {ack.error.description}")
        return ack.seq

    async def watermark(self) -> None:
        """Publish what a reader must have read by now. Raises StaleWriteError, NatsUnavailableError."""
        async with self._exclusive():
            watermark = events.Watermark(
                stream_created=self.created, counts=self._digest.counts, sums=self._digest.sums
            )
            subject, body = subjects.subject_of(watermark), codec.encode(watermark)
            sequence = await self._store(subject, body, codec.headers(watermark))
            if sequence != self._last + 1:
                self._suspect.set()  # rolled back, created again, or written by another
            self._last = sequence

    @contextlib.asynccontextmanager
    async def _exclusive(self) -> AsyncIterator[None]:
        """Hold new publishes back, and wait for those in flight."""
        async with self._exclusive_lock:
            await self._quiet.wait()
            yield


__all__ = ["StaleWriteError", "StateStream"]
