"""`flexinfer tap` as a process before a real NATS server: which lines come, and when it ends."""

import asyncio
import contextlib
import os
import sys
from asyncio import BaseTransport
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flexinfer.events import events
from flexinfer.runtime.nats import connection
from flexinfer.runtime.nats.state_reader import NatsBus
from tests.integration.runtime.test_nats import writer
from tests.nats import nats_server
from tests.patience import patient

pytestmark = pytest.mark.integration
SECONDS = patient(120.0)


def step(name: str) -> events.HistoryRecorded:
    """Return a step of a Model."""
    return events.HistoryRecorded(
        namespace="default", name=name, uid=name, service="placer", step="Placed=True", version=1
    )


class Tap:
    """A running tap, and a bus to publish on."""

    def __init__(
        self, bus: NatsBus, process: Process, output: asyncio.StreamReader, end: BaseTransport
    ) -> None:
        self.bus, self.process, self._output, self._end = bus, process, output, end

    async def line(self) -> str:
        """Return the next line."""
        return (await self._output.readline()).decode()

    def leave(self) -> None:
        """Close the pipe that the lines come through."""
        self._end.close()

    async def until(self, name: str) -> str:
        """Publish a step of a Model until its line comes: the tap may not have subscribed yet. Returns the line."""
        line = asyncio.create_task(self.line())
        while not line.done():
            await self.bus.publish(step(name))
            await asyncio.wait([line], timeout=0.1)
        return await line


@contextlib.asynccontextmanager
async def a_tap(folder: Path, recorded: int, *words: str) -> AsyncIterator[Tap]:
    """Run a tap once so many steps are recorded."""
    async with (
        nats_server(folder) as server,
        writer(server),
        connection.connected("placer", server.url, "", "") as link,
        asyncio.timeout(SECONDS),
    ):
        bus = NatsBus(link)
        for number in range(recorded):
            assert await bus.publish(step(f"m{number}"))
        environment = os.environ | {"NATS_URL": server.url}
        reading, writing = os.pipe()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "flexinfer.cli", "tap", *words, env=environment, stdout=writing, stderr=PIPE
        )
        os.close(writing)
        output = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        end, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(output), os.fdopen(reading, "rb")
        )
        try:
            yield Tap(bus, process, output, end)
        finally:
            if process.returncode is None:
                process.kill()
            end.close()
            await process.communicate()


async def test_the_tap_prints_the_latest_steps_and_then_those_that_happen(tmp_path: Path) -> None:
    """Heartbeats and what else repeats are printed by subject only."""
    async with a_tap(tmp_path, 25) as tap:
        for number in range(5, 25):
            assert f"flexinfer.history.default.m{number} " in await tap.line()
        await tap.until("new")
        await tap.bus.publish(events.ProxyObserved(proxy="p"))
        await tap.bus.publish(step("last"))
        while "last" not in (line := await tap.line()):
            assert "flexinfer.history.default.new" in line


@pytest.mark.parametrize(
    ("words", "expected"), [((), "m5"), (("--history",), "m0"), (("flexinfer.history.default.only",), "only")]
)
async def test_what_comes_first(tmp_path: Path, words: tuple[str, ...], expected: str) -> None:
    """The last twenty steps; all of them; with a subject, none."""
    async with a_tap(tmp_path, 25, *words) as tap:
        first = await (tap.until("only") if expected == "only" else tap.line())
        assert f"flexinfer.history.default.{expected} " in first


@pytest.mark.parametrize("words", [(), ("flexinfer.>",)])
async def test_a_tap_whose_reader_is_gone_ends(tmp_path: Path, words: tuple[str, ...]) -> None:
    """As with `| head -1`: without another event, and without a word."""
    async with a_tap(tmp_path, 1, *words) as tap:
        assert "flexinfer.history" in await tap.until("m0")
        tap.leave()
        assert tap.process.stderr is not None
        assert await tap.process.stderr.read() == b""
        assert await tap.process.wait() == 1
