"""The proxy on real sockets, between clients and engines that send anything: it answers, and continues."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flexinfer.proxy.cors import Cors
from flexinfer.proxy.engine import engine_session
from flexinfer.proxy.http import application
from flexinfer.proxy.server import ProxyRunner
from tests.patience import patient
from tests.unit.proxy.parts import Parts, ready

FEW = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
SECONDS = patient(5.0)
CLEAN = {"message", "type", "param", "code"}
TOKENS = st.sampled_from(
    [
        "X-A",
        "Content-Type",
        "Authorization",
        "Expect",
        "Accept-Encoding",
        "Cookie",
        "Range",
        "Host",
        "Connection",
    ]
)
"""Names of headers that the proxy or its library looks at."""
VALUES = st.one_of(
    st.binary(max_size=30).map(lambda b: b.translate(None, b"\r\n\0")),
    st.sampled_from(
        [b"100-continue", b"Bearer secret", b"Bearer \xff", b"gzip", b"close", b"a\tb", b"[::1]:8"]
    ),
)
HEADERS = st.lists(st.tuples(TOKENS, VALUES), max_size=4)
PATHS = st.one_of(
    st.sampled_from(
        [
            b"/v1/chat/completions",
            b"/v1/models/llama",
            b"/v1/models",
            b"/model/default/llama/v1/completions",
            b"/model/default/llama/v1/%2e%2e/slots",
            b"/v1/../../metrics",
            b"/v1/%2e%2e/%2E%2e/metrics",
            b"/model//llama/v1/x",
            b"/model/default/%00/v1/x",
            b"/v1/x?a=%ff&b=\xff",
            b"/v1/\xff\xfe",
            b"//evil/v1/x",
            b"*",
        ]
    ),
    st.binary(max_size=30).map(lambda b: b"/v1/" + b.translate(None, b"\r\n\0 ")),
)
BODIES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b'{"model": "llama"}',
            b'{"model": "default/llama", "seed": 99999999999999999999999}',
            b'{"model": "default/llama", "n": 1e400}',
            b'{"model": "\\ud800"}',
            b'{"model": null}',
            b"[" * 5000,
            b'{"model": ' + b'{"a":' * 5000,
        ]
    ),
)


class ProxyWithEngine:
    """A proxy, an engine that sends what the test sets, and a client that sends raw bytes."""

    def __init__(self) -> None:
        self.parts = Parts()
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        self.received: list[bytes] = []
        self.port = 0
        self.follow: asyncio.Task[None] | None = None

    async def engine(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read a request, and send the answer."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.received.append(head)
            writer.write(self.answer)
            await writer.drain()
        writer.close()

    async def send(self, request: bytes) -> bytes:
        """Send bytes to the proxy, and return what it sends until it closes the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        with contextlib.suppress(OSError):
            writer.write(request)
            await writer.drain()
        try:
            async with asyncio.timeout(SECONDS):
                return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    async def post(self, path: bytes, headers: list[tuple[str, bytes]], body: bytes) -> bytes:
        """Send a POST with the proxy's key."""
        head = b"".join(name.encode() + b": " + value + b"\r\n" for name, value in headers)
        length = b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
        host = b"Host: proxy\r\nAuthorization: Bearer secret\r\n"
        return await self.send(b"POST " + path + b" HTTP/1.1\r\n" + host + head + length + body)

    async def is_well(self) -> None:
        """Fail unless the proxy still serves, holds no slot, and follows the stream."""
        answer = await self.send(b"GET /healthz HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
        async with asyncio.timeout(SECONDS):
            while self.parts.request().route.breaker.busy:
                await asyncio.sleep(0)
        assert self.follow is not None
        assert not self.follow.done()


@contextlib.asynccontextmanager
async def proxy_with_engine() -> AsyncIterator[ProxyWithEngine]:
    """Run all three."""
    pair = ProxyWithEngine()
    pair.follow = asyncio.create_task(pair.parts.view.follow())
    engine = await asyncio.start_server(pair.engine, "127.0.0.1", 0)
    await pair.parts.replay(ready(address=f"127.0.0.1:{engine.sockets[0].getsockname()[1]}"))
    async with engine_session() as session:
        runner = ProxyRunner(application(pair.parts.gateway, session, "secret"), Cors("*"), 1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, reuse_address=True)
        await site.start()
        pair.port = runner.addresses[0][1]
        yield pair
        await runner.cleanup()
    engine.close()
    pair.follow.cancel()


Do = Callable[[Callable[[ProxyWithEngine], Awaitable[None]]], None]


@pytest.fixture(scope="module")
def do() -> Iterator[Do]:
    """Return what runs a coroutine function with the proxy, on one loop for all examples."""
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        pair = runner.run(stack.enter_async_context(proxy_with_engine()))
        yield lambda test: runner.run(with_deadline(test(pair)))
        runner.run(stack.aclose())


async def with_deadline(work: Awaitable[None]) -> None:
    """Wait for work, for a bounded time."""
    async with asyncio.timeout(4 * SECONDS):
        await work


def error_of(answer: bytes) -> tuple[int, str]:
    """Return status and code of an answer; the code is empty unless it is an error of the proxy."""
    head, _, body = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    if b"x-should-retry" not in head.lower():
        return status, ""
    error = json.loads(body)["error"]
    assert set(error) == CLEAN
    assert error["message"]
    return status, error["code"]


@FEW
@given(path=PATHS, headers=HEADERS, body=BODIES)
def test_whatever_a_client_sends_it_gets_an_answer(
    do: Do, path: bytes, headers: list[tuple[str, bytes]], body: bytes
) -> None:
    """The engine's, or an error in OpenAI's shape that is not the proxy's own failure."""

    async def main(pair: ProxyWithEngine) -> None:
        pair.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        answer = await pair.post(path, headers, body)
        status, code = error_of(answer)
        assert status < 400 or code, answer
        assert code != "internal_error"
        await pair.is_well()

    do(main)


@FEW
@given(request=st.binary(max_size=200))
def test_whatever_bytes_arrive_the_proxy_goes_on(do: Do, request: bytes) -> None:
    """Also what is not HTTP."""

    async def main(pair: ProxyWithEngine) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                answer = await pair.send(request + b"\r\n\r\n")
                assert not answer or error_of(answer)[0] < 500
        await pair.is_well()

    do(main)


STATUS_LINES = st.one_of(
    st.binary(max_size=20).map(lambda b: b"HTTP/1.1 " + b.translate(None, b"\r\n")),
    st.integers(-5, 1200).map(lambda n: b"HTTP/1.1 %d OK" % n),
    st.sampled_from([b"HTTP/1.0 200", b"HTTP/9.9 200 OK", b"ICY 200 OK", b"", b"HTTP/1.1 204 No Content"]),
)
ENGINE_HEADERS = st.lists(
    st.one_of(
        st.tuples(TOKENS, VALUES),
        st.sampled_from(
            [
                ("Content-Length", b"99"),
                ("Content-Length", b"-1"),
                ("Content-Length", "٣".encode()),
                ("Transfer-Encoding", b"chunked"),
                ("Transfer-Encoding", b"gzip, chunked"),
                ("Content-Encoding", b"gzip"),
                ("Content-Type", b"text/event-stream"),
                ("Content-Type", b"\xff/\xff"),
                ("Set-Cookie", b"\xff=;;; expires=never"),
                ("Location", b"http://[::1"),
                ("X-Long", b"x" * 9000),
            ]
        ),
    ),
    max_size=4,
)


@FEW
@given(
    line=STATUS_LINES,
    headers=ENGINE_HEADERS,
    body=st.one_of(st.binary(max_size=40), st.just(b"2\r\nok\r\n0\r\n\r\n")),
)
def test_whatever_an_engine_sends_the_client_gets_its_answer_or_an_error(
    do: Do, line: bytes, headers: list[tuple[str, bytes]], body: bytes
) -> None:
    """Or a connection that is cut; never one that waits, and never a failure of the proxy."""

    async def main(pair: ProxyWithEngine) -> None:
        head = b"".join(name.encode() + b": " + value + b"\r\n" for name, value in headers)
        pair.answer = line + b"\r\n" + head + b"\r\n" + body
        answer = await pair.post(b"/v1/completions", [], b'{"model": "llama"}')
        if answer:
            assert error_of(answer)[1] in {"", "bad_gateway"}
        await pair.is_well()

    do(main)
