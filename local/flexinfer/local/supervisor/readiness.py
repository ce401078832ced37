"""Readiness: probes a process from outside, with asyncio alone: an HTTP client would double the supervisor's memory."""

import asyncio
import contextlib
import ssl
from http import HTTPStatus
from pathlib import Path
from typing import TypeAlias

import msgspec

_HOST = "127.0.0.1"
_REQUEST = "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
_ANSWER_SECONDS = 2.0
_FIRST_DELAY, _MAX_DELAY = 0.02, 0.25


class Banner(msgspec.Struct, frozen=True, tag=True):
    """Ready when it accepts a connection and sends these bytes first (empty: accepting is enough)."""

    port: int
    opening: bytes = b""


class Page(msgspec.Struct, frozen=True, tag=True):
    """Ready when a GET of its path returns 200; `port_file` holds the port of a process that chose its own."""

    port: int = 0
    port_file: str = ""
    tls: bool = False
    path: str = "/readyz"


Probe: TypeAlias = Banner | Page


async def ready(probe: Probe) -> bool:
    """Probe once; returns whether it is ready."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            if isinstance(probe, Banner):
                return await _sends_banner(probe)
            return await _returns_200(probe)
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
        return False


async def reason(probe: Probe) -> str:
    """Probe once; returns what a page says of why it is not ready, empty if it is ready or says nothing."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            if isinstance(probe, Banner):
                return ""
            status, text = await _page(probe, with_text=True)
            return "" if status == HTTPStatus.OK else text.removeprefix("not ready: ")
    except (OSError, TimeoutError, ValueError):
        return ""


async def until_ready(probe: Probe) -> None:
    """Probe until it is ready."""
    delay = _FIRST_DELAY
    while not await ready(probe):
        await asyncio.sleep(delay)
        delay = min(1.5 * delay, _MAX_DELAY)


async def _sends_banner(probe: Banner) -> bool:
    reader, writer = await asyncio.open_connection(_HOST, probe.port)
    try:
        return await reader.readexactly(len(probe.opening)) == probe.opening
    finally:
        await _closed(writer)


async def _returns_200(probe: Page) -> bool:
    status, _ = await _page(probe, with_text=False)
    return status == HTTPStatus.OK


async def _page(probe: Page, *, with_text: bool) -> tuple[int, str]:
    """Return the status of a page, and its text where it is asked for; no status is 0."""
    port = probe.port or _port_in(probe.port_file)
    reader, writer = await asyncio.open_connection(_HOST, port, ssl=_unverified() if probe.tls else None)
    try:
        writer.write(_REQUEST.format(path=probe.path, host=_HOST).encode())
        version, status, *_ = (await reader.readline()).split(maxsplit=2)
        code = int(status) if version.startswith(b"HTTP/") else 0
        _, _, text = (await reader.read() if with_text else b"").partition(b"\r\n\r\n")
        return code, text.decode(errors="replace").strip()
    finally:
        writer.transport.abort()  # the answer is complete: no TLS shutdown to wait for


def _port_in(file: str) -> int:
    return int(Path(file).read_text())


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _unverified() -> ssl.SSLContext:
    """Return a context that verifies nothing: only availability is probed, and no secret is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
