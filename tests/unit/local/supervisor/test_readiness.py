"""Readiness, asked of real servers."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flexinfer.local.supervisor.readiness import Banner, Page, ready, reason, until_ready
from flexinfer.runtime.health import Health, served
from flexinfer.runtime.readiness import Readiness
from tests.patience import patient


@contextlib.asynccontextmanager
async def speaking(text: bytes) -> AsyncIterator[int]:
    """Serve a greeting on a port."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(("text", "expected"), [(b"INFO {}\r\n", True), (b"HTTP/1.1", False), (b"", False)])
async def test_a_banner_is_read_and_compared(text: bytes, *, expected: bool) -> None:
    """A port that another process took is not ours."""
    async with speaking(text) as port:
        assert await ready(Banner(port=port, opening=b"INFO ")) is expected


async def test_accepting_is_enough_for_an_empty_banner() -> None:
    """Some servers wait for the client to speak."""
    async with speaking(b"") as port:
        assert await ready(Banner(port=port))


async def test_nobody_there_is_not_ready() -> None:
    """A refused connection is an answer too."""
    async with speaking(b"") as port:
        pass
    assert not await ready(Banner(port=port))
    assert not await ready(Page(port=port))


async def test_a_service_is_ready_when_its_page_says_so(tmp_path: Path) -> None:
    """It chose its port and wrote it down; 503 is not ready yet."""
    component, file = Readiness("placer", time.monotonic), str(tmp_path / "port")
    assert not await ready(Page(port_file=file))
    async with served(Health("", [component]), "127.0.0.1", 0, file):
        assert not await ready(Page(port_file=file))
        assert await reason(Page(port_file=file)) == "the replay of the state stream is not complete"
        waiting = asyncio.create_task(until_ready(Page(port_file=file)))
        component.set_ready(True)
        async with asyncio.timeout(patient(5)):
            await waiting
        assert await reason(Page(port_file=file)) == ""


async def test_a_port_file_without_a_port_is_not_ready(tmp_path: Path) -> None:
    """A damaged file is not a crash of the supervisor."""
    (tmp_path / "port").write_text("nonsense")
    assert not await ready(Page(port_file=str(tmp_path / "port")))
