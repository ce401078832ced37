"""HTTP: the proxy's sockets, by aiohttp.

Its strict parser refuses what two servers could read differently.

A stream whose engine died ends in an error event and an aborted connection, never in a regular end. Which
engine is asked, and when, is for the gateway to decide.
"""

import asyncio
import contextlib
import hmac
import io
import logging
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from urllib.parse import unquote

import aiohttp
import msgspec
from aiohttp import web
from yarl import URL

from flexinfer.proxy import errors, openai, routing
from flexinfer.proxy.errors import ConnectError, RequestError
from flexinfer.proxy.gateway import Gateway, ProxiedRequest

log = logging.getLogger(__name__)
BODY_LIMIT = 16 << 20
_CHUNKED_SIZE = 1 << 19
"""aiohttp sends a body of this size piece by piece only when it is given as a file."""
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
BODY_SECONDS = STALLED_SECONDS = 300.0
"""A client has so long to send its whole body, and to take each piece of a response: it holds a slot meanwhile."""
_ABORT_SECONDS = 1.0
_UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


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


def application(gateway: Gateway, session: aiohttp.ClientSession, key: str) -> web.Application:
    """Return the proxy as an aiohttp application; an empty key lets every client in."""

    @web.middleware
    async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            _authorize(request, key)
            return await handler(request)
        except RequestError as error:
            return _error_response(error)
        except web.HTTPRequestEntityTooLarge:
            return _error_response(errors.body_too_large(BODY_LIMIT))
        except web.HTTPException as error:
            code = "not_found" if error.status == 404 else "invalid_request"  # noqa: PLR2004
            message = f"{request.method} {request.rel_url.raw_path}: {error.reason}"
            return _error_response(RequestError(error.status, message, code))
        except Exception:
            log.exception("%s %s failed", request.method, request.rel_url.raw_path)
            return _error_response(errors.internal())

    app = web.Application(client_max_size=BODY_LIMIT, middlewares=[answer_errors])
    handlers = _Handlers(gateway, session)
    routes: list[tuple[str, str, Handler]] = [("GET", "/healthz", handlers.health)]
    for prefix in ("", "/model/{namespace}/{name}"):
        routes.append(("GET", f"{prefix}/v1/models", handlers.models))
        routes.append(("GET", f"{prefix}/v1/models/{{model:.+}}", handlers.model))
        routes.append(("POST", f"{prefix}/v1/{{rest:.+}}", handlers.post))
    for method, path, handler in [*routes, ("*", "/{path:.*}", handlers.unknown)]:
        app.router.add_route(method, path, handler, expect_handler=_expect)
    return app


async def _expect(request: web.Request) -> web.StreamResponse | None:
    """Ask for the body of a client that waits for it; any other expectation is answered with an error."""
    if request.headers.get("Expect", "").lower() != "100-continue":
        return _error_response(errors.invalid_header("Expect", "is not 100-continue; leave it out", 417))
    if request.version >= aiohttp.HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return None


def _authorize(request: web.Request, key: str) -> None:
    """Raise RequestError (401) unless the request carries the API key."""
    if not key or request.path == "/healthz":
        return
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    # A header may hold any bytes; what is not UTF-8 arrives as surrogates.
    if not hmac.compare_digest(token.encode(errors="surrogateescape"), key.encode()):
        raise errors.invalid_api_key()


def _error_response(error: RequestError) -> web.Response:
    return web.Response(
        status=error.status, body=error.body(), headers=error.headers(), content_type="application/json"
    )


class _Handlers:
    """One method per route."""

    def __init__(self, gateway: Gateway, session: aiohttp.ClientSession) -> None:
        self._gateway, self._session = gateway, session

    async def health(self, _request: web.Request) -> web.Response:
        """Answer that the proxy listens."""
        return web.Response(text="ok")

    async def unknown(self, request: web.Request) -> web.StreamResponse:
        """Answer what no other route does."""
        path = routing.match_request(request.rel_url.raw_path, request.host).path
        if path == "/healthz" or path.startswith("/v1/"):
            raise web.HTTPMethodNotAllowed(request.method, ())
        raise web.HTTPNotFound

    async def models(self, request: web.Request) -> web.Response:
        """List the Models; below a Model's own path, that one alone."""
        key = routing.match_request(request.rel_url.raw_path, request.host).key
        models = [self._gateway.find(key)] if key else self._gateway.models
        body = openai.listing(models, self._gateway.default_namespace)
        return web.Response(body=body, content_type="application/json")

    async def model(self, request: web.Request) -> web.Response:
        """Show one Model."""
        model = self._gateway.find(request.match_info["model"])
        body = msgspec.json.encode(openai.model_entry(model, self._gateway.default_namespace))
        return web.Response(body=body, content_type="application/json")

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Forward a request to its Model's engine, as soon as that is ready."""
        path = request.rel_url.raw_path
        proxied = self._gateway.resolve(path, request.host, await _read_body(request))
        return await self._gateway.forward(proxied, partial(self._send, request, proxied))

    async def _send(self, request: web.Request, proxied: ProxiedRequest, address: str) -> web.StreamResponse:
        """Send a request to an engine and its response to the client.

        Raises ConnectError, or RequestError (400, 502).
        """
        body = proxied.body
        try:
            async with self._session.post(
                _engine_url(request, proxied.path, address),
                data=body if len(body) < _CHUNKED_SIZE else io.BytesIO(body),
                headers=_engine_headers(request),
                allow_redirects=False,
                timeout=self._timeout(proxied),
            ) as upstream:
                return await _relay(request, upstream)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise ConnectError(str(error)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise errors.no_response(proxied.route.model, error) from error

    def _timeout(self, proxied: ProxiedRequest) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=None, sock_connect=self._gateway.connect_seconds(proxied))


async def _read_body(request: web.Request) -> bytes:
    """Return the body of a request.

    Raises RequestError: 400 for one that its Content-Encoding does not describe, 408 for one that does not arrive.
    """
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError as error:
        raise errors.body_too_slow(BODY_SECONDS) from error
    except (web.RequestPayloadError, aiohttp.http.HttpProcessingError) as error:
        raise errors.invalid_body(error) from error


def _engine_url(request: web.Request, path: str, address: str) -> URL:
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


def _engine_headers(request: web.Request) -> dict[str, str]:
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


async def _relay(request: web.Request, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
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
