"""HTTP: the proxy's sockets, by aiohttp.

Its strict parser refuses what two servers could read differently.

A stream whose engine died ends in an error event and an aborted connection, never in a regular end. Which
engine is asked, and when, is for the gateway to decide.
"""

import hmac
import io
import logging
from collections.abc import Awaitable, Callable
from functools import partial

import aiohttp
import msgspec
from aiohttp import web

from flexinfer.proxy import errors, openai, routing
from flexinfer.proxy.errors import ConnectError, RequestError
from flexinfer.proxy.gateway import Gateway, ProxiedRequest

log = logging.getLogger(__name__)
BODY_LIMIT = 16 << 20
_CHUNKED_SIZE = 1 << 19
"""aiohttp sends a body of this size piece by piece only when it is given as a file."""
_NOT_FORWARDED = frozenset(
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
        "host",
        "authorization",
        "accept-encoding",
        "content-encoding",
    }
)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


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
            message = f"{request.method} {request.path}: {error.reason}"
            return _error_response(RequestError(error.status, message, code))

    app = web.Application(client_max_size=BODY_LIMIT, middlewares=[answer_errors])
    handlers = _Handlers(gateway, session)
    app.router.add_get("/healthz", handlers.health)
    for prefix in ("", "/model/{namespace}/{name}"):
        app.router.add_get(f"{prefix}/v1/models", handlers.models)
        app.router.add_get(f"{prefix}/v1/models/{{model:.+}}", handlers.model)
        app.router.add_post(f"{prefix}/v1/{{rest:.+}}", handlers.post)
    return app


def _authorize(request: web.Request, key: str) -> None:
    """Raise RequestError (401) unless the request carries the API key."""
    if not key or request.path == "/healthz":
        return
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if not hmac.compare_digest(token.encode(), key.encode()):
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

    async def models(self, request: web.Request) -> web.Response:
        """List the Models; below a Model's own path, that one alone."""
        key = routing.match_request(request.path, request.host).key
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
        proxied = self._gateway.resolve(request.path, request.host, await request.read())
        return await self._gateway.forward(proxied, partial(self._send, request, proxied))

    async def _send(self, request: web.Request, proxied: ProxiedRequest, address: str) -> web.StreamResponse:
        """Send a request to an engine and its response to the client.

        Raises ConnectError, or RequestError (502).
        """
        query = f"?{request.query_string}" if request.query_string else ""
        body = proxied.body
        try:
            async with self._session.post(
                f"http://{address}{proxied.path}{query}",
                data=body if len(body) < _CHUNKED_SIZE else io.BytesIO(body),
                headers={k: v for k, v in request.headers.items() if k.lower() not in _NOT_FORWARDED},
                allow_redirects=False,
            ) as upstream:
                return await _relay(request, upstream)
        except aiohttp.ClientConnectorError as error:
            raise ConnectError(str(error)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise errors.no_response(proxied.route.model, error) from error


async def _relay(request: web.Request, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
    """Send an engine's response to the client, chunk by chunk as it arrives."""
    response = web.StreamResponse(status=upstream.status)
    for name, value in upstream.headers.items():
        if name.lower() not in _NOT_FORWARDED:
            response.headers.add(name, value)
    length = upstream.headers.get("Content-Length")
    if length is not None:
        response.content_length = int(length)
    await response.prepare(request)
    tail = b"\n\n"
    try:
        async for chunk in upstream.content.iter_any():
            await response.write(chunk)
            tail = (tail + chunk)[-2:]
    except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError) as error:
        log.info("the engine closed the connection before the response was complete: %s", error)
        await _abort(request, response, tail, sse=upstream.content_type == "text/event-stream")
        return response
    await response.write_eof()
    return response


async def _abort(request: web.Request, response: web.StreamResponse, tail: bytes, *, sse: bool) -> None:
    """Abort the connection to the client; a stream first gets an error event, at an event's boundary."""
    if sse:
        separator = b"" if tail == b"\n\n" else b"\n\n"
        await response.write(separator + b"data: " + errors.response_cut().body() + b"\n\n")
    if request.transport is not None:
        request.transport.abort() if not sse else request.transport.close()
