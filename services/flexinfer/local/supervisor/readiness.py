"""Readiness: whether a process answers, asked from outside by the plainest means.

A bare request by hand on asyncio streams: the supervisor stays small, and the answer needs no more than its first line.
"""

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import TypeAlias

import msgspec

_ANSWER_SECONDS = 2.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.25


class Banner(msgspec.Struct, frozen=True, tag=True):
    """Ready when it accepts a connection and speaks first, with these bytes (empty: accepting is enough)."""

    port: int
    opening: bytes = b""


class Page(msgspec.Struct, frozen=True, tag=True):
    """Ready when its path answers 200; `port_file` holds the port of a process that chose its own."""

    port: int = 0
    port_file: str = ""
    tls: bool = False
    path: str = "/readyz"


Probe: TypeAlias = Banner | Page


async def ready(probe: Probe) -> bool:
    """Ask once."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            if isinstance(probe, Banner):
                return await _speaks(probe)
            return await _answers(probe)
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
        return False


async def until_ready(probe: Probe) -> None:
    """Ask until the answer is yes."""
    pause = _FIRST_PAUSE
    while not await ready(probe):
        await asyncio.sleep(pause)
        pause = min(1.5 * pause, _LONGEST_PAUSE)


async def _speaks(probe: Banner) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", probe.port)
    try:
        return await reader.readexactly(len(probe.opening)) == probe.opening
    finally:
        await _closed(writer)


async def _answers(probe: Page) -> bool:
    port = probe.port or _port_in(probe.port_file)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=_unverified() if probe.tls else None
    )
    try:
        writer.write(f"GET {probe.path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        line = await reader.readline()
        return line.split(b" ")[1:2] == [b"200"]
    finally:
        await _closed(writer)


def _port_in(file: str) -> int:
    return int(Path(file).read_text())


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _unverified() -> ssl.SSLContext:
    """Return a context that asks for no proof: the question is whether it answers, and no secret is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
