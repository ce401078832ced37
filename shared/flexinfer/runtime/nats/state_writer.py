"""The state stream as its one writer sees it: the watcher publishes here, and nobody else.

Each publish carries the sequence that its writer last knew for the subject, so a second or belated writer is refused (10071).
The watermark is told while no publish is under way, so that it never names less or more than what was acked.
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
from flexinfer.runtime.nats.consumer import OrderedConsumer
from flexinfer.runtime.nats.state_reader import StateDigest

log = logging.getLogger(__name__)
STALE_WRITER, NO_STREAM = 10071, 10059
_NANO = 1_000_000_000
_ACK_SECONDS = 5.0
_BOOTSTRAP_PAUSE = 0.25
_LIVE_SECONDS, _HISTORY_SECONDS = 30, 7 * 24 * 3600
_STORAGE = {
    subjects.STATE_STREAM: {"storage": "file", "max_msgs_per_subject": 1},
    subjects.LIVE_STREAM: {
        "storage": "memory",
        "max_msgs_per_subject": 1,
        "max_age": _LIVE_SECONDS * _NANO,
    },
    subjects.HISTORY_STREAM: {"storage": "file", "max_age": _HISTORY_SECONDS * _NANO},
    subjects.DEAD_STREAM: {"storage": "file", "max_age": _HISTORY_SECONDS * _NANO},
}
_LIMITS = {
    subjects.STATE_STREAM: 1 << 30,
    subjects.LIVE_STREAM: 1 << 26,
    subjects.HISTORY_STREAM: 1 << 28,
    subjects.DEAD_STREAM: 1 << 26,
}


class StaleWriteError(Exception):
    """Somebody else wrote the subject, or the stream is another one: replay, compare, publish the difference."""


class StateStream:
    """Ensures the streams, knows what they hold, publishes what differs.

    `writer` is the watcher's own connection, `bootstrap` the identity that may make streams. `replicas` is what new streams get: one
    that exists keeps the number that it was made with.
    """

    def __init__(self, writer: Connection, bootstrap: Connection, *, replicas: int = 1) -> None:
        self._writer, self._bootstrap, self._replicas = writer, bootstrap, replicas
        self.held: dict[str, StreamEntry] = {}  # subject -> what the stream holds
        self.created = ""
        self._marks = StateDigest()
        self._last = 0  # the highest sequence that we know of
        self._under_way = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._open = asyncio.Lock()
        self._doubt = asyncio.Event()
        for connection in (writer, bootstrap):
            connection.notify(self._connection_changed)

    def _connection_changed(self, up: bool) -> None:  # noqa: FBT001 -- the fact itself
        self._doubt.set()
        if not up:
            log.info("the state stream is in doubt")

    async def doubted(self) -> None:
        """Return when what is held may no longer be true: `open` again, and compare."""
        await self._doubt.wait()

    def doubt(self) -> None:
        """Say that what is held may no longer be true."""
        self._doubt.set()

    async def open(self) -> None:
        """Make streams that are missing and read back what the state stream holds; waits for NATS."""
        async with self._exclusive():
            while True:
                self._doubt.clear()
                try:
                    await self._ensure()
                    await self._replay()
                except (NatsUnavailableError, StreamError, NatsError, TimeoutError) as error:
                    log.info("state stream: %s", error)
                    await asyncio.sleep(_BOOTSTRAP_PAUSE)
                else:
                    return

    async def _ensure(self) -> None:
        for name, patterns in subjects.STREAMS.items():
            config = {
                "name": name,
                "subjects": list(patterns),
                "retention": "limits",
                "discard": "old",
                "num_replicas": self._replicas,
                "max_bytes": _LIMITS[name],
                **_STORAGE[name],
            }
            try:
                info = await self._bootstrap.api(f"STREAM.INFO.{name}")
            except StreamError as error:
                if error.code != NO_STREAM:
                    raise
                info = await self._bootstrap.api(f"STREAM.CREATE.{name}", config)
                log.info("made the stream %s", name)
            if name == subjects.STATE_STREAM:
                self.created = info["created"]

    async def _replay(self) -> None:
        self.held, self._marks, self._last = {}, StateDigest(), 0
        async with OrderedConsumer(
            self._writer, subjects.STATE_STREAM, f"{subjects.ROOT}.>"
        ).opened() as reading:
            left = reading.pending
            if not left:
                return
            async with asyncio.timeout(_ACK_SECONDS + left / 1000):
                async for message in reading.messages():
                    if subjects.kind_of(message.subject) in STATE_KINDS:
                        deletion = codec.DELETED_HEADER in (message.headers or {})
                        body = None if deletion else message.data
                        self._hold(message.subject, message.metadata.sequence.stream, body)
                    self._last = max(self._last, message.metadata.sequence.stream)
                    left -= 1
                    if left <= 0:
                        return

    def _hold(self, subject: str, sequence: int, body: bytes | None) -> None:
        self.held[subject] = StreamEntry(sequence, body)
        self._last = max(self._last, sequence)
        self._marks.take(subject, sequence, deletion=body is None)

    async def publish(self, event: StateEvent) -> bool:
        """Publish a fact unless the stream holds it already; returns whether it was published.

        StaleWriteError: the stream is not what it was. BusAwayError: no answer; the fact may or may not be there.
        """
        subject = subjects.subject_of(event)
        deletion = isinstance(event, events.DELETIONS)
        body = codec.encode(event)
        while self._open.locked():  # a replay, or the watermark
            async with self._open:
                pass
        known = self.held.get(subject)
        if known is not None and (known.body is None if deletion else known.body == body):
            return False
        if known is None and deletion:
            return False
        self._under_way += 1
        self._quiet.clear()
        try:
            sequence = await self._send(subject, body, event, known.sequence if known else 0)
            self._hold(subject, sequence, None if deletion else body)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._quiet.set()
        return True

    async def _send(self, subject: str, body: bytes, event: StateEvent, expected: int) -> int:
        headers = codec.headers(event) | {"Nats-Expected-Last-Subject-Sequence": str(expected)}
        return await self._store(subject, body, headers)

    async def _store(self, subject: str, body: bytes, headers: dict[str, str]) -> int:
        try:
            reply = await self._writer.request(subject, body, patience=_ACK_SECONDS, headers=headers)
        except (NatsError, TimeoutError, OSError) as error:
            self._doubt.set()
            raise NatsUnavailableError(f"{subject}: {type(error).__name__}") from error
        answer = msgspec.json.decode(reply.data)
        if "error" in answer:
            self._doubt.set()
            raise StaleWriteError(f"{subject}: {answer['error'].get('description', '')}")
        return int(answer["seq"])

    async def watermark(self) -> None:
        """Tell what a reader must hold by now."""
        async with self._exclusive():
            mark = events.Watermark(
                stream_created=self.created, counts=self._marks.counts, sums=self._marks.sums
            )
            subject, body = subjects.subject_of(mark), codec.encode(mark)
            sequence = await self._store(subject, body, codec.headers(mark))
            if sequence != self._last + 1:
                self._doubt.set()  # rolled back, made anew, or written by somebody else
            self._last = sequence

    @contextlib.asynccontextmanager
    async def _exclusive(self) -> AsyncIterator[None]:
        """Hold off publishes, and wait for those under way."""
        async with self._open:
            await self._quiet.wait()
            yield


__all__ = ["STALE_WRITER", "StaleWriteError", "StateStream", "StreamEntry"]
