"""One consumer of a stream, read in order from its beginning, that notices when it may have missed a message.

An ephemeral push consumer without acks. nats-py's own ordered consumer delivers nothing for seconds after a
restart of the server, and never again after a store was rolled back. Here a gap in the consumer's sequence,
missing heartbeats or a reconnection end the reading with ReplayRequiredError. It does not replay: the caller
starts again from the beginning.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from flexinfer.runtime.clock import monotonic
from flexinfer.runtime.mailbox import Mailbox
from flexinfer.runtime.nats.connection import Connection, NatsUnavailableError, server_time

HEARTBEAT_SECONDS = 2.0
_SILENCE_SECONDS = 2.5 * HEARTBEAT_SECONDS
_INACTIVE_SECONDS = 30
_TOLERANCE_SECONDS = 1.0
UNKNOWN_AGE_SECONDS = 30.0
"""The age of a replayed message that the server stamped before its clock was put back: all that FI_LIVE keeps."""
_NANO = 1_000_000_000


async def read(subscription: Subscription) -> None:
    """Wait until the callback has taken everything that the client has received for a subscription."""
    while subscription.pending_msgs:  # noqa: ASYNC110 -- nats-py has no event for it
        await asyncio.sleep(0)


class ReplayRequiredError(Exception):
    """Messages may have been missed: read again from the beginning."""


class ServerClock:
    """The server's wall clock as seen from here: its distance to our monotonic clock, taken again and again."""

    def __init__(self) -> None:
        self._offset = 0.0

    def read(self, stamp: datetime) -> None:
        """Take the server's time of this moment, or of a message that was just stored."""
        self._offset = stamp.timestamp() - monotonic()

    def age(self, stored_at: datetime) -> float:
        """Return how long ago a message was stored, by the server's clock; negative if that was put back since."""
        return monotonic() + self._offset - stored_at.timestamp()


class OrderedConsumer:
    """The messages of a stream that match a pattern, in order.

    Of each subject the last one only, if `last_only`.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        pattern: str,
        *,
        last_only: bool = False,
        clock: ServerClock | None = None,
    ) -> None:
        self._connection, self._stream, self._pattern = connection, stream, pattern
        self._policy = "last_per_subject" if last_only else "all"
        self._queue: Mailbox[Msg | Exception | Callable[[], None]] = Mailbox()
        self._subscription: Subscription | None = None
        self._next = 1
        self._clock = ServerClock() if clock is None else clock
        self._received_at = self._former_at = monotonic()
        self._loop = asyncio.get_running_loop()
        self._waits_since: float | None = None
        """Since when the reader waits for a message, by the loop's clock."""
        self.pending = 0
        """How many messages the stream held when the consumer was created."""

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator["OrderedConsumer"]:
        """Create the consumer and subscribe. Raises NatsUnavailableError or StreamError."""
        client = self._connection.client
        inbox = client.new_inbox()
        name = f"{self._connection.name}-{secrets.token_hex(4)}"

        async def enqueue(message: Msg) -> None:
            self._queue.put(message)

        remove = self._connection.notify(
            lambda up: self._queue.put(ReplayRequiredError("reconnected" if up else "disconnected"))
        )
        try:
            subscription = self._subscription = await client.subscribe(inbox, cb=enqueue)
        except (NatsError, OSError) as error:
            remove()
            raise NatsUnavailableError(str(error)) from error
        try:
            await self._create(name, inbox)
            yield self
        finally:
            remove()
            with contextlib.suppress(NatsError, OSError, asyncio.TimeoutError):
                await subscription.unsubscribe()

    async def _create(self, name: str, inbox: str) -> None:
        config = {
            "name": name,
            "deliver_subject": inbox,
            "deliver_policy": self._policy,
            "ack_policy": "none",
            "max_deliver": 1,
            "replay_policy": "instant",
            "filter_subject": self._pattern,
            "idle_heartbeat": int(HEARTBEAT_SECONDS * _NANO),
            "inactive_threshold": _INACTIVE_SECONDS * _NANO,
            "mem_storage": True,
            "num_replicas": 1,
        }
        subject = f"CONSUMER.CREATE.{self._stream}.{name}.{self._pattern}"
        reply = await self._connection.api(subject, {"stream_name": self._stream, "config": config})
        if reply.ts:
            self._clock.read(server_time(reply.ts))
        self.pending = reply.num_pending + int(reply.delivered.get("consumer_seq", 0))

    async def messages(self) -> AsyncIterator[Msg]:
        """Yield messages in order; what `after_all` was given is called in its place among them.

        Raises ReplayRequiredError if one is missing, heartbeats stop or the connection breaks.
        """
        with self._silence_noticed():
            while True:
                self._waits_since = self._loop.time()
                item = await self._queue.get()
                self._waits_since = None
                if isinstance(item, Exception):
                    raise item
                if callable(item):
                    item()
                    continue
                self._former_at, self._received_at = self._received_at, monotonic()
                if not item.reply.startswith("$JS.ACK."):
                    continue  # a heartbeat
                sequence = item.metadata.sequence.consumer
                if sequence != self._next:
                    raise ReplayRequiredError(f"expected message {self._next}, received {sequence}")
                self._next += 1
                yield item

    @contextlib.contextmanager
    def _silence_noticed(self) -> Iterator[None]:
        """Have the reading end when nothing arrives for too long.

        One timer looks now and then: a timeout for each message would cost as much as the message.
        """
        self._timer = self._loop.call_later(_SILENCE_SECONDS, self._notice_silence)
        try:
            yield
        finally:
            self._timer.cancel()

    def _notice_silence(self) -> None:
        """End the reading if it has waited for too long, else look again when it will have."""
        since, now = self._waits_since, self._loop.time()
        end = (now if since is None else since) + _SILENCE_SECONDS
        if end <= now:
            self._queue.put(ReplayRequiredError(f"no heartbeat for {_SILENCE_SECONDS:.0f} s"))
        else:
            self._timer = self._loop.call_at(end, self._notice_silence)

    async def after_all(self, call: Callable[[], None]) -> None:
        """Have something called once all messages that this process has received were yielded and worked on."""
        if self._subscription is not None:
            await read(self._subscription)
        self._queue.put(call)

    def is_replayed(self) -> bool:
        """Return whether the message last received was stored before the consumer was created."""
        return self._next - 1 <= self.pending

    def age(self, stored_at: datetime) -> float:
        """Return how long ago the message last received was stored, in seconds, whatever the server's clock did.

        The server stamps messages by its wall clock, which may be set. A message that arrives live was stored after
        the one before it arrived, a heartbeat included, give or take what may be delayed on the way: its age never
        exceeds that, by however much the clock was put back (-1 h would make all messages an hour old), and is never
        negative (+1 h). A replayed message from the server's future was stored before its clock was put back, an
        unknown time ago: it counts as old, so that a silent agent or proxy does not seem to have just published. One
        from before the clock was put forward looks older than it is, which is the safe side too; a live agent or
        proxy publishes again within seconds.
        """
        age = self._clock.age(stored_at)
        if self.is_replayed():
            return age if age >= 0 else 0.0 if age > -_TOLERANCE_SECONDS else UNKNOWN_AGE_SECONDS
        return max(0.0, min(age, self._received_at - self._former_at + _SILENCE_SECONDS))
