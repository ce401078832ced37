"""Connections to engines: none that the engine has closed costs a request, and no request is sent twice."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from aiohttp.connector import Connection
from aiohttp.test_utils import TestClient
from aiohttp.tracing import Trace

from flexinfer.proxy.connections import (
    IDLE_SECONDS,
    ClosedError,
    EngineConnector,
    EngineRequest,
    EngineResponse,
    NotTakenError,
)
from flexinfer.proxy.engine import engine_session
from flexinfer.proxy.http import application
from tests.patience import patient
from tests.unit.proxy.parts import Parts, ProxyServer, ready
from tests.unit.proxy.test_http import KEY, PATH, a_proxy

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UVICORN_SECONDS = LLAMACPP_SECONDS = 5.0
Close = Callable[[socket.socket], None]


class PlainEngine:
    """An engine of plain sockets, whose connections a test closes at a moment of its choice.

    It answers the first `answers` requests of each connection; what it does with the next one is `last`.
    """

    def __init__(self, answers: int = 99, last: Close | None = None) -> None:
        self.connections: list[socket.socket] = []
        self.received: list[bytes] = []
        self._answers, self._last = answers, last
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(0)
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.url = f"http://{self.address}/v1/completions"

    async def serve(self) -> None:
        """Serve connections until cancelled."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            while True:
                connection, _ = await loop.sock_accept(self.listener)
                connection.settimeout(0)
                self.connections.append(connection)
                tasks.create_task(self._serve(connection))

    async def _serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            for _ in range(self._answers):
                if not await self._receive(connection):
                    return
                await loop.sock_sendall(connection, ANSWER)
            if await self._receive(connection) and self._last is not None:
                self._last(connection)

    async def _receive(self, connection: socket.socket) -> bytes:
        """Return a request, empty at the end of the stream."""
        received = b""
        while not received.endswith(b"}"):
            piece = await asyncio.get_running_loop().sock_recv(connection, 65536)
            if not piece:
                return b""
            received += piece
        self.received.append(received)
        return received


@contextlib.asynccontextmanager
async def serving(engine: PlainEngine) -> AsyncIterator[PlainEngine]:
    """Run an engine."""
    work = asyncio.create_task(engine.serve())
    yield engine
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    for connection in (*engine.connections, engine.listener):
        connection.close()


def end(connection: socket.socket) -> None:
    """Close a connection, as an engine does with an idle one: at once, whatever the event loop waits for."""
    asyncio.get_running_loop().remove_reader(connection.fileno())
    connection.close()


def reset(connection: socket.socket) -> None:
    """Close a connection without the end of the stream, as a process does that is killed with unread data."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end(connection)


class RacingConnector(EngineConnector):
    """A connector whose engine closes each connection that is used again just after it was chosen."""

    def __init__(self, engine: PlainEngine, close: Close) -> None:
        super().__init__()
        self._engine, self._ending = engine, close

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,
    ) -> Connection:
        """Return a connection; one that was used before is closed by then."""
        connection = await super().connect(req, traces, timeout)
        if isinstance(req, EngineRequest) and req.use is not None and req.use.used:
            self._ending(self._engine.connections[-1])
        return connection


def session_of(connector: EngineConnector) -> aiohttp.ClientSession:
    """Return a session of a connector."""
    return aiohttp.ClientSession(
        connector=connector, request_class=EngineRequest, response_class=EngineResponse
    )


def racing(engine: PlainEngine, close: Close) -> aiohttp.ClientSession:
    """Return a session of such a connector."""
    return session_of(RacingConnector(engine, close))


class LateConnector(EngineConnector):
    """A connector of a proxy that is suspended after it has connected, so many times: its engine closes the connection meanwhile."""

    def __init__(self, engine: PlainEngine, times: int) -> None:
        super().__init__()
        self._engine, self._times = engine, times

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,
    ) -> Connection:
        """Return a connection; one of the first has ended."""
        connection = await super().connect(req, traces, timeout)
        if self._times:
            self._times -= 1
            async with asyncio.timeout(patient(10)):
                while not self._engine.connections:
                    await asyncio.sleep(0.001)
                end(self._engine.connections.pop())
                while connection.transport is not None and not connection.transport.is_closing():
                    await asyncio.sleep(0.001)
        return connection


async def ask(session: aiohttp.ClientSession, engine: PlainEngine) -> str:
    """Send a request; returns the answer."""
    async with session.post(engine.url, data=b"{}") as response:
        return await response.text()


async def test_a_request_whose_new_connection_ended_before_it_reaches_the_engine_on_another() -> None:
    """The proxy connects again, as to an engine that refuses connections: it took nothing."""
    parts = Parts()
    follow = asyncio.create_task(parts.view.follow())
    async with (
        serving(PlainEngine()) as engine,
        session_of(LateConnector(engine, 1)) as session,
        TestClient(ProxyServer(application(parts.gateway, session, "secret"))) as client,
    ):
        await parts.replay()
        await parts.observe(ready(address=engine.address, backend="llamacpp"))
        answer = await client.post(PATH, data=b"{}", headers=KEY)
        assert (answer.status, await answer.text(), len(engine.received)) == (200, "ok", 1)
    follow.cancel()


def test_an_idle_connection_is_given_up_before_any_engine_does() -> None:
    """Two of them close one after five seconds."""
    assert min(UVICORN_SECONDS, LLAMACPP_SECONDS) - 1 > IDLE_SECONDS


async def test_a_connection_is_used_again() -> None:
    """While the engine keeps it."""
    async with serving(PlainEngine()) as engine, engine_session() as session:
        assert [await ask(session, engine) for _ in range(3)] == ["ok"] * 3
        assert len(engine.connections) == 1


@pytest.mark.parametrize("close", [end, reset, lambda c: c.send(b"HTTP/1.1 408 \r\n\r\n")])
async def test_a_connection_that_the_engine_has_closed_is_not_used_again(close: Close) -> None:
    """Also if the event loop has not noticed yet; nor one on which something came unasked."""
    async with serving(PlainEngine()) as engine, engine_session() as session:
        await ask(session, engine)
        close(engine.connections[0])
        assert await ask(session, engine) == "ok"
        assert len(engine.connections) == 2


async def test_a_request_that_crosses_the_end_of_its_connection_was_not_taken() -> None:
    """The engine's kernel acknowledged nothing of it: it may be sent again."""
    engine = PlainEngine()
    async with serving(engine), racing(engine, end) as session:
        await ask(session, engine)
        with pytest.raises(NotTakenError):
            await ask(session, engine)
        assert len(engine.received) == 1
        assert await ask(session, engine) == "ok"


async def test_a_request_whose_connection_was_reset_may_have_been_taken() -> None:
    """A reset acknowledges nothing, whatever was received before it."""
    engine = PlainEngine()
    async with serving(engine), racing(engine, reset) as session:
        await ask(session, engine)
        with pytest.raises(ClosedError):
            await ask(session, engine)


@pytest.mark.parametrize("last", [end, reset])
async def test_a_request_that_an_engine_has_read_is_not_sent_again(last: Close) -> None:
    """It is a 502 that says that a retry helps: the next connection is a new one."""
    async with serving(PlainEngine(1, last)) as engine, a_proxy(engine.address) as client:
        first = await client.post(PATH, data=b"{}", headers=KEY)
        assert (first.status, await first.text()) == (200, "ok")
        second = await client.post(PATH, data=b"{}", headers=KEY)
        message = (await second.json())["error"]["message"]
        assert (second.status, second.headers["x-should-retry"]) == (502, "true")
        assert message.startswith("the engine of model llama closed the connection before it responded: ")
        assert message.endswith("; retry in 5s")
        assert len(engine.received) == 2
        third = await client.post(PATH, data=b"{}", headers=KEY)
        assert third.status == 200


async def test_an_engine_that_closes_every_idle_connection_costs_no_request() -> None:
    """It does not say that it will, and does so whenever it likes."""
    async with serving(PlainEngine()) as engine, a_proxy(engine.address) as client:
        for number in range(50):
            response = await client.post(PATH, data=b"{}", headers=KEY)
            assert (response.status, await response.text()) == (200, "ok")
            if number % 2:
                end(engine.connections[-1])
        assert len(engine.received) == 50


async def test_a_request_that_was_not_taken_reaches_the_engine_once_on_a_new_connection() -> None:
    """Several idle connections may be gone at the same time."""
    async with serving(PlainEngine()) as engine, a_proxy(engine.address) as client:
        posts = [client.post(PATH, data=b"{}", headers=KEY) for _ in range(5)]
        assert {response.status for response in await asyncio.gather(*posts)} == {200}
        for connection in engine.connections:
            end(connection)
        posts = [client.post(PATH, data=b"{}", headers=KEY) for _ in range(5)]
        assert {response.status for response in await asyncio.gather(*posts)} == {200}
        assert len(engine.received) == 10
