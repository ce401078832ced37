"""NatsBus: the bus as every service but the watcher sees it.

It is a memory, not a queue: a boot replays the last fact of every subject, a reconnection is a small boot, and nothing is acked. A
snapshot is handed over only once the watermark says that it is whole. What somebody tells is best effort: when NATS is away it is dropped, because
a fact told late is worse than none, and the API server has the truth.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from flexinfer.api.services import STATE_KINDS
from flexinfer.events import events, subjects
from flexinfer.events.events import AnyEvent
from flexinfer.runtime.nats import codec
from flexinfer.runtime.nats.connection import Connection, NatsUnavailableError, StreamError
from flexinfer.runtime.nats.consumer import OrderedConsumer, ReplayRequiredError
from flexinfer.runtime.runtime import Delivery, Disconnected, Snapshot, Subscriptions
from flexinfer.state.apply import digest
from flexinfer.state.observed import Observation

log = logging.getLogger(__name__)
_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE = 2.0
_UNEQUAL_SECONDS = 20.0
_MODULUS = 1 << 64


class StateDigest:
    """The sums that a watermark is compared with, kept from message metadata alone."""

    def __init__(self) -> None:
        self._marks: dict[str, int] = {}
        self.counts = dict.fromkeys(STATE_KINDS, 0)
        self.sums = dict.fromkeys(STATE_KINDS, 0)

    def take(self, subject: str, sequence: int, *, deletion: bool) -> None:
        """Note the last message of a subject."""
        kind = subjects.kind_of(subject)
        former = self._marks.pop(subject, None)
        if former is not None:
            self._add(kind, -1, -former)
        if not deletion:
            mark = self._marks[subject] = digest(subject, sequence)
            self._add(kind, 1, mark)

    def _add(self, kind: str, count: int, mark: int) -> None:
        self.counts[kind] += count
        self.sums[kind] = (self.sums[kind] + mark) % _MODULUS

    def equal(self, told: events.Watermark) -> bool:
        """Tell whether everything that the watcher has published is held."""
        return told.counts == self.counts and told.sums == self.sums


class NatsBus:
    """`runtime.Bus` on NATS."""

    def __init__(
        self, connection: Connection, on_permission_error: Callable[[str], None] | None = None
    ) -> None:
        self._connection = connection
        self._on_error = on_permission_error

    async def publish(self, event: AnyEvent) -> None:
        """Tell a fact, unless NATS is away."""
        if not self._connection.up:
            return
        with contextlib.suppress(NatsError, OSError):
            await self._connection.client.publish(
                subjects.subject_of(event), codec.encode(event), headers=codec.headers(event)
            )

    async def deliveries(self, interests: Subscriptions) -> AsyncIterator[Delivery]:
        """Yield a Snapshot, then what arrives; Lost while NATS is away; again from a Snapshot after any doubt."""
        pause = _PAUSE_SECONDS
        while True:
            queue: asyncio.Queue[Delivery | Exception] = asyncio.Queue()
            try:
                async with _Session(self._connection, interests, queue).opened():
                    while True:
                        item = await queue.get()
                        if isinstance(item, Exception):
                            raise item
                        pause = _PAUSE_SECONDS
                        yield item
            except (ReplayRequiredError, NatsUnavailableError, StreamError, NatsError) as doubt:
                log.info("replaying the bus: %s", doubt)
                if not self._connection.up:
                    yield Disconnected()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


class _Session:
    """One replay and what follows it, until the first doubt."""

    def __init__(
        self, connection: Connection, interests: Subscriptions, queue: "asyncio.Queue[Delivery | Exception]"
    ) -> None:
        self._connection, self._interests, self._queue = connection, interests, queue
        self._marks = StateDigest()
        self._replayed: list[Observation] | None = []
        self._latest: dict[str, Observation] = {}
        self._created = ""
        self._equal_at = time.monotonic()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Subscribe to everything of interest; what arrives or goes wrong lands in the queue."""
        async with contextlib.AsyncExitStack() as stack:
            for pattern in self._hint_patterns():
                subscription = await self._connection.client.subscribe(pattern, cb=self._hint)
                stack.push_async_callback(_unsubscribed, subscription)
            live = [
                await stack.enter_async_context(
                    OrderedConsumer(
                        self._connection, subjects.LIVE_STREAM, f"{subjects.ROOT}.{prefix}.>", last_only=True
                    ).opened()
                )
                for prefix in self._interests.live
            ]
            state = await stack.enter_async_context(
                OrderedConsumer(self._connection, subjects.STATE_STREAM, f"{subjects.ROOT}.>").opened()
            )
            work = [asyncio.create_task(self._guard(self._read_live(reading))) for reading in live]
            work.append(asyncio.create_task(self._guard(self._read_state(state))))
            work.append(asyncio.create_task(self._guard(self._watch_marks())))
            try:
                yield
            finally:
                for task in work:
                    task.cancel()
                await asyncio.gather(*work, return_exceptions=True)

    def _hint_patterns(self) -> list[str]:
        hints = [f"{subjects.ROOT}.{hint}.>" for hint in self._interests.hints]
        return hints + [f"{subjects.ROOT}.changed.{owner}.>" for owner in self._interests.changed]

    async def _guard(self, work: "asyncio.Future[None] | object") -> None:
        try:
            await work  # type: ignore[misc]
        except (ReplayRequiredError, NatsUnavailableError, StreamError, NatsError) as doubt:
            self._queue.put_nowait(doubt)

    async def _hint(self, message: Msg) -> None:
        await self._deliver(message, 0.0)

    async def _read_live(self, reading: OrderedConsumer) -> None:
        async for message in reading.messages():
            await self._deliver(message, reading.age(message.metadata.timestamp))

    async def _read_state(self, reading: OrderedConsumer) -> None:
        async for message in reading.messages():
            kind = subjects.kind_of(message.subject)
            if kind == "watermark":
                self._compare(message)
            elif kind in STATE_KINDS:
                deletion = codec.DELETED_HEADER in (message.headers or {})
                self._marks.take(message.subject, message.metadata.sequence.stream, deletion=deletion)
                if kind in self._interests.state:
                    await self._deliver(message, reading.age(message.metadata.timestamp))

    async def _watch_marks(self) -> None:
        while True:
            await asyncio.sleep(_UNEQUAL_SECONDS / 4)
            if time.monotonic() - self._equal_at > _UNEQUAL_SECONDS:
                raise ReplayRequiredError(f"no equal watermark for {_UNEQUAL_SECONDS:.0f} s")

    def _compare(self, message: Msg) -> None:
        told = codec.decode(message.data)
        if not isinstance(told, events.Watermark):
            return
        if self._created and told.stream_created != self._created:
            raise ReplayRequiredError("the state stream was made anew")
        if self._marks.equal(told):
            self._created, self._equal_at = told.stream_created, time.monotonic()
            self._hand_over()
        elif self._replayed is None:
            raise ReplayRequiredError("the watermark names facts that never arrived")

    def _hand_over(self) -> None:
        """End the replay: only the last word on each subject counts."""
        if self._replayed is not None:
            self._queue.put_nowait(Snapshot([*self._latest.values(), *self._replayed]))
            self._replayed, self._latest = None, {}

    async def _deliver(self, message: Msg, age: float) -> None:
        try:
            event = codec.decode(message.data)
        except codec.UndecodableError as error:
            await self._bury(message, str(error))
            return
        arrival = Observation(event, time.monotonic() - age)
        if self._replayed is None:
            self._queue.put_nowait(arrival)
        elif subjects.kind_of(message.subject) in STATE_KINDS:
            self._latest[message.subject] = arrival
        else:
            self._replayed.append(arrival)

    async def _bury(self, message: Msg, reason: str) -> None:
        log.warning("undecodable message on %s: %s", message.subject, reason)
        dead = f"{subjects.ROOT}.dead.{message.subject.removeprefix(subjects.ROOT + '.')}"
        with contextlib.suppress(NatsError, OSError):
            await self._connection.client.publish(
                dead, message.data, headers={"Flexinfer-Reason": reason[:200]}
            )


async def _unsubscribed(subscription: object) -> None:
    with contextlib.suppress(NatsError, OSError, asyncio.TimeoutError):
        await subscription.unsubscribe()  # type: ignore[attr-defined]
