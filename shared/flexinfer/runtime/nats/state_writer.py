"""The state stream as its one writer, the watcher, uses it.

Each publish carries the sequence that the writer last saw for the subject, so that a second or late writer is
rejected (10071). The watermark is published while no publish is in flight, so that it never counts less or
more than what was acked. Deletions expire: a new reader needs none, and no watermark counts them. What to publish is decided in `flexinfer.watcher`; readers use `state_reader`.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import msgspec
from nats.errors import Error as NatsError

from flexinfer.api.services import STATE_KINDS
from flexinfer.events import codec, events, subjects
from flexinfer.events.codec import StreamEntry
from flexinfer.events.events import StateEvent
from flexinfer.runtime.clock import monotonic
from flexinfer.runtime.nats import message_headers
from flexinfer.runtime.nats.connection import Connection, NatsUnavailableError, StreamError
from flexinfer.runtime.nats.consumer import OrderedConsumer, ReplayRequiredError
from flexinfer.runtime.nats.state_digest import StateDigest
from flexinfer.runtime.nats.streams import Streams
from flexinfer.runtime.readiness import ProblemReporter, no_reporter

log = logging.getLogger(__name__)
_ACK_SECONDS = 5.0
_RETRY_SECONDS = 0.25
_UNREAD = (ReplayRequiredError, NatsUnavailableError, StreamError, NatsError, TimeoutError)
_DELETION_SECONDS = 3600
"""For how long the stream keeps a deletion: far longer than any reader may lag behind."""


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
    `replicas` is set on streams that are created; one that exists keeps its number. `report_problem` is called
    while NATS does not store, and when it does again.
    """

    def __init__(
        self,
        writer: Connection,
        bootstrap: Connection,
        *,
        replicas: int = 1,
        report_problem: ProblemReporter = no_reporter,
        deletion_seconds: int = _DELETION_SECONDS,
    ) -> None:
        self._writer, self._streams = writer, Streams(bootstrap, replicas)
        self._report_problem, self._deletion_seconds = report_problem, deletion_seconds
        self.held: dict[str, StreamEntry] = {}  # subject -> what the stream holds
        self.created = ""
        self._digest = StateDigest()
        self._last = 0  # the highest sequence that was seen
        self._watermark_sequence = 0
        self._deletions_expire = False
        self._unanswered_since: float | None = None
        self._trouble = ""
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
                    if self._unanswered_since is not None and self._writer.up:
                        await self._delete_if_broken()
                    state = await self._streams.ensure()
                    self.created, self._deletions_expire = state.created, state.deletions_expire
                    await self._replay()
                except _UNREAD as error:
                    self._report(
                        f"the state stream cannot be opened on NATS: {str(error) or type(error).__name__}"
                    )
                    await asyncio.sleep(_RETRY_SECONDS)
                else:
                    return

    async def _delete_if_broken(self) -> None:
        """Delete the state stream if the server cannot store into it any more, to be created again."""
        error = await self._streams.storage_error()
        if error:
            self._report(
                f"NATS cannot store messages: {error}; make room on its disk, or else restart nats-server"
            )
            await self._streams.delete_state()

    def _report(self, trouble: str) -> None:
        """Report what keeps the stream from being written, and log it once."""
        self._report_problem("storage", trouble, self._unanswered_since)
        log.log(logging.DEBUG if trouble == self._trouble else logging.WARNING, "%s; retrying", trouble)
        self._trouble = trouble

    def _stored(self) -> None:
        """Note that the server has stored a message."""
        self._unanswered_since = None
        if self._trouble:
            log.info("NATS stores the state stream again")
            self._trouble = ""
        self._report_problem("storage", None)

    async def _replay(self) -> None:
        self.held, self._digest, self._last, self._watermark_sequence = {}, StateDigest(), 0, 0
        consumer = OrderedConsumer(self._writer, subjects.STATE_STREAM, f"{subjects.ROOT}.>")
        async with consumer.opened():
            if not consumer.pending:
                return
            async with asyncio.timeout(_ACK_SECONDS + consumer.pending / 1000):
                await self._read(consumer)

    async def _read(self, consumer: OrderedConsumer) -> None:
        remaining = consumer.pending
        async for message in consumer.messages():
            sequence = message.metadata.sequence.stream
            if subjects.kind_of(message.subject) in STATE_KINDS:
                deletion = message_headers.DELETED in (message.headers or {})
                self._hold(message.subject, sequence, None if deletion else message.data)
            else:
                self._watermark_sequence = sequence
            self._last = max(self._last, sequence)
            remaining -= 1
            if remaining <= 0:
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
            headers = message_headers.of_event(event)
            if body is None and self._deletions_expire:
                headers[message_headers.EXPIRY] = str(self._deletion_seconds)
            sequence = await self._store(subject, data, headers, entry.sequence if entry else 0)
            self._hold(subject, sequence, body)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._quiet.set()
        return True

    async def _store(self, subject: str, body: bytes, headers: dict[str, str], expected_sequence: int) -> int:
        """Publish and return the sequence of the ack.

        `expected_sequence` is the sequence of the subject's last message, 0 for none. Raises StaleWriteError if it is another,
        also because a deletion has expired since; NatsUnavailableError.
        """
        headers |= {message_headers.EXPECTED: str(expected_sequence)}
        try:
            reply = await self._writer.request(subject, body, seconds=_ACK_SECONDS, headers=headers)
        except (NatsError, TimeoutError, OSError) as error:
            self._suspect.set()
            if isinstance(error, TimeoutError) and self._writer.up:
                self._unanswered()
            raise NatsUnavailableError(f"{subject}: {type(error).__name__}") from error
        ack = msgspec.json.decode(reply.data, type=_Ack)
        if ack.error is not None:
            self._suspect.set()
            raise StaleWriteError(f"{subject}: {ack.error.description}")
        self._stored()
        return ack.seq

    def _unanswered(self) -> None:
        """Note that the server did not answer a publish although it is connected."""
        if self._unanswered_since is None:
            self._unanswered_since = monotonic() - _ACK_SECONDS
        if not self._trouble:
            self._report("NATS does not acknowledge what is published to the state stream")

    async def watermark(self) -> None:
        """Publish what a reader must have read by now. Raises StaleWriteError, NatsUnavailableError."""
        async with self._exclusive():
            watermark = events.Watermark(
                stream_created=self.created, counts=self._digest.counts, sums=self._digest.sums
            )
            subject, body = subjects.subject_of(watermark), codec.encode(watermark)
            headers = message_headers.of_event(watermark)
            sequence = await self._store(subject, body, headers, self._watermark_sequence)
            if sequence != self._last + 1:
                self._suspect.set()  # rolled back, created again, or written by another
            self._last = self._watermark_sequence = sequence

    @contextlib.asynccontextmanager
    async def _exclusive(self) -> AsyncIterator[None]:
        """Hold new publishes back, and wait for those in flight."""
        async with self._exclusive_lock:
            await self._quiet.wait()
            yield


__all__ = ["StaleWriteError", "StateStream"]
