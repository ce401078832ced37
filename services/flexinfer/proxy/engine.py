"""The engine's side of HTTP: what is sent to an engine, and how its response reaches the client.

A stream whose engine died ends in an error event and an aborted connection, never in a regular end.
"""

import asyncio
import contextlib
import logging
import re
import socket
from collections.abc import Mapping
from urllib.parse import unquote

import aiohttp
from aiohttp import web
from yarl import URL

from flexinfer.proxy import errors
from flexinfer.proxy.errors import ConnectError

log = logging.getLogger(__name__)
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
    }
)
_NOT_FOR_ENGINES = _HOP_BY_HOP | {
    "host",
    "authorization",
    "accept-encoding",
    "content-encoding",
    # aiohttp would wait for the engine's "100 Continue", which many never send.
    "expect",
}
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""Seconds and probes after which a node that vanished without a word has closed its connections."""
STALLED_SECONDS = 300.0
"""A client has so long to take each piece of a response: it holds a slot meanwhile."""
_ABORT_SECONDS = 1.0
_UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


def engine_session() -> aiohttp.ClientSession:
    """Return the client that engines are asked with.

    It keeps no cookies, which would pass from one client to another, and notices a node that is gone.
    """
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15, socket_factory=_engine_socket),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )


def _engine_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    engine = socket.socket(family, kind, protocol)
    engine.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            engine.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return engine


def url_of(request: web.Request, path: str, address: str) -> URL:
    """Return what the engine is asked for, with the escapes that the client sent; raises RequestError, ConnectError."""
    if ".." in unquote(path).split("/"):
        raise errors.invalid_path()
    query = request.rel_url.raw_query_string
    try:
        url = URL(f"http://{address}{path}{'?' if query else ''}{query}", encoded=True)
        valid = bool(url.host and url.port and not url.user) and url.raw_authority == address
    except ValueError:
        valid = False
    if not valid:
        raise ConnectError(f"{address!r} is no host:port")
    return url


def headers_of(request: web.Request) -> dict[str, str]:
    """Return the headers for the engine; raises RequestError (400) for one that cannot be sent."""
    dropped = _NOT_FOR_ENGINES | _connection_options(request.headers)
    headers = {k: v for k, v in request.headers.items() if k.lower() not in dropped}
    for name, value in headers.items():
        if not _is_text(value):
            raise errors.invalid_header(name, "holds bytes that are no text; send it as UTF-8 or ASCII")
    # The client accepts what it accepts; the engine's response passes through as it is.
    return headers | {"Accept-Encoding": "identity"}


def _connection_options(headers: Mapping[str, str]) -> frozenset[str]:
    """Return the names that the header Connection lists: they concern this connection alone (RFC 9110, 7.6.1)."""
    return frozenset(name.strip().lower() for name in headers.get("Connection", "").split(","))


def _is_text(value: str) -> bool:
    """Tell whether a header can be sent on: neither bytes that were not UTF-8 when it arrived nor control characters."""
    return not _UNSENDABLE.search(value)


async def relay(request: web.Request, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
    """Send an engine's response to the client, chunk by chunk as it arrives.

    Once it has begun nothing else can be answered: any failure aborts the connection.
    """
    response = _begun(upstream)
    await response.prepare(request)
    tail = b"\n\n"
    try:
        async for chunk in upstream.content.iter_any():
            async with asyncio.timeout(STALLED_SECONDS):
                await response.write(chunk)
            tail = (tail + chunk)[-2:]
        async with asyncio.timeout(STALLED_SECONDS):
            await response.write_eof()
    except TimeoutError:
        log.info("the client has taken nothing of the response for %g s: aborted", STALLED_SECONDS)
        await _abort(request, response, tail, sse=False)
    except (aiohttp.ClientError, OSError) as error:
        log.info("the response of the engine was cut off: %s", error)
        await _abort(request, response, tail, sse=upstream.content_type == "text/event-stream")
    return response


def _begun(upstream: aiohttp.ClientResponse) -> web.StreamResponse:
    """Return the response to the client, with the engine's status and those of its headers that can be sent on."""
    response = web.StreamResponse(status=upstream.status)
    dropped = _HOP_BY_HOP | _connection_options(upstream.headers)
    for name, value in upstream.headers.items():
        if name.lower() not in dropped and _is_text(value):
            response.headers.add(name, value)
    length = upstream.headers.get("Content-Length", "")
    if length.isdecimal():
        response.content_length = int(length)
    return response


async def _abort(request: web.Request, response: web.StreamResponse, tail: bytes, *, sse: bool) -> None:
    """Abort the connection to the client; a stream first gets an error event, at an event's boundary."""
    if sse:
        separator = b"" if tail == b"\n\n" else b"\n\n"
        with contextlib.suppress(OSError):  # the client may be gone, or take nothing
            async with asyncio.timeout(_ABORT_SECONDS):
                await response.write(separator + b"data: " + errors.response_cut().body() + b"\n\n")
    if request.transport is not None:
        request.transport.abort() if not sse else request.transport.close()
