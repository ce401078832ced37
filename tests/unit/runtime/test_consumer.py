"""The age of messages, whatever happens to the server's clock. No server: messages as it would send them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from flexinfer.runtime.nats import consumer as consumers
from flexinfer.runtime.nats.connection import ApiReply, Connection
from flexinfer.runtime.nats.consumer import UNKNOWN_AGE_SECONDS, OrderedConsumer, ServerClock

START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
HOUR = 3600.0


class Server:
    """A server whose wall clock and our monotonic clock are set by the test; also the client that it talks to."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.step = 0.0
        self.held = 0
        self._deliver: Callable[[Msg], Awaitable[None]] | None = None
        self._sent = 0

    @property
    def time(self) -> datetime:
        """What the server's clock shows."""
        return START + timedelta(seconds=self.now + self.step)

    def new_inbox(self) -> str:
        """Return a subject."""
        return "_INBOX_x.1"

    async def subscribe(self, _subject: str, cb: Callable[[Msg], Awaitable[None]]) -> "Server":
        """Keep what takes the messages."""
        self._deliver = cb
        return self

    async def unsubscribe(self) -> None:
        """Do nothing."""

    async def send(self, stored: datetime | None = None) -> None:
        """Send a message, stored now by the server's clock or at that time."""
        self._sent += 1
        nanoseconds = int((stored or self.time).timestamp() * 1_000_000_000)
        await self._arrive(f"$JS.ACK.FI_LIVE.c.1.{self._sent}.{self._sent}.{nanoseconds}.0")

    async def heartbeat(self) -> None:
        """Send an idle heartbeat."""
        await self._arrive("")

    async def _arrive(self, reply: str) -> None:
        assert self._deliver is not None
        await self._deliver(
            Msg(_client=cast("Client", None), subject="flexinfer.gpu.a", reply=reply, data=b"")
        )


class Link(Connection):
    """A connection to it."""

    def __init__(self, server: Server) -> None:
        super().__init__(cast("Client", server), "placer")
        self._server = server

    async def api(self, subject: str, body: object = None) -> ApiReply:
        """Create the consumer."""
        stamp = self._server.time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return ApiReply(ts=stamp, num_pending=self._server.held)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server on whose clock the consumer counts."""
    made = Server()
    monkeypatch.setattr(consumers, "monotonic", lambda: made.now)
    return made


@contextlib.asynccontextmanager
async def reading(
    server: Server, clock: ServerClock | None = None
) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """Open a consumer; yields what returns the age of the next message."""
    consumer = OrderedConsumer(Link(server), "FI_LIVE", "flexinfer.gpu.>", clock=clock)
    async with consumer.opened(), asyncio.timeout(5):
        arrivals: Any = consumer.messages()

        async def age() -> float:
            message = await anext(arrivals)
            return consumer.age(message.metadata.timestamp)

        yield age


@pytest.mark.parametrize("step", [0.0, -HOUR, HOUR])
async def test_a_message_that_arrives_when_it_is_stored_is_new_whatever_the_servers_clock_did(
    server: Server, step: float
) -> None:
    """A step of -1 h would otherwise make every later message an hour old."""
    async with reading(server) as age:
        await server.send()
        assert await age() == pytest.approx(0, abs=0.01)
        server.now, server.step = server.now + 1, step
        await server.send()
        assert await age() <= 6.01


@pytest.mark.parametrize("step", [-HOUR, -7.0, HOUR])
async def test_the_next_watermark_tells_the_servers_clock_again(server: Server, step: float) -> None:
    """From then on a message that was held up is as old as it is."""
    clock = ServerClock()
    async with reading(server, clock) as age:
        await server.send()
        await age()
        server.step = step
        clock.read(server.time)
        stored = server.time
        server.now += 4
        await server.send(stored)
        assert await age() == pytest.approx(4, abs=0.01)


async def test_a_live_message_is_no_older_than_the_silence_before_it(server: Server) -> None:
    """A heartbeat counts: with it the server had nothing else to send."""
    async with reading(server) as age:
        await server.send()
        await age()
        server.now += 60
        await server.heartbeat()
        server.step = -HOUR
        await server.send()
        assert await age() <= 5.01


async def test_a_replayed_message_is_as_old_as_the_server_says(server: Server) -> None:
    """It was stored before the consumer was created."""
    server.held = 1
    stored = server.time
    server.now += 20
    async with reading(server) as age:
        await server.send(stored)
        assert await age() == pytest.approx(20, abs=0.01)


async def test_a_replayed_message_from_the_servers_future_counts_as_old(server: Server) -> None:
    """It was stored before the clock was put back: an agent that fell silent since must not seem to have just spoken."""
    server.held = 1
    stored = server.time
    server.now, server.step = server.now + 20, -HOUR
    async with reading(server) as age:
        await server.send(stored)
        assert await age() == UNKNOWN_AGE_SECONDS


async def test_a_replayed_message_from_before_the_clock_was_put_forward_looks_older_and_never_newer(
    server: Server,
) -> None:
    """What is too old is asked again; what seemed new would be believed."""
    server.held = 1
    stored = server.time
    server.now, server.step = server.now + 20, HOUR
    async with reading(server) as age:
        await server.send(stored)
        assert await age() >= 20
