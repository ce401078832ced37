"""The engine's side of HTTP: what is sent to an engine, and how its response reaches the client.

A stream whose engine died ends in an error event and a closed connection, never in a regular end; also where the engine closed it
regularly, but without the event that ends a stream in OpenAI's API: Ollama does so when the process that runs the model is killed.
"""

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import Callable
from typing import TypeAlias

import aiohttp
from aiohttp import web
from yarl import URL

from flexinfer.api.model import Model
from flexinfer.proxy import errors, headers, paths
from flexinfer.proxy.connections import ClosedError, EngineConnector, EngineRequest, EngineResponse
from flexinfer.proxy.errors import ConnectError
from flexinfer.proxy.traffic import Passage

log = logging.getLogger(__name__)
STALLED_SECONDS = 300.0
"""A client has so long to take each piece of a response: it holds a slot meanwhile."""
_ABORT_SECONDS = 1.0
_OK, _REDIRECT, _CLIENT_ERROR = 200, 300, 400
_LONGEST_END = 64
"""So many of the last bytes of a stream are looked at."""
_DONE = re.compile(rb"data: ?\[DONE\]\s*$")
_ENDS_WITH_DONE = frozenset({"/v1/chat/completions", "/v1/completions"})
"""Whose streams end with `data: [DONE]` (OpenAI's API reference, Streaming); those of /v1/responses and /v1/messages end otherwise."""
_STREAMS = frozenset({"text/event-stream", "application/x-ndjson"})
"""Of OpenAI's API, and of Ollama's own."""
Keep: TypeAlias = Callable[[bytes], None]


def _nothing(_chunk: bytes) -> None:
    """Keep nothing of a response."""


def engine_session() -> aiohttp.ClientSession:
    """Return the client that engines are asked with.

    It keeps no cookies, which would pass from one client to another, notices a node that is gone, and is redirected nowhere: a WebSocket
    would follow.
    """
    unredirected = aiohttp.TraceConfig()
    unredirected.on_request_redirect.append(_refuse_redirect)
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
        connector=EngineConnector(),
        request_class=EngineRequest,
        response_class=EngineResponse,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trace_configs=[unredirected],
    )


async def _refuse_redirect(*_event: object) -> None:
    raise aiohttp.ClientConnectionError


def url_of(path: str, query: str, address: str) -> URL:
    """Return what the engine is asked for: a normalised path, and the query with the escapes that the client sent.

    Raises ConnectError for an address that is none.
    """
    try:
        url = URL(f"http://{address}{paths.encode(path)}{'?' if query else ''}{query}", encoded=True)
        valid = bool(url.host and url.port and not url.user) and url.raw_authority == address
    except ValueError:
        valid = False
    if not valid:
        raise ConnectError(f"{address!r} is no host:port")
    return url


def cause_of(error: Exception) -> str:
    """Return why there was no response, without the address that the errors of aiohttp name."""
    cause = error.__cause__ if isinstance(error, ClosedError) else error
    if isinstance(cause, aiohttp.ServerDisconnectedError):
        return "the connection ended"
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno)
    return (
        "its response is not valid HTTP"
        if isinstance(cause, aiohttp.ClientResponseError)
        else "the connection broke"
    )


async def relay(
    request: web.Request,
    upstream: aiohttp.ClientResponse,
    model: Model,
    passage: Passage,
    keep: Keep = _nothing,
) -> web.StreamResponse:
    """Send an engine's response to the client, chunk by chunk as it arrives; `keep` is called with each, and `passage` has how it ended.

    Once it has begun nothing else can be answered: any failure closes the connection. Raises RequestError (502) for a redirect or
    a change of protocol: neither is for a client of the proxy to follow.
    """
    if upstream.status < _OK or _REDIRECT <= upstream.status < _CLIENT_ERROR:
        raise errors.not_passed_on(model, upstream.status)
    response = await _begin_response(request, upstream)
    tail = b"\n\n"
    try:
        async for chunk in upstream.content.iter_any():
            if passage.awaits_token:
                passage.first_token()
            keep(chunk)
            async with asyncio.timeout(STALLED_SECONDS):
                await response.write(chunk)
            tail = (tail + chunk)[-_LONGEST_END:]
        _require_end(upstream, tail)
        async with asyncio.timeout(STALLED_SECONDS):
            await response.write_eof()
    except TimeoutError:
        log.info("the client has taken nothing of the response for %g s: aborted", STALLED_SECONDS)
        passage.cut_off(by_client=True)
        await _abort(request, response, tail, sse=False)
    except (aiohttp.ClientError, OSError) as error:
        log.info("the response of the engine was cut off: %s", error)
        passage.is_complete = _ends(tail)
        passage.cut_off(by_client=request.transport is None or request.transport.is_closing())
        await _abort(request, response, tail, sse=_takes_an_event(upstream))
    except asyncio.CancelledError:
        passage.is_complete = _ends(tail)
        raise
    return response


async def _begin_response(request: web.Request, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
    """Begin the response to the client, with the engine's status and those of its headers that a client gets."""
    response = web.StreamResponse(status=upstream.status, headers=headers.to_client(upstream.headers))
    length = upstream.headers.get("Content-Length", "")
    if length.isdecimal():
        response.content_length = int(length)
    await response.prepare(request)
    return response


def is_stream(upstream: aiohttp.ClientResponse) -> bool:
    """Return whether a response is the stream of an answer, of which the first bytes are a sign of the first token."""
    return upstream.status == _OK and upstream.content_type in _STREAMS


def _takes_an_event(upstream: aiohttp.ClientResponse) -> bool:
    """Return whether an error event can be appended to a response: a stream of events that is not compressed."""
    plain = upstream.headers.get("Content-Encoding", "identity").lower() == "identity"
    return plain and upstream.content_type == "text/event-stream"


def _ends(tail: bytes) -> bool:
    """Return whether what was sent ends with the event that ends a stream: many a client leaves then, without waiting for the end of HTTP's."""
    return _DONE.search(tail) is not None


def _require_end(upstream: aiohttp.ClientResponse, tail: bytes) -> None:
    """Raise ClientPayloadError for a response that is a stream of events of OpenAI's API and ended without the last one."""
    named = upstream.status == _OK and upstream.url.path in _ENDS_WITH_DONE
    if named and _takes_an_event(upstream) and not _ends(tail):
        raise aiohttp.ClientPayloadError("it ended a stream without [DONE]")


async def _abort(request: web.Request, response: web.StreamResponse, tail: bytes, *, sse: bool) -> None:
    """Abort the connection to the client; a stream first gets an error event, at an event's boundary."""
    if sse:
        separator = b"" if tail.endswith(b"\n\n") else b"\n\n"
        with contextlib.suppress(OSError):  # the client may be gone, or take nothing
            async with asyncio.timeout(_ABORT_SECONDS):
                await response.write(separator + b"data: " + errors.response_cut().body() + b"\n\n")
    if request.transport is not None:
        request.transport.abort() if not sse else request.transport.close()
