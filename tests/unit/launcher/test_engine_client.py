"""The client of engines, against real sockets: what it answers for an engine that does not behave."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from flexinfer.launcher.engine_client import ANSWER_SECONDS, Answer, http_client
from flexinfer.launcher.engine_metrics import LONGEST_TEXT
from tests.patience import patient

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\n"


def says(*parts: bytes, pause: float = 0.0) -> Serve:
    """Return a server that reads a request, then sends these parts with a pause after each."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)

    return serve


def endless(head: bytes, body: bytes, pause: float = 0.0) -> Serve:
    """Return a server whose answer does not end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head)
            while True:
                writer.write(body)
                await writer.drain()
                await asyncio.sleep(pause)

    return serve


@contextlib.asynccontextmanager
async def engine(serve: Serve) -> AsyncIterator[str]:
    """Run an engine; yields its URL, and ends its connections afterwards."""
    tasks: list[asyncio.Task[None]] = []

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.ensure_future(connection(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/health"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_asks_over_http() -> None:
    """A real server, a refused port."""
    async with http_client() as ask:
        async with engine(says(OK + b"Content-Length: 2\r\n\r\nok")) as url:
            assert await ask(url) == Answer(200, "ok")
        silent = await ask(url)
    assert (silent.code, silent.refused) == (0, True)


async def test_an_answer_in_pieces_is_read_whole() -> None:
    """A number of requests must not be missed because it came in the second packet."""
    async with (
        http_client() as ask,
        engine(says(OK + b"Connection: close\r\n\r\na 1\n", b"b 2\n", pause=0.05)) as url,
    ):
        assert await ask(url) == Answer(200, "a 1\nb 2\n")


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    """An engine does not send the launcher elsewhere."""
    async with engine(says(OK + b"Content-Length: 2\r\n\r\nok")) as elsewhere, http_client() as ask:
        moved = f"HTTP/1.1 302 Found\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\r\n"
        async with engine(says(moved.encode())) as url:
            answer = await ask(url)
    assert (answer.code, answer.good) == (302, False)


@pytest.mark.parametrize(
    "serve",
    [
        pytest.param(says(b"\x00\xff garbage\r\n\r\n"), id="not HTTP"),
        pytest.param(says(b"HTTP/1.1 -7 \xff\r\n\r\n"), id="no status"),
        pytest.param(says(b"HTTP/9.9 99999999999999999999 x\r\n\r\n"), id="a status beyond all"),
        pytest.param(says(OK + b"Content-Length: nine\r\n\r\nx"), id="no length"),
        pytest.param(says(OK + b"Content-Length: -1\r\n\r\nx"), id="a negative length"),
        pytest.param(says(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"), id="no chunk"),
        pytest.param(says(OK + b"Content-Length: 9\r\n\r\nx"), id="it ends early"),
        pytest.param(says(b""), id="it says nothing and hangs up"),
        pytest.param(says(OK, pause=30), id="it hangs in its head"),
        pytest.param(endless(b"HTTP/1.1 200 ", b"O"), id="a status line without end"),
        pytest.param(endless(OK, b"X-A: b\r\n", 0.001), id="headers without end"),
        pytest.param(endless(OK + b"Content-Length: 100000\r\n\r\n", b"x", 0.01), id="it drips"),
        pytest.param(endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.001), id="it continues without end"),
    ],
)
async def test_an_engine_that_does_not_behave_does_not_answer(serve: Serve) -> None:
    """Within a second, whatever it sends."""
    async with http_client() as ask, engine(serve) as url:
        began = time.monotonic()
        answer = await ask(url)
    assert not answer.good
    assert not answer.refused
    assert answer.detail
    assert len(answer.detail) < 300
    assert time.monotonic() - began < ANSWER_SECONDS + patient(0.5)


async def test_an_answer_without_end_is_read_up_to_its_limit() -> None:
    """And its connection is not used again."""
    async with http_client() as ask, engine(endless(OK + b"Connection: close\r\n\r\n", b"x" * 65536)) as url:
        answer = await ask(url)
    assert answer.code == 200
    assert len(answer.body) == LONGEST_TEXT


async def test_a_compressed_answer_is_not_unpacked() -> None:
    """A kilobyte must not become a gigabyte."""
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n"
    async with http_client() as ask, engine(says(head + b"abc")) as url:
        assert await ask(url) == Answer(200, "abc")
