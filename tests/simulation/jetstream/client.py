"""SimulatedClient: the part of `nats.aio.client.Client` that `runtime.nats` uses, on the simulated server."""

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import cast

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeoutError

from flexinfer.runtime.nats.connection import Connection
from tests.simulation.jetstream.server import NatsServer
from tests.simulation.jetstream.stream import Headers, matches

Take = Callable[[Msg], Awaitable[None]]
_LATENCY = 0.002
_REACHES_NOBODY = 0.25
"""The probability that a request of a broken connection is sent all the same, after the reconnection."""


class Subscription:
    """A subscription of a client."""

    pending_msgs = 0
    """A callback has what the client has received, at once."""

    def __init__(self, client: "SimulatedClient", pattern: str, take: Take) -> None:
        self.client, self.pattern, self.take = client, pattern, take

    async def unsubscribe(self) -> None:
        """End it."""
        self.client.subscriptions.pop(self.pattern, None)


class SimulatedClient:
    """A connection of one process; `pause` returns when the process may continue."""

    is_closed = False

    def __init__(self, server: NatsServer, name: str, paused_until: Callable[[], float]) -> None:
        self.server, self.name, self._paused_until = server, name, paused_until
        self.connected = server.up
        self.subscriptions: dict[str, Subscription] = {}
        self.connection = Connection(self.nats, name)
        self._inboxes = itertools.count()
        self._incoming: deque[tuple[Subscription, Msg] | asyncio.Future[None]] = deque()
        self._scheduled: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._cut = 0
        self.lag = 0.0
        """How long its messages take, in seconds; they keep their order."""
        server.clients.append(self)

    @property
    def nats(self) -> Client:
        """The client as the type that `runtime.nats` names."""
        return cast("Client", self)

    @property
    def is_connected(self) -> bool:
        """Whether the connection stands."""
        return self.connected

    # --- what runtime.nats calls

    def new_inbox(self) -> str:
        """Return a subject of its own."""
        return f"_INBOX_{self.name}.{next(self._inboxes)}"

    async def subscribe(self, subject: str, cb: Take) -> Subscription:
        """Subscribe to a subject or a pattern."""
        subscription = self.subscriptions[subject] = Subscription(self, subject, cb)
        return subscription

    async def publish(self, subject: str, data: bytes = b"", headers: Headers | None = None) -> None:
        """Publish without an acknowledgement."""
        await self._sendable()
        if self.connected and self.server.up and not self._closed:
            self.server.publish(subject, data, headers or {}, self.name)

    async def request(self, subject: str, data: bytes, timeout: float, headers: Headers | None = None) -> Msg:
        """Return the reply to a request; the caller's time limit ends it if there is none."""
        await asyncio.sleep(_LATENCY * self.server.chance.random())
        while (until := max(self._paused_until(), self.server.frozen_until)) > self._loop.time():
            await asyncio.sleep(until - self._loop.time() + 0.001)
        if not self.connected:
            if self.server.chance.random() < _REACHES_NOBODY:
                await asyncio.sleep(timeout)
            else:
                await self._until_connected()
        reply = self.server.answer(subject, data, headers or {}, self)
        if reply is None or self.server.chance.random() < self.server.faults.unacknowledged:
            await asyncio.sleep(timeout + 1)
        return Msg(self.nats, subject, "", msgspec.json.encode(reply))

    async def _sendable(self) -> None:
        while self._paused_until() > self._loop.time():
            await asyncio.sleep(self._paused_until() - self._loop.time() + 0.001)

    async def _until_connected(self) -> None:
        while not self.connected:
            await asyncio.sleep(0.1)

    async def flush(self, timeout: float = 10.0) -> None:
        """Return once the server has answered: what it had sent before has arrived. Raises nats.errors.TimeoutError."""
        await self._sendable()
        answer: asyncio.Future[None] = self._loop.create_future()
        if self.connected:
            self._incoming.append(answer)
            self._schedule(self.lag or _LATENCY)
        try:
            async with asyncio.timeout(timeout):
                await answer
        except TimeoutError as error:
            raise NatsTimeoutError from error

    # --- what the server calls

    def matching(self, subject: str) -> Iterator[Subscription]:
        """Yield the subscriptions that a core message goes to."""
        if self.connected:
            for pattern, subscription in tuple(self.subscriptions.items()):
                if matches(pattern, subject):
                    yield subscription

    def receive(self, subscription: Subscription, message: Msg, delay: float = 0.0) -> None:
        """Take a message of the server; in order, unless it is delayed by itself."""
        if not self.connected:
            return
        if delay:
            self._loop.call_later(delay, self.receive, subscription, message)
            return
        self._incoming.append((subscription, message))
        if self._scheduled is None:
            self._schedule(self.lag or _LATENCY * self.server.chance.random())

    def _schedule(self, latency: float) -> None:
        if self._scheduled is None:
            self._scheduled = self._loop.call_later(latency, self._take_all)

    def _take_all(self) -> None:
        until = max(self._paused_until(), self.server.frozen_until)
        if until > self._loop.time():
            self._scheduled = self._loop.call_at(until + 0.001, self._take_all)
            return
        self._scheduled = None
        while self._incoming:
            item = self._incoming.popleft()
            if isinstance(item, asyncio.Future):
                if not item.done():
                    item.set_result(None)
                continue
            subscription, message = item
            if self.subscriptions.get(subscription.pattern) is subscription:
                _run(subscription.take(message))

    # --- faults

    def close(self) -> None:
        """End the process: nothing of it is left on the server."""
        self._closed, self.connected = True, False
        self.subscriptions.clear()
        self._incoming.clear()
        if self in self.server.clients:
            self.server.clients.remove(self)
        self.server.drop(self)

    def break_connection(self) -> None:
        """Break the connection; what is on its way is lost."""
        if self.connected:
            self.connected = False
            self._incoming.clear()
            self.server.drop(self)
            self.connection.changed(up=False)

    def cut(self, seconds: float) -> None:
        """Break the connection for some seconds."""
        self._cut += 1
        self.break_connection()
        self._loop.call_later(seconds, self._heal)

    def _heal(self) -> None:
        self._cut -= 1
        self.reconnect_after(0.0)

    def reconnect_after(self, seconds: float) -> None:
        """Connect again after some seconds, if the server is there by then and nothing cuts it off."""
        self._loop.call_later(seconds, self._reconnect)

    def _reconnect(self) -> None:
        if not self.connected and self.server.up and not self._cut and not self._closed:
            self.connected = True
            self.connection.changed(up=True)


def _run(taking: Awaitable[None]) -> None:
    """Run a callback that never waits, without a task of its own."""
    coroutine = taking.__await__()
    try:
        next(coroutine)
    except StopIteration:
        return
    raise RuntimeError("a callback of a subscription waits: the simulation cannot continue it")
