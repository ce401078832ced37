"""Readiness: whether a process answers, probed from outside with the standard library, so that the supervisor stays small."""

import asyncio
import contextlib
import ssl
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
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
            return await asyncio.to_thread(_answers, probe)
    except (OSError, TimeoutError, ValueError, HTTPException, asyncio.IncompleteReadError):
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


def _answers(probe: Page) -> bool:
    port = probe.port or _port_in(probe.port_file)
    host, seconds = "127.0.0.1", _ANSWER_SECONDS
    connection = (
        HTTPSConnection(host, port, timeout=seconds, context=_unverified())
        if probe.tls
        else HTTPConnection(host, port, timeout=seconds)
    )
    with contextlib.closing(connection):
        connection.request("GET", probe.path)
        return connection.getresponse().status == HTTPStatus.OK


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
