"""NATS as every component but the watcher uses it: what the streams hold, then what is published.

No queue of work: a start replays the last event of every subject, a reconnection is a replay too, and nothing
is acked. A snapshot is delivered only once the watermark confirms that it is complete. Publishing is best
effort: while NATS is unavailable an event is dropped, because a late observation is worse than none, and the
API server has the current state. What the live stream keeps is in no other place: its publisher learns whether the
stream has it, since the stream may not exist yet. Who writes the state stream is `state_writer`.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from flexinfer.api.services import STATE_KINDS
from flexinfer.events import codec, events, subjects
from flexinfer.events.events import AnyEvent
from flexinfer.runtime.clock import monotonic
from flexinfer.runtime.mailbox import Mailbox
from flexinfer.runtime.nats import message_headers
from flexinfer.runtime.nats.connection import ApiReply, Connection, NatsUnavailableError, StreamError
from flexinfer.runtime.nats.consumer import OrderedConsumer, ReplayRequiredError, ServerClock, read
from flexinfer.runtime.nats.state_digest import StateDigest
from flexinfer.runtime.readiness import ProblemReporter, no_reporter
from flexinfer.runtime.runtime import CaughtUp, Delivery, Disconnected, Replaying, Snapshot, Subscriptions
from flexinfer.state.observed import Observation

log = logging.getLogger(__name__)
_BACK_OFF_SECONDS = 0.1
_LONGEST_BACK_OFF_SECONDS = 2.0
_WATERMARK_SECONDS = 20.0
"""How long no watermark may match before everything is read again.

The watcher publishes one every few seconds.
"""
_STORE_SECONDS = 1.0
"""How long a publisher waits to be told that the live stream has stored its event."""
_NOT_PLAIN = re.compile(r"[^ -~]")
"""What may not appear in a header: a reason quotes the message that it is about."""
_READ_ERRORS = (ReplayRequiredError, NatsUnavailableError, StreamError, NatsError)


class NatsBus:
    """`runtime.Bus` on a NATS connection; `report_problem` is called while no replay ends, and when one has."""

    def __init__(self, connection: Connection, report_problem: ProblemReporter = no_reporter) -> None:
        self._connection, self._report_problem = connection, report_problem
        self._matched_at: float | None = None
        self._catch_up_request = asyncio.Event()

    def catch_up(self) -> None:
        """Ask for a CaughtUp."""
        self._catch_up_request.set()

    def matched(self) -> None:
        """Note that a watermark matched: the reader has everything."""
        self._matched_at = monotonic()
        self._report_problem("watermark", None)

    async def publish(self, event: AnyEvent) -> bool:
        """Publish an event; drops it while NATS is unavailable. Returns whether NATS has taken it (see `runtime.Bus`)."""
        if not self._connection.up:
            return False
        subject, body, headers = (
            subjects.subject_of(event),
            codec.encode(event),
            message_headers.of_event(event),
        )
        with contextlib.suppress(NatsError, OSError, TimeoutError, msgspec.MsgspecError):
            if subjects.kind_of(subject) in subjects.LIVE_KINDS:
                return await self._stored(subject, body, headers)
            await self._connection.client.publish(subject, body, headers=headers)
            return True
        return False

    async def _stored(self, subject: str, body: bytes, headers: dict[str, str]) -> bool:
        """Publish to a stream, and tell whether it has stored the event.

        Raises NatsError (NoRespondersError without the stream), TimeoutError, OSError, msgspec.DecodeError.
        """
        reply = await self._connection.request(subject, body, seconds=_STORE_SECONDS, headers=headers)
        return msgspec.json.decode(reply.data, type=ApiReply).error is None

    async def hints(self, kind: str, name: str) -> AsyncIterator[AnyEvent]:
        """Yield hints; nats-py subscribes again by itself when it reconnects. What is no such event is left out."""
        subject, queue = f"{subjects.ROOT}.{kind}.{subjects.encode(name)}", Mailbox[Msg]()

        async def take(message: Msg) -> None:
            queue.put(message)

        with contextlib.suppress(NatsError, OSError):  # of a client that is being closed
            await self._connection.client.subscribe(subject, cb=take)
        while True:
            message = await queue.get()
            with contextlib.suppress(codec.UndecodableError):
                yield codec.decode(message.data)

    async def deliveries(self, subscriptions: Subscriptions) -> AsyncIterator[Delivery]:
        """Yield a Snapshot, then what arrives.

        Disconnected while NATS is unavailable, Replaying if a message may be missing; then again a Snapshot.
        """
        back_off = _BACK_OFF_SECONDS
        while True:
            queue: Mailbox[Delivery | Exception] = Mailbox()
            try:
                async with _Session(
                    self._connection, subscriptions, queue, self.matched, self._catch_up_request
                ).opened():
                    while True:
                        item = await queue.get()
                        if isinstance(item, Exception):
                            raise item
                        back_off = _BACK_OFF_SECONDS
                        yield item
            except _READ_ERRORS as error:
                log.info("replaying the streams: %s", error)
                self._report_problem("watermark", f"reading the state stream: {error}", self._matched_at)
                yield Replaying() if self._connection.up else Disconnected()
            await asyncio.sleep(back_off)
            back_off = min(2 * back_off, _LONGEST_BACK_OFF_SECONDS)


class _Behind(msgspec.Struct):
    """How many consumers have not passed on yet what they had, and what is delivered then."""

    consumers: int
    then: CaughtUp


class _Session:
    """One replay and what follows it, until a message may be missing: that error ends up in the queue."""

    def __init__(
        self,
        connection: Connection,
        subscriptions: Subscriptions,
        queue: Mailbox[Delivery | Exception],
        on_match: Callable[[], None],
        catch_up_request: asyncio.Event,
    ) -> None:
        self._matched, self._catch_up_request = on_match, catch_up_request
        self._clock = ServerClock()
        self._connection, self._subscriptions, self._queue = connection, subscriptions, queue
        self._digest = StateDigest()
        self._replayed: list[Observation] | None = []  # None: the replay is complete
        self._latest: dict[str, Observation] = {}
        self._created = ""
        self._matched_at = monotonic()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Subscribe to everything; deliveries and errors arrive in the queue."""
        async with contextlib.AsyncExitStack() as stack:
            hints = []
            for pattern in self._hint_patterns():
                hints.append(await self._connection.client.subscribe(pattern, cb=self._hint))
                stack.push_async_callback(_unsubscribe, hints[-1])
            live = [await self._consumer(stack, prefix) for prefix in self._subscriptions.live]
            state = OrderedConsumer(
                self._connection, subjects.STATE_STREAM, f"{subjects.ROOT}.>", clock=self._clock
            )
            await stack.enter_async_context(state.opened())
            readers = [*map(self._read_live, live), self._read_state(state), self._expect_watermarks()]
            readers.append(self._catch_up([*live, state], hints))
            tasks = [asyncio.create_task(self._guard(reader)) for reader in readers]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _consumer(self, stack: contextlib.AsyncExitStack, prefix: str) -> OrderedConsumer:
        pattern = f"{subjects.ROOT}.{prefix}.>"
        consumer = OrderedConsumer(
            self._connection, subjects.LIVE_STREAM, pattern, last_only=True, clock=self._clock
        )
        return await stack.enter_async_context(consumer.opened())

    def _hint_patterns(self) -> list[str]:
        hints = [f"{subjects.ROOT}.{hint}.>" for hint in self._subscriptions.hints]
        return hints + [f"{subjects.ROOT}.changed.{owner}.>" for owner in self._subscriptions.changed]

    async def _guard(self, reader: Coroutine[object, object, None]) -> None:
        try:
            await reader
        except _READ_ERRORS as error:
            self._queue.put(error)

    async def _hint(self, message: Msg) -> None:
        await self._deliver(message, 0.0)

    async def _read_live(self, consumer: OrderedConsumer) -> None:
        async for message in consumer.messages():
            await self._deliver(message, consumer.age(message.metadata.timestamp))

    async def _read_state(self, consumer: OrderedConsumer) -> None:
        async for message in consumer.messages():
            kind = subjects.kind_of(message.subject)
            if kind == "watermark":
                if not consumer.is_replayed():
                    self._clock.read(message.metadata.timestamp)
                await self._compare(message)
            elif kind in STATE_KINDS:
                deletion = message_headers.DELETED in (message.headers or {})
                self._digest.take(message.subject, message.metadata.sequence.stream, deletion=deletion)
                if kind in self._subscriptions.state:
                    await self._deliver(message, consumer.age(message.metadata.timestamp))

    async def _expect_watermarks(self) -> None:
        while True:
            await asyncio.sleep(_WATERMARK_SECONDS / 4)
            if monotonic() - self._matched_at > _WATERMARK_SECONDS:
                raise ReplayRequiredError(f"no matching watermark for {_WATERMARK_SECONDS:.0f} s")

    async def _catch_up(self, consumers: Sequence[OrderedConsumer], hints: Sequence[Subscription]) -> None:
        """Answer each `catch_up`: what the server had sent before its answer to a PING is passed on before the CaughtUp.

        A connection keeps its order, so nothing that waited for this process, however long it was paused, is behind it.
        """
        while True:
            await self._catch_up_request.wait()
            self._catch_up_request.clear()
            behind = _Behind(len(consumers), CaughtUp(monotonic()))
            await self._connection.round_trip()
            for hint in hints:
                await read(hint)
            for consumer in consumers:
                await consumer.after_all(partial(self._passed, behind))

    def _passed(self, behind: _Behind) -> None:
        """Note that another consumer has passed on what it had."""
        behind.consumers -= 1
        if not behind.consumers and self._replayed is None:
            self._queue.put(behind.then)

    async def _compare(self, message: Msg) -> None:
        watermark = await self._event(message)
        if not isinstance(watermark, events.Watermark):
            return
        if self._created and watermark.stream_created != self._created:
            raise ReplayRequiredError("the state stream was created again")
        if self._digest.matches(watermark):
            self._created, self._matched_at = watermark.stream_created, monotonic()
            self._matched()
            self._complete()
        elif self._replayed is None:
            raise ReplayRequiredError("the watermark counts events that never arrived")

    def _complete(self) -> None:
        """End the replay: only the last event of each subject counts."""
        if self._replayed is not None:
            self._queue.put(Snapshot([*self._latest.values(), *self._replayed]))
            self._replayed, self._latest = None, {}

    async def _event(self, message: Msg) -> AnyEvent | None:
        """Return the event of a message; None, and a dead letter, for one that is none or is about something else."""
        try:
            event = codec.decode(message.data)
            if subjects.subject_of(event) == message.subject:
                return event
            reason = f"{type(event).__name__} is about {subjects.subject_of(event)}"
        except (codec.UndecodableError, TypeError) as error:
            reason = str(error)
        await self._dead_letter(message, reason)
        return None

    async def _deliver(self, message: Msg, age: float) -> None:
        event = await self._event(message)
        if event is None:
            return
        observation = Observation(event, monotonic() - age)
        if self._replayed is None:
            self._queue.put(observation)
        elif subjects.kind_of(message.subject) in STATE_KINDS:
            self._latest[message.subject] = observation
        else:
            self._replayed.append(observation)

    async def _dead_letter(self, message: Msg, reason: str) -> None:
        """Publish a message that cannot be used on its dead-letter subject."""
        reason = _NOT_PLAIN.sub("?", reason)[:200]
        log.warning("message on %s not used: %s", message.subject, reason)
        subject = f"{subjects.ROOT}.dead.{message.subject.removeprefix(subjects.ROOT + '.')}"
        with contextlib.suppress(NatsError, OSError):
            await self._connection.client.publish(subject, message.data, headers={"Flexinfer-Reason": reason})


async def _unsubscribe(subscription: Subscription) -> None:
    with contextlib.suppress(NatsError, OSError, asyncio.TimeoutError):
        await subscription.unsubscribe()
